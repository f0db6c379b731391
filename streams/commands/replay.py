"""The command replay: shows what publishing a topic again would do, and has the reader do it."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil

import click
from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.salesforce.person import grant_of
from streams.commands.follow import follow
from streams.commands.publishing import NotAcknowledged
from streams.commands.run_requests import request_run
from streams.commands.topic_records import topic_records
from streams.events import UnreadableRecord, parse_change
from streams.kafka.clients import METADATA_SECONDS, client_config
from streams.kafka.records import KafkaRecord
from streams.reader.records import contact_hash
from streams.reader.replay import contacts_of_outcomes
from streams.reader.replay_page import SelectedContacts, candidate_of
from streams.runs import Replay, ReplaySource, Run, RunKind
from streams.selection import Selection
from streams.settings import KafkaSettings
from streams.topics import Topics, topics

# Of a batch that Salesforce takes in two calls, one to look up and one to write.
CONTACTS_A_BATCH = 1_000
CALLS_A_BATCH = 2

# Records a second that dedupe and the sink take in of a replay, a cautious guess for the estimate.
TYPICAL_RATE = 1_000.0

# Grants and days that the preview lists; the counts are of all.
SHOWN = 20

# By how much the selection may have grown since the preview whose number `--expect` names.
GROWTH_ALLOWED = 0.05


@dataclass(slots=True)
class Preview:
    """What a replay would publish."""

    source: str
    records: int = 0
    contacts: int = 0
    by_grant: Counter[str] = field(default_factory=Counter)
    by_day: Counter[str] = field(default_factory=Counter)
    ends: tuple[int, ...] = ()
    oldest_ms: int | None = None
    """When the oldest record that the topic still holds was received."""
    other_mapping: int = 0
    """Selected changes that were forwarded under another mapping than the present one."""

    @property
    def calls(self) -> int:
        """The most Salesforce calls that the sink needs for these contacts."""
        return CALLS_A_BATCH * ceil(self.contacts / CONTACTS_A_BATCH)

    @property
    def minutes(self) -> int:
        """About how long it takes."""
        return ceil(self.records / TYPICAL_RATE / 60)


def preview(
    source: ReplaySource,
    selection: Selection,
    selected: SelectedContacts,
    records: Iterator[KafkaRecord],
    ends: tuple[int, ...],
    mapping_hash: str,
) -> Preview:
    """Counts what a replay would publish. `records` is the source from its start."""
    found = Preview(source.value, ends=ends)
    contacts: set[int] = set()  # hashes: a million take some 70 MB
    for record in records:
        if record.offset >= ends[record.partition]:
            continue  # it came after the ends were read
        candidate = candidate_of(source, record)
        if candidate is None:
            continue
        if found.oldest_ms is None or candidate.at_ms < found.oldest_ms:
            found.oldest_ms = candidate.at_ms
        if not selection.takes(candidate) or candidate.key not in selected:
            continue
        found.records += 1
        contacts.add(contact_hash(candidate.key))
        found.by_grant[grant_of(candidate.key)] += 1
        found.by_day[_day(candidate.at_ms)] += 1
        if source is ReplaySource.CHANGES:
            found.other_mapping += _mapping_of(record) != mapping_hash
    found.contacts = len(contacts)
    return found


def _mapping_of(record: KafkaRecord) -> str:
    try:
        change = parse_change(record.key, record.value, record.headers)
    except UnreadableRecord:
        return ""
    return change.mapping if change else ""


def _day(epoch_ms: int) -> str:
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%d}"


def objections(
    found: Preview, selection: Selection, *, expected: int | None, agreed: bool
) -> list[str]:
    """Why a replay must not start; empty if it may. `agreed` is whether the user gave --yes."""
    reasons = []
    if found.other_mapping:
        reasons.append(
            f"{found.other_mapping} of the changes were forwarded under another mapping, and may "
            "lack what the present one reads. Read them again: contactstream backfill --all"
        )
    if selection.takes_everything and not agreed:
        reasons.append("nothing limits the selection; add --yes to replay everything")
    if expected is not None and found.records > expected * (1 + GROWTH_ALLOWED):
        reasons.append(
            f"the selection has grown from {expected:,} to {found.records:,} records since the "
            "preview; look at it again"
        )
    if not found.records:
        reasons.append("the selection is empty: nothing would be published")
    return reasons


def run(
    kafka: KafkaSettings,
    source: ReplaySource,
    selection: Selection,
    mapping_hash: str,
    *,
    execute: bool,
    agreed: bool,
    expected: int | None,
    rate: float | None,
    wait: bool,
    as_json: bool,
) -> int:
    """Prints the preview and, with `execute`, starts the run; returns the exit code.

    Blocks until the source is read, and with `wait` until the run is over. Raises
    click.ClickException.
    """
    names = topics(kafka)
    selected = SelectedContacts()
    if selection.needs_outcomes:
        selected = contacts_of_outcomes(selection, topic_records(kafka, names.outcomes.name))
    ends = _ends(kafka, names, source)
    records = topic_records(kafka, _topic(names, source), since=0.0)
    found = preview(source, selection, selected, records, ends, mapping_hash)
    if as_json:
        print_json(found)
    else:
        print_text(found, selection)
    reasons = objections(found, selection, expected=expected, agreed=agreed)
    if not execute:
        for reason in reasons:
            click.echo(f"with --execute it would be refused: {reason}", err=True)
        click.echo("Nothing is published; repeat it with --execute.", err=True)
        return 0
    if reasons:
        raise click.ClickException("; ".join(reasons))
    replay = Replay(source, selection, ends, rate)
    request = Run(RunKind.REPLAY, None, int(time.time()), "command", replay=replay)
    try:
        run_id = request_run(kafka, request)
    except NotAcknowledged as error:
        raise click.ClickException(str(error)) from error
    click.echo(run_id, file=sys.stderr if wait else sys.stdout)
    return follow(kafka, run_id) if wait else 0


def _topic(names: Topics, source: ReplaySource) -> str:
    return (names.events if source is ReplaySource.EVENTS else names.changes).name


def _ends(kafka: KafkaSettings, names: Topics, source: ReplaySource) -> tuple[int, ...]:
    """The present end of each partition of the source. Blocks. Raises click.ClickException."""
    topic = names.events if source is ReplaySource.EVENTS else names.changes
    # librdkafka demands a group.id; the group is never joined.
    consumer = Consumer(
        client_config(kafka)
        | {"group.id": f"{kafka.topic_prefix}contactstream-replay", "enable.auto.commit": False}
    )
    try:
        return tuple(
            consumer.get_watermark_offsets(
                TopicPartition(topic.name, partition), timeout=METADATA_SECONDS
            )[1]
            for partition in range(topic.partitions)
        )
    except KafkaException as error:
        raise click.ClickException(
            f"{topic.name}: the broker does not say where it ends: {error.args[0].str()}"
        ) from error
    finally:
        consumer.close()


def print_json(found: Preview) -> None:
    """Prints one JSON object on stdout."""
    body = {
        "source": found.source,
        "records": found.records,
        "contacts": found.contacts,
        "salesforce_calls_at_most": found.calls,
        "minutes": found.minutes,
        "by_grant": dict(found.by_grant),
        "by_day": dict(sorted(found.by_day.items())),
        "ends": found.ends,
        "oldest_ms": found.oldest_ms,
        "other_mapping": found.other_mapping,
    }
    click.echo(json.dumps(body, indent=2))


def print_text(found: Preview, selection: Selection) -> None:
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
    click.echo(f"{found.records:,} records of {found.contacts:,} contacts")
    click.echo(
        f"at most {found.calls:,} Salesforce calls, none for what stands there already; about "
        f"{found.minutes} min"
    )
    since = selection.since_ms
    if since is not None and found.oldest_ms is not None and since < found.oldest_ms:
        click.echo(f"the topic holds nothing from before {_day(found.oldest_ms)}: it has expired")
