"""The command deletions: shows what people deleted in Salesforce, and lifts one deletion.

A lift is a record of sink.deleted-records. The running sink reads it within a minute, and the
contact is created with its next change.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import click

from connectors.salesforce.deleted_records import DeletedRecord, DeletedRecords
from connectors.salesforce.emails import normalise
from connectors.salesforce.person import record_key
from streams.commands.publishing import ACKNOWLEDGE_SECONDS, NotAcknowledged
from streams.commands.run_requests import write_record
from streams.commands.topic_records import topic_records
from streams.kafka.records import KafkaRecord
from streams.settings import KafkaSettings
from streams.sink.deleted_topic import (
    CURSOR,
    Entry,
    Forgotten,
    Lift,
    SweepCursor,
    apply_entry,
    entries,
    entry_record,
)
from streams.sink.deletion_keeper import LIFT_NOTICED_SECONDS, READ_SECONDS
from streams.topics import topics

# Lines of the list; the counts are of all.
SHOWN = 1_000


class NothingToLift(ValueError):
    """The options name neither a contact nor an address, or both."""


def list_deletions(kafka: KafkaSettings) -> None:
    """Prints what is remembered, the newest last, and the counts on stderr.

    Raises click.ClickException.
    """
    known, cursor, _ = _read(_topic_records(kafka))
    records = known.records()
    print_records(records[-SHOWN:], for_person=sys.stdout.isatty())
    if len(records) > SHOWN:
        click.echo(f"the newest {SHOWN} of {len(records)}", err=True)
    for line in counts(records, cursor):
        click.echo(line, err=True)


def print_records(records: Iterable[DeletedRecord], *, for_person: bool) -> None:
    """Prints two lines for each record, which fit into 80 columns; one with tabs for a program."""
    for each in records:
        key, *rest = _row(each)
        click.echo(f"{key}\n    {'  '.join(rest)}" if for_person else "\t".join((key, *rest)))


def _row(record: DeletedRecord) -> tuple[str, ...]:
    what = f"merged into {record.master_id}" if record.master_id else "deleted"
    return record.key, record.record_id, what, _time(record.deleted_at)


def counts(records: Iterable[DeletedRecord], cursor: SweepCursor | None) -> list[str]:
    """How many records were deleted and merged, and when the recycle bin was read last."""
    found = Counter("merged" if record.master_id else "deleted" for record in records)
    when = f"read last at {_time(cursor.swept_at)}" if cursor else "not read yet"
    return [
        f"{found['deleted']} deleted, {found['merged']} merged; the recycle bin was {when}",
        "Deletions since then are respected as well: the recycle bin answers for them.",
    ]


def _time(epoch: int) -> str:
    return f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%d %H:%M}Z"


def lift(
    kafka: KafkaSettings,
    key: str | None,
    address: str | None,
    *,
    execute: bool,
    clock: Callable[[], float] = time.time,
) -> None:
    """Prints what a lift changes and, with `execute`, writes it. `clock` in epoch seconds.

    Raises click.UsageError, click.ClickException.
    """
    known, _, salt_known = _read(_topic_records(kafka))
    try:
        wanted, lines = plan_lift(known, key, address, int(clock()))
    except NothingToLift as error:
        raise click.UsageError(str(error)) from error
    for line in lines:
        click.echo(line)
    if not execute:
        click.echo("Nothing is written; repeat it with --execute.")
        return
    names = topics(kafka)
    written: list[Entry] = [*wanted] if salt_known else [known.salt, *wanted]
    try:
        for entry in written:
            write_record(kafka, entry_record(names, entry), ACKNOWLEDGE_SECONDS)
    except NotAcknowledged as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"Lifted. The running sink knows it within {LIFT_NOTICED_SECONDS:.0f} s. It creates the "
        "contact with its next change, or with the next reconcile: contactstream reconcile "
        "--grant ID"
    )


def plan_lift(
    known: DeletedRecords, key: str | None, address: str | None, now: int
) -> tuple[Sequence[Lift], list[str]]:
    """The lifts that a contact key or an address asks for, and lines that say what they change.

    Deletions up to `now` (epoch seconds) count no more, those that only the recycle bin knows among
    them. Raises NothingToLift.
    """
    if (key is None) == (address is None):
        raise NothingToLift("name what to lift: either --key KEY or --email ADDRESS")
    if key is not None:
        if not all(key.partition("/")):
            raise NothingToLift(f"--key: {key!r} is no contact key (grant_id/contact_id)")
        held = known.get(record_key(key))
        return [Lift(now, record_key(key))], _lines([held] if held else [])
    normal = normalise(address or "")
    if normal is None:
        raise NothingToLift(f"--email: {address!r} is no email address")
    address_hash = known.hash_of(normal)
    found = [each for each in known.records() if address_hash in each.address_hashes]
    lifts = [Lift(now, address_hash=address_hash), *(Lift(now, each.key) for each in found)]
    return lifts, _lines(found)


def _lines(found: Sequence[DeletedRecord]) -> list[str]:
    if not found:
        return [
            "Nothing is remembered of it. If the recycle bin still holds the record, the lift "
            "counts for it."
        ]
    return [f"{each.record_id} of contact {each.key}: {_row(each)[2]}" for each in found]


def _read(
    records: Iterable[KafkaRecord],
) -> tuple[DeletedRecords, SweepCursor | None, bool]:
    """What the topic says; the last is whether it has a salt."""
    known, cursor, salt_known = DeletedRecords(), None, False
    for entry in entries(records):
        if isinstance(entry, SweepCursor):
            cursor = entry
        elif entry == Forgotten(CURSOR):
            cursor = None
        salt_known = salt_known or isinstance(entry, bytes)
        apply_entry(entry, known)
    return known, cursor, salt_known


def _topic_records(kafka: KafkaSettings) -> Iterable[KafkaRecord]:
    return topic_records(kafka, topics(kafka).deleted_records.name, within=READ_SECONDS)
