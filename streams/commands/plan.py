"""The command plan: what the sink would write for some changes, field by field.

Nothing is written to Salesforce.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import click
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.salesforce.api.auth import Session
from connectors.salesforce.api.budget import Budget
from connectors.salesforce.api.client import SalesforceClient, http_client
from connectors.salesforce.counting import CountCallback, count_nothing
from connectors.salesforce.org_fields import MARKER_FIELD, VERSION_FIELD
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.planned_records import MAX_PLANNED_RECORDS, PlannedRecords
from connectors.salesforce.planner import PlannedOutcome, WritePlan
from connectors.salesforce.policy import Policy
from connectors.salesforce.sync import MAX_BATCH, Sync
from connectors.salesforce.write_mode import WriteMode
from connectors.salesforce.write_rules import PLANNED_CREATION, WithoutLimits, take_out_planned
from streams.commands.mode import known_mode, mode_entry, mode_line
from streams.commands.plan_input import PlanError, PlanInput, parse_moment, read_lines, read_since
from streams.commands.plan_mode import mode_of_plan, without_kafka
from streams.commands.plan_suppression import KafkaAway, add_suppressed
from streams.control_mode import ModeInForce
from streams.kafka.clients import METADATA_SECONDS, client_config
from streams.kafka.snapshot import SnapshotStalled
from streams.org import credentials
from streams.settings import KafkaSettings, SalesforceSettings
from streams.sink.account_topic import AccountTopicReader
from streams.topics import topics


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field's value in Salesforce, and the one that would be written."""

    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """What would be done with one contact.

    When several contacts share a record, the fields stand in the entry of one of them, and the
    others name its contact key in `same_record_as`.
    """

    key: str
    outcome: str
    sobject: str | None = None
    record_id: str | None = None
    matched: str | None = None
    reason: str = ""
    several_matched: bool = False
    account_by: str = ""
    candidates: tuple[str, ...] = ()
    same_record_as: str | None = None
    fields: dict[str, FieldChange] = field(default_factory=dict)


def run(
    settings: SalesforceSettings,
    allowed: Policy,
    kafka: KafkaSettings,
    file: Path | None,
    since: str | None,
    *,
    as_json: bool,
    mode: str | None = None,
) -> None:
    """Prints the plan in a mode; None is the one in force.

    Raises PlanError, SettingsError, SalesforceError, and click.UsageError for an unknown mode.
    """
    asked = known_mode(mode) if mode is not None else None
    given = _read_input(kafka, file, since)
    away = _leave_out_suppressed(kafka, allowed)
    if away and asked is None:
        chosen = without_kafka(settings.mode, away)
    else:
        chosen = mode_of_plan(kafka, settings, asked)
    changes = list(given.changes.values())
    # A plan of a file works without Kafka; then the Accounts are read from the org.
    accounts = None if file is not None else known_accounts(kafka)
    entries, notes = asyncio.run(plan_changes(settings, allowed, changes, accounts, chosen.mode))
    entries += [
        PlanEntry(key, OutcomeStatus.FAILED.value, reason=reason)
        for key, reason in given.unreadable
    ]
    entries += [
        PlanEntry(key, OutcomeStatus.SKIPPED.value, reason=reason) for key, reason in given.skipped
    ]
    if as_json:
        print_json(entries, notes, chosen)
    else:
        print_text(entries, notes, chosen)


def _leave_out_suppressed(kafka: KafkaSettings, allowed: Policy) -> str:
    """Has the plan leave out who is on contactstream.suppression, as the sink does.

    A plan needs no Kafka: without the list it goes on, and says so. Returns why no broker answers;
    empty if one does.
    """
    try:
        add_suppressed(kafka, allowed)
    except click.ClickException as error:
        why = error.format_message()
        click.echo(f"people on the suppression list are not left out: {why}", err=True)
        return why if isinstance(error, KafkaAway) else ""
    return ""


def _read_input(kafka: KafkaSettings, file: Path | None, since: str | None) -> PlanInput:
    if (file is None) == (since is None):
        raise PlanError("give either a FILE or --since")
    now = time.time()
    if file is None:
        return read_since(kafka, parse_moment(since or "", now))
    if str(file) == "-":
        return read_lines(sys.stdin.buffer, int(now))
    return read_lines(file.read_bytes().splitlines(), int(now))


