"""The promises, checked after a storm against everything that was recorded while it went on.

What is checked, each with a name that a broken stage makes appear in the verdict:

- `acknowledged_lost`: a notification that was answered with 200 is in contacts.events or in the
  dead letters.
- `partition_split`: all events of a contact are in one partition.
- `change_differs`: the last change of each contact in contacts.changes is what the plain model
  says.
- `older_change_last`: the change that compaction will keep, the last by offset, is of the contact's
  highest version.
- `refetch_missing`: what could not be decided without asking Nylas again was asked for in
  contacts.refetch.
- `refetch_unanswered`: and what Nylas answered is in contacts.events, no older than was asked for.
- `org_differs`: the record in the org that holds the contact's key has every mapped field as the
  plain model says, or exactly that version of the contact is a dead letter.
- `book_differs`: the org holds the address book that is read page by page, as it stood at the end;
  whatever contacts.events says.
- `went_backwards`: no record in the org, at any moment, took an older version of a contact after
  any record had taken a newer one, or had been released for its deletion.
- `key_doubled`: no key is on two records of the org.
- `person_doubled`: no address stands on two records of the org.
- `commit_ahead`: at every sample, everything below a committed offset had its result on a topic.
- `unwatched`: there are as many samples as the storm's length asks for.
- `valid_dead_lettered`: nothing that the plain rules can read is in the dead letters, unless the
  org was told to refuse it.
- `poison_vanished`: every unreadable event and change is in the dead letters, by its topic,
  partition and offset.
"""

import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tests.faults.harness.model import DELETED, MAPPED, Contact, Event, NotAnEvent, parse

MARGIN = 600
"""Seconds that a page is versioned before Nylas served it (the design, "Version")."""

T = TypeVar("T")

LONGEST_NUMBER = 15  # digits of a number in a header; a longer one is none


@dataclass(frozen=True)
class Stored:
    """A record of a topic."""

    partition: int
    offset: int
    key: str
    value: bytes | None
    headers: Mapping[str, str]
    timestamp_ms: int | None = None


@dataclass(frozen=True)
class Sample:
    """Offsets at one moment: the committed ones were read first, the ends of the result topics
    after them.
    """

    dedupe_committed: Mapping[int, int]
    sink_committed: int
    changes_end: int
    outcomes_end: int
    refetch_end: int
    dead_letter_end: int
    reader_committed: int = 0
    """Of contacts.refetch."""
    events_end: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Write:
    """A row that the org applied, in the order in which it applied them; key and version are the
    record's after it.
    """

    sequence: int
    record_id: str
    key: str | None
    version: int | None


@dataclass(frozen=True)
class Book:
    """The address book of a grant that sends no notifications, as it stood before it was last read
    whole.
    """

    grant: str
    contacts: Mapping[str, Mapping[str, Any]]
    """By contact ID."""


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
    """The Contacts and Leads of the org at the end, with their Id, the standard fields and ours."""
    samples: Sequence[Sample] = ()
    least_samples: int = 0
    grants: Collection[str] = ()
    """Those that Nylas knows; without any, nobody was there to answer contacts.refetch."""
    book: Book | None = None
    refusal: str = ""
    """What the org said of each row that it was told to refuse for good."""
    refused: int = 0
    """How many those were."""


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


@dataclass(frozen=True)
class Change:
    """A readable record of contacts.changes, or the dead letter that it became."""

    offset: int
    key: str
    version: int
    content: Mapping[str, Any]


Events = Sequence[tuple[Stored, Event]]


