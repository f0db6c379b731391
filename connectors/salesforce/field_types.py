"""Converts a mapped value to the type of its Salesforce field, in the form that is read back later.

A value that stands already is recognised by that form, and costs no write.
"""

import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from connectors.salesforce.api.describe import FieldDescribe
from connectors.salesforce.counting import CountCallback, SyncWarning
from connectors.salesforce.emails import normalise
from connectors.salesforce.mapping_rules import Scalar

_MAX_NUMBER, _MAX_WHOLE = 10**18, 2**31 - 1
_ID = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?")


def convert(
    value: Scalar, described: FieldDescribe, sobject: str, count: CountCallback
) -> Scalar | None:
    """The value as the field stores it; None if the field cannot take it.

    Text is cut to the field's length (counted as TRUNCATED). Any other value that does not fit is
    left out (counted as VALUE_DROPPED).
    """
    if isinstance(value, bool):
        return value
    text = str(value)
    converter = _converter(described)
    if converter is None:
        shortened = cut(text, described.length)
        if shortened != text:
            count(SyncWarning.TRUNCATED, f"{sobject}.{described.name}")
        return shortened
    converted = converter(text, described)
    if converted is None:
        count(SyncWarning.VALUE_DROPPED, f"{sobject}.{described.name}")
    return converted


def longest_as_it_is(described: FieldDescribe) -> int:
    """Up to so many characters `convert` changes nothing of a text; -1 if it may change any."""
    if described.type not in _TEXT_TYPES:
        return -1
    return described.length // 2 if described.length else sys.maxsize


def cut(value: str, length: int) -> str:
    """At most `length` UTF-16 units, the strictest way in which Salesforce may count.

    0 means no limit.
    """
    if not length or len(value) * 2 <= length:
        return value
    units = value.encode("utf-16-le")
    if len(units) <= length * 2:
        return value
    return units[: length * 2].decode("utf-16-le", errors="ignore").rstrip()


_Converter = Callable[[str, FieldDescribe], Scalar | None]


def _date(text: str, described: FieldDescribe) -> str | None:
    try:
        day = date.fromisoformat(text[:10])
    except ValueError:
        return None  # birthdays may lack the year
    return day.isoformat() if _in_range(day.year) else None


def _datetime(text: str, described: FieldDescribe) -> str | None:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000+0000") if _in_range(moment.year) else None


def _in_range(year: int) -> bool:
    """Whether Salesforce takes the year. Apple gives birthdays without a year the year 1604."""
    return 1700 <= year <= 4000


def _boolean(text: str, described: FieldDescribe) -> bool | None:
    return {"true": True, "false": False}.get(text.casefold())


def _decimal(text: str, described: FieldDescribe) -> float | None:
    """Rounded as Salesforce keeps it. A described precision of 0 means no limit."""
    try:
        number = Decimal(text)
        if described.precision:
            number = number.quantize(Decimal(1).scaleb(-described.scale), ROUND_HALF_UP)
            if abs(number) >= Decimal(10) ** (described.precision - described.scale):
                return None
    except InvalidOperation:
        return None
    return float(number) if number.is_finite() and abs(number) < _MAX_NUMBER else None


def _whole(text: str, described: FieldDescribe) -> int | None:
    try:
        number = Decimal(text)
        is_whole = number == number.to_integral_value() and abs(number) <= _MAX_WHOLE
        return int(number) if is_whole else None
    except (InvalidOperation, OverflowError, ValueError):
        return None


def _picklist(text: str, described: FieldDescribe) -> str | None:
    return text if text in described.picklist else None


def _multipicklist(text: str, described: FieldDescribe) -> str | None:
    return text if described.picklist.issuperset(text.split(";")) else None


def _email(text: str, described: FieldDescribe) -> str | None:
    address = normalise(text)
    if address and described.length and len(address) > described.length:
        return None
    return address


def _reference(text: str, described: FieldDescribe) -> str | None:
    return text if _ID.fullmatch(text) else None


_CONVERTERS: Mapping[str, _Converter] = {
    "date": _date,
    "datetime": _datetime,
    "boolean": _boolean,
    "double": _decimal,
    "currency": _decimal,
    "percent": _decimal,
    "int": _whole,
    "long": _whole,
    "picklist": _picklist,
    "multipicklist": _multipicklist,
    "email": _email,
    "reference": _reference,
}
_PICKLISTS = {"picklist", "multipicklist"}
# Types that take any text; there are others.
_TEXT_TYPES = frozenset({"string", "phone", "textarea", "url"})


def _converter(described: FieldDescribe) -> _Converter | None:
    """None for fields that take any text."""
    if described.type in _PICKLISTS and not described.restricted_picklist:
        return None
    return _CONVERTERS.get(described.type)