def known_accounts(kafka: KafkaSettings) -> AccountTopicReader | None:
    """What the sink knows of the Accounts; None if it has no topic for them yet. Blocks."""
    topic = topics(kafka).accounts.name
    try:
        known = AdminClient(client_config(kafka)).list_topics(timeout=METADATA_SECONDS).topics
    except KafkaException:
        return None
    return AccountTopicReader(kafka, topic) if topic in known else None


async def plan_changes(
    settings: SalesforceSettings,
    allowed: Policy,
    changes: Sequence[ContactVersion],
    accounts: AccountTopicReader | None = None,
    mode: WriteMode = WriteMode.MIRROR,
) -> tuple[list[PlanEntry], Counter[str]]:
    """An entry for each change, and the counted notes (values cut or left out, fields missing).

    `accounts` is what the sink knows of the Accounts, and is only read; without it, or where Kafka
    does not give it, they are read from the org. Raises PlanError, SettingsError, SalesforceError.
    """
    notes: Counter[str] = Counter()

    def count(what: str, where: str) -> None:
        notes[f"{what} {where}".strip()] += 1

    entries: list[PlanEntry] = []
    planned = PlannedRecords()
    batches = planned_batches(settings, allowed, iter(changes), planned, accounts, count, mode)
    async for plan in batches:
        entries += plan_entries(plan, planned, mode)
    if planned.forgotten:
        notes[f"planned records beyond {MAX_PLANNED_RECORDS}, so that some people count twice"] = (
            planned.forgotten
        )
    position = {change.key: number for number, change in enumerate(changes)}
    return sorted(entries, key=lambda entry: position[entry.key]), notes


async def planned_batches(
    settings: SalesforceSettings,
    allowed: Policy,
    changes: Iterator[ContactVersion],
    planned: PlannedRecords,
    accounts: AccountTopicReader | None = None,
    count: CountCallback = count_nothing,
    mode: WriteMode = WriteMode.MIRROR,
) -> AsyncIterator[WritePlan]:
    """The plan of each batch, as the sink would make it; nothing is written.

    Each batch is planned as if those before were written: `planned` holds what they change. Of two
    changes of a contact in one batch the later one counts. Raises PlanError, SettingsError,
    SalesforceError.
    """
    http = http_client()
    session = Session(credentials(settings), http)
    async with SalesforceClient(
        session, http, settings.api_version, budget=Budget(settings.call_reserve)
    ) as client:
        sync = Sync(client, allowed, count, planned=planned, accounts=accounts)
        try:
            await sync.restore()
        except (SnapshotStalled, KafkaException):
            sync = Sync(client, allowed, count, planned=planned)
        waiting = list(islice(changes, MAX_BATCH))
        while waiting:
            plan = await sync.resolve(waiting, rules=WithoutLimits(mode))
            yield plan
            planned.add(plan.decisions)
            if len(plan.leftovers) >= len(waiting):
                raise PlanError("a contact has more addresses than fit into one query")
            more = islice(changes, MAX_BATCH - len(plan.leftovers))
            waiting = list({each.key: each for each in (*plan.leftovers, *more)}.values())


def plan_entries(
    plan: WritePlan, planned: PlannedRecords, mode: WriteMode = WriteMode.MIRROR
) -> list[PlanEntry]:
    """An entry for each decision of a plan; `planned` is what earlier batches change.

    The fields of a shared record stand in the entry of the contact that changes most of it.
    """
    _, as_recorded = take_out_planned(plan.decisions, mode)
    recorded = {outcome.key: outcome for outcome in as_recorded}
    owners: dict[int, PlannedOutcome] = {}
    for decision in sorted(plan.decisions, key=lambda one: _rank(one.outcome)):
        if decision.record is not None and decision.outcome.status is not OutcomeStatus.COVERED:
            owners.setdefault(id(decision.record), decision)
    entries = [
        _entry(decision, owners.get(id(decision.record)), planned) for decision in plan.decisions
    ]
    return [_with_outcome(entry, recorded.get(entry.key)) for entry in entries]


def _with_outcome(entry: PlanEntry, recorded: Outcome | None) -> PlanEntry:
    """The entry with the outcome that the sink would record in a mode that writes nothing."""
    if recorded is None:
        return entry
    return replace(entry, outcome=recorded.status.value, reason=recorded.reason)