def verify(evidence: Evidence) -> Verdict:
    """Checks every promise. Anything found is a loss, a reversal or a lie."""
    verdict = Verdict()
    events, poison = _parsed(evidence.events)
    changes, spoiled = _read_changes(evidence.changes)
    contacts = _replayed(events)
    buried = _buried(evidence.dead_letters)
    _acknowledged(verdict, evidence, events)
    _partitions(verdict, events)
    _changes(verdict, changes, contacts)
    _refetched(verdict, evidence, events, contacts)
    _org(verdict, evidence, contacts, buried)
    _book(verdict, evidence, buried)
    _backwards(verdict, evidence, contacts)
    _doubled(verdict, evidence)
    _commits(verdict, evidence, events, poison, changes, spoiled)
    _dead_letters(verdict, evidence, poison, spoiled)
    return verdict


def _parsed(events: Sequence[Stored]) -> tuple[list[tuple[Stored, Event]], list[Stored]]:
    good, poison = [], []
    for record in sorted(events, key=lambda one: (one.partition, one.offset)):
        try:
            good.append((record, _event(record)))
        except NotAnEvent:
            poison.append(record)
    return good, poison


def _event(record: Stored) -> Event:
    return parse(record.value, record.headers.get("origin", ""), record.key, record.timestamp_ms)


def _replayed(events: Events) -> dict[str, Contact]:
    contacts: dict[str, Contact] = {}
    for _, event in events:
        contacts.setdefault(event.key, Contact()).take(event)
    return contacts


def _object(value: bytes | None) -> Mapping[str, Any] | None:
    try:
        found = json.loads(value or b"")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _number(text: str | None) -> int | None:
    return (
        int(text)
        if text and len(text) <= LONGEST_NUMBER and text.isascii() and text.isdigit()
        else None
    )


def _change(record: Stored) -> Change | None:
    """None for what is no change: poison."""
    subject, version, kind = (
        _object(record.value),
        _number(record.headers.get("version")),
        record.headers.get("kind"),
    )
    if (
        subject is None
        or version is None
        or kind not in ("updated", "deleted")
        or "/" not in record.key
    ):
        return None
    content = (
        DELETED
        if kind == "deleted"
        else {name: subject[name] for name in MAPPED if subject.get(name)}
    )
    return Change(record.offset, record.key, version, content)


def _read_changes(records: Sequence[Stored]) -> tuple[list[Change], list[Stored]]:
    """The changes and the poison, by offset; an erasure is neither."""
    good, poison = [], []
    for record in sorted(records, key=lambda one: one.offset):
        change = _change(record)
        if change is not None:
            good.append(change)
        elif record.value is not None:
            poison.append(record)
    return good, poison


def _of_the_sink(letter: Stored) -> bool:
    return letter.headers.get("dlq.stage") == "sink"


def _buried(dead_letters: Sequence[Stored]) -> dict[str, list[Change]]:
    """By contact: the changes that the sink could not make true."""
    found: dict[str, list[Change]] = defaultdict(list)
    for letter in dead_letters:
        if _of_the_sink(letter) and (change := _change(letter)) is not None:
            found[letter.key].append(change)
    return found


def _acknowledged(verdict: Verdict, evidence: Evidence, events: Events) -> None:
    stored = {event.id for _, event in events}
    stored |= {
        str(found.get("id")) for letter in evidence.dead_letters if (found := _object(letter.value))
    }
    for identity in evidence.acknowledged:
        verdict.checked["notifications answered with 200"] += 1
        if identity not in stored:
            verdict.say("acknowledged_lost", identity)


def _partitions(verdict: Verdict, events: Events) -> None:
    where: dict[str, set[int]] = defaultdict(set)
    for record, event in events:
        where[event.key].add(record.partition)
    for key, partitions in where.items():
        if len(partitions) > 1:
            verdict.say("partition_split", f"{key}: events in the partitions {sorted(partitions)}")


