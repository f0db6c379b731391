"""Checks the promises after a storm or a scenario against everything that was recorded.

The verifier shares no code with the stages. Each promise has a name, which the verdict shows when
the promise is broken:

- `acknowledged_lost`: a notification that was answered with 200 is in contacts.events or in the
  dead letters.
- `partition_split`: all events of a contact are in one partition.
- `change_differs`: the newest change of each contact in contacts.changes is what the plain model
  says.
- `older_change_last`: the change that compaction will keep, the last by offset, has the contact's
  highest version.
- `refetch_missing`: contacts.refetch has a request for each event that could not be decided without
  asking Nylas again.
- `refetch_unanswered`: Nylas' answer to each request is in contacts.events, and not older than was
  asked for.
- `org_differs`: the record in the org that holds the contact's key has every mapped field as the
  plain model says, or exactly that version of the contact is a dead letter.
- `book_differs`: the org holds the address book that is read page by page, as it was at the end,
  whatever contacts.events holds.
- `went_backwards`: no record in the org, at any moment, took an older version of a contact after
  any record had taken a newer one, or had been released for its deletion.
- `key_doubled`: no key is on two records of the org.
- `person_doubled`: no address is on two records of the org.
- `commit_ahead`: at every sample, everything below a committed offset had its result on a topic.
- `unwatched`: there are as many samples as the storm's length asks for.
- `valid_dead_lettered`: nothing that the plain rules can read is in the dead letters, unless the
  org was made to refuse it.
- `poison_vanished`: every unreadable event and change is in the dead letters, by its topic,
  partition and offset.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from tests.faults.harness.commit_check import check_commits
from tests.faults.harness.evidence import Evidence, StoredRecord, Verdict
from tests.faults.harness.model import Contact, NotAnEvent, replay
from tests.faults.harness.org_check import check_book, check_doubles, check_order, check_org
from tests.faults.harness.records import (
    Events,
    ReadChange,
    dead_lettered_changes,
    is_answerable,
    json_object,
    least_version,
    letters_by_origin,
    read_change,
    read_changes,
    read_event,
    read_events,
    refetch_answers,
)


def verify(evidence: Evidence) -> Verdict:
    """Checks every promise."""
    verdict = Verdict()
    events, poison_events = read_events(evidence.events)
    changes, poison_changes = read_changes(evidence.changes)
    contacts = replay(event for _, event in events)
    dead_lettered = dead_lettered_changes(evidence.dead_letters)
    _check_acknowledged(verdict, evidence, events)
    _check_partitions(verdict, events)
    _check_changes(verdict, changes, contacts)
    _check_refetch(verdict, evidence, events, contacts)
    check_org(verdict, evidence, contacts, dead_lettered)
    check_book(verdict, evidence, dead_lettered)
    check_order(verdict, evidence, contacts)
    check_doubles(verdict, evidence)
    check_commits(verdict, evidence, events, poison_events, changes, poison_changes)
    poison = {"contacts.events": poison_events, "contacts.changes": poison_changes}
    _check_poison(verdict, evidence, poison)
    _check_dead_letters(verdict, evidence)
    return verdict


def _check_acknowledged(verdict: Verdict, evidence: Evidence, events: Events) -> None:
    stored = {event.id for _, event in events}
    letters = (json_object(letter.value) for letter in evidence.dead_letters)
    stored |= {str(body.get("id")) for body in letters if body}
    for identity in evidence.acknowledged:
        verdict.checked["notifications answered with 200"] += 1
        if identity not in stored:
            verdict.add("acknowledged_lost", identity)


def _check_partitions(verdict: Verdict, events: Events) -> None:
    where: dict[str, set[int]] = defaultdict(set)
    for record, event in events:
        where[event.key].add(record.partition)
    for key, partitions in where.items():
        if len(partitions) > 1:
            verdict.add("partition_split", f"{key}: events in the partitions {sorted(partitions)}")


def _check_changes(
    verdict: Verdict, changes: Sequence[ReadChange], contacts: Mapping[str, Contact]
) -> None:
    newest: dict[str, ReadChange] = {}
    last: dict[str, ReadChange] = {}
    for change in changes:
        last[change.key] = change
        if change.key not in newest or change.version >= newest[change.key].version:
            newest[change.key] = change
    for key, contact in contacts.items():
        verdict.checked["contacts"] += 1
        if difference := _change_difference(newest.get(key), contact):
            verdict.add("change_differs", f"{key}: {difference}")
    for key in newest.keys() - contacts.keys():
        verdict.add("change_differs", f"{key}: a change of a contact that has no event")
    for key, change in last.items():
        if change.version < newest[key].version:
            verdict.add(
                "older_change_last", f"{key}: {change.version} comes after {newest[key].version}"
            )


def _change_difference(found: ReadChange | None, contact: Contact) -> str:
    """How the newest change differs from what the model says; empty when it does not."""
    expected = contact.forwarded_version
    if contact.forwarded is None:
        return "" if found is None else "a change, although no event says how it changed"
    if found is None:
        return f"no change, expected version {expected}"
    if (found.version, found.content) != (expected, contact.forwarded):
        return f"version {found.version}, expected {expected}"
    return ""


def _check_refetch(
    verdict: Verdict, evidence: Evidence, events: Events, contacts: Mapping[str, Contact]
) -> None:
    requests = Counter((record.key, record.headers.get("reason")) for record in evidence.refetch)
    for key, contact in contacts.items():
        for reason, count in contact.refetch.items():
            verdict.checked["events that need a refetch"] += count
            found = requests[key, reason]
            if found < count:
                verdict.add(
                    "refetch_missing",
                    f"{key}: {found} requests for {reason}, expected {count}",
                )
    answers = refetch_answers(events)
    for request in evidence.refetch:
        if not is_answerable(request, evidence):
            continue
        verdict.checked["refetches"] += 1
        least = least_version(request)
        if not any(answer.version >= least for answer in answers[request.key]):
            verdict.add("refetch_unanswered", f"{request.key}: the request at {request.offset}")


def _check_poison(
    verdict: Verdict, evidence: Evidence, poison: Mapping[str, Sequence[StoredRecord]]
) -> None:
    letters = letters_by_origin(evidence.dead_letters)
    for topic, records in poison.items():
        for record in records:
            verdict.checked["poison records"] += 1
            found = letters[topic, record.partition, record.offset]
            if not any((one.key, one.value) == (record.key, record.value) for one in found):
                verdict.add("poison_vanished", f"{topic} {record.partition}:{record.offset}")


def _check_dead_letters(verdict: Verdict, evidence: Evidence) -> None:
    refused: set[tuple[str, int]] = set()
    for letter in evidence.dead_letters:
        change = read_change(letter)
        if _is_refused(letter, evidence.refusal) and change is not None:
            refused.add((letter.key, change.version))
        elif _is_readable(letter):
            reason = letter.headers.get("dlq.reason")
            verdict.add("valid_dead_lettered", f"{letter.key}: {reason}")
    verdict.checked["rows refused on purpose"] += len(refused)
    if len(refused) > evidence.refused:
        verdict.add(
            "valid_dead_lettered",
            f"{len(refused)} changes, but the org refused only {evidence.refused}",
        )


def _is_refused(letter: StoredRecord, refusal: str) -> bool:
    """Whether the sink wrote it because the org refused the row on purpose."""
    detail = letter.headers.get("dlq.detail", "")
    return letter.headers.get("dlq.stage") == "sink" and bool(refusal) and refusal in detail


def _is_readable(letter: StoredRecord) -> bool:
    """Whether it holds a good change, or a good event of another stage."""
    stage = letter.headers.get("dlq.stage")
    if stage is None:  # poison that was written to the topic of the dead letters itself
        return False
    if stage == "sink":
        return read_change(letter) is not None
    try:
        read_event(letter)
    except NotAnEvent:
        return False
    return True
