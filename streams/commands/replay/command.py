"""Shows what publishing a topic again would do, and has the reader do it."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import click
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.salesforce.api.errors import SalesforceError
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.outcome import ContactVersion
from connectors.salesforce.policy import Policy
from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.follow import follow
from streams.commands.plan import known_accounts
from streams.commands.plan_input import PlanError
from streams.commands.publishing import ACKNOWLEDGE_SECONDS, NotAcknowledged
from streams.commands.replay.estimates import (
    MEASURED_OFFSETS,
    CallsLeft,
    Pace,
    ask_calls_left,
    measured_pace,
)
from streams.commands.replay.preview import (
    MAX_COUNTED_CONTACTS,
    Preview,
    losses,
    objections,
    preview,
    ranges_to_read,
)
from streams.commands.replay.restore import changes_to_restore, count_replaced
from streams.commands.replay.target import check_target, target_objection
from streams.commands.run_requests import request_run, write_record
from streams.commands.topic_records import topic_log, topic_ranges, topic_records
from streams.events import CLOCK_DIFFERENCE_SECONDS
from streams.kafka.clients import METADATA_SECONDS, client_config
from streams.reader.replay import contacts_of_outcomes
from streams.reader.replay_page import SelectedContacts, TooManyContacts
from streams.runs import Replay, ReplaySource, ReplayTarget, Run, RunKind
from streams.selection import Selection, UnusableSelection, encode_selection
from streams.settings import KafkaSettings, SalesforceSettings, SettingsError
from streams.topics import topics

# Grants and days that the preview lists; the counts are of all.
SHOWN = 20


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """The options of the command besides the selection."""

    source: ReplaySource
    restore: tuple[str, ...] = ()
    to_prefix: str | None = None
    is_sandbox: bool | None = None
    """Of the org behind `to_prefix`; None where nobody said it."""
    rate: float | None = None
    execute: bool = False
    agreed: bool = False
    """Whether the user gave --yes."""
    expected: int | None = None
    growth: float = 0.0
    wait: bool = False
    as_json: bool = False
    actor: str | None = None
    """Who wants it, and why, for the audit."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a replay costs besides its records: time, calls, and values of other people."""

    pace: Pace
    calls_left: CallsLeft | None = None
    """None where no org is configured, or where it is another deployment's."""
    replaced: Counter[str] = field(default_factory=Counter)
    """Values of people and other systems that a restore would replace, by `Lead.Title`."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a replay would publish and cost, before anybody has agreed to it."""

    found: Preview
    selection: Selection
    cost: Cost
    target: ReplayTarget | None

    def objections(self, options: ReplayOptions) -> list[str]:
        """Why it must not start with these options; empty if it may."""
        reasons = objections(
            self.found,
            self.selection,
            expected=options.expected,
            growth=options.growth,
            agreed=options.agreed,
        )
        refused = target_objection(self.target, options.is_sandbox)
        return reasons if refused is None else [*reasons, refused]


def run(
    kafka: KafkaSettings,
    org: SalesforceSettings,
    mapping: FieldMapping,
    policy: Callable[[], Policy],
    selection: Selection,
    options: ReplayOptions,
) -> int:
    """Prints the preview and, with `execute`, starts the run; returns the exit code.

    `policy` is called only for a restore. Blocks until the source is read, and with `wait` until
    the run is over. Raises click.ClickException, and click.UsageError for options that cannot be
    followed.
    """
    looked = look(kafka, org, mapping, policy, selection, options)
    (print_json if options.as_json else print_text)(looked.found, selection, options, looked.cost)
    reasons = looked.objections(options)
    if not options.execute:
        for reason in reasons:
            click.echo(f"with --execute it would be refused: {reason}", err=True)
        click.echo("Nothing is published; repeat it with --execute.", err=True)
        return 0
    if reasons:
        raise click.ClickException("; ".join(reasons))
    run_id = start(kafka, looked, options, actor_name(options.actor))
    click.echo(run_id, file=sys.stderr if options.wait else sys.stdout)
    return follow(kafka, run_id) if options.wait else 0