def _changes(verdict: Verdict, changes: Sequence[Change], contacts: Mapping[str, Contact]) -> None:
    newest: dict[str, Change] = {}
    last: dict[str, Change] = {}
    for change in changes:
        last[change.key] = change
        if change.key not in newest or change.version >= newest[change.key].version:
            newest[change.key] = change
    for key, contact in contacts.items():
        verdict.checked["contacts"] += 1
        found = newest.get(key)
        if contact.forwarded is None:
            if found is not None:
                verdict.say(
                    "change_differs", f"{key}: a change, although no event says how it changed"
                )
        elif found is None:
            verdict.say(
                "change_differs", f"{key}: no change, expected version {contact.forwarded_version}"
            )
        elif (found.version, found.content) != (contact.forwarded_version, contact.forwarded):
            verdict.say(
                "change_differs",
                f"{key}: version {found.version}, expected {contact.forwarded_version}",
            )
    for key in newest.keys() - contacts.keys():
        verdict.say("change_differs", f"{key}: a change of a contact of which there is no event")
    for key, change in last.items():
        if change.version < newest[key].version:
            verdict.say(
                "older_change_last", f"{key}: {change.version} lies behind {newest[key].version}"
            )


def _refetched(
    verdict: Verdict, evidence: Evidence, events: Events, contacts: Mapping[str, Contact]
) -> None:
    asked = Counter((record.key, record.headers.get("reason")) for record in evidence.refetch)
    for key, contact in contacts.items():
        for reason, count in contact.refetch.items():
            verdict.checked["events that need a refetch"] += count
            if asked[key, reason] < count:
                verdict.say(
                    "refetch_missing",
                    f"{key}: asked {asked[key, reason]} times for {reason}, expected {count}",
                )
    answers = _answers(events)
    for record in evidence.refetch:
        if _answerable(record, evidence):
            verdict.checked["refetches"] += 1
            if not any(version >= _least(record) for _, _, version in answers[record.key]):
                verdict.say("refetch_unanswered", f"{record.key}: the request at {record.offset}")


Answers = Mapping[str, Sequence[tuple[int, int, int]]]


def _answers(events: Events) -> Answers:
    """By contact: partition, offset and version of what was read of it alone."""
    found: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for record, event in events:
        if record.headers.get("origin") == "refetch" and event.time is not None:
            found[event.key].append((record.partition, record.offset, event.time))
    return found


def _answerable(request: Stored, evidence: Evidence) -> bool:
    grant, _, contact = request.key.partition("/")
    return grant in evidence.grants and bool(contact)


def _least(request: Stored) -> int:
    """The version that the answer has at least; poison asks for nothing in particular."""
    asked = request.headers.get("not_before", "")
    return int(asked) - MARGIN if len(asked) == 10 and asked.isdigit() else 0


