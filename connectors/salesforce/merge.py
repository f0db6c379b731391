"""What a person changes in the record that it is: the key's owner may overwrite, everybody else
fills blanks.
"""

from typing import Any

from connectors.salesforce.api.composite import KEY_FIELD
from connectors.salesforce.api.errors import VERSION_FIELD
from connectors.salesforce.counting import CountCallback
from connectors.salesforce.field_values import FieldValue, field_values, is_fallback
from connectors.salesforce.mapping_rules import FieldPolicy
from connectors.salesforce.matching import Person, SObjectRecord
from connectors.salesforce.schema import EMAIL_FIELDS, Schema


def merge_fields(
    record: SObjectRecord,
    someone: Person,
    shape: Schema,
    *,
    owner: bool,
    overwrite_others: bool,
    count: CountCallback,
) -> dict[str, Any]:
    """The fields that would change in the record, as Salesforce stores them; none for what stands
    already.

    `owner`: the record has the person's key, or gets it. The caller has checked that the person's
    version is not older then.
    """
    new = record.id is None
    overwrite = owner and (record.ours or overwrite_others)
    wanted = field_values(shape.mapped, someone.contact, someone.found_by.fallback, count)
    found: dict[str, Any] = {}
    for name, wish in wanted.items():
        if not shape.writable(name, new=new):
            continue
        current = record.fields.get(name)
        if _may_change(name, wish, record, wanted, overwrite=overwrite) and not same(
            current, wish.value
        ):
            found[name] = wish.value
    found.update(_addresses(record, someone, shape, overwrite=overwrite))
    account_id = someone.target.account_id
    if (
        account_id and not record.fields.get("AccountId") and shape.writable("AccountId", new=new)
    ):  # a Lead has none
        found["AccountId"] = account_id
    if owner:
        if record.key is None:
            found[KEY_FIELD] = someone.record_key
        if record.key is None or record.version is None or record.version < someone.version:
            found[VERSION_FIELD] = someone.version
        if shape.flag and record.fields.get(shape.flag) is True:
            found[shape.flag] = False
    return found


def _may_change(
    name: str,
    wish: FieldValue,
    record: SObjectRecord,
    wanted: dict[str, FieldValue],
    *,
    overwrite: bool,
) -> bool:
    current = record.fields.get(name)
    if wish.policy is FieldPolicy.CREATE and record.id is not None:
        return False
    if _blank(current):
        return name != "FirstName" or overwrite or _same_family(record, wanted)
    if wish.fallback:
        return False
    if (
        record.ours
        and name in {"LastName", "Company"}
        and is_fallback(name, current, record.addresses)
    ):
        return True  # our own stand-in for a name that nobody had told us
    return overwrite and wish.policy is FieldPolicy.OVERWRITE


def _same_family(record: SObjectRecord, wanted: dict[str, FieldValue]) -> bool:
    """A first name is filled in beside the last name that it belongs to, never beside another."""
    last, standing = wanted.get("LastName"), record.fields.get("LastName")
    if (
        last is None
        or last.fallback
        or _blank(standing)
        or is_fallback("LastName", standing, record.addresses)
    ):
        return True
    return str(standing).strip().casefold() == str(last.value).casefold()


def _addresses(
    record: SObjectRecord, someone: Person, shape: Schema, *, overwrite: bool
) -> dict[str, str]:
    """Addresses into the fields that there are: the owner's in its order, then those that stand, so
    that nobody who was found by one is lost; others only take what is blank.
    """
    new = record.id is None
    slots = [name for name in shape.emails if shape.writable(name, new=new)]
    policy = shape.mapped.email_policy
    if policy is None:
        slots = [name for name in slots if name != "Email"]
    standing = {name: _address(record.fields.get(name)) for name in EMAIL_FIELDS}
    if overwrite and policy is FieldPolicy.OVERWRITE:
        kept = [address for name in slots if (address := standing[name])]
        wanted = list(dict.fromkeys([*someone.addresses, *kept]))
        return {
            name: address
            for name, address in zip(slots, wanted, strict=False)
            if standing[name] != address
        }
    missing = [address for address in someone.addresses if address not in standing.values()]
    blank = [name for name in slots if not standing[name]]
    return dict(zip(blank, missing, strict=False))


def _address(value: object) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


def _blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def same(current: object, wanted: object) -> bool:
    """Whether Salesforce would store `wanted` as what stands: text trimmed, line ends alike,
    numbers by value.
    """
    if isinstance(current, bool) or isinstance(wanted, bool):
        return current is wanted
    if isinstance(current, str) and isinstance(wanted, str):
        return current.strip().replace("\r\n", "\n") == wanted.strip().replace("\r\n", "\n")
    return current == wanted
