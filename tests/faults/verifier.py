"""The promises, checked after a storm against everything that was recorded while it went on.

What is checked, each with a name that a broken stage makes appear in the verdict:

- `acknowledged_lost`: a notification that was answered with 200 is in contacts.events or in the dead letters.
- `change_differs`: the last change of each contact in contacts.changes is what the plain model says.
- `org_differs`: the record in the org that holds the contact's key is what the plain model says, or the contact is a dead letter.
- `went_backwards`: no record in the org, at any moment, took an older version of its contact after a newer one.
- `person_doubled`: no address stands on two records of the org.
- `commit_ahead`: at every sample, everything below a committed offset had its result on a topic.
- `valid_dead_lettered`: no event that the model could read is in the dead letters.
- `poison_vanished`: everything unreadable is in the dead letters.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.model import DELETED, MAPPED, Contact, Event, NotAnEvent, parse


@dataclass(frozen=True)
class Stored:
    """A record of a topic."""

    partition: int
    offset: int
    key: str
    value: bytes | None
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Sample:
    """Offsets at one moment: the committed ones were read first, the ends of the result topics after them."""

    dedupe_committed: Mapping[int, int]
    sink_committed: int
    changes_end: int
    outcomes_end: int
    refetch_end: int
    dead_letter_end: int


@dataclass(frozen=True)
class Write:
    """A row that the org applied, in the order in which it applied them."""

    sequence: int
    record_id: str
    key: str | None
    version: int | None


@dataclass(frozen=True)
class Evidence:
    """Everything recorded during a storm."""

    acknowledged: Sequence[str]
    """IDs of the notifications that were answered with 200."""
    events: Sequence[Stored]
    changes: Sequence[Stored]
    outcomes: Sequence[Stored]
    refetch: Sequence[Stored]
    dead_letters: Sequence[Stored]
    writes: Sequence[Write]
    org: Sequence[Mapping[str, Any]]
    """The records of the org at the end: Id, Title, Email, Nylas_Contact_Id__c, Nylas_Version__c."""
    samples: Sequence[Sample] = ()


@dataclass
class Verdict:
    """What was found, with some examples of each kind."""

    violations: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    checked: Counter[str] = field(default_factory=Counter)

    def say(self, name: str, example: str) -> None:
        self.violations[name] += 1
        if len(self.examples[name]) < 5:
            self.examples[name].append(example)

    @property
    def good(self) -> bool:
        return not self.violations


def verify(evidence: Evidence) -> Verdict:
    """Checks every promise. Anything found is a loss, a reversal or a lie."""
    verdict = Verdict()
    events, poison = _parsed(evidence.events)
    contacts = _replayed(events)
    _acknowledged(verdict, evidence, events)
    _changes(verdict, evidence, contacts)
    _org(verdict, evidence, contacts)
    _backwards(verdict, evidence)
    _doubled(verdict, evidence)
    _commits(verdict, evidence, events)
    _dead_letters(verdict, evidence, poison)
    return verdict


def _parsed(events: Sequence[Stored]) -> tuple[list[tuple[Stored, Event]], list[Stored]]:
    good, poison = [], []
    for record in sorted(events, key=lambda one: (one.partition, one.offset)):
        try:
            good.append((record, parse(record.value, record.headers.get("origin", ""))))
        except NotAnEvent:
            poison.append(record)
    return good, poison


def _replayed(events: Sequence[tuple[Stored, Event]]) -> dict[str, Contact]:
    contacts: dict[str, Contact] = {}
    for _, event in events:
        contacts.setdefault(event.key, Contact()).take(event)
    return contacts


def _identity(value: bytes | None) -> str | None:
    try:
        found = json.loads(value or b"").get("id")
    except (ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _acknowledged(verdict: Verdict, evidence: Evidence, events: Sequence[tuple[Stored, Event]]) -> None:
    stored = {event.id for _, event in events} | {_identity(record.value) for record in evidence.dead_letters}
    for identity in evidence.acknowledged:
        verdict.checked["notifications answered with 200"] += 1
        if identity not in stored:
            verdict.say("acknowledged_lost", identity)


def _content(change: Stored) -> Mapping[str, Any]:
    if change.headers["kind"] == "deleted":
        return DELETED
    subject = json.loads(change.value or b"{}")
    return {name: subject[name] for name in MAPPED if subject.get(name)}


def _versioned(change: Stored) -> bool:
    """Whether it has a version that can be one: poison has not."""
    version = change.headers.get("version", "")
    return version.isdecimal() and len(version) <= 15


def _last_changes(changes: Sequence[Stored]) -> dict[str, Stored]:
    last: dict[str, Stored] = {}
    for change in sorted(changes, key=lambda one: one.offset):
        known = last.get(change.key)
        if known is None or int(change.headers["version"]) >= int(known.headers["version"]):
            last[change.key] = change
    return last


def _changes(verdict: Verdict, evidence: Evidence, contacts: Mapping[str, Contact]) -> None:
    last = _last_changes([change for change in evidence.changes if change.value is not None and _versioned(change)])
    for key, contact in contacts.items():
        verdict.checked["contacts"] += 1
        change = last.get(key)
        if change is None:
            verdict.say("change_differs", f"{key}: no change, expected version {contact.forwarded_version}")
        elif (int(change.headers["version"]), _content(change)) != (contact.forwarded_version, contact.forwarded):
            verdict.say(
                "change_differs", f"{key}: version {change.headers['version']}, expected {contact.forwarded_version}"
            )
    for key in last.keys() - contacts.keys():
        verdict.say("change_differs", f"{key}: a change of a contact of which there is no event")


def _org(verdict: Verdict, evidence: Evidence, contacts: Mapping[str, Contact]) -> None:
    by_key = {record["Nylas_Contact_Id__c"]: record for record in evidence.org if record.get("Nylas_Contact_Id__c")}
    dead = {record.key for record in evidence.dead_letters}
    for key, contact in contacts.items():
        record = by_key.get(key)
        if contact.forwarded == DELETED:
            if record is not None:
                verdict.say("org_differs", f"{key}: deleted, and {record['Id']} still holds its key")
            continue
        if record is None:
            if key not in dead:
                verdict.say("org_differs", f"{key}: neither in the org nor in the dead letters")
            continue
        expected = (contact.forwarded or {}).get("job_title")
        found = (int(record["Nylas_Version__c"] or -1), record.get("Title"))
        if found != (contact.forwarded_version, expected) and key not in dead:
            verdict.say("org_differs", f"{key}: {found}, expected {(contact.forwarded_version, expected)}")


def _backwards(verdict: Verdict, evidence: Evidence) -> None:
    newest: dict[tuple[str, str], int] = {}
    for write in sorted(evidence.writes, key=lambda one: one.sequence):
        if write.key is None or write.version is None:
            continue
        verdict.checked["writes in the org"] += 1
        where = (write.record_id, write.key)
        if write.version < newest.get(where, -1):
            verdict.say(
                "went_backwards", f"{write.key}: {write.version} after {newest[where]} (write {write.sequence})"
            )
        newest[where] = max(write.version, newest.get(where, -1))


def _doubled(verdict: Verdict, evidence: Evidence) -> None:
    holders: dict[str, list[str]] = defaultdict(list)
    for record in evidence.org:
        if record.get("Email"):
            holders[record["Email"].lower()].append(record["Id"])
    for address, ids in holders.items():
        if len(ids) > 1:
            verdict.say(
                "person_doubled", f"{len(ids)} records hold one address ({', '.join(ids[:3])}), {address[:3]}..."
            )


def _commits(verdict: Verdict, evidence: Evidence, events: Sequence[tuple[Stored, Event]]) -> None:
    """Everything below a committed offset had its result on a topic when the sample was taken."""
    changed: dict[str, list[tuple[int, int]]] = defaultdict(list)  # key -> (offset, version) of its changes
    for change in evidence.changes:
        if _versioned(change):
            changed[change.key].append((change.offset, int(change.headers["version"])))
    decided: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for outcome in evidence.outcomes:
        decided[outcome.key].append((outcome.offset, json.loads(outcome.value or b"{}")["version"]))
    buried: dict[str, list[int]] = defaultdict(list)
    for letter in evidence.dead_letters:
        buried[letter.key].append(letter.offset)

    for sample in evidence.samples:
        verdict.checked["samples of committed offsets"] += 1
        below: dict[str, Contact] = {}
        for record, event in events:
            if record.offset < sample.dedupe_committed.get(record.partition, 0):
                below.setdefault(event.key, Contact()).take(event)
        for key, contact in below.items():
            reached = any(
                offset < sample.changes_end and version >= contact.forwarded_version for offset, version in changed[key]
            )
            if not reached and not any(offset < sample.dead_letter_end for offset in buried[key]):
                verdict.say(
                    "commit_ahead", f"dedupe: {key} version {contact.forwarded_version} was not in contacts.changes"
                )
        owed: dict[str, int] = {}
        for change in evidence.changes:
            if change.offset < sample.sink_committed and _versioned(change):
                owed[change.key] = max(owed.get(change.key, -1), int(change.headers["version"]))
        for key, version in owed.items():
            done = any(offset < sample.outcomes_end and found >= version for offset, found in decided[key])
            if not done and not any(offset < sample.dead_letter_end for offset in buried[key]):
                verdict.say("commit_ahead", f"sink: {key} version {version} had no outcome")


def _dead_letters(verdict: Verdict, evidence: Evidence, poison: Sequence[Stored]) -> None:
    buried = Counter(record.value for record in evidence.dead_letters)
    for record in poison:
        verdict.checked["poison records"] += 1
        if not buried[record.value]:
            verdict.say("poison_vanished", f"{record.partition}:{record.offset}")
    for record in evidence.dead_letters:
        if record.headers.get("dlq.stage") == "sink" and record.headers.get("dlq.reason") != "not_a_change":
            verdict.say("valid_dead_lettered", f"{record.key}: {record.headers.get('dlq.reason')}")
            continue
        try:
            parse(record.value, "")
        except NotAnEvent:
            continue
        verdict.say("valid_dead_lettered", f"{record.key}: {record.headers.get('dlq.reason')}")
