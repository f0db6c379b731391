"""Which dead letters are open, which of them are selected, and what can be done with each.

Plain functions over plain data.
"""

import hashlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from connectors.nylas.errors import UnreadableBody
from connectors.nylas.model import parse_notification
from connectors.salesforce.emails import addresses, normalise
from connectors.salesforce.outcome import OutcomeStatus
from streams.dead_letters import DeadLetter, parse_dead_letter
from streams.events import Kind, UnreadableRecord, number, parse_change
from streams.kafka.records import KafkaRecord, header
from streams.selection import Candidate, Selection
from streams.topics import Topics

_ADDRESS = re.compile(rb"[^\s\"<>,;:]+@[^\s\"<>,;:]+")


@dataclass(frozen=True, slots=True)
class OpenLetter:
    """An open dead letter without its value, so that a hundred thousand of them fit into memory."""

    letter_id: str
    offset: int
    """Of its record in contacts.dead-letter."""
    key: bytes | None
    """Under which a tombstone closes it; None for a letter of schema 1 without a key."""
    contact_key: str
    kind: Kind
    version: int | None
    """Of the change that the sink could not write; None for a letter of another stage."""
    stage: str
    reason: str
    attempts: int
    first_failed_ms: int
    last_failed_ms: int
    run_id: str
    address_hashes: tuple[str, ...]
    """Of the addresses of its contact, so that one can be looked for without holding them."""

    def has_address(self, hashed: str) -> bool:
        """Whether the contact has the address of this hash."""
        return hashed in self.address_hashes


def address_hash(address: str) -> str:
    """A short name of a normalised address; the same in every process.

    Nobody reads the address in it. Whoever guesses the address can check the guess.
    """
    named = address.encode(errors="surrogatepass")
    return hashlib.blake2b(named, digest_size=8, person=b"dead letters").hexdigest()


@dataclass(slots=True)
class LetterScan:
    """What a reading of contacts.dead-letter found."""

    letters: dict[bytes | int, OpenLetter] = field(default_factory=dict)
    """The open letters that are selected, by their key, or by their offset if they have none."""
    samples: dict[str, str] = field(default_factory=dict)
    """By reason, one contact with its values masked."""
    reasons: set[str] = field(default_factory=set)
    """Of every open letter, selected or not."""
    unreadable: int = 0
    """Records of the topic that are no dead letters, or of a newer version."""

    @property
    def in_order(self) -> list[OpenLetter]:
        """The letters, by the offsets of their records."""
        return sorted(self.letters.values(), key=lambda letter: letter.offset)


def scan(records: Iterable[KafkaRecord], selection: Selection, topics: Topics) -> LetterScan:
    """The open letters that a selection takes. `records` is contacts.dead-letter from its start.

    The time of a letter is that of its last failure.
    """
    found = LetterScan()
    open_reasons: dict[bytes | int, str] = {}
    for record in records:
        identity: bytes | int = record.offset if record.key is None else record.key
        found.letters.pop(identity, None)
        open_reasons.pop(identity, None)
        try:
            letter = parse_dead_letter(record)
        except UnreadableRecord:
            found.unreadable += 1
            continue
        if letter is None:
            continue
        open_reasons[identity] = letter.reason
        candidate = _candidate(letter, topics)
        if not selection.takes(candidate) or (
            selection.reasons and letter.reason not in selection.reasons
        ):
            continue
        found.letters[identity] = _open_letter(record, letter, candidate, topics)
        if letter.reason not in found.samples:
            found.samples[letter.reason] = masked_contact(letter, topics)
    found.reasons = set(open_reasons.values())
    return found


def open_letter(record: KafkaRecord, letter: DeadLetter, topics: Topics) -> OpenLetter:
    """The letter in a record, without its value."""
    return _open_letter(record, letter, _candidate(letter, topics), topics)


def _open_letter(
    record: KafkaRecord, letter: DeadLetter, candidate: Candidate, topics: Topics
) -> OpenLetter:
    version = None
    if letter.failed.topic == topics.changes.name:
        version = number(header(letter.failed.headers, "version"))
    return OpenLetter(
        letter.letter_id or f"@{record.offset}",
        record.offset,
        record.key,
        letter.contact_key,
        candidate.kind,
        version,
        sys.intern(letter.stage),
        sys.intern(letter.reason),
        letter.attempts,
        letter.first_failed_ms,
        letter.last_failed_ms,
        letter.run_id,
        tuple(map(address_hash, candidate.addresses)),
    )


