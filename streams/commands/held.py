"""The command held: lists the contacts that a limit holds, and releases them."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from textwrap import fill

import click
from confluent_kafka import KafkaException

from connectors.salesforce.emails import addresses
from connectors.salesforce.outcome import OutcomeStatus
from connectors.salesforce.person import grant_of
from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.breakers import read_control
from streams.commands.dead_letters.open_letters import masked_address
from streams.commands.given_grants import given_grant_ids
from streams.commands.mailboxes import KnownGrants
from streams.commands.offer_again import offer_again
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.commands.tables import print_table
from streams.commands.topic_records import topic_records
from streams.control import ControlTable, PausedPart
from streams.events import UnreadableRecord, parse_change
from streams.grant_addresses import GrantAddresses
from streams.held import (
    HELD_MEANING,
    RELEASE_KEPT_MS,
    HeldReason,
    HeldRelease,
    release_key,
    release_record,
)
from streams.kafka.records import KafkaRecord
from streams.reader.outcome_records import parse_outcome
from streams.runs import RunKind, new_run_id
from streams.selection import Selection, UnusableSelection, encode_selection, known_word
from streams.settings import KafkaSettings
from streams.topics import Topics, topics

# Of a terminal that nobody made wider.
COLUMNS = 80
# People whose addresses are looked for in contacts.changes, the longest held first.
SHOWN_PEOPLE = 50


@dataclass(frozen=True, slots=True)
class HeldContact:
    """A contact that is held. `since_ms` is in epoch milliseconds."""

    key: str
    reason: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """Held contacts of one reason and grant."""

    reason: str
    grant: str
    mailbox: str
    """The address of the grant, masked; empty while it is not known."""
    people: int
    since: str
    """Since when the first of them is held."""


@dataclass(frozen=True, slots=True)
class HeldPerson:
    """A held contact as the list shows it."""

    key: str
    reason: str
    since: str
    addresses: tuple[str, ...]
    """Masked."""


def list_held(
    kafka: KafkaSettings,
    grants: Sequence[str],
    limits: Sequence[str],
    *,
    people: bool,
    as_json: bool,
) -> None:
    """Prints the held contacts by reason and grant, and with `people` one by one.

    Blocks until contacts.outcomes is read. Raises click.UsageError for a limit or a grant that
    does not exist, and click.ClickException.
    """
    names = topics(kafka)
    limits, every = known_limits(limits), read_held(kafka)
    known = _known_grants(kafka, names) if every or grants else KnownGrants.of(())
    held = select_held(every, _grants(grants, every, known), limits)
    groups = group_held(held, known.addresses)
    shown = _people(kafka, names, held) if people else []
    if as_json:
        body = {
            "held": len(held),
            "groups": [asdict(one) for one in groups],
            "people": [asdict(one) for one in shown],
        }
        click.echo(json.dumps(body, indent=2, ensure_ascii=False))
        return
    if not held:
        click.echo("nobody is held")
        return
    _print_groups(groups)
    if shown:
        rows = [[one.key, one.reason, one.since, " ".join(one.addresses)] for one in shown]
        print_table(["contact", "limit", "since", "addresses"], rows)
    if people and len(held) > len(shown):
        click.echo(f"and {len(held) - len(shown):,} more")
    click.echo("to have them written: contactstream held release --all --why TEXT")


def _print_groups(groups: Sequence[HeldGroup]) -> None:
    for reason, people in _counted(groups).items():
        meaning = HELD_MEANING.get(reason)
        line = f"{people:,} held: {reason}" + (f", {meaning}" if meaning else "")
        click.echo(fill(line, COLUMNS, subsequent_indent="    ", break_on_hyphens=False))
    rows = [[one.reason, one.grant, one.mailbox, f"{one.people:,}", one.since] for one in groups]
    print_table(["limit", "grant", "mailbox", "people", "since"], rows)


def _counted(groups: Iterable[HeldGroup]) -> dict[str, int]:
    counts = Counter[str]()
    for one in groups:
        counts[one.reason] += one.people
    return dict(counts.most_common())


@dataclass(frozen=True, slots=True)
class PlannedRelease:
    """Whom a release has written."""

    selection: Selection
    """With the IDs of its grants."""
    counts: Mapping[str, int]
    """People by limit, the largest first."""
    control: ControlTable

    @property
    def people(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        """In words: how many, and by which limits."""
        return ", ".join(f"{number:,} {limit}" for limit, number in self.counts.items())


def plan_release(kafka: KafkaSettings, selection: Selection, now: float) -> PlannedRelease:
    """Whom a release would have written. Blocks. `now` is in epoch seconds.

    `selection` is one that `release_selection` made. Raises click.UsageError for a grant that
    nobody knows, and click.ClickException where nobody is held, or while creations are paused.
    """
    control, every = read_control(kafka), read_held(kafka)
    if selection.grants:
        known = _known_grants(kafka, topics(kafka))
        selection = replace(selection, grants=_grants(selection.grants, every, known))
    counts = Counter(
        one.reason
        for one in every
        if (not selection.grants or grant_of(one.key) in selection.grants)
        and selection.takes_outcome(OutcomeStatus.HELD.value, one.reason)
    )
    if not counts:
        raise click.ClickException("nobody of these is held; see: contactstream held")
    pause = control.pause_of(PausedPart.CREATIONS, int(now * 1000))
    if pause is not None and counts.keys() - {HeldReason.REPLACED_VALUES.value}:
        raise click.ClickException(
            f"creations are paused by {pause.by}, {pause.why}: they would be held again; first: "
            "contactstream resume creations"
        )
    return PlannedRelease(selection, dict(counts.most_common()), control)


def carry_out_release(
    kafka: KafkaSettings, planned: PlannedRelease, why: str, by: str, now: float
) -> str:
    """Releases them, with its audit record; returns the ID of the run that offers them again.

    Blocks. Raises click.ClickException, also where it was begun and has to be repeated.
    """
    run_id = new_run_id(RunKind.REPLAY, now)
    released = HeldRelease(run_id, by, why, int(now * 1000))
    _publish(kafka, released, planned.selection, planned.people, planned.control)
    try:
        offer_again(kafka, planned.selection, by, now, run_id)
    except (click.ClickException, KafkaException, KeyboardInterrupt) as error:
        raise click.ClickException(
            "the release was begun, and nobody is offered again yet; repeat the command"
        ) from error
    return run_id


def release(
    kafka: KafkaSettings,
    selection: Selection,
    why: str,
    actor: str | None,
    *,
    dry_run: bool,
    clock: Callable[[], float] = time.time,
) -> None:
    """Has the selected held contacts written, whatever the limits say. Blocks.

    `selection` is one that `release_selection` made. Raises click.UsageError and
    click.ClickException, each with what to do instead.
    """
    if not why.strip():
        raise click.UsageError("--why is empty: whoever finds the records has to know")
    now = clock()
    planned = plan_release(kafka, selection, now)
    click.echo(f"{planned.people:,} people are released: {planned}")
    if dry_run:
        click.echo("Nothing is released; repeat it without --dry-run.", err=True)
        return
    run_id = carry_out_release(kafka, planned, why.strip(), actor_name(actor), now)
    click.echo(f"they are written by run {run_id}; see: contactstream runs follow {run_id}")


def release_selection(
    grants: Sequence[str], limits: Sequence[str], *, everybody: bool
) -> Selection:
    """Whom a release selects. Raises click.UsageError for options that select nobody or unclearly.

    Of several grants and limits any will do: whoever is of one of them, and held by one of these.
    """
    if everybody and (grants or limits):
        raise click.UsageError("--all releases everybody: leave out --grant and --limit")
    if not everybody and not grants and not limits:
        raise click.UsageError("say whom to release: --all, --grant or --limit")
    held = OutcomeStatus.HELD.value
    outcomes = tuple(f"{held}:{limit}" for limit in known_limits(limits)) or (held,)
    return Selection(grants=tuple(dict.fromkeys(grants)), outcomes=outcomes)


def known_limits(limits: Iterable[str]) -> tuple[str, ...]:
    """The limits of these names. Raises click.UsageError, with the closest one or all of them."""
    words = [reason.value for reason in HeldReason]
    try:
        return tuple(dict.fromkeys(known_word("--limit", limit, words) for limit in limits))
    except UnusableSelection as error:
        raise click.UsageError(str(error)) from error


def read_held(kafka: KafkaSettings) -> list[HeldContact]:
    """The contacts whose last outcome is `held`. Blocks. Raises click.ClickException."""
    return held_contacts(
        topic_records(
            kafka, topics(kafka).outcomes.name, waiting=lambda reason: click.echo(reason, err=True)
        )
    )


def held_contacts(outcomes: Iterable[KafkaRecord]) -> list[HeldContact]:
    """The contacts whose last outcome is `held`, the longest held first.

    `outcomes` is contacts.outcomes from its start.
    """
    held: dict[str, HeldContact] = {}
    for record in outcomes:
        outcome = parse_outcome(record)
        if outcome.outcome != OutcomeStatus.HELD.value:
            held.pop(outcome.contact_key, None)
            continue
        before = held.get(outcome.contact_key)
        since = outcome.at_ms if before is None else before.since_ms
        held[outcome.contact_key] = HeldContact(outcome.contact_key, outcome.reason, since)
    return sorted(held.values(), key=lambda one: (one.since_ms, one.key))


def select_held(
    held: Iterable[HeldContact], grants: Sequence[str], limits: Sequence[str]
) -> list[HeldContact]:
    """Those of these grants and limits; all where none is named."""
    return [
        one
        for one in held
        if (not grants or grant_of(one.key) in grants) and (not limits or one.reason in limits)
    ]


def group_held(held: Iterable[HeldContact], mailboxes: GrantAddresses) -> list[HeldGroup]:
    """The held contacts by reason and grant, the largest group first."""
    people = Counter[tuple[str, str]]()
    since: dict[tuple[str, str], int] = {}
    for one in held:
        group = (one.reason, grant_of(one.key))
        people[group] += 1
        since[group] = min(one.since_ms, since.get(group, one.since_ms))
    return [
        HeldGroup(reason, grant, _mailbox(mailboxes, grant), number, _time(since[reason, grant]))
        for (reason, grant), number in sorted(people.items(), key=lambda each: (-each[1], each[0]))
    ]


def _mailbox(mailboxes: GrantAddresses, grant: str) -> str:
    address = mailboxes.address(grant)
    return masked_address(address) if address else ""


def _known_grants(kafka: KafkaSettings, names: Topics) -> KnownGrants:
    return KnownGrants.of(topic_records(kafka, names.grants.name))


def _grants(
    given: Sequence[str], held: Iterable[HeldContact], known: KnownGrants
) -> tuple[str, ...]:
    """The IDs of these grants. Raises click.UsageError for one that nobody knows."""
    ids = {*known.table.status, *(grant_of(one.key) for one in held)}
    return given_grant_ids(given, ids, known.addresses)


def _people(kafka: KafkaSettings, names: Topics, held: Sequence[HeldContact]) -> list[HeldPerson]:
    wanted = {one.key for one in held[:SHOWN_PEOPLE]}
    found: dict[str, tuple[str, ...]] = {}
    for record in topic_records(kafka, names.changes.name):
        key = (record.key or b"").decode(errors="replace")
        if key not in wanted:
            continue
        try:
            change = parse_change(record.key, record.value, record.headers)
        except UnreadableRecord:
            continue
        given = () if change is None else addresses(change.contact)
        found[key] = tuple(map(masked_address, given))
    return [
        HeldPerson(one.key, one.reason, _time(one.since_ms), found.get(one.key, ()))
        for one in held[:SHOWN_PEOPLE]
    ]


def _publish(
    kafka: KafkaSettings,
    released: HeldRelease,
    selection: Selection,
    people: int,
    control: ControlTable,
) -> None:
    names = topics(kafka)
    noted = AuditEntry(
        released.run_id,
        AuditState.ENDED,
        released.at_ms,
        released.by,
        "held release",
        released.why,
        encode_selection(selection),
        people,
    )
    outdated = [
        KafkaRecord(names.control.name, release_key(one.run_id), None, [])
        for one in control.releases.values()
        if one.at_ms < released.at_ms - RELEASE_KEPT_MS
    ]
    try:
        with CommandPublisher(kafka) as publisher:
            publisher.publish([audit_record(names.audit.name, noted)])
            publisher.publish([release_record(names, released), *outdated])
    except NotAcknowledged as error:
        raise click.ClickException(str(error)) from error


def _time(epoch_ms: int) -> str:
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%dT%H:%MZ}"
