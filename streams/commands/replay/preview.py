"""What a replay would publish, in plain data, and why it must not start."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil

from connectors.salesforce.person import grant_of
from streams.commands.replay.estimates import Pace
from streams.events import UnreadableRecord, parse_change
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import LogRange
from streams.reader.records import contact_hash
from streams.reader.replay_page import SelectedContacts, candidate_of
from streams.runs import ReplaySource
from streams.selection import Selection, UnusableSelection

# Of a batch that Salesforce takes in two calls, one to look up and one to write.
CONTACTS_A_BATCH = 1_000
CALLS_A_BATCH = 2

# Contacts that are told apart: a hash of each, some 70 MB. Of more the preview says "at least", and
# the calls are those of a contact for each record.
MAX_COUNTED_CONTACTS = 1_000_000


@dataclass(slots=True)
class Preview:
    """What a replay would publish."""

    source: str
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    """The offsets that are read, by partition."""
    contacts: int = 0
    all_counted: bool = True
    """Whether `contacts` are all; otherwise there are more than MAX_COUNTED_CONTACTS."""
    by_partition: Counter[int] = field(default_factory=Counter)
    by_grant: Counter[str] = field(default_factory=Counter)
    """As many entries as the application has grants."""
    by_day: Counter[str] = field(default_factory=Counter)
    oldest_ms: int | None = None
    """When the oldest record that was read was received."""
    other_mapping: int = 0
    """Selected changes that were forwarded under another mapping than the present one."""
    gone: int = 0
    """Offsets of the asked ranges that the topic no longer holds."""
    has_expired: bool = False
    """Whether the topic has lost its oldest records already."""

    @property
    def records(self) -> int:
        """The selected records."""
        return sum(self.by_partition.values())

    @property
    def calls(self) -> int:
        """The most Salesforce calls that the sink needs for these contacts."""
        contacts = self.contacts if self.all_counted else self.records
        return CALLS_A_BATCH * ceil(contacts / CONTACTS_A_BATCH)

    def minutes(self, pace: Pace, rate: float | None = None) -> int:
        """About how long it takes at this pace, and at `rate` records a second at most."""
        seconds = self.records / min(pace.per_second, rate or pace.per_second)
        return ceil(seconds / 60)


def ranges_to_read(
    selection: Selection, log: Mapping[int, LogRange]
) -> tuple[dict[int, tuple[int, int]], int]:
    """By partition the offsets to read, and how many of the asked offsets the topic has lost.

    Without --offsets it is the part of the log that may hold something. Raises UnusableSelection
    for a range that lies outside of the log.
    """
    if not selection.offsets:
        return {partition: (each.start, each.end) for partition, each in log.items()}, 0
    gone = 0
    for each in selection.offsets:
        known = log.get(each.partition)
        if known is None:
            raise UnusableSelection(
                f"--offsets {each}: there is no partition {each.partition}; the topic has "
                f"{len(log)}, from 0 on"
            )
        if each.end > known.end:
            raise UnusableSelection(
                f"--offsets {each}: partition {each.partition} ends before offset {known.end}"
            )
        if each.end <= known.oldest:
            raise UnusableSelection(
                f"--offsets {each}: all of it has expired; partition {each.partition} begins at "
                f"offset {known.oldest}"
            )
        gone += max(0, known.oldest - each.start)
    ranges = {}
    for partition, known in log.items():
        asked = [each for each in selection.offsets if each.partition == partition]
        first = min((each.start for each in asked), default=known.end)
        end = max((each.end for each in asked), default=known.end)
        ranges[partition] = (max(known.start, first), end)
    return ranges, gone


def preview(
    source: ReplaySource,
    selection: Selection,
    selected: SelectedContacts,
    records: Iterator[KafkaRecord],
    ranges: Mapping[int, tuple[int, int]],
    mapping_hash: str,
) -> Preview:
    """Counts what a replay would publish. `records` are those of the source in these ranges."""
    found = Preview(
        source.value,
        tuple(ranges[partition][0] for partition in sorted(ranges)),
        tuple(ranges[partition][1] for partition in sorted(ranges)),
    )
    contacts: set[int] = set()
    for record in records:
        candidate = candidate_of(source, record)
        if candidate is None:
            continue
        if found.oldest_ms is None or candidate.at_ms < found.oldest_ms:
            found.oldest_ms = candidate.at_ms
        if not selection.takes(candidate) or candidate.key not in selected:
            continue
        if len(contacts) < MAX_COUNTED_CONTACTS:
            contacts.add(contact_hash(candidate.key))
        elif found.all_counted:
            found.all_counted = contact_hash(candidate.key) in contacts
        found.by_partition[record.partition] += 1
        found.by_grant[grant_of(candidate.key)] += 1
        found.by_day[day(candidate.at_ms)] += 1
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


def day(epoch_ms: int) -> str:
    """The day of a moment, in UTC."""
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%d}"


def objections(
    found: Preview, selection: Selection, *, expected: int | None, growth: float, agreed: bool
) -> list[str]:
    """Why a replay must not start; empty if it may. `agreed` is whether the user gave --yes.

    `expected` is the number that an earlier preview showed, and `growth` the share by which the
    selection may have grown since.
    """
    reasons = []
    if found.other_mapping:
        reasons.append(
            f"{found.other_mapping} of the changes were forwarded under another mapping, and may "
            "lack what the present one reads. Read them again: contactstream backfill --all"
        )
    if selection.takes_everything and not agreed:
        reasons.append("nothing limits the selection; add --yes to replay everything")
    if expected is not None and found.records > expected * (1 + growth):
        reasons.append(
            f"the selection has grown from {expected:,} to {found.records:,} records since the "
            f"preview, by more than --growth {growth:g}; look at it again"
        )
    if not found.records:
        reasons.append("the selection is empty: nothing would be published")
    return reasons


def losses(found: Preview, selection: Selection) -> Iterable[str]:
    """What of the asked range the topic no longer holds, in sentences."""
    if found.gone:
        yield f"{found.gone:,} of the offsets that were asked for have expired"
    since = selection.since_ms
    if since is None or not found.has_expired or found.oldest_ms is None:
        return
    if since < found.oldest_ms:
        hours = (found.oldest_ms - since) / 3_600_000
        yield (
            f"the topic holds nothing from before {day(found.oldest_ms)}: the first {hours:,.1f} "
            "hours of the range have expired"
        )