def _candidate(letter: DeadLetter, topics: Topics) -> Candidate:
    contact, kind = contact_of(letter, topics)
    if contact is None:
        # Nobody could read it, but a person's address is found in it.
        raw = (normalise(each.decode(errors="replace")) for each in _raw_addresses(letter))
        found: Sequence[str] = [address for address in raw if address]
    else:
        found = addresses(contact)
    return Candidate(letter.contact_key, letter.last_failed_ms, kind, found)


def _raw_addresses(letter: DeadLetter) -> list[bytes]:
    return _ADDRESS.findall(letter.failed.value or b"")


def contact_of(letter: DeadLetter, topics: Topics) -> tuple[Mapping[str, object] | None, Kind]:
    """The contact in a letter, or None where it cannot be read; and what happened to it."""
    failed = letter.failed
    if failed.topic == topics.changes.name:
        try:
            change = parse_change(failed.key, failed.value, failed.headers)
        except UnreadableRecord:
            return None, Kind.UPDATED
        return (None, Kind.UPDATED) if change is None else (change.contact, change.kind)
    try:
        notification = parse_notification(failed.value or b"")
    except UnreadableBody:
        return None, Kind.UPDATED
    deleted = notification.type.startswith("contact.deleted")
    return notification.object, Kind.DELETED if deleted else Kind.UPDATED


def masked_contact(letter: DeadLetter, topics: Topics) -> str:
    """Name, company and addresses of a letter's contact, of each no more than a letter or two."""
    contact, _ = contact_of(letter, topics)
    if contact is None:
        return f"{len(letter.failed.value or b'')} bytes that cannot be read"
    return masked(contact)


def masked(contact: Mapping[str, object]) -> str:
    """Name, company and addresses of a contact, of each no more than a letter or two."""
    words = [str(contact.get(name) or "") for name in ("given_name", "surname", "company_name")]
    parts = [f"{word[0]}***" for word in words if word]
    parts += map(masked_address, addresses(contact)[:2])
    return " ".join(parts) or "a contact without a name or an address"


def masked_address(address: str) -> str:
    """An address, of which the first letters of its two parts are left."""
    local, _, domain = address.partition("@")
    return f"{local[:1]}***@{domain[:1]}***"


def masked_value(value: object) -> str:
    """The first letter of a value, or two of an address; empty for no value."""
    text = "" if value is None else str(value)
    if "@" in text:
        return masked_address(text)
    return f"{text[:1]}***" if text else ""


class LastOutcomes:
    """The last outcome of some contacts: version and status."""

    def __init__(self, records: Iterable[KafkaRecord], keys: frozenset[str]) -> None:
        """`records` is contacts.outcomes from its start. An unreadable outcome counts as none."""
        self._last: dict[str, tuple[int, str, str]] = {}
        for record in records:
            key = (record.key or b"").decode(errors="replace")
            if key not in keys:
                continue
            try:
                value = orjson.loads(record.value or b"null")
            except orjson.JSONDecodeError:
                continue
            if not isinstance(value, dict) or not isinstance(value.get("version"), int):
                continue
            status, reason = str(value.get("outcome")), str(value.get("reason"))
            self._last[key] = value["version"], status, reason

    def takes(self, selection: Selection, contact_key: str) -> bool:
        """Whether the selection takes the contact by the status of its last outcome."""
        if not selection.outcomes:
            return True
        _, status, reason = self._last.get(contact_key, (0, "", ""))
        return bool({status, f"{status}:{reason}"} & {*selection.outcomes})

    def supersedes(self, letter: OpenLetter) -> bool:
        """Whether something newer became of the contact than the letter says."""
        if letter.contact_key not in self._last:
            return False
        version, status, _ = self._last[letter.contact_key]
        return supersedes(letter, version, status)


def supersedes(letter: OpenLetter, version: int, status: str) -> bool:
    """Whether an outcome of the letter's contact is newer than what the letter is about."""
    if letter.version is None:
        return False
    if version == letter.version:
        return status != OutcomeStatus.FAILED.value
    return version > letter.version
