"""Which synced contacts the settings would leave out: plain functions over contacts.changes."""

from collections import Counter
from collections.abc import Iterable

from connectors.salesforce.kept_fields import Exclusion, recorded_exclusion
from streams.events import Kind, UnreadableRecord, parse_change
from streams.kafka.records import KafkaRecord


def newly_left_out(changes: Iterable[KafkaRecord], exclusion: Exclusion) -> Counter[str]:
    """How many contacts are synced so far and left out by these settings, by reason.

    Of contacts that were left out before only the reason is kept, so that nobody can tell which of
    them a wider setting lets in. Memory grows with the number that is found.
    """
    found: dict[str, str] = {}
    for record in changes:
        key = (record.key or b"").decode(errors="replace")
        found.pop(key, None)
        try:
            change = parse_change(record.key, record.value, record.headers)
        except UnreadableRecord:
            continue
        if change is None or change.kind is Kind.DELETED or recorded_exclusion(change.contact):
            continue
        if reason := exclusion(key, change.contact):
            found[key] = reason.value
    return Counter(found.values())