def look(
    kafka: KafkaSettings,
    org: SalesforceSettings,
    mapping: FieldMapping,
    policy: Callable[[], Policy],
    selection: Selection,
    options: ReplayOptions,
) -> Looked:
    """Counts what a replay would publish, and what that costs. Changes nothing.

    Blocks until the source is read. Raises click.ClickException, and click.UsageError for options
    that cannot be followed.
    """
    source, topic = options.source, _source_topic(kafka, options.source)
    try:
        target = _target(kafka, options.to_prefix)
        # Everything that was received since then was appended later still, so that this start is
        # early enough. An end cannot be searched: what was received before may be appended late.
        since = None if selection.since_ms is None else selection.since_ms / 1000
        log = topic_log(kafka, topic, since and since - CLOCK_DIFFERENCE_SECONDS)
        ranges, gone = ranges_to_read(selection, log)
    except UnusableSelection as error:
        raise click.UsageError(str(error)) from error
    selected = _selected(kafka, selection)
    found = preview(
        source, selection, selected, topic_ranges(kafka, topic, ranges), ranges, mapping.hash
    )
    found.gone, found.has_expired = gone, any(each.oldest > 0 for each in log.values())
    cost = Cost(_pace(kafka, target), None if target else asyncio.run(ask_calls_left(org)))
    if options.restore:
        records = topic_ranges(kafka, topic, ranges)
        changes = changes_to_restore(records, selection, selected, options.restore)
        cost = replace(cost, replaced=_replaced(kafka, org, policy(), changes, options.restore))
    return Looked(found, selection, cost, target)


def start(kafka: KafkaSettings, looked: Looked, options: ReplayOptions, who: str) -> str:
    """Asks the reader for the replay, and notes in the audit who wants it; returns the run's ID.

    Blocks. Raises click.ClickException when Kafka does not take it.
    """
    found, selection = looked.found, looked.selection
    replay = Replay(
        options.source,
        selection,
        found.ends,
        options.rate,
        found.starts,
        tuple(found.by_partition[partition] for partition in range(len(found.ends))),
        options.restore,
        looked.target,
    )
    now = time.time()
    request = Run(RunKind.REPLAY, None, int(now), who, replay=replay)
    try:
        run_id = request_run(kafka, request)
        entry = AuditEntry(
            run_id,
            AuditState.ENDED,
            int(now * 1000),
            who,
            f"replay {options.source.value}",
            options.why,
            encode_selection(selection),
            found.records,
        )
        write_record(
            kafka, audit_record(topics(kafka).audit.name, entry), within=ACKNOWLEDGE_SECONDS
        )
    except NotAcknowledged as error:
        raise click.ClickException(str(error)) from error
    return run_id


def _source_topic(kafka: KafkaSettings, source: ReplaySource) -> str:
    names = topics(kafka)
    return (names.events if source is ReplaySource.EVENTS else names.changes).name


def _target(kafka: KafkaSettings, prefix: str | None) -> ReplayTarget | None:
    if prefix is None:
        return None
    try:
        known = AdminClient(client_config(kafka)).list_topics(timeout=METADATA_SECONDS).topics
    except KafkaException as error:
        raise click.ClickException(
            f"no broker answers at {kafka.bootstrap_servers}: {error.args[0].str()}"
        ) from error
    return check_target(
        kafka, prefix, {name: len(topic.partitions) for name, topic in known.items()}
    )


def _selected(kafka: KafkaSettings, selection: Selection) -> SelectedContacts:
    if not selection.needs_outcomes:
        return SelectedContacts()
    try:
        return contacts_of_outcomes(selection, topic_records(kafka, topics(kafka).outcomes.name))
    except TooManyContacts as error:
        raise click.ClickException(str(error)) from error


