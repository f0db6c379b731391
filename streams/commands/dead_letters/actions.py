"""Redrives and discards dead letters, and writes down in the audit who did it.

For the command dead-letters and for the console: nothing here prints.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from secrets import token_hex

import click

from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.dead_letters.open_letters import OpenLetter
from streams.commands.dead_letters.redrive import NotRedrivable, redriven
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.commands.topic_records import topic_records
from streams.dead_letters import DeadLetter, parse_dead_letter
from streams.events import UnreadableRecord, now_ms
from streams.kafka.records import KafkaRecord
from streams.selection import Selection
from streams.settings import KafkaSettings
from streams.topics import Topics, topics

# Letters that are read, published and closed together, and so held in memory.
PAGE_LETTERS = 200

# By how much the selection may have grown since the preview whose number was expected.
GROWTH_ALLOWED = 0.05

EventsOf = Callable[[Sequence[OpenLetter]], Iterator[tuple[OpenLetter, KafkaRecord]]]


class ActionInterrupted(click.ClickException):
    """The broker did not acknowledge a record. What was done stays done; do it again."""


@dataclass(frozen=True, slots=True)
class Redrive:
    """A redrive that is planned: its letters, and why others cannot be redriven."""

    action_id: str
    chosen: Sequence[OpenLetter]
    refused: Counter[str]
    """How many letters cannot be redriven, by why, with what to do instead."""
    events_of: EventsOf


def plan_redrive(kafka: KafkaSettings, letters: Sequence[OpenLetter], body_limit: int) -> Redrive:
    """Which of the letters can be redriven. Blocks while their records are read.

    `body_limit` bounds the inflated body of a webhook, in bytes. Raises click.ClickException.
    """
    names = topics(kafka)
    action = action_id()
    refused: Counter[str] = Counter()

    def events_of(page: Sequence[OpenLetter]) -> Iterator[tuple[OpenLetter, KafkaRecord]]:
        whole = whole_letters(kafka, names, page)
        for opened, letter in zip(page, whole, strict=True):
            try:
                yield opened, redriven(names, letter, action, now_ms(), body_limit)
            except NotRedrivable as error:
                refused[str(error)] += 1

    # A preview counts only what an execution would redrive.
    chosen = [opened for page in _pages(letters) for opened, _ in events_of(page)]
    return Redrive(action, chosen, Counter(refused), events_of)


def _pages(letters: Sequence[OpenLetter]) -> Iterator[Sequence[OpenLetter]]:
    for start in range(0, len(letters), PAGE_LETTERS):
        yield letters[start : start + PAGE_LETTERS]


def carry_out(
    kafka: KafkaSettings,
    chosen: Sequence[OpenLetter],
    audit: AuditEntry,
    events_of: EventsOf | None,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Publishes the events of the letters, if they have some, and closes them; returns how many.

    A letter is closed once its event is acknowledged, so that an interruption loses none; one may
    be redriven twice, which dedupe notices. The audit gets `audit` before, and its end after.
    Blocks; `progress` is called with how many are done. Raises click.ClickException.
    """
    names, done = topics(kafka), 0
    with CommandPublisher(kafka) as publisher:
        try:
            publisher.publish([audit_record(names.audit.name, audit)])
            for page in _pages(chosen):
                closed: Sequence[OpenLetter] = page
                if events_of is not None:
                    pairs = list(events_of(page))
                    publisher.publish([event for _, event in pairs])
                    closed = [letter for letter, _ in pairs]
                publisher.publish(_tombstones(names, closed))
                done += len(closed)
                progress(done)
            ended = replace(audit, state=AuditState.ENDED, at_ms=now_ms(), count=done)
            publisher.publish([audit_record(names.audit.name, ended)])
        except NotAcknowledged as error:
            raise ActionInterrupted(
                f"{error}\n{done:,} of {len(chosen):,} are done; run the command again"
            ) from error
    return done


def _tombstones(names: Topics, letters: Iterable[OpenLetter]) -> Iterator[KafkaRecord]:
    for letter in letters:
        if letter.key is not None:
            yield KafkaRecord(names.dead_letter.name, letter.key, None, [])


def grown(count: int, expected: int) -> bool:
    """Whether more is selected than the preview counted, beyond what may have come meanwhile."""
    return count > expected * (1 + GROWTH_ALLOWED)


def objections(
    count: int, selection: Selection, *, agreed: bool, expected: int | None
) -> list[str]:
    """Why an action on so many letters is refused. `agreed`: that nothing limits the selection."""
    reasons = []
    if not count:
        reasons.append("no open letter is selected")
    if selection.takes_everything and not agreed:
        reasons.append("nothing limits the selection; add --yes for all of them")
    if expected is not None and grown(count, expected):
        reasons.append(
            f"the selection has grown from {expected:,} to {count:,} letters since the "
            "preview; look at it again"
        )
    return reasons


def whole_letters(
    kafka: KafkaSettings, names: Topics, letters: Sequence[OpenLetter]
) -> list[DeadLetter]:
    """The letters with their values, in the order of their offsets. Blocks.

    Raises click.ClickException when one has gone.
    """
    wanted = {each.offset for each in letters}
    found: list[DeadLetter] = []
    records = topic_records(kafka, names.dead_letter.name, offset=min(wanted))
    for record in records:
        if record.offset in wanted:
            try:
                letter = parse_dead_letter(record)
            except UnreadableRecord:
                letter = None
            if letter is not None:
                found.append(letter)
            if len(found) == len(wanted):
                break
    records.close()
    if len(found) < len(wanted):
        raise click.ClickException(
            "a dead letter has gone while the command ran: it expired, or another command closed "
            "it. Run the command again"
        )
    return found


def note_reveal(kafka: KafkaSettings, actor: str, letter_id: str) -> None:
    """Notes in the audit that a person looks at the record of a letter. Blocks.

    Raises click.ClickException when the broker does not take it: then nothing may be shown.
    """
    entry = AuditEntry(
        action_id(),
        AuditState.ENDED,
        now_ms(),
        actor,
        "dead-letters show --reveal",
        "",
        {"id": letter_id},
        1,
    )
    with CommandPublisher(kafka) as publisher:
        try:
            publisher.publish([audit_record(topics(kafka).audit.name, entry)])
        except NotAcknowledged as error:
            raise click.ClickException(str(error)) from error


def action_id() -> str:
    """Unique, and sorted by time."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{token_hex(3)}"
