"""The command outcomes: lists or counts what the sink did with each contact.

The number of rows is not bounded, and the memory is: rows are printed while the topics are read,
part by part of the contacts.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum

import click

from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.dead_letters.actions import action_id
from streams.commands.dead_letters.open_letters import masked_address
from streams.commands.given_grants import given_grant_ids
from streams.commands.outcomes.report import print_counts, print_csv, print_json, print_rows
from streams.commands.outcomes.rows import (
    MAX_ROWS_HELD,
    OutcomeRow,
    RowFilter,
    Seen,
    count_rows,
    last_rows,
    limited,
    with_addresses,
)
from streams.commands.plan_input import PlanError, parse_moment
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.commands.topic_records import topic_records, topic_scan
from streams.events import now_ms
from streams.grant_addresses import GrantAddresses
from streams.kafka.records import KafkaRecord
from streams.reader.bounded_keys import WHOLE, BoundedKeys
from streams.selection import UnusableSelection, known_word, make_selection
from streams.settings import KafkaSettings
from streams.topics import topics

# For contacts.changes, which is read for addresses. A person waits.
CHANGES_SECONDS = 600.0


class RowFormat(Enum):
    """How rows are printed."""

    TEXT = "text"
    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class OutcomesOptions:
    """What the user wants to see of the rows."""

    form: RowFormat = RowFormat.TEXT
    count: bool = False
    """Only numbers by outcome, reason and object."""
    addresses: bool = False
    """Whole addresses, which the audit notes."""
    actor: str | None = None
    why: str = ""
    most: int = MAX_ROWS_HELD


def make_filter(
    *,
    outcomes: Iterable[str],
    reasons: Iterable[str],
    sobjects: Iterable[str],
    grants: Iterable[str],
    keys: Iterable[str],
    since: str | None,
    until: str | None,
    clock: Callable[[], float] = time.time,
) -> RowFilter:
    """The filter of the command's options. Raises click.UsageError, with the remedy."""
    now = clock()
    try:
        chosen = make_selection(
            now_ms=int(now * 1000),
            since_ms=None if since is None else int(parse_moment(since, now) * 1000),
            until_ms=None if until is None else int(parse_moment(until, now, "--until") * 1000),
            keys=tuple(keys),
            outcomes=tuple(outcomes),
        )
    except (UnusableSelection, PlanError) as error:
        raise click.UsageError(str(error)) from error
    return RowFilter(
        chosen.outcomes,
        tuple(reasons),
        tuple(sobjects),
        tuple(grants),
        chosen.keys,
        chosen.since_ms,
        chosen.until_ms,
    )


def run(kafka: KafkaSettings, wanted: RowFilter, options: OutcomesOptions) -> None:
    """Prints the rows, or their numbers. Blocks until the topics are read.

    Raises click.UsageError for a grant or a reason that nothing has, and click.ClickException.
    """
    if any("@" in each for each in wanted.grants):
        ids = [each for each in wanted.grants if "@" not in each]  # they are checked below
        wanted = limited(wanted, given_grant_ids(wanted.grants, ids, _addresses(kafka)))
    seen = Seen(set(), set())
    first = last_rows(_outcomes(kafka), wanted, WHOLE, options.most, seen)
    if not first.held and first.part == WHOLE:
        _check_words(wanted, seen)
    parts = _parts(kafka, wanted, first, options.most)
    if options.count:
        counts: Counter[tuple[str, str, str]] = Counter()
        for rows in parts:
            counts += count_rows(rows.values())
        form = options.form
        print_counts(counts, as_json=form is RowFormat.JSON, as_csv=form is RowFormat.CSV)
        click.echo(f"{counts.total():,} contacts", err=True)
        return
    audit = _begin_audit(kafka, wanted, options) if options.addresses else None
    printing = {RowFormat.TEXT: print_rows, RowFormat.CSV: print_csv, RowFormat.JSON: print_json}
    printed = printing[options.form](_addressed(kafka, parts, whole=options.addresses))
    if audit is not None:
        _note(kafka, replace(audit, state=AuditState.ENDED, at_ms=now_ms(), count=printed))
    click.echo(f"{printed:,} contacts", err=True)


def _outcomes(kafka: KafkaSettings) -> Iterator[KafkaRecord]:
    return topic_records(
        kafka, topics(kafka).outcomes.name, waiting=lambda reason: click.echo(reason, err=True)
    )


def _parts(
    kafka: KafkaSettings, wanted: RowFilter, first: BoundedKeys[OutcomeRow], most: int
) -> Iterator[Mapping[str, OutcomeRow]]:
    """The rows, part by part; a further part reads contacts.outcomes again."""
    part, held = first.part, first.held
    first.held = {}  # so that a part is let go before the next one is read
    yield held
    for other in part.others():
        held = {}
        held = last_rows(_outcomes(kafka), wanted, other, most).held
        yield held


def _addressed(
    kafka: KafkaSettings, parts: Iterable[Mapping[str, OutcomeRow]], *, whole: bool
) -> Iterator[OutcomeRow]:
    """The rows with addresses, the oldest of each part first."""
    show = _whole if whole else masked_address
    for rows in parts:
        if not rows:
            continue
        keys = frozenset(key.encode() for key in rows)

        def wanted(
            found: Iterable[bytes | None], _values: object, keys: frozenset[bytes] = keys
        ) -> list[int]:
            return [place for place, key in enumerate(found) if key in keys]

        changes = topic_scan(
            kafka, topics(kafka).changes.name, wanted, lambda _records: None, CHANGES_SECONDS
        )
        shown = with_addresses(rows, changes, show)
        yield from sorted(shown.values(), key=lambda row: (row.at_ms, row.key))


def _whole(address: str) -> str:
    return address


def _addresses(kafka: KafkaSettings) -> GrantAddresses:
    known = GrantAddresses()
    for record in topic_records(kafka, topics(kafka).grants.name):
        known.apply(record)
    return known


def _check_words(wanted: RowFilter, seen: Seen) -> None:
    """Says which word of the filter nothing has, where nothing was found."""
    try:
        for reason in wanted.reasons:
            known_word("--reason", reason, seen.reasons - {""})
        for grant in wanted.grants:
            known_word("--grant", grant, seen.grants)
    except UnusableSelection as error:
        raise click.UsageError(str(error)) from error


def _begin_audit(kafka: KafkaSettings, wanted: RowFilter, options: OutcomesOptions) -> AuditEntry:
    """Notes that a person looks at addresses. Raises click.ClickException: then none is shown."""
    selection = {name: value for name, value in asdict(wanted).items() if value not in (None, ())}
    entry = AuditEntry(
        action_id(),
        AuditState.BEGUN,
        now_ms(),
        actor_name(options.actor),
        "outcomes --addresses",
        options.why,
        selection,
        0,
    )
    _note(kafka, entry)
    return entry


def _note(kafka: KafkaSettings, entry: AuditEntry) -> None:
    try:
        with CommandPublisher(kafka) as publisher:
            publisher.publish([audit_record(topics(kafka).audit.name, entry)])
    except NotAcknowledged as error:
        raise click.ClickException(str(error)) from error
