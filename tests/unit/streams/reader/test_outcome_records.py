"""The reader reads the outcomes that the sink writes."""

from connectors.salesforce.outcome import Outcome, OutcomeStatus
from streams.events import ContactChange, Kind
from streams.kafka.records import KafkaRecord
from streams.reader.outcome_records import OutcomeRecord, parse_outcome
from streams.sink.outcomes import outcome_value


def test_an_outcome_that_the_sink_writes_can_be_read() -> None:
    outcome = Outcome("g/a", OutcomeStatus.FILLED, "Contact", "003x", "email")
    written = outcome_value(
        outcome, ContactChange("g/a", Kind.UPDATED, 1, "", "", "webhook", 1, {})
    )
    parsed = parse_outcome(KafkaRecord("o", b"g/a", written, []))
    assert parsed == OutcomeRecord("g/a", "filled", "003x", "", (), parsed.at_ms)
    assert parsed.at_ms > 0
    for unreadable in (None, b"", b"{", b"[]", b"7"):
        record = KafkaRecord("o", b"g/a", unreadable, [])
        assert parse_outcome(record) == OutcomeRecord("g/a", "", "", "")