def _rank(outcome: Outcome) -> int:
    """The lower the rank, the more of the record's changes come from this contact."""
    if outcome.status is OutcomeStatus.FILLED:
        return 3 if outcome.reason else 1
    return {OutcomeStatus.CREATED: 0, OutcomeStatus.UPDATED: 0, OutcomeStatus.RELEASED: 2}.get(
        outcome.status, 3
    )


def _entry(
    decision: PlannedOutcome, owner: PlannedOutcome | None, planned: PlannedRecords
) -> PlanEntry:
    """The entry of a decision; `owner` is the decision whose entry holds the record's fields."""
    outcome, record = decision.outcome, decision.record
    changed = record.changes if record is not None and owner is decision else {}
    stored = record.stored if record is not None else {}
    creator = planned.creator(outcome.record_id)
    sharing = owner.change.key if owner is not None and owner is not decision else creator
    if outcome.status is OutcomeStatus.COVERED:
        sharing = None  # it is another person's record
    return PlanEntry(
        key=outcome.key,
        outcome=outcome.status.value,
        sobject=outcome.sobject,
        # one that an earlier batch creates has no ID yet
        record_id=None if creator else outcome.record_id,
        matched=outcome.matched,
        reason=outcome.reason,
        several_matched=outcome.several_matched,
        account_by=outcome.account_by,
        candidates=outcome.candidates,
        same_record_as=sharing,
        fields={
            name: FieldChange(_int_if_whole(stored.get(name)), value)
            for name, value in changed.items()
            if name != MARKER_FIELD  # it repeats what the other fields say
        },
    )


def _int_if_whole(value: Any) -> Any:
    """Salesforce writes every number as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def print_json(entries: Sequence[PlanEntry], notes: Counter[str], mode: ModeInForce) -> None:
    """Prints one JSON object: the mode, the contacts, the number of each outcome, and the notes."""
    body = {
        **mode_entry(mode),
        "contacts": [asdict(entry) for entry in entries],
        "summary": Counter(entry.outcome for entry in entries),
        "notes": notes,
    }
    click.echo(json.dumps(body, indent=2, ensure_ascii=False))


def print_text(entries: Sequence[PlanEntry], notes: Counter[str], mode: ModeInForce) -> None:
    """Prints the mode, a line for each contact with its fields, then the sums and the notes."""
    click.echo(f"mode {mode_line(mode)}")
    for entry in entries:
        click.echo(_entry_line(entry))
        for name, values in entry.fields.items():
            if name != VERSION_FIELD or not _creates(entry):
                click.echo(f"    {name}: {_field_text(values)}")
    counted = Counter(entry.outcome for entry in entries)
    sums = [f"{number} {outcome}" for outcome, number in counted.most_common()]
    click.echo(", ".join(sums) or "no changes")
    for note, number in sorted(notes.items()):
        click.echo(f"{note}: {number}")


def _creates(entry: PlanEntry) -> bool:
    if entry.outcome == OutcomeStatus.PLANNED:
        return entry.reason == PLANNED_CREATION
    return entry.outcome == OutcomeStatus.CREATED


def _field_text(values: FieldChange) -> str:
    cleared = values.after is None
    after = "(cleared)" if cleared else json.dumps(values.after, ensure_ascii=False)
    if values.before is None:
        return after
    return f"{json.dumps(values.before, ensure_ascii=False)} -> {after}"


def _entry_line(entry: PlanEntry) -> str:
    parts = [f"{entry.outcome:<10}{entry.key}"]
    if entry.sobject:
        covering = "by " if entry.outcome == OutcomeStatus.COVERED else ""
        parts.append(f"{covering}{entry.sobject} {entry.record_id or '(new)'}")
    others = [record_id for record_id in entry.candidates if record_id != entry.record_id]
    if others:
        parts.append(f"{'also' if entry.record_id else 'between'} {', '.join(others)}")
    if entry.matched:
        parts.append(
            f"found by {entry.matched}{', one of several' if entry.several_matched else ''}"
        )
    if entry.account_by:
        parts.append(f"Account by {entry.account_by}")
    if entry.reason:
        parts.append(entry.reason)
    if entry.same_record_as:
        parts.append(f"same record as {entry.same_record_as}")
    return "  ".join(parts)
