"""How many bytes the changes take that the sink holds, for its byte budget."""

import sys
from typing import Any

from streams.kafka.clients import MAX_MESSAGE_BYTES

# A change besides its value and its contact: key, headers, claims, offset and the objects around
# them. Measured: 1,050 bytes for a contact of two addresses, and some 350 for the headers' names.
ROW_BYTES = 2_000

# The largest change, before it was parsed: a value, and a contact that is nearly all mapped text.
LARGEST_ROW_BYTES = ROW_BYTES + 2 * MAX_MESSAGE_BYTES


# Up to this size a contact's bytes are bounded by its punctuation, which takes a microsecond. For
# larger ones its objects are counted: most of their bytes are in fields that nothing reads.
SMALL_BYTES = 4096
# Of CPython 3.11: a dictionary of a few fields, a list, and a text with its place in either.
DICT_BYTES, LIST_BYTES, VALUE_BYTES = 240, 70, 60


def row_bytes(value: bytes, contact: dict[str, Any]) -> int:
    """The bytes of a change of which `contact` is kept beside the value that it came from."""
    parsed = parsed_at_most(value) if len(value) <= SMALL_BYTES else json_bytes(contact)
    return ROW_BYTES + len(value) + parsed


def parsed_at_most(value: bytes) -> int:
    """The most bytes that the objects of JSON of ASCII text can take."""
    return (
        len(value)
        + DICT_BYTES * value.count(b"{")
        + LIST_BYTES * value.count(b"[")
        + VALUE_BYTES * value.count(b",")
    )


def unparsed_bytes(value: bytes | None) -> int:
    """The most bytes that a change can take, whatever part of its value is kept parsed."""
    held = value or b""
    return ROW_BYTES + len(held) + parsed_at_most(held)


def json_bytes(value: Any) -> int:
    """The bytes of the objects of parsed JSON."""
    total, left = 0, [value]
    while left:
        one = left.pop()
        total += sys.getsizeof(one)
        if isinstance(one, dict):
            left.extend(one)
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)
    return total
