"""The command undo: reads the journal, asks the org what stands there, and puts values back.

Each page of records is read, written and noted in the journal before the next one. An undo that was
interrupted is therefore run again: what it had restored no longer holds our value, and is left
alone.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import click
from prometheus_client import CollectorRegistry

from connectors.salesforce.api.client import Fence, SalesforceClient, no_fence
from connectors.salesforce.api.composite import write_headers
from connectors.salesforce.api.describe import ObjectDescribe
from connectors.salesforce.api.errors import SalesforceError
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.restoration import (
    MAX_RECORDS,
    Standing,
    ValueToRestore,
    describe_objects,
    read_records,
    restore,
    standing,
)
from connectors.salesforce.untouched_records import find_touches
from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.dead_letters.actions import action_id
from streams.commands.given_grants import given_grant_ids
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.commands.topic_records import topic_records
from streams.commands.undo.pause_check import paused_fence, wait_until_settled
from streams.commands.undo.report import (
    UndoResult,
    print_json,
    print_text,
    write_untouched,
    write_values,
)
from streams.commands.undo.selected import UndoChoice, UndoPlan, UndoReader, UnusableChoice
from streams.events import UnreadableRecord, now_ms
from streams.grant_addresses import GrantAddresses
from streams.journal import EntryKind, JournalEntry, journal_record, parse_journal
from streams.kafka.records import KafkaRecord
from streams.metrics import SinkMetrics
from streams.org import mapping, open_client
from streams.runs import RunLog
from streams.settings import KafkaSettings, SalesforceSettings
from streams.topics import topics


@dataclass(frozen=True, slots=True)
class UndoOptions:
    """What the user asked for, besides the choice."""

    execute: bool = False
    agreed: bool = False
    created: Path | None = None
    """Where the untouched records are listed."""
    values: Path | None = None
    """Where the values are listed, which the audit notes."""
    actor: str | None = None
    why: str = ""
    as_json: bool = False
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class _Undo:
    """An undo at work: where it reads and writes, and what it has done so far."""

    client: SalesforceClient
    described: Mapping[str, ObjectDescribe]
    plan: UndoPlan
    undo_id: str
    allow_save: bool
    fence: Fence
    look: Callable[[], None]
    """Looks whether writing is still paused, before each page."""
    publish: Callable[[Sequence[KafkaRecord]], None] | None
    """None for a dry run."""
    journal: str
    result: UndoResult = field(default_factory=UndoResult)


def run(
    kafka: KafkaSettings,
    org: SalesforceSettings,
    choice: UndoChoice,
    options: UndoOptions,
) -> int:
    """Shows what an undo restores, or restores it; returns the exit status.

    That is 1 if the org refused values. Blocks. Raises click.UsageError for a choice that names
    nothing, and click.ClickException for anything that ended it: then it can be run again.
    """
    if choice.takes_everything and not options.agreed:
        raise click.UsageError(
            "nothing limits the undo: give a RUN, --grant, --field, --since or --until, or --yes "
            "for everything that the journal holds"
        )
    for option, path in (("--created", options.created), ("--values", options.values)):
        if path is not None and path.exists():
            raise click.UsageError(f"{option} {path} exists already; name a new file")
    choice = replace(choice, grants=_grant_ids(kafka, choice.grants))
    plan = _plan(kafka, choice)
    if options.execute and plan.values:
        wait_until_settled(kafka, options.clock, options.sleep, _say)
    undo_id = f"undo-{action_id()}"
    try:
        result = asyncio.run(_work(kafka, org, plan, choice, options, undo_id))
    except SalesforceError as error:
        raise click.ClickException(
            f"{error}\nWhat was restored stays restored; run the command again. See: "
            "contactstream doctor"
        ) from error
    except NotAcknowledged as error:
        raise click.ClickException(f"{error}\nRun the command again") from error
    if options.created is not None:
        write_untouched(options.created, result.untouched)
    if options.values is not None:
        write_values(options.values, plan, result.found)
    if options.as_json:
        print_json(plan, result, undo_id, executed=options.execute)
    else:
        print_text(plan, result, executed=options.execute)
        _next_steps(plan, result, options, undo_id)
    return 1 if result.refused else 0


def _say(text: str) -> None:
    click.echo(text, err=True)


def _next_steps(plan: UndoPlan, result: UndoResult, options: UndoOptions, undo_id: str) -> None:
    if options.execute and result.restored:
        _say(
            f"{undo_id}: the restored values count as people's. Mend the mapping first, and then: "
            "contactstream resume writes"
        )
    elif not options.execute and plan.values:
        _say("Nothing is changed; restore them with --execute.")
    if result.untouched and options.created is None:
        _say("--created FILE lists the untouched records as CSV.")


def _grant_ids(kafka: KafkaSettings, given: tuple[str, ...]) -> tuple[str, ...]:
    """The IDs of grants, of which some are given by address. Raises click.UsageError."""
    if not any("@" in each for each in given):
        return given
    known = GrantAddresses()
    for record in topic_records(kafka, topics(kafka).grants.name):
        known.apply(record)
    ids = [each for each in given if "@" not in each]  # the journal tells whether they exist
    return given_grant_ids(given, ids, known)


def _plan(kafka: KafkaSettings, choice: UndoChoice) -> UndoPlan:
    """What the journal says. Blocks. Raises click.UsageError for a choice that names nothing."""
    reader = UndoReader(choice)
    plan = reader.read(journal_entries(kafka))
    try:
        reader.check(_known_runs(kafka) if choice.run else ())
    except UnusableChoice as error:
        raise click.UsageError(str(error)) from error
    return plan


def journal_entries(kafka: KafkaSettings) -> Iterator[JournalEntry]:
    """The entries of contacts.journal that this version can read, without erased ones. Blocks.

    Reads the topic twice, so that only the keys of erased entries are in memory. Says at the end
    how many it could not read.
    """
    name = topics(kafka).journal.name
    erased = {
        record.key for record in topic_records(kafka, name, waiting=_say) if record.value is None
    }
    unreadable = 0
    for record in topic_records(kafka, name):
        if record.key in erased:
            continue
        try:
            entry = parse_journal(record)
        except UnreadableRecord:
            unreadable += 1
            continue
        if entry is not None:
            yield entry
    if unreadable:
        _say(f"{unreadable:,} records of the journal are of another version; they are left alone")


def _known_runs(kafka: KafkaSettings) -> list[str]:
    log = RunLog()
    for record in topic_records(kafka, topics(kafka).runs.name):
        try:
            log.apply(record.key or b"", record.value)
        except UnreadableRecord:
            continue  # the reader counts it
    return list(log.runs)


async def _work(
    kafka: KafkaSettings,
    org: SalesforceSettings,
    plan: UndoPlan,
    choice: UndoChoice,
    options: UndoOptions,
    undo_id: str,
) -> UndoResult:
    if not plan.values and not plan.created:
        return UndoResult()
    look, fence = paused_fence(kafka, options.clock)
    sobjects = {value.sobject for value in plan.values} | {one.sobject for one in plan.created}
    names = topics(kafka)
    audit = AuditEntry(
        undo_id,
        AuditState.BEGUN,
        now_ms(),
        actor_name(options.actor) if options.execute or options.values else "",
        "undo" if options.execute else "undo --values",
        options.why,
        {name: value for name, value in asdict(choice).items() if value},
        len(plan.values),
    )
    metrics = SinkMetrics(CollectorRegistry())
    async with _counted(org, metrics) as (client, calls):
        with CommandPublisher(kafka) as publisher:
            undo = _Undo(
                client,
                await describe_objects(client, sorted(sobjects), no_fence),
                plan,
                undo_id,
                org.allow_save,
                fence if options.execute else no_fence,
                look if options.execute else _nothing,
                publisher.publish if options.execute else None,
                names.journal.name,
            )
            noted = plan.values and (options.execute or options.values is not None)
            if noted:
                publisher.publish([audit_record(names.audit.name, audit)])
            # first, because a value that is put back would count as somebody else's
            await _find_untouched(undo, mapping(org))
            await _restore_pages(undo)
            if noted:
                ended = replace(
                    audit,
                    state=AuditState.ENDED,
                    at_ms=now_ms(),
                    count=undo.result.restored if options.execute else len(plan.values),
                )
                publisher.publish([audit_record(names.audit.name, ended)])
        undo.result.calls = calls()
        return undo.result


def _nothing() -> None:
    """A dry run needs no pause."""


@asynccontextmanager
async def _counted(
    org: SalesforceSettings, metrics: SinkMetrics
) -> AsyncIterator[tuple[SalesforceClient, Callable[[], int]]]:
    """The client of the org, and how many calls it has made."""

    def calls() -> int:
        (family,) = metrics.calls.collect()
        return int(sum(one.value for one in family.samples if one.name.endswith("_total")))

    async with open_client(org, metrics) as client:
        yield client, calls


async def _restore_pages(undo: _Undo) -> None:
    """Restores the values page by page, or counts what would be restored."""
    began, done = time.monotonic(), 0
    for page in _pages(list(undo.plan.values)):
        undo.look()
        records = await read_records(undo.client, page, undo.described, undo.fence)
        found = {
            value: standing(value, records.get(value.record_id), undo.described[value.sobject])
            for value in page
        }
        undo.result.found |= found
        for value, stands in found.items():
            undo.result.standings[f"{value.sobject}.{value.field}", stands] += 1
        ours = [value for value, stands in found.items() if stands is Standing.OURS]
        if undo.publish is not None and ours:
            await _restore_page(undo, ours, undo.publish)
        done += len(page)
        left = (len(undo.plan.values) - done) * (time.monotonic() - began) / done
        _say(f"{done:,} of {len(undo.plan.values):,} values, about {left:.0f} s left")


async def _restore_page(
    undo: _Undo,
    values: Sequence[ValueToRestore],
    publish: Callable[[Sequence[KafkaRecord]], None],
) -> None:
    headers = write_headers(allow_save=undo.allow_save)
    results = await restore(undo.client, values, headers, undo.fence)
    undo.result.refused += Counter(reason for reason in results.values() if reason)
    at_ms = now_ms()
    entries = [
        JournalEntry(
            EntryKind.RESTORED,
            value.sobject,
            value.record_id,
            value.field,
            value.ours,
            value.wanted,
            undo.undo_id,
            undo.plan.values[value],
            undo.undo_id,
            "",
            False,
            0,
            at_ms,
        )
        for value, reason in results.items()
        if not reason
    ]
    publish([journal_record(undo.journal, entry) for entry in entries])


def _pages(values: Sequence[ValueToRestore]) -> Iterator[list[ValueToRestore]]:
    """Values of MAX_RECORDS records at a time; those of one record stay together."""
    by_record: dict[str, list[ValueToRestore]] = {}
    for value in values:
        by_record.setdefault(value.record_id, []).append(value)
    records = list(by_record.values())
    for start in range(0, len(records), MAX_RECORDS):
        yield [value for own in records[start : start + MAX_RECORDS] for value in own]


async def _find_untouched(undo: _Undo, rules: FieldMapping) -> None:
    """Which of the created records nobody has touched; our user is the one who is logged in."""
    created = undo.plan.created
    if not created:
        return
    user_id = await undo.client.user_id()
    if user_id is None:
        raise click.ClickException(
            "Salesforce does not say who our user is, so that it is not known which records "
            "others have touched: the connected app needs the scope `id` beside `api`"
        )
    for start in range(0, len(created), MAX_RECORDS):
        page = {one.record_id: one for one in created[start : start + MAX_RECORDS]}
        touches = await find_touches(
            undo.client,
            user_id,
            {record_id: one.sobject for record_id, one in page.items()},
            undo.described,
            rules,
            no_fence,
        )
        undo.result.touched += Counter(touches.values())
        undo.result.untouched += [
            one for record_id, one in page.items() if record_id not in touches
        ]
