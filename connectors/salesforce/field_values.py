"""What a contact wants to stand in a Contact or Lead of this org: mapped, shaped to the described
fields, with fallbacks.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from connectors.salesforce.api.describe import FieldDescribe, ObjectDescribe
from connectors.salesforce.counting import CountCallback, SyncWarning
from connectors.salesforce.emails import domain, local_part, normalise
from connectors.salesforce.field_paths import Getter, Json, clean, getter
from connectors.salesforce.mapping_rules import FieldMapping, FieldPolicy, Scalar

NOT_PROVIDED = "[not provided]"  # what Salesforce itself writes where a required name is missing
_MAX_NUMBER, _MAX_WHOLE = 10**18, 2**31 - 1
_ID = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?")


@dataclass(frozen=True, slots=True)
class FieldValue:
    """A value for a field. A fallback stands in for a missing name and never replaces one that
    stands.
    """

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
    """The rules of one sObject as far as this org's fields serve them. `missing`: mapped, but not
    there or hidden from our user.
    """

    sobject: str
    columns: tuple[_Column, ...]
    missing: tuple[str, ...]
    email_policy: FieldPolicy | None  # None: Email is not mapped

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(column.field for column in self.columns)


def bind(mapping: FieldMapping, described: ObjectDescribe) -> ObjectMapping:
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


def field_values(
    mapped: ObjectMapping, contact: Json, address: str | None, count: CountCallback
) -> dict[str, FieldValue]:
    """What the contact wants in the record, Email aside. `address` is the one that the fallbacks
    are made of. Never raises on JSON.
    """
    found: dict[str, FieldValue] = {}
    for column in mapped.columns:
        value: Scalar | None = column.constant
        for read in column.getters if value is None else ():
            if value := read(contact):
                break
        if value is not None:
            value = _shaped(value, column.described, mapped.sobject, count)
        if value is not None:
            found[column.field] = FieldValue(value, column.policy)
        elif fallback := _fallback(column.field, address):
            shaped = _shaped(fallback, column.described, mapped.sobject, count)
            found[column.field] = FieldValue(shaped or NOT_PROVIDED, column.policy, fallback=True)
    return found


def _fallback(name: str, address: str | None) -> str | None:
    if name == "LastName":
        return clean(local_part(address or "")) or NOT_PROVIDED
    if name == "Company":
        return clean(domain(address or "")) or NOT_PROVIDED
    return None


def is_fallback(name: str, value: object, addresses: tuple[str, ...]) -> bool:
    """Whether a LastName or Company that stands says no more than the fallback of one of these
    addresses.
    """
    # in lower case, as the fallback was written: a real Lovelace has lovelace@ as well
    return value == NOT_PROVIDED or any(value == _fallback(name, address) for address in addresses)


def _shaped(
    value: Scalar, described: FieldDescribe, sobject: str, count: CountCallback
) -> Scalar | None:
    """The value as the field takes it, and as it will be read again; None where it cannot."""
    if isinstance(value, bool):
        return value
    text = str(value)
    shaped: Scalar | None = text
    match described.type:
        case "date":
            shaped = _date(text)
        case "datetime":
            shaped = _datetime(text)
        case "boolean":
            shaped = {"true": True, "false": False}.get(text.casefold())
        case "double" | "currency" | "percent":
            shaped = _number(text, described)
        case "int" | "long":
            shaped = _whole(text)
        case "picklist" if described.restricted_picklist:
            shaped = text if text in described.picklist else None
        case "multipicklist" if described.restricted_picklist:
            shaped = text if described.picklist.issuperset(text.split(";")) else None
        case "email":
            shaped = normalise(text)
            if shaped and described.length and len(shaped) > described.length:
                shaped = None
        case "reference":
            shaped = text if _ID.fullmatch(text) else None
        case _:
            shaped = cut(text, described.length)
            if shaped != text:
                count(SyncWarning.TRUNCATED, f"{sobject}.{described.name}")
    if shaped is None:
        count(SyncWarning.VALUE_DROPPED, f"{sobject}.{described.name}")
    return shaped


def cut(value: str, length: int) -> str:
    """At most `length` UTF-16 units, the strictest way in which Salesforce may count; 0 is no
    limit.
    """
    if not length or len(value) * 2 <= length:
        return value
    units = value.encode("utf-16-le")
    if len(units) <= length * 2:
        return value
    return units[: length * 2].decode("utf-16-le", errors="ignore").rstrip()


def _date(value: str) -> str | None:
    try:
        day = date.fromisoformat(value[:10])
    except ValueError:
        return None  # birthdays may lack the year
    return day.isoformat() if _in_range(day.year) else None


def _datetime(value: str) -> str | None:
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000+0000") if _in_range(moment.year) else None


def _in_range(year: int) -> bool:
    """Of Salesforce's dates. Apple gives birthdays without a year the year 1604."""
    return 1700 <= year <= 4000


def _number(value: str, described: FieldDescribe) -> float | None:
    """Rounded as Salesforce keeps it. A described precision of 0 says nothing."""
    try:
        number = Decimal(value)
        if described.precision:
            number = number.quantize(Decimal(1).scaleb(-described.scale), ROUND_HALF_UP)
            if abs(number) >= Decimal(10) ** (described.precision - described.scale):
                return None
    except InvalidOperation:
        return None
    return float(number) if number.is_finite() and abs(number) < _MAX_NUMBER else None


def _whole(value: str) -> int | None:
    try:
        number = Decimal(value)
        return (
            int(number)
            if number == number.to_integral_value() and abs(number) <= _MAX_WHOLE
            else None
        )
    except (InvalidOperation, OverflowError, ValueError):
        return None
