"""Whether an event about a contact is news: a plain function over what is known of the contact."""

import hashlib
import struct
from typing import NamedTuple

from streams.events import PAGE_MARGIN_SECONDS

SETTLED = PAGE_MARGIN_SECONDS + 1
"""Seconds after an event until a page that is read then has a newer version than the event: its
`Date` less the margin.
"""

NEVER = -1
"""The version of what has not happened."""

DELETED = hashlib.blake2b(b"deleted", digest_size=16).digest()
"""The fingerprint of a deletion: the same under every mapping, and of no content."""

REMEMBERED_IDS = 8
"""Notification IDs kept of the newest second. A ninth at once costs one needless page of one when
the first is redelivered.
"""


class ContactEvent(NamedTuple):
    """What an event says of its contact, as far as it decides."""

    version: int | None
    """Seconds since the epoch; None: the envelope has no time."""
    id_hash: bytes
    """`hash_id` of the notification ID."""
    fingerprint: bytes = b""
    """16 bytes; `DELETED` of a deletion, empty when the event carries no body."""
    mapping: bytes = b""
    """`mapping_tag` of the mapping that the fingerprint was made with."""
    forced: bool = False
    """A replay or a redrive: passes where another event would be no news."""

    @property
    def bodyless(self) -> bool:
        """The contact changed, and the event does not say how."""
        return not self.fingerprint


class DedupeState(NamedTuple):
    """What is known of a contact: one entry of the table."""

    newest: int = NEVER
    """The newest version seen, whether or not it was forwarded."""
    forwarded: int = NEVER
    """The version last forwarded."""
    fingerprint: bytes = bytes(16)
    """Of what was last forwarded."""
    mapping: bytes = bytes(4)
    """`mapping_tag` of what was last forwarded."""
    ids: tuple[bytes, ...] = ()
    """`hash_id` of the notifications seen at the second `newest`, the latest last."""


class DedupeDecision(NamedTuple):
    """What to do with an event: `reason` is "forwarded" or why it was not, or why the contact has
    to be read again.
    """

    forward: bool
    reason: str
    state: DedupeState | None
    """What is known from now on; None when nothing is known of the contact, still."""
    refetch: int | None = None
    """Read the contact again, and not before this (seconds since the epoch)."""


def decide(state: DedupeState | None, event: ContactEvent, now: int) -> DedupeDecision:
    """Whether an event is news, given what is known of its contact; `now` in seconds since the
    epoch. Never raises.

    An older version than the newest seen is stale. The same fingerprint is a duplicate, and its
    version is remembered all the same. In the newest second an ID already seen is a retry; another
    content with a new ID wins for the moment, and the contact is to be read again, because whole
    seconds cannot tell which of the two came last. An event that carries no body is not forwarded:
    the contact is to be read again. A forced event passes when its version is the one forwarded, or
    not older than the newest seen.
    """
    version, id_hash, fingerprint, mapping, forced = event
    if version is None:
        return DedupeDecision(False, "no_time", state, now + SETTLED)
    known = state or _UNKNOWN
    newest, forwarded, last, last_mapping, _ = known
    same = fingerprint == last and forwarded != NEVER

    if version < newest:
        # Under the same mapping another content at the version forwarded is its rival of that
        # second, which a newer sighting has settled; under another mapping the fingerprints cannot
        # be compared.
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
            False, "duplicate", DedupeState(version, forwarded, last, last_mapping, ids)
        )
    state = DedupeState(version, version, fingerprint, mapping, ids)
    if rival:
        return DedupeDecision(True, "same_second", state, version + SETTLED)
    return DedupeDecision(True, "forwarded", state)


_UNKNOWN = DedupeState()


def hash_id(notification_id: str) -> bytes:
    """8 bytes that stand for a notification ID."""
    return hashlib.blake2b(notification_id.encode(errors="surrogatepass"), digest_size=8).digest()


def mapping_tag(mapping_hash: str) -> bytes:
    """4 bytes that stand for a mapping."""
    return hashlib.blake2b(mapping_hash.encode(), digest_size=4).digest()


_LAYOUT = struct.Struct("<Bqq16s4s")
_FIXED = _LAYOUT.size
_FORMAT = 1
_ID = 8


class UnreadableState(ValueError):
    """An entry of the table that this version did not write: a newer version's changelog, or not
    ours at all.
    """


def encode(state: DedupeState) -> bytes:
    """An entry of the table and its changelog: 37 bytes and 8 for each ID."""
    newest, forwarded, fingerprint, mapping, ids = state
    return _LAYOUT.pack(_FORMAT, newest, forwarded, fingerprint, mapping) + b"".join(ids)


def decode(entry: bytes) -> DedupeState:
    """The opposite of `encode`. Raises UnreadableState."""
    size = len(entry)
    if size < _FIXED or entry[0] != _FORMAT or (size - _FIXED) % _ID:
        raise UnreadableState(f"{size} bytes that begin with {entry[:1].hex() or 'nothing'}")
    _, newest, forwarded, fingerprint, mapping = _LAYOUT.unpack_from(entry)
    ids = [entry[at : at + _ID] for at in range(_FIXED, size, _ID)]
    return DedupeState(newest, forwarded, fingerprint, mapping, tuple(ids))
