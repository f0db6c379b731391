"""Which fields of its record a person would change.

The owner of the record's key may overwrite; everybody else only fills blanks.
"""

from typing import Any

from connectors.salesforce.counting import CountCallback
from connectors.salesforce.field_values import FieldValue, field_values, is_fallback
from connectors.salesforce.mapping_rules import FieldPolicy
from connectors.salesforce.org_fields import EMAIL_FIELDS, KEY_FIELD, VERSION_FIELD
from connectors.salesforce.person import Person
from connectors.salesforce.schema import Schema
from connectors.salesforce.sobject_record import SObjectRecord


def merge_fields(
    record: SObjectRecord,
    person: Person,
    schema: Schema,
    *,
    owner: bool,
    overwrite_others: bool,
    count: CountCallback,
) -> dict[str, Any]:
    """The fields that would change in the record, in the form in which Salesforce stores them.

    `owner`: the record has the person's key, or gets it. Then the caller has checked that the
    person's version is not older. `overwrite_others`: an owner also overwrites records that our
    user did not create.
    """
    new = record.id is None
    overwrite = owner and (record.ours or overwrite_others)
    values = field_values(schema.mapped, person.contact, person.found_by.fallback, count)
    changed: dict[str, Any] = {}
    for name, field in values.items():
        if (
            schema.writable(name, new=new)
            and _may_change(name, field, record, values, overwrite=overwrite)
            and not same(record.fields.get(name), field.value)
        ):
            changed[name] = field.value
    changed.update(_addresses(record, person, schema, overwrite=overwrite))
    account_id = person.target.account_id
    # a Lead has no AccountId, so it is not writable there
    if account_id and not record.fields.get("AccountId") and schema.writable("AccountId", new=new):
        changed["AccountId"] = account_id
    if owner:
        changed.update(_ownership(record, person, schema))
    return changed


def _ownership(record: SObjectRecord, person: Person, schema: Schema) -> dict[str, Any]:
    """The key, version and deletion flag that an owner sets."""
    changed: dict[str, Any] = {}
    if record.key is None:
        changed[KEY_FIELD] = person.record_key
    if record.key is None or record.version is None or record.version < person.version:
        changed[VERSION_FIELD] = person.version
    if schema.flag and record.fields.get(schema.flag) is True:
        changed[schema.flag] = False
    return changed


def _may_change(
    name: str,
    field: FieldValue,
    record: SObjectRecord,
    values: dict[str, FieldValue],
    *,
    overwrite: bool,
) -> bool:
    current = record.fields.get(name)
    # A Lead without a Company becomes a Person Account: its blank is no gap to fill with a domain.
    if record.id is not None and (field.policy is FieldPolicy.CREATE or field.fallback):
        return False
    if _blank(current):
        return name != "FirstName" or overwrite or _same_family(record, values)
    if field.fallback:
        return False
    if (
        record.ours
        and name in {"LastName", "Company"}
        and is_fallback(name, current, record.addresses)
    ):
        return True  # it stands in for a name that we did not know
    return overwrite and field.policy is FieldPolicy.OVERWRITE


def _same_family(record: SObjectRecord, values: dict[str, FieldValue]) -> bool:
    """Whether a first name may be filled in: only beside the last name that it belongs to."""
    last, current = values.get("LastName"), record.fields.get("LastName")
    if (
        last is None
        or last.fallback
        or _blank(current)
        or is_fallback("LastName", current, record.addresses)
    ):
        return True
    return str(current).strip().casefold() == str(last.value).casefold()


def _addresses(
    record: SObjectRecord, person: Person, schema: Schema, *, overwrite: bool
) -> dict[str, str]:
    """The address fields that change.

    An owner's addresses come first, in its order, followed by those of the record, so that nobody
    who was found by one of them is lost. Anybody else only fills blank fields.
    """
    new = record.id is None
    fields = [name for name in schema.emails if schema.writable(name, new=new)]
    policy = schema.mapped.email_policy
    if policy is None:
        fields = [name for name in fields if name != "Email"]
    current = {name: _address(record.fields.get(name)) for name in EMAIL_FIELDS}
    if overwrite and policy is FieldPolicy.OVERWRITE:
        kept = [address for name in fields if (address := current[name])]
        wanted = list(dict.fromkeys([*person.addresses, *kept]))
        return {
            name: address
            for name, address in zip(fields, wanted, strict=False)
            if current[name] != address
        }
    missing = [address for address in person.addresses if address not in current.values()]
    blank = [name for name in fields if not current[name]]
    return dict(zip(blank, missing, strict=False))


def _address(value: object) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


def _blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def same(current: object, wanted: object) -> bool:
    """Whether Salesforce would store `wanted` as the current value.

    Salesforce trims text and may change its line ends. Numbers are compared by value.
    """
    if isinstance(current, bool) or isinstance(wanted, bool):
        return current is wanted
    if isinstance(current, str) and isinstance(wanted, str):
        return current.strip().replace("\r\n", "\n") == wanted.strip().replace("\r\n", "\n")
    return current == wanted
