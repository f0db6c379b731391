"""Checks at every sample that each committed record had its result on a topic (`commit_ahead`)."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from sys import maxsize
from typing import Generic, TypeVar

from tests.faults.harness.evidence import Evidence, Sample, StoredRecord, Verdict
from tests.faults.harness.model import Contact, Event
from tests.faults.harness.records import (
    Events,
    ReadChange,
    VersionIndex,
    is_answerable,
    is_of_the_sink,
    json_object,
    least_version,
    letters_by_origin,
    read_change,
    refetch_answers,
)

T = TypeVar("T")

NAME = "commit_ahead"


def check_commits(
    verdict: Verdict,
    evidence: Evidence,
    events: Events,
    poison_events: Sequence[StoredRecord],
    changes: Sequence[ReadChange],
    poison_changes: Sequence[StoredRecord],
) -> None:
    """Everything below a committed offset had its result on a topic when the sample was taken."""
    letters = _Letters(evidence.dead_letters)
    dedupe = _DedupeCheck(evidence, events, poison_events, changes, letters)
    sink = _SinkCheck(evidence, changes, poison_changes, letters)
    reader = _ReaderCheck(evidence, events)
    for sample in evidence.samples:
        verdict.checked["samples of committed offsets"] += 1
        for violation in (*dedupe.check(sample), *sink.check(sample), *reader.check(sample)):
            verdict.add(NAME, violation)
    if len(evidence.samples) < evidence.least_samples:
        verdict.add(
            "unwatched", f"{len(evidence.samples)} samples, expected {evidence.least_samples}"
        )


class _Letters:
    """The dead letters, by the record that each was."""

    def __init__(self, dead_letters: Sequence[StoredRecord]) -> None:
        self._letters = letters_by_origin(dead_letters)

    def has(self, topic: str, record: StoredRecord, sample: Sample) -> bool:
        """Whether the record was a dead letter when the sample was taken."""
        letters = self._letters[topic, record.partition, record.offset]
        return any(letter.offset < sample.dead_letter_end for letter in letters)


class _Queue(Generic[T]):
    """Records by offset, each returned once, when a commit has passed it."""

    def __init__(self, records: Iterable[T], offset: Callable[[T], int]) -> None:
        self._records = sorted(records, key=offset)
        self._offsets = [offset(record) for record in self._records]
        self._place = 0

    def up_to(self, committed: int) -> Sequence[T]:
        """The records below `committed` that were not returned before."""
        start, self._place = self._place, max(self._place, bisect_left(self._offsets, committed))
        return self._records[start : self._place]


class _DedupeCheck:
    """Of each committed event: the contact's change, refetch requests or dead letter is there."""

    def __init__(
        self,
        evidence: Evidence,
        events: Events,
        poison: Sequence[StoredRecord],
        changes: Sequence[ReadChange],
        letters: _Letters,
    ) -> None:
        self._letters = letters
        self._changes = VersionIndex((one.key, one.offset, one.version) for one in changes)
        self._requests = _requests(evidence.refetch)
        by_partition: dict[int, list[tuple[StoredRecord, Event | None]]] = defaultdict(list)
        for record, event in (*events, *((record, None) for record in poison)):
            by_partition[record.partition].append((record, event))
        self._queues = {
            partition: _Queue(records, lambda one: one[0].offset)
            for partition, records in by_partition.items()
        }
        self._contacts: dict[str, Contact] = {}
        """The contacts after the committed events."""

    def check(self, sample: Sample) -> Iterable[str]:
        committed: set[str] = set()
        for partition, queue in self._queues.items():
            for record, event in queue.up_to(sample.dedupe_committed.get(partition, 0)):
                if event is not None:
                    self._contacts.setdefault(event.key, Contact()).take(event)
                    committed.add(event.key)
                elif not self._letters.has("contacts.events", record, sample):
                    yield f"dedupe: poison at {partition}:{record.offset} was no dead letter"
        for key in committed:
            yield from self._check_contact(key, sample)

    def _check_contact(self, key: str, sample: Sample) -> Iterable[str]:
        contact = self._contacts[key]
        version = contact.forwarded_version
        if contact.forwarded is not None and not self._changes.is_below(
            sample.changes_end, key, version
        ):
            yield f"dedupe: {key} version {version} was not in contacts.changes"
        for reason, count in contact.refetch.items():
            if bisect_left(self._requests[key, reason], sample.refetch_end) < count:
                yield f"dedupe: {key} ({reason}) was not in contacts.refetch"


