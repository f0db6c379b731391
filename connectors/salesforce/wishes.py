"""What a contact wants to stand in a Contact or Lead of this org: mapped, shaped to the described fields, with fallbacks."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from connectors.salesforce.describe import FieldDescribe, ObjectDescribe
from connectors.salesforce.emails import domain, local_part
from connectors.salesforce.mapping import FieldPolicy, Mapping, Scalar
from connectors.salesforce.sources import Getter, Json, clean, getter

NOT_PROVIDED = "[not provided]"  # what Salesforce itself writes where a required name is missing


@dataclass(frozen=True, slots=True)
class Wish:
    """A value for a field. A fallback stands in for a missing name and never replaces one that stands."""

    value: Scalar
    policy: FieldPolicy
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class _Column:
    field: str
    getters: tuple[Getter, ...]
    policy: FieldPolicy
    constant: Scalar | None
    described: FieldDescribe


@dataclass(frozen=True, slots=True)
class ObjectMapping:
    """The rules of one sObject as far as this org's fields serve them. `missing`: mapped, but not there or hidden from our user."""

    sobject: str
    columns: tuple[_Column, ...]
    missing: tuple[str, ...]
    email_policy: FieldPolicy | None  # None: Email is not mapped

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(column.field for column in self.columns)


def bind(mapping: Mapping, described: ObjectDescribe) -> ObjectMapping:
    """The rules that this org serves, ready to be applied."""
    columns, missing, email = [], [], None
    for rule in mapping.rules(described.name):
        there = described.fields.get(rule.field)
        if there is None or not (there.createable or there.updateable):
            missing.append(rule.field)
        elif rule.field == "Email":
            email = rule.policy
        else:
            getters = tuple(getter(source) for source in rule.sources)
            columns.append(_Column(rule.field, getters, rule.policy, rule.constant, there))
    return ObjectMapping(described.name, tuple(columns), tuple(missing), email)


Count = Callable[[str, str], None]
"""Called with what happened (`cut`, `left_out`) and to which field (`Lead.Title`)."""


def wishes(mapped: ObjectMapping, contact: Json, address: str | None, count: Count) -> dict[str, Wish]:
    """What the contact wants in the record, Email aside. `address` is the one that the fallbacks are made of. Never raises on JSON."""
    found: dict[str, Wish] = {}
    for column in mapped.columns:
        value: Scalar | None = column.constant
        for read in column.getters if value is None else ():
            if value := read(contact):
                break
        if isinstance(value, str):
            value = _shaped(value, column.described, mapped.sobject, count)
        if value is not None:
            found[column.field] = Wish(value, column.policy)
        elif fallback := _fallback(column.field, address):
            shaped = _shaped(fallback, column.described, mapped.sobject, count)
            found[column.field] = Wish(shaped or NOT_PROVIDED, column.policy, fallback=True)
    return found


def _fallback(name: str, address: str | None) -> str | None:
    if name == "LastName":
        return clean(local_part(address or "")) or NOT_PROVIDED
    if name == "Company":
        return clean(domain(address or "")) or NOT_PROVIDED
    return None


def is_fallback(name: str, value: object, addresses: tuple[str, ...]) -> bool:
    """Whether a LastName or Company that stands says no more than the fallback of one of these addresses."""
    # in lower case, as the fallback was written: a real Lovelace has lovelace@ as well
    return value == NOT_PROVIDED or any(value == _fallback(name, address) for address in addresses)


def _shaped(value: str, described: FieldDescribe, sobject: str, count: Count) -> Scalar | None:
    """The value as the field takes it; None where it cannot."""
    shaped: Scalar | None = value
    match described.type:
        case "date":
            shaped = _date(value)
        case "boolean":
            shaped = {"true": True, "false": False}.get(value.casefold())
        case "double" | "int" | "currency" | "percent":
            shaped = _number(value)
        case "picklist" if described.restricted_picklist:
            shaped = value if value in described.picklist else None
        case "email":
            shaped = value if not described.length or len(value) <= described.length else None
        case _:
            shaped = cut(value, described.length)
            if shaped != value:
                count("cut", f"{sobject}.{described.name}")
    if shaped is None:
        count("left_out", f"{sobject}.{described.name}")
    return shaped


def cut(value: str, length: int) -> str:
    """At most `length` UTF-16 units, the strictest way in which Salesforce may count; 0 is no limit."""
    if not length or len(value) * 2 <= length:
        return value
    units = value.encode("utf-16-le")
    if len(units) <= length * 2:
        return value
    return units[: length * 2].decode("utf-16-le", errors="ignore").rstrip()


def _date(value: str) -> str | None:
    try:
        return date.fromisoformat(value[:10]).isoformat()
    except ValueError:
        return None  # birthdays may lack the year


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if number == number and abs(number) < 1e18 else None
