"""The command dead-letters: reads the topics, shows what is open, and redrives or discards it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from streams.audit import AuditEntry, AuditState
from streams.commands.actor import actor_name
from streams.commands.dead_letters import report
from streams.commands.dead_letters.actions import (
    EventsOf,
    action_id,
    carry_out,
    note_reveal,
    objections,
    plan_redrive,
    whole_letters,
)
from streams.commands.dead_letters.open_letters import (
    LastOutcomes,
    LetterScan,
    OpenLetter,
    masked_contact,
    scan,
)
from streams.commands.dead_letters.remedies import REASONS
from streams.commands.topic_records import topic_records
from streams.events import now_ms
from streams.selection import Selection, UnusableSelection, encode_selection, known_word
from streams.settings import KafkaSettings
from streams.topics import topics


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters a command acts on, and how its user wants to see them."""

    selection: Selection
    as_json: bool = False
    as_csv: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """An action that changes something, and who wants it."""

    execute: bool
    agreed: bool
    expected: int | None
    given_actor: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Letters:
    """The selected letters, as far as the command needs them."""

    found: LetterScan
    letters: Sequence[OpenLetter]
    superseded: frozenset[str]
    """IDs of the letters whose contact has a newer outcome."""

    @property
    def current(self) -> list[OpenLetter]:
        """Those that are not superseded."""
        return [each for each in self.letters if each.letter_id not in self.superseded]


def summary(kafka: KafkaSettings, choice: Choice) -> None:
    """Prints the letters grouped by reason. Blocks. Raises click.ClickException."""
    read = _letters(kafka, choice.selection)
    found = report.groups(_limited(read), read.superseded)
    if choice.as_json:
        report.print_json(report.groups_json(found))
    else:
        report.print_groups(found)


def list_letters(kafka: KafkaSettings, choice: Choice) -> None:
    """Prints every selected letter. Blocks. Raises click.ClickException."""
    read = _letters(kafka, choice.selection)
    if choice.as_csv:
        report.print_csv(read.letters, read.superseded)
    elif choice.as_json:
        rows = [
            report.letter_row(each, superseded=each.letter_id in read.superseded)
            for each in read.letters
        ]
        report.print_json(rows)
    else:
        report.print_letters(read.letters, read.superseded)
        click.echo(f"{len(read.letters):,} letters", err=True)


def show(
    kafka: KafkaSettings, letter_id: str, *, reveal: bool, given_actor: str | None, as_json: bool
) -> None:
    """Prints one letter. With `reveal`, which the audit notes, it prints the contact as well.

    Blocks. Raises click.ClickException and click.UsageError.
    """
    names = topics(kafka)
    read = _letters(kafka, Selection())
    wanted = next((each for each in read.letters if each.letter_id == letter_id), None)
    if wanted is None:
        raise click.ClickException(
            f"{letter_id}: no open letter has this ID; see contactstream dead-letters list"
        )
    (letter,) = whole_letters(kafka, names, [wanted])
    if reveal:
        note_reveal(kafka, actor_name(given_actor), letter_id)
    facts = report.letter_facts(
        letter,
        contact=masked_contact(letter, names),
        superseded=letter_id in read.superseded,
        reveal=reveal,
    )
    (report.print_json if as_json else report.print_facts)(facts)


def redrive(kafka: KafkaSettings, choice: Choice, order: Order, body_limit: int) -> int:
    """Publishes the selected letters to contacts.events and closes them; returns the exit code.

    Letters that something newer has superseded stay open. A letter is closed once its event is
    acknowledged, so that an interruption loses none; one may be redriven twice, which dedupe
    notices. Blocks. Raises click.ClickException and click.UsageError.
    """
    read = _letters(kafka, choice.selection)
    planned = plan_redrive(kafka, read.current, body_limit)
    for reason, count in planned.refused.items():
        click.echo(f"{count:,} cannot be redriven and stay open: {reason}", err=True)
    if read.superseded:
        click.echo(
            f"{len(read.superseded):,} are superseded by something newer and stay open; "
            "`discard` closes them",
            err=True,
        )
    done = _act(
        kafka,
        "redrive",
        read,
        planned.chosen,
        choice,
        order,
        planned.action_id,
        planned.events_of,
    )
    return 0 if done is None or not planned.refused else 1


def discard(kafka: KafkaSettings, choice: Choice, order: Order, *, only_superseded: bool) -> None:
    """Closes the selected letters for good. Blocks. Raises as `redrive` does."""
    read = _letters(kafka, choice.selection)
    chosen = [
        each for each in read.letters if not only_superseded or each.letter_id in read.superseded
    ]
    _act(kafka, "discard", read, chosen, choice, order, action_id(), None)