class _SinkCheck:
    """Of each committed change: the contact's outcome or dead letter is there.

    Or a later change of the contact is there that is not older. A sink that takes over reads first
    which change of each contact is the newest, and finishes the others without writing them.
    """

    def __init__(
        self,
        evidence: Evidence,
        changes: Sequence[ReadChange],
        poison: Sequence[StoredRecord],
        letters: _Letters,
    ) -> None:
        self._letters = letters
        self._outcomes = VersionIndex(_outcome_versions(evidence.outcomes))
        self._lost = VersionIndex(_outcome_versions(evidence.lost_outcomes))
        self._dead_lettered = VersionIndex(_letter_versions(evidence.dead_letters))
        self._queue = _Queue[ReadChange | StoredRecord]((*changes, *poison), lambda one: one.offset)
        self._changes: dict[str, list[ReadChange]] = defaultdict(list)
        for change in changes:
            self._changes[change.key].append(change)

    def check(self, sample: Sample) -> Iterable[str]:
        for one in self._queue.up_to(sample.sink_committed):
            if isinstance(one, StoredRecord):
                if not self._letters.has("contacts.changes", one, sample):
                    yield f"sink: poison at {one.offset} was no dead letter"
            elif not self._has_result(one, sample) and not self._is_superseded(one, sample):
                yield f"sink: {one.key} version {one.version} had no outcome"

    def _has_result(self, change: ReadChange, sample: Sample) -> bool:
        key, version = change.key, change.version
        return (
            self._outcomes.is_below(sample.outcomes_end, key, version)
            or self._dead_lettered.is_below(sample.dead_letter_end, key, version)
            # It was there before the fault, which may be older than the first sample of the commit.
            or self._lost.is_below(maxsize, key, version)
        )

    def _is_superseded(self, change: ReadChange, sample: Sample) -> bool:
        return any(
            change.offset < later.offset < sample.changes_end and later.version >= change.version
            for later in self._changes[change.key]
        )


class _ReaderCheck:
    """Of each committed refetch request: the contact was read again."""

    def __init__(self, evidence: Evidence, events: Events) -> None:
        self._evidence = evidence
        self._answers = refetch_answers(events)
        self._queue = _Queue(evidence.refetch, lambda one: one.offset)

    def check(self, sample: Sample) -> Iterable[str]:
        for request in self._queue.up_to(sample.reader_committed):
            if is_answerable(request, self._evidence) and not self._is_answered(request, sample):
                yield f"reader: {request.key} was not read again (request {request.offset})"

    def _is_answered(self, request: StoredRecord, sample: Sample) -> bool:
        least = least_version(request)
        return any(
            answer.version >= least and answer.offset < sample.events_end.get(answer.partition, 0)
            for answer in self._answers[request.key]
        )


def _requests(refetch: Sequence[StoredRecord]) -> Mapping[tuple[str, str], list[int]]:
    """By contact and reason, the offsets of the requests."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for record in sorted(refetch, key=lambda one: one.offset):
        found[record.key, record.headers.get("reason", "")].append(record.offset)
    return found


def _outcome_versions(outcomes: Sequence[StoredRecord]) -> Iterable[tuple[str, int, int]]:
    for record in sorted(outcomes, key=lambda one: one.offset):
        version = (json_object(record.value) or {}).get("version")
        if isinstance(version, int):
            yield record.key, record.offset, version


def _letter_versions(dead_letters: Sequence[StoredRecord]) -> Iterable[tuple[str, int, int]]:
    for letter in sorted(dead_letters, key=lambda one: one.offset):
        if is_of_the_sink(letter) and (change := read_change(letter)) is not None:
            yield letter.key, letter.offset, change.version