def _fields(content: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record of the org holds of a contact by the default mapping; what the contact lacks is
    not asked for.
    """
    emails = [one["email"].lower() for one in content.get("emails", ())]
    phones = {
        one.get("type") == "mobile": one["number"] for one in content.get("phone_numbers", ())
    }
    wanted = {
        "FirstName": content.get("given_name"),
        "LastName": content.get("surname"),
        "Title": content.get("job_title"),
        "Email": emails[0] if emails else None,
        "Nylas_Email_2__c": emails[1] if len(emails) > 1 else None,
        "Phone": phones.get(False),
        "MobilePhone": phones.get(True),
        # A Contact's company is its Account.
        "Company": content.get("company_name") if str(record["Id"]).startswith("00Q") else None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _differences(content: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    wanted = _fields(content, record)
    return [
        f"{name} {record.get(name)!r}, expected {value!r}"
        for name, value in wanted.items()
        if record.get(name) != value
    ]


def _by_key(org: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {
        record["Nylas_Contact_Id__c"]: record for record in org if record.get("Nylas_Contact_Id__c")
    }


def _org(
    verdict: Verdict,
    evidence: Evidence,
    contacts: Mapping[str, Contact],
    buried: Mapping[str, Sequence[Change]],
) -> None:
    by_key = _by_key(evidence.org)
    people: dict[str, list[str]] = defaultdict(list)
    for key, contact in contacts.items():
        if contact.forwarded is not None:
            people[contact.address or key].append(key)
    for keys in people.values():
        verdict.checked["people"] += 1
        excused = {
            key
            for key in keys
            if any(
                letter.version == contacts[key].forwarded_version for letter in buried.get(key, ())
            )
        }
        living = [key for key in keys if contacts[key].forwarded != DELETED]
        for key in keys:
            if key in excused or (record := by_key.get(key)) is None:
                continue
            contact = contacts[key]
            if contact.forwarded is None or contact.forwarded == DELETED:
                verdict.say(
                    "org_differs", f"{key}: deleted, and {record['Id']} still holds its key"
                )
                continue
            found = _differences(contact.forwarded, record)
            version = int(record["Nylas_Version__c"] or -1)
            if version != contact.forwarded_version:
                found.append(f"version {version}, expected {contact.forwarded_version}")
            if found:
                verdict.say("org_differs", f"{key}: {'; '.join(found)}")
        if living and not excused and not any(key in by_key for key in living):
            verdict.say(
                "org_differs", f"{' and '.join(living)}: neither in the org nor in the dead letters"
            )


def _book(verdict: Verdict, evidence: Evidence, buried: Mapping[str, Sequence[Change]]) -> None:
    book = evidence.book
    if book is None:
        return
    by_key = _by_key(evidence.org)
    expected = {f"{book.grant}/{name}": contact for name, contact in book.contacts.items()}
    for key, contact in expected.items():
        verdict.checked["contacts of the address book"] += 1
        content = {name: contact[name] for name in MAPPED if contact.get(name)}
        if any(letter.content == content for letter in buried.get(key, ())):
            continue
        record = by_key.get(key)
        found = ["not in the org"] if record is None else _differences(content, record)
        if found:
            verdict.say("book_differs", f"{key}: {'; '.join(found)}")
    for key, record in by_key.items():
        gone = key.startswith(f"{book.grant}/") and key not in expected
        if gone and not any(letter.content == DELETED for letter in buried.get(key, ())):
            verdict.say("book_differs", f"{key}: gone, and {record['Id']} still holds its key")


def _backwards(verdict: Verdict, evidence: Evidence, contacts: Mapping[str, Contact]) -> None:
    newest: dict[str, int] = {}
    held: dict[str, tuple[str, int]] = {}  # record -> the key that it holds, and the version
    for write in sorted(evidence.writes, key=lambda one: one.sequence):
        verdict.checked["writes in the org"] += 1
        lost = held.pop(write.record_id, None)
        if lost is not None and lost[0] != write.key:
            key, version = lost
            deletions = contacts[key].deletions if key in contacts else set()
            later = [deletion for deletion in deletions if deletion >= version]
            if later:
                newest[key] = max(min(later), newest.get(key, -1))
            else:
                verdict.say(
                    "went_backwards",
                    f"{key}: released at {version}, and no deletion is so new (write {write.sequence})",
                )
        if write.key is None or write.version is None:
            continue
        before = newest.get(write.key, -1)
        if write.version < before:
            verdict.say(
                "went_backwards",
                f"{write.key}: {write.version} after {before} (write {write.sequence})",
            )
        newest[write.key] = max(write.version, before)
        held[write.record_id] = (write.key, write.version)


def _doubled(verdict: Verdict, evidence: Evidence) -> None:
    keys: dict[str, list[str]] = defaultdict(list)
    holders: dict[str, set[str]] = defaultdict(set)
    for record in evidence.org:
        if record.get("Nylas_Contact_Id__c"):
            keys[record["Nylas_Contact_Id__c"]].append(record["Id"])
        for name in ("Email", "Nylas_Email_2__c", "Nylas_Email_3__c"):
            if record.get(name):
                holders[record[name].lower()].add(record["Id"])
    for key, ids in keys.items():
        if len(ids) > 1:
            verdict.say("key_doubled", f"{key} is on {len(ids)} records ({', '.join(ids[:3])})")
    for address, found in holders.items():
        if len(found) > 1:
            verdict.say(
                "person_doubled",
                f"{len(found)} records hold one address ({', '.join(sorted(found)[:3])}), {address[:3]}...",
            )


class Reached:
    """By contact: from which offset of a topic on so high a version is there."""

    def __init__(self, found: Iterable[tuple[str, int, int]]) -> None:
        """`found` are key, offset and version, by offset."""
        self._offsets: dict[str, list[int]] = defaultdict(list)
        self._highest: dict[str, list[int]] = defaultdict(list)
        for key, offset, version in found:
            highest = self._highest[key]
            if not highest or version > highest[-1]:
                self._offsets[key].append(offset)
                highest.append(version)

    def below(self, key: str, version: int, end: int) -> bool:
        """Whether a record below `end` has this version of the contact, or a higher one."""
        place = bisect_left(self._highest[key], version)
        return place < len(self._offsets[key]) and self._offsets[key][place] < end


def _letters(dead_letters: Sequence[Stored]) -> dict[tuple[str, int, int], list[Stored]]:
    """By the topic, partition and offset of the record that it was."""
    found: dict[tuple[str, int, int], list[Stored]] = defaultdict(list)
    for letter in dead_letters:
        topic = letter.headers.get("dlq.original.topic", "")
        partition, offset = (
            _number(letter.headers.get(f"dlq.original.{name}")) for name in ("partition", "offset")
        )
        if partition is not None and offset is not None:
            for name in ("contacts.events", "contacts.changes"):
                if topic.endswith(name):
                    found[name, partition, offset].append(letter)
    return found


def _commits(
    verdict: Verdict,
    evidence: Evidence,
    events: Events,
    poison: Sequence[Stored],
    changes: Sequence[Change],
    spoiled: Sequence[Stored],
) -> None:
    """Everything below a committed offset had its result on a topic when the sample was taken."""
    forwarded = Reached((change.key, change.offset, change.version) for change in changes)
    decided = Reached(_decided(evidence.outcomes))
    buried = Reached(_letter_versions(evidence.dead_letters))
    letters = _letters(evidence.dead_letters)
    asked: dict[tuple[str, str], list[int]] = defaultdict(list)
    for record in sorted(evidence.refetch, key=lambda one: one.offset):
        asked[record.key, record.headers.get("reason", "")].append(record.offset)
    answers = _answers(events)

    waiting: dict[int, list[tuple[Stored, Event | None]]] = defaultdict(list)
    for record, event in events:
        waiting[record.partition].append((record, event))
    for record in poison:
        waiting[record.partition].append((record, None))
    queues = {
        partition: _Queue(records, lambda one: one[0].offset)
        for partition, records in waiting.items()
    }
    taken = _Queue[Change | Stored]((*changes, *spoiled), lambda one: one.offset)
    read_again = _Queue(evidence.refetch, lambda one: one.offset)
    below: dict[str, Contact] = {}

    def has_letter(topic: str, record: Stored, end: int) -> bool:
        return any(one.offset < end for one in letters[topic, record.partition, record.offset])

    for sample in evidence.samples:
        verdict.checked["samples of committed offsets"] += 1
        touched: set[str] = set()
        for partition, queue in queues.items():
            for record, told in queue.up_to(sample.dedupe_committed.get(partition, 0)):
                if told is not None:
                    below.setdefault(told.key, Contact()).take(told)
                    touched.add(told.key)
                elif not has_letter("contacts.events", record, sample.dead_letter_end):
                    verdict.say(
                        "commit_ahead",
                        f"dedupe: poison at {partition}:{record.offset} was no dead letter",
                    )
        for key in touched:
            contact = below[key]
            version = contact.forwarded_version
            if contact.forwarded is not None and not forwarded.below(
                key, version, sample.changes_end
            ):
                verdict.say(
                    "commit_ahead", f"dedupe: {key} version {version} was not in contacts.changes"
                )
            for reason, count in contact.refetch.items():
                if bisect_left(asked[key, reason], sample.refetch_end) < count:
                    verdict.say(
                        "commit_ahead", f"dedupe: {key} ({reason}) was not in contacts.refetch"
                    )
        for one in taken.up_to(sample.sink_committed):
            if isinstance(one, Stored):
                if not has_letter("contacts.changes", one, sample.dead_letter_end):
                    verdict.say("commit_ahead", f"sink: poison at {one.offset} was no dead letter")
            elif not decided.below(one.key, one.version, sample.outcomes_end) and not buried.below(
                one.key, one.version, sample.dead_letter_end
            ):
                verdict.say("commit_ahead", f"sink: {one.key} version {one.version} had no outcome")
        for request in read_again.up_to(sample.reader_committed):
            if _answerable(request, evidence) and not any(
                version >= _least(request) and offset < sample.events_end.get(partition, 0)
                for partition, offset, version in answers[request.key]
            ):
                verdict.say(
                    "commit_ahead",
                    f"reader: {request.key} was not read again (request {request.offset})",
                )
    if len(evidence.samples) < evidence.least_samples:
        verdict.say(
            "unwatched", f"{len(evidence.samples)} samples, expected {evidence.least_samples}"
        )


class _Queue(Generic[T]):
    """Records by offset, each handed out once, when a commit has passed it."""

    def __init__(self, records: Iterable[T], offset: Callable[[T], int]) -> None:
        self._records = sorted(records, key=offset)
        self._offsets = [offset(record) for record in self._records]
        self._place = 0

    def up_to(self, committed: int) -> Sequence[T]:
        """What lies below `committed` and was not handed out before."""
        start, self._place = self._place, max(self._place, bisect_left(self._offsets, committed))
        return self._records[start : self._place]


def _decided(outcomes: Sequence[Stored]) -> Iterable[tuple[str, int, int]]:
    for record in sorted(outcomes, key=lambda one: one.offset):
        version = (_object(record.value) or {}).get("version")
        if isinstance(version, int):
            yield record.key, record.offset, version


def _letter_versions(dead_letters: Sequence[Stored]) -> Iterable[tuple[str, int, int]]:
    for letter in sorted(dead_letters, key=lambda one: one.offset):
        if _of_the_sink(letter) and (change := _change(letter)) is not None:
            yield letter.key, letter.offset, change.version


def _dead_letters(
    verdict: Verdict, evidence: Evidence, poison: Sequence[Stored], spoiled: Sequence[Stored]
) -> None:
    letters = _letters(evidence.dead_letters)
    for topic, records in (("contacts.events", poison), ("contacts.changes", spoiled)):
        for record in records:
            verdict.checked["poison records"] += 1
            found = letters[topic, record.partition, record.offset]
            if not any((one.key, one.value) == (record.key, record.value) for one in found):
                verdict.say("poison_vanished", f"{topic} {record.partition}:{record.offset}")
    refused: set[tuple[str, int]] = set()
    for letter in evidence.dead_letters:
        stage, reason = letter.headers.get("dlq.stage"), letter.headers.get("dlq.reason")
        if stage == "sink" and (change := _change(letter)) is not None:
            if evidence.refusal and evidence.refusal in letter.headers.get("dlq.detail", ""):
                refused.add((letter.key, change.version))
            else:
                verdict.say("valid_dead_lettered", f"{letter.key}: {reason}")
        elif stage is not None and stage != "sink":
            try:
                _event(letter)
            except NotAnEvent:
                continue
            verdict.say("valid_dead_lettered", f"{letter.key}: {reason}")
    verdict.checked["rows refused on purpose"] += len(refused)
    if len(refused) > evidence.refused:
        verdict.say(
            "valid_dead_lettered",
            f"{len(refused)} changes, of which the org refused {evidence.refused}",
        )
