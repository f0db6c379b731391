"""What the reader needs of a record of contacts.outcomes, which the sink writes."""

from typing import NamedTuple

import orjson

from streams.kafka.records import KafkaRecord


class OutcomeRecord(NamedTuple):
    """The outcome of the last write of a contact; a field that the record lacks is empty."""

    contact_key: str
    outcome: str
    """A value of the connector's OutcomeStatus."""
    salesforce_id: str
    reason: str


def parse_outcome(record: KafkaRecord) -> OutcomeRecord:
    """Parses a record of contacts.outcomes. An unreadable value gives empty fields."""
    key = (record.key or b"").decode(errors="replace")
    try:
        value = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        return OutcomeRecord(key, "", "", "")
    return OutcomeRecord(
        key,
        str(value.get("outcome") or ""),
        str(value.get("id") or ""),
        str(value.get("reason") or ""),
    )
