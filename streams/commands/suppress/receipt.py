"""The receipt of an erasure: what was found, when each topic is clean, what people have to do."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from streams.kafka.records import KafkaRecord
from streams.kafka.topic_policy import RETENTION

# Kafka looks for what it has to delete every five minutes (log.retention.check.interval.ms), and a
# cleaner of compacted topics takes its turn. An hour covers both.
CLEANING_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class TopicLine:
    """A topic, what was found there, and when it is clean at the latest."""

    topic: str
    found: int
    clean_ms: int | None
    """Epoch milliseconds; None where nothing was found, or where nothing ever cleans it."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure found and did. It names nobody."""

    erased: bool
    """False for a dry run."""
    people: int
    contacts: int
    listed: int
    """Entries that the suppression list got."""
    imported: int
    """Entries that came from the file of PEOPLE_SUPPRESSION_LIST."""
    topics: Sequence[TopicLine]
    record_ids: Sequence[str]
    """Records in Salesforce that a person has to look at: none is ever deleted."""
    audit_mentions: int
    """Entries of the audit in which an operator typed one of the addresses or keys."""
    run_mentions: int
    """Runs that an operator asked for with one of the addresses or keys."""


def mentions(
    records: Iterable[KafkaRecord], addresses: Collection[str], keys: Collection[str]
) -> int:
    """How many keys of a topic have a record that names one of the addresses or contact keys.

    Addresses are in lower case, and are found in any case.
    """
    small = [address.encode() for address in addresses]
    exact = [key.encode() for key in keys]
    return len(
        {
            record.key
            for record in records
            if (value := record.value)
            and (any(one in value.lower() for one in small) or any(one in value for one in exact))
        }
    )


def clean_at(config: Mapping[str, str], newest_ms: int, now_ms: int) -> int | None:
    """When a topic is clean of a record at the latest; None if its settings never clean it.

    A compacted topic is clean so long after the tombstone that follows now; one that deletes by age
    so long after its newest record. The active segment takes records for `segment.ms` meanwhile.
    """
    segment = int(config.get("segment.ms", 0))
    policy = config.get("cleanup.policy", "")
    times = []
    if "compact" in policy:
        lag = int(config.get("max.compaction.lag.ms", -1))
        if lag >= 0:
            times.append(now_ms + lag + segment + CLEANING_MS)
    if "delete" in policy:
        retention = int(config.get(RETENTION, -1))
        if retention >= 0:
            times.append(newest_ms + retention + segment + CLEANING_MS)
    return min(times, default=None)


def text_lines(receipt: Receipt) -> list[str]:
    """The receipt for a person."""
    would = "" if receipt.erased else "would be "
    lines = [
        f"{receipt.people} people, {receipt.contacts} contacts found; {receipt.listed} entries "
        f"{would}added to the suppression list"
    ]
    if receipt.imported:
        lines.append(
            f"{receipt.imported} entries {would}taken from the file of PEOPLE_SUPPRESSION_LIST; "
            "unset it, the topic has them all"
        )
    for line in receipt.topics:
        when = ""
        if line.found:
            when = f", clean by {_time(line.clean_ms)}" if line.clean_ms else ", never cleaned"
        lines.append(f"    {line.topic}: {line.found} records{when}")
    if receipt.audit_mentions:
        lines.append(
            f"{receipt.audit_mentions} entries of the audit hold an address or a contact key that "
            "somebody typed; they go by their age"
        )
    if receipt.run_mentions:
        lines.append(
            f"{receipt.run_mentions} runs were asked for with an address or a contact key; "
            "they are forgotten 14 days after their end"
        )
    if receipt.record_ids:
        lines.append(
            "Key, version, hashes and further addresses are cleared on the records that carry the "
            "keys. Nothing is deleted in Salesforce; look at these records yourself:"
        )
        lines += [f"    {record_id}" for record_id in receipt.record_ids]
    if not receipt.erased:
        lines.append("Nothing is changed; repeat it without --dry-run.")
    return lines


def as_json(receipt: Receipt) -> str:
    """The receipt for a program."""
    body: dict[str, Any] = {
        "erased": receipt.erased,
        "people": receipt.people,
        "contacts": receipt.contacts,
        "listed": receipt.listed,
        "imported": receipt.imported,
        "topics": {
            line.topic: {
                "records": line.found,
                "clean_by": _time(line.clean_ms) if line.clean_ms else None,
            }
            for line in receipt.topics
        },
        "audit_mentions": receipt.audit_mentions,
        "run_mentions": receipt.run_mentions,
        "records_for_a_person": list(receipt.record_ids),
    }
    return json.dumps(body, indent=2)


def _time(epoch_ms: int) -> str:
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