def _pace(kafka: KafkaSettings, target: ReplayTarget | None) -> Pace:
    prefix = kafka.topic_prefix if target is None else target.prefix
    name = topics(kafka.model_copy(update={"topic_prefix": prefix})).outcomes.name
    ranges = {
        partition: (max(each.oldest, each.end - MEASURED_OFFSETS), each.end)
        for partition, each in topic_log(kafka, name).items()
    }
    return measured_pace(topic_ranges(kafka, name, ranges))


def _replaced(
    kafka: KafkaSettings,
    org: SalesforceSettings,
    allowed: Policy,
    changes: Iterator[ContactVersion],
    names: tuple[str, ...],
) -> Counter[str]:
    try:
        return asyncio.run(count_replaced(org, allowed, changes, names, known_accounts(kafka)))
    except (PlanError, SettingsError, SalesforceError) as error:
        raise click.ClickException(
            f"it cannot be counted whose values the restore would replace: {error}\n"
            "See: contactstream doctor"
        ) from error


def print_json(found: Preview, selection: Selection, options: ReplayOptions, cost: Cost) -> None:
    """Prints one JSON object on stdout."""
    body: dict[str, Any] = {
        "source": found.source,
        "records": found.records,
        "contacts": found.contacts,
        "contacts_are_all": found.all_counted,
        "salesforce_calls_at_most": found.calls,
        "minutes": found.minutes(cost.pace, options.rate),
        "contacts_per_second": round(cost.pace.per_second, 1),
        "measured_seconds": cost.pace.seconds,
        "by_grant": dict(found.by_grant),
        "by_day": dict(sorted(found.by_day.items())),
        "by_partition": dict(sorted(found.by_partition.items())),
        "starts": found.starts,
        "ends": found.ends,
        "oldest_ms": found.oldest_ms,
        "other_mapping": found.other_mapping,
        "lost": list(losses(found, selection)),
    }
    if cost.calls_left is not None:
        body["salesforce_calls_left"] = cost.calls_left.left
    if options.restore:
        body["replaced_values"] = dict(sorted(cost.replaced.items()))
    if options.to_prefix is not None:
        body["to_prefix"] = options.to_prefix
    click.echo(json.dumps(body, indent=2))


def print_text(found: Preview, selection: Selection, options: ReplayOptions, cost: Cost) -> None:
    """Prints the counts by grant and day, then what the replay costs."""
    for title, counts in (("grant", found.by_grant), ("day", found.by_day)):
        order: Callable[[Counter[str]], list[tuple[str, int]]] = (
            Counter.most_common if title == "grant" else lambda by_day: sorted(by_day.items())
        )
        rows = order(counts)
        for name, count in rows[:SHOWN]:
            click.echo(f"{title:<6}{name:<40}{count:>14,}")
        if len(rows) > SHOWN:
            click.echo(f"      and {len(rows) - SHOWN} more")
    if len(found.by_partition) > 1:
        for partition, count in sorted(found.by_partition.items()):
            click.echo(f"partition {partition:<36}{count:>14,}")
    contacts = f"{found.contacts:,}" if found.all_counted else f"over {MAX_COUNTED_CONTACTS:,}"
    click.echo(f"{found.records:,} records of {contacts} contacts")
    click.echo(f"at most {found.calls:,} Salesforce calls, none for what stands there already")
    if cost.calls_left is not None:
        click.echo(f"that is {cost.calls_left.share(found.calls)}")
    click.echo(f"about {found.minutes(cost.pace, options.rate)} min, at {cost.pace}")
    for line in losses(found, selection):
        click.echo(line)
    if options.restore:
        fields = ", ".join(options.restore)
        click.echo(f"restoring {fields} replaces {cost.replaced.total():,} values of other people")
        for name, count in sorted(cost.replaced.items()):
            click.echo(f"      {name:<40}{count:>14,}")
