"""What the reader needs of a record of contacts.outcomes, which the sink writes."""

from typing import NamedTuple

import orjson

from streams.kafka.records import KafkaRecord

# Outcomes of contacts that own no record. They may own one once another contact released it, or
# once somebody corrected a record, so that they are offered to the sink again.
WITHOUT_OWN_RECORD = frozenset({"filled", "covered", "ambiguous"})


class OutcomeRecord(NamedTuple):
    """The outcome of the last write of a contact; a field that the record lacks is empty."""

    contact_key: str
    outcome: str
    """A value of the connector's OutcomeStatus."""
    salesforce_id: str
    reason: str
    candidates: tuple[str, ...] = ()
    """IDs of the records between which a person has to decide."""
    at_ms: int = 0
    """When the sink wrote the outcome, in milliseconds since the epoch."""

    @property
    def record_ids(self) -> frozenset[str]:
        """The IDs of every record that the outcome names."""
        return frozenset(filter(None, (self.salesforce_id, *self.candidates)))


def parse_outcome(record: KafkaRecord) -> OutcomeRecord:
    """Parses a record of contacts.outcomes. An unreadable value gives empty fields."""
    key = (record.key or b"").decode(errors="replace")
    try:
        value = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        return OutcomeRecord(key, "", "", "")
    candidates, at_ms = value.get("candidates"), value.get("at_ms")
    return OutcomeRecord(
        key,
        str(value.get("outcome") or ""),
        str(value.get("id") or ""),
        str(value.get("reason") or ""),
        tuple(map(str, candidates)) if isinstance(candidates, list) else (),
        at_ms if isinstance(at_ms, int) else 0,
    )