def erase(
    kafka: KafkaSettings,
    addresses: Sequence[str],
    keys: Sequence[str],
    who: str,
    *,
    dry_run: bool,
) -> int:
    """Closes every letter that holds one of these addresses or contact keys; returns how many.

    The audit notes the number of people, and nothing that names them. Blocks. Raises
    click.ClickException.
    """
    names = topics(kafka)
    found: dict[str, OpenLetter] = {}
    for selection in (Selection(addresses=tuple(addresses)), Selection(keys=tuple(keys))):
        if not selection.takes_everything:
            letters = scan(topic_records(kafka, names.dead_letter.name), selection, names)
            found |= {each.letter_id: each for each in letters.in_order}
    if found and not dry_run:
        people: dict[str, Any] = {"people": len(addresses) + len(keys)}
        audit = AuditEntry(
            action_id(),
            AuditState.BEGUN,
            now_ms(),
            who,
            "suppress, dead letters",
            "",
            people,
            len(found),
        )
        carry_out(kafka, list(found.values()), audit, None, _progress(len(found)))
    return len(found)


def _act(
    kafka: KafkaSettings,
    action: str,
    read: Letters,
    chosen: Sequence[OpenLetter],
    choice: Choice,
    order: Order,
    audit_id: str,
    events_of: EventsOf | None,
) -> int | None:
    """Previews the action and, when it is to be executed, carries it out page by page.

    Returns how many letters it closed, or None if it only previewed.
    """
    shown = {each.letter_id for each in chosen}
    limited = replace_letters(read.found, shown)
    if choice.as_json:
        report.print_json(
            {"letters": len(chosen), "groups": report.groups_json(report.groups(limited, ()))}
        )
    else:
        report.print_groups(report.groups(limited, ()))
    reasons = objections(
        len(chosen), choice.selection, agreed=order.agreed, expected=order.expected
    )
    if not order.execute:
        for reason in reasons:
            click.echo(f"with --execute it would be refused: {reason}", err=True)
        click.echo(f"Nothing is changed; {action} them with --execute.", err=True)
        return None
    if reasons:
        raise click.ClickException("; ".join(reasons))
    audit = AuditEntry(
        audit_id,
        AuditState.BEGUN,
        now_ms(),
        actor_name(order.given_actor),
        f"dead-letters {action}",
        order.why,
        encode_selection(choice.selection),
        len(chosen),
    )
    return carry_out(kafka, chosen, audit, events_of, _progress(len(chosen)))


def _progress(all_letters: int) -> Callable[[int], None]:
    """Says how many of the letters are done, and how long the others take."""
    began = time.monotonic()

    def say(done: int) -> None:
        seconds = time.monotonic() - began
        left = (all_letters - done) * seconds / done if done else 0.0
        click.echo(f"{done:,} of {all_letters:,} letters, about {left:.0f} s left", err=True)

    return say


def _letters(kafka: KafkaSettings, selection: Selection) -> Letters:
    """The selected letters that are open, and which of them are superseded. Blocks."""
    names = topics(kafka)
    found = scan(topic_records(kafka, names.dead_letter.name), selection, names)
    if found.unreadable:
        click.echo(
            f"{found.unreadable:,} records of {names.dead_letter.name} are no dead letters of "
            "this version; they are left alone",
            err=True,
        )
    for reason in selection.reasons:
        if reason not in found.reasons:
            try:
                known_word("--reason", reason, REASONS | found.reasons)
            except UnusableSelection as error:
                raise click.UsageError(str(error)) from error
    keys = frozenset(each.contact_key for each in found.letters.values() if each.contact_key)
    outcomes = LastOutcomes(topic_records(kafka, names.outcomes.name) if keys else (), keys)
    letters = [each for each in found.in_order if outcomes.takes(selection, each.contact_key)]
    superseded = frozenset(each.letter_id for each in letters if outcomes.supersedes(each))
    return Letters(found, letters, superseded)


def _limited(read: Letters) -> LetterScan:
    return replace_letters(read.found, {each.letter_id for each in read.letters})


def replace_letters(found: LetterScan, kept: set[str]) -> LetterScan:
    """The scan with only the letters of these IDs."""
    letters = {
        identity: letter for identity, letter in found.letters.items() if letter.letter_id in kept
    }
    return replace(found, letters=letters)
