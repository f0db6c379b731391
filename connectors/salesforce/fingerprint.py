"""The fingerprint of a contact, by which dedupe skips changes that the mapping does not read."""

import hashlib
from collections.abc import Iterable

import orjson

from connectors.salesforce.field_paths import Json
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.skip_reasons import SkipReason


def fingerprint(mapping: FieldMapping, contact: Json) -> bytes:
    """16 bytes that are equal for two states of a contact exactly if the mapping reads the same.

    Never raises on JSON.
    """
    read = mapping.projection(contact)
    try:
        text = orjson.dumps(read, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, an integer beyond 64 bits, nesting beyond 254
        text = b"\n".join(_portable(name, value) for name, value in read.items())
    return hashlib.blake2b(mapping.hash.encode() + text, digest_size=16).digest()


def excluded_fingerprint(reason: SkipReason, *, was_synced: bool = False) -> bytes:
    """16 bytes for a contact that is left out: equal as long as the reason is.

    So a change of such a contact is no news, and a setting that lets it in makes it news. It is
    another one for a contact that was synced before, until its record is settled.
    """
    text = f"excluded:{reason.value}" + (":was_synced" if was_synced else "")
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


SETTLED = frozenset(map(excluded_fingerprint, SkipReason))
"""The fingerprints of contacts that are left out and whose records, if any, are settled."""

UNSETTLED = frozenset(excluded_fingerprint(reason, was_synced=True) for reason in SkipReason)
"""The fingerprints of contacts that are left out and whose records wait for a person."""


def with_groups(fingerprint: bytes, groups: Iterable[str]) -> bytes:
    """The fingerprint of a contact that is in these groups; unchanged without any.

    `groups` are the IDs of those that a filter reads, sorted.
    """
    text = orjson.dumps(list(groups))
    if text == b"[]":
        return fingerprint
    return hashlib.blake2b(fingerprint + text, digest_size=16).digest()


def _portable(name: str, value: object) -> bytes:
    try:
        return f"{name}:{_canonical(value)}".encode(errors="surrogatepass")
    except RecursionError:
        return f"{name}:".encode()  # nested so deeply that nothing in it can be mapped


def _canonical(value: object) -> str:
    if isinstance(value, dict):
        keys = sorted(value, key=str)
        return "{" + ",".join(f"{key!r}:{_canonical(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    return repr(value)
