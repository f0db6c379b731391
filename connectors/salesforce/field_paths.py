"""Reads values out of a Nylas contact by the paths of the mapping, such as `emails[].email`.

Nothing here raises on a contact, whatever JSON it holds.
"""

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from connectors.salesforce.api.errors import SalesforceError

# The types of entries that are remembered. Address books have a dozen, and people's own labels.
MAX_REMEMBERED_TYPES = 1024

Json = Mapping[str, Any]
Getter = Callable[[Json], str | None]

_PATH = re.compile(r"(?P<top>[a-z_]+)(?:\[(?P<types>!?[^\]]*)\]\.(?P<leaf>[a-z_]+))?")
# characters that Salesforce cannot keep
_UNSENDABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class MappingError(SalesforceError):
    """The mapping file cannot be understood."""


def top_level_field(path: str) -> str:
    """The field of a contact that a path begins with."""
    return path.partition("[")[0]


def getter(path: str) -> Getter:
    """A function that reads the value at a path out of a contact; it returns None for no value.

    `job_title` is a field. `phone_numbers[].number` is the first entry of an array with a value,
    `phone_numbers[work,home].number` the first of these types, `phone_numbers[!*fax].number` the
    first of any other type. Raises MappingError for anything else.
    """
    found = _PATH.fullmatch(path)
    if not found:
        raise MappingError(
            f"{path!r} names no value of a contact: "
            "expected a field, or an array like phone_numbers[mobile].number"
        )
    top, types, leaf = found["top"], found["types"], found["leaf"]
    if leaf is None:
        return lambda contact: clean(contact.get(top))
    is_wanted = _type_filter(types)

    def read(contact: Json) -> str | None:
        entries = contact.get(top)
        if not isinstance(entries, list):
            return None
        for entry in entries:
            if (
                isinstance(entry, dict)
                and (is_wanted is None or is_wanted(str(entry.get("type") or "")))
                and (value := clean(entry.get(leaf)))
            ):
                return value
        return None

    return read


def _type_filter(types: str) -> Callable[[str], bool] | None:
    """Whether an entry's `type` is one of the comma-separated patterns, or none of them (`!`).

    None where every type is.
    """
    negated = types.startswith("!")
    patterns = tuple(
        pattern.strip().casefold()
        for pattern in types.removeprefix("!").split(",")
        if pattern.strip()
    )

    @lru_cache(maxsize=MAX_REMEMBERED_TYPES)
    def is_wanted(kind: str) -> bool:
        folded = kind.casefold()
        return any(fnmatchcase(folded, pattern) for pattern in patterns) is not negated

    return is_wanted if patterns else None


def clean(value: object) -> str | None:
    """Text as Salesforce keeps it: trimmed, and without control characters.

    Numbers become text. Blank text and everything else become None.
    """
    if value is None:
        return None
    if isinstance(value, str):
        if not value.isprintable():  # nearly every text is, and has none of these characters
            value = _UNSENDABLE.sub("", value)
        return value.strip() or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:  # Python refuses to print an integer of thousands of digits
            return None
    return None
