"""Reading a value out of a Nylas contact, whatever its JSON holds: the small language of the
mapping's sources.
"""

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from connectors.salesforce.api.errors import SalesforceError

Json = Mapping[str, Any]


class MappingError(SalesforceError):
    """The mapping table cannot be understood."""


_SOURCE = re.compile(r"(?P<top>[a-z_]+)(?:\[(?P<types>!?[^\]]*)\]\.(?P<leaf>[a-z_]+))?")
_TYPE_OF = "type"
Getter = Callable[[Json], str | None]


def top(source: str) -> str:
    return source.partition("[")[0]


def getter(source: str) -> Getter:
    """A function that reads a source from a contact: `job_title`, or the first entry of an array
    that has a value: `phone_numbers[].number`, by type `phone_numbers[work,home].number`, by other
    types `phone_numbers[!*fax].number`.

    Raises MappingError if the source is none.
    """
    found = _SOURCE.fullmatch(source)
    if not found:
        raise MappingError(
            f"{source!r} is no source: expected a field, or an array like phone_numbers[mobile].number"
        )
    top, types, leaf = found["top"], found["types"], found["leaf"]
    if leaf is None:
        return lambda contact: clean(contact.get(top))
    negated = types.startswith("!")
    patterns = tuple(
        pattern.strip().casefold()
        for pattern in types.removeprefix("!").split(",")
        if pattern.strip()
    )

    def read(contact: Json) -> str | None:
        entries = contact.get(top)
        if not isinstance(entries, list):
            return None
        for entry in entries:
            if not isinstance(entry, dict):
                continue
            if patterns:
                kind = str(entry.get(_TYPE_OF) or "").casefold()
                if any(fnmatchcase(kind, pattern) for pattern in patterns) is negated:
                    continue
            if value := clean(entry.get(leaf)):
                return value
        return None

    return read


_UNSENDABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def clean(value: object) -> str | None:
    """Text as Salesforce keeps it: trimmed, without control characters; numbers as text; None for
    anything else or blank.
    """
    if isinstance(value, str):
        return _UNSENDABLE.sub("", value).strip() or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:  # an integer of thousands of digits
            return None
    return None
