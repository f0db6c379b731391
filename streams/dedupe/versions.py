"""Decides whether an event changes a contact, from what is known of the contact.

And the entries of dedupe's table, in which that knowledge is kept.
"""

import hashlib
import struct
from collections.abc import Iterable
from typing import NamedTuple

from streams.events import PAGE_MARGIN_SECONDS

SETTLED = PAGE_MARGIN_SECONDS + 1
"""Seconds after an event until a page that is read has a newer version than the event. A page's
version is its `Date` header less the margin.
"""

NEVER = -1
"""The version where there is none yet."""

DELETED = hashlib.blake2b(b"deleted", digest_size=16).digest()
"""The fingerprint of a deletion: the same under every mapping, and that of no content."""

REMEMBERED_IDS = 8
"""Notification IDs kept of the newest second. With a ninth the first is forgotten; if that is
redelivered, one contact is read again for nothing.
"""


class ContactEvent(NamedTuple):
    """The parts of an event that decide whether it is forwarded."""

    version: int | None
    """Seconds since the epoch; None when the envelope has no usable time."""
    id_hash: bytes
    """`hash_id` of the notification ID."""
    fingerprint: bytes = b""
    """16 bytes; `DELETED` for a deletion, empty when the event carries no body."""
    mapping: bytes = b""
    """`mapping_tag` of the mapping that the fingerprint was made with, or `group_tag`."""
    forced: bool = False
    """From a replay or a redrive: forwarded where another event would be a duplicate."""

    @property
    def bodyless(self) -> bool:
        """Whether the event says only that the contact changed, not how."""
        return not self.fingerprint


class DedupeState(NamedTuple):
    """The knowledge about a contact: one entry of the table."""

    newest: int = NEVER
    """The newest version seen, whether or not it was forwarded."""
    forwarded: int = NEVER
    """The version last forwarded."""
    fingerprint: bytes = bytes(16)
    """Of the content last forwarded."""
    mapping: bytes = bytes(4)
    """`mapping_tag` or `group_tag` of the content last forwarded; of a duplicate since, its own."""
    ids: tuple[bytes, ...] = ()
    """`hash_id` of the notifications seen at the second `newest`, the latest last."""


class DedupeDecision(NamedTuple):
    """Whether to forward an event, and whether to read its contact again.

    `reason` is "forwarded", or why the event is dropped or the contact is to be read again.
    """

    forward: bool
    reason: str
    state: DedupeState | None
    """The knowledge from now on; None while nothing is known of the contact."""
    refetch: int | None = None
    """Read the contact again, and not before this (seconds since the epoch)."""


def decide(state: DedupeState | None, event: ContactEvent, now: int) -> DedupeDecision:
    """Decides on an event, given what is known of its contact. Never raises.

    `now` is in seconds since the epoch. A version older than the newest seen is stale. The same
    fingerprint as last forwarded is a duplicate; its version counts as seen all the same, and its
    mapping tag is kept, which tells under which contact groups the contact was seen. In the
    newest second an ID that was seen is a retry. Another content with a new ID is forwarded, and
    the contact is to be read again, because versions in whole seconds do not show which of the two
    came last. An event that carries no body is not forwarded: the contact is to be read again. A
    forced event is forwarded when its version is the one forwarded, or not older than the newest
    seen.
    """
    version, id_hash, fingerprint, mapping, forced = event
    if version is None:
        return DedupeDecision(False, "no_time", state, now + SETTLED)
    known = state or _UNKNOWN
    newest, forwarded, last, last_mapping, _ = known
    same = fingerprint == last and forwarded != NEVER

    if version < newest:
        # Under the same mapping another content of the version forwarded is from the same second;
        # a newer event has settled which of the two counts. Under another mapping the fingerprints
        # cannot be compared.
        if forced and fingerprint and version == forwarded and (same or mapping != last_mapping):
            return DedupeDecision(
                True, "forwarded", known._replace(fingerprint=fingerprint, mapping=mapping)
            )
        return DedupeDecision(False, "stale", state)

    if version > newest:
        ids: tuple[bytes, ...] = (id_hash,)
        rival = False
    else:
        seen = id_hash in known.ids
        if seen and not forced:
            return DedupeDecision(False, "retry", state)
        ids = known.ids if seen else (*known.ids, id_hash)[-REMEMBERED_IDS:]
        rival = not same and not (forced and mapping != last_mapping)

    if not fingerprint:
        refetch = max(version, now) + SETTLED
        return DedupeDecision(
            False, "bodyless", DedupeState(version, forwarded, last, last_mapping, ids), refetch
        )
    if same and not forced:
        return DedupeDecision(
            False, "duplicate", DedupeState(version, forwarded, last, mapping, ids)
        )
    state = DedupeState(version, version, fingerprint, mapping, ids)
    if rival:
        return DedupeDecision(True, "same_second", state, version + SETTLED)
    return DedupeDecision(True, "forwarded", state)


_UNKNOWN = DedupeState()


def hash_id(notification_id: str) -> bytes:
    """A hash of a notification ID: 8 bytes."""
    return hashlib.blake2b(notification_id.encode(errors="surrogatepass"), digest_size=8).digest()


def mapping_tag(mapping_hash: str) -> bytes:
    """A hash of a mapping's hash: 4 bytes."""
    return hashlib.blake2b(mapping_hash.encode(), digest_size=4).digest()


def group_tag(mapping_hash: str, rule: bytes, groups: Iterable[str]) -> bytes:
    """4 bytes: two of the mapping and of the rule of contact groups, two of a contact's groups.

    `rule` is the hash of the rule. `groups` are the IDs of all groups of the contact, sorted.
    """
    of_rule = hashlib.blake2b(mapping_hash.encode() + rule, digest_size=2).digest()
    text = "\n".join(groups).encode(errors="surrogatepass")
    return of_rule + hashlib.blake2b(text, digest_size=2).digest()


def groups_moved(before: bytes, now: bytes) -> bool:
    """Whether a contact changed its groups between two `group_tag`s, under one rule.

    If the rule changed too, or there was none, nobody can tell, and the answer is no.
    """
    return before[:2] == now[:2] and before != now


_LAYOUT = struct.Struct("<Bqq16s4s")
_FIXED = _LAYOUT.size
_FORMAT = 1
_ID = 8


class UnreadableState(ValueError):
    """An entry of the table is not in this version's format.

    A newer version has written it, or another program.
    """


def encode(state: DedupeState) -> bytes:
    """The entry of the table and of its changelog: 37 bytes, and 8 for each ID."""
    newest, forwarded, fingerprint, mapping, ids = state
    return _LAYOUT.pack(_FORMAT, newest, forwarded, fingerprint, mapping) + b"".join(ids)


def decode(entry: bytes) -> DedupeState:
    """The opposite of `encode`. Raises UnreadableState."""
    size = len(entry)
    if size < _FIXED or entry[0] != _FORMAT or (size - _FIXED) % _ID:
        raise UnreadableState(f"{size} bytes, the first of them {entry[:1].hex() or 'missing'}")
    _, newest, forwarded, fingerprint, mapping = _LAYOUT.unpack_from(entry)
    if size == _FIXED + _ID:  # nearly every entry, so without the loop
        return DedupeState(newest, forwarded, fingerprint, mapping, (entry[_FIXED:],))
    ids = [entry[at : at + _ID] for at in range(_FIXED, size, _ID)]
    return DedupeState(newest, forwarded, fingerprint, mapping, tuple(ids))
