"""The last outcome of each contact as a row: plain functions over records of contacts.outcomes."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from connectors.salesforce.emails import addresses
from connectors.salesforce.person import grant_of
from streams.kafka.records import KafkaRecord
from streams.reader.bounded_keys import WHOLE, BoundedKeys, KeyPart

# Rows held at once, of some 600 bytes each, so 30 MB; a part stays until the next one is read, so
# that twice as much is held. Where more are selected, the topics are read once more for each
# further part of the contacts.
MAX_ROWS_HELD = 50_000


class OutcomeRow(NamedTuple):
    """The last outcome of a contact. Texts that the record lacks are empty."""

    key: str
    """The contact key."""
    outcome: str
    reason: str
    sobject: str
    record_id: str
    candidates: tuple[str, ...]
    """IDs of the records between which a person has to decide."""
    matched: str
    origin: str
    at_ms: int
    """When the sink wrote it, in epoch milliseconds."""
    address: str = ""
    """The contact's primary address, masked unless it was asked for."""

    @property
    def group(self) -> tuple[str, str, str]:
        """By what rows are counted: outcome, reason and object."""
        return self.outcome, self.reason, self.sobject


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Which rows are wanted. All conditions must hold; an empty one holds always."""

    outcomes: tuple[str, ...] = ()
    """`status` or `status:reason`."""
    reasons: tuple[str, ...] = ()
    sobjects: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None

    def takes(self, row: OutcomeRow) -> bool:
        """Whether every condition holds."""
        status = {row.outcome, f"{row.outcome}:{row.reason}"}
        return (
            (not self.outcomes or not status.isdisjoint(self.outcomes))
            and (not self.reasons or row.reason in self.reasons)
            and (not self.sobjects or row.sobject in self.sobjects)
            and (not self.grants or grant_of(row.key) in self.grants)
            and (not self.keys or row.key in self.keys)
            and (self.since_ms is None or row.at_ms >= self.since_ms)
            and (self.until_ms is None or row.at_ms < self.until_ms)
        )


def parse_row(record: KafkaRecord) -> OutcomeRow | None:
    """The row of a record; None for a tombstone, and for what no sink wrote."""
    try:
        value = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) or not value.get("outcome"):
        return None

    def text(name: str) -> str:
        return str(value.get(name) or "")

    candidates, at_ms = value.get("candidates"), value.get("at_ms")
    return OutcomeRow(
        (record.key or b"").decode(errors="replace"),
        text("outcome"),
        text("reason"),
        text("sobject"),
        text("id"),
        tuple(map(str, candidates)) if isinstance(candidates, list) else (),
        text("matched"),
        text("origin"),
        at_ms if isinstance(at_ms, int) else record.timestamp_ms,
    )


@dataclass(slots=True)
class Seen:
    """Words that the topic holds, by which a user may choose."""

    reasons: set[str]
    grants: set[str]


def last_rows(
    records: Iterable[KafkaRecord],
    wanted: RowFilter,
    part: KeyPart = WHOLE,
    most: int = MAX_ROWS_HELD,
    seen: Seen | None = None,
) -> BoundedKeys[OutcomeRow]:
    """The wanted rows of a part of the contacts, by contact key: each contact's last outcome.

    `records` is contacts.outcomes from its start. The part is halved where it has more than `most`
    rows. `seen` gets the words of the whole topic.
    """
    rows: BoundedKeys[OutcomeRow] = BoundedKeys(part, most)
    for record in records:
        key = (record.key or b"").decode(errors="replace")
        row = parse_row(record)
        if row is not None and seen is not None:
            seen.reasons.add(row.reason)
            seen.grants.add(grant_of(key))
        if row is not None and wanted.takes(row):
            rows.put(key, row)
        else:
            rows.drop(key)
    return rows


def count_rows(rows: Iterable[OutcomeRow]) -> Counter[tuple[str, str, str]]:
    """How many rows there are of each outcome, reason and object."""
    return Counter(row.group for row in rows)


def with_addresses(
    rows: Mapping[str, OutcomeRow], changes: Iterable[KafkaRecord], show: Callable[[str], str]
) -> dict[str, OutcomeRow]:
    """The rows with the primary address of each contact, as `show` shows it.

    `changes` are records of contacts.changes, of which the last of a contact counts.
    """
    found = dict(rows)
    for record in changes:
        key = (record.key or b"").decode(errors="replace")
        if row := found.get(key):
            first = next(iter(addresses(_contact(record))), "")
            found[key] = row._replace(address=show(first) if first else "")
    return found


def _contact(record: KafkaRecord) -> Mapping[str, Any]:
    try:
        value = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def limited(wanted: RowFilter, grants: Iterable[str]) -> RowFilter:
    """The filter with other grants."""
    return replace(wanted, grants=tuple(dict.fromkeys(grants)))
