"""The values that a contact has for the mapped fields of a Contact or Lead in this org."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from connectors.salesforce.api.describe import FieldDescribe, ObjectDescribe
from connectors.salesforce.counting import CountCallback
from connectors.salesforce.domains import is_free_mail
from connectors.salesforce.emails import domain, local_part
from connectors.salesforce.field_paths import Getter, Json, clean, getter
from connectors.salesforce.field_types import convert, longest_as_it_is
from connectors.salesforce.mapping_rules import FieldMapping, FieldPolicy, Scalar

# what Salesforce itself writes for a missing required name
NOT_PROVIDED = "[not provided]"


class FieldValue(NamedTuple):
    """A value for a field, in the form in which Salesforce stores it.

    A fallback stands in for a missing name, and never replaces a value in Salesforce.
    """

    value: Scalar
    policy: FieldPolicy
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class _MappedField:
    name: str
    read: Callable[[Json], Scalar | None]
    """Returns the constant, or the first value that a contact has."""
    policy: FieldPolicy
    described: FieldDescribe
    longest: int
    """A text of so many characters is taken as it is; -1 if every value has to be converted."""


def _reader(getters: Sequence[Getter], constant: Scalar | None) -> Callable[[Json], Scalar | None]:
    if constant is not None:
        return lambda _contact: constant
    if len(getters) == 1:
        return getters[0]

    def first(contact: Json) -> str | None:
        return next((value for read in getters if (value := read(contact))), None)

    return first


@dataclass(frozen=True)
class ObjectMapping:
    """The mapping rules of one sObject, restricted to the fields that this org offers.

    `missing` are mapped fields that the org lacks, or hides from the user. `email_policy` is None
    if Email is not mapped.
    """

    sobject: str
    mapped_fields: tuple[_MappedField, ...]
    missing: tuple[str, ...]
    email_policy: FieldPolicy | None

    @cached_property
    def fields(self) -> tuple[str, ...]:
        return tuple(mapped.name for mapped in self.mapped_fields)


def bind(mapping: FieldMapping, described: ObjectDescribe) -> ObjectMapping:
    """The rules for the described object, ready to be applied to contacts."""
    mapped, missing, email = [], [], None
    for rule in mapping.rules(described.name):
        field = described.fields.get(rule.field)
        if field is None or not (field.createable or field.updateable):
            missing.append(rule.field)
        elif rule.field == "Email":
            email = rule.policy
        else:
            read = _reader([getter(path) for path in rule.paths], rule.constant)
            longest = longest_as_it_is(field)
            mapped.append(_MappedField(rule.field, read, rule.policy, field, longest))
    return ObjectMapping(described.name, tuple(mapped), tuple(missing), email)


def field_values(
    mapping: ObjectMapping, contact: Json, address: str | None, count: CountCallback
) -> dict[str, FieldValue]:
    """The contact's values by field, except for Email. Never raises on JSON.

    `address` is what the fallbacks of missing names are made of.
    """
    found: dict[str, FieldValue] = {}
    for mapped in mapping.mapped_fields:
        value = mapped.read(contact)
        if value is not None and not (type(value) is str and len(value) <= mapped.longest):
            value = convert(value, mapped.described, mapping.sobject, count)
        if value is not None:
            found[mapped.name] = FieldValue(value, mapped.policy)
        elif fallback := _fallback(mapped.described, address):
            converted = convert(fallback, mapped.described, mapping.sobject, count)
            found[mapped.name] = FieldValue(converted or NOT_PROVIDED, mapped.policy, fallback=True)
    return found


def _fallback(described: FieldDescribe, address: str | None) -> str | None:
    """What stands in for a missing LastName or Company; None where the field may stay blank.

    A free-mail domain is nobody's company. Where Person Accounts are on, a Lead needs no Company,
    and becomes a Person Account without one.
    """
    if described.name == "LastName":
        return _local_part(address) or NOT_PROVIDED
    if described.name == "Company":
        found = _domain(address)
        if found and not is_free_mail(found.strip("<>()[]\"',;. ")):
            return found
        return None if described.nillable else NOT_PROVIDED
    return None


def _local_part(address: str | None) -> str | None:
    return clean(local_part(address or ""))


def _domain(address: str | None) -> str | None:
    return clean(domain(address or ""))


def is_fallback(name: str, value: object, addresses: tuple[str, ...]) -> bool:
    """Whether a record's LastName or Company is only the fallback of one of its addresses.

    A free-mail domain is one too, because earlier releases wrote it as the Company.
    """
    part = {"LastName": _local_part, "Company": _domain}.get(name)
    if part is None:
        return False
    # compared in lower case, as the fallback was written: a real Lovelace may have lovelace@ too
    return value == NOT_PROVIDED or any(value == part(address) for address in addresses)
