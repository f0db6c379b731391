"""What of a change goes on which topic once its fate is known. Plain functions over plain data."""

from dataclasses import replace

import orjson

from connectors.salesforce.outcome import Outcome, OutcomeStatus
from streams.events import ContactChange, UnreadableRecord, dead_letter_headers, now_ms
from streams.kafka.records import KafkaRecord
from streams.topics import Topics

STAGE = "sink"
HIDDEN = "refused after a new query as well: a record that sharing hides from our user may hold the value; see contactstream doctor"
EXHAUSTED = "retries_exhausted_"


def final(outcome: Outcome) -> Outcome:
    """The outcome of a row that is not tried again: a passing fault that outlived its attempts is a
    failure, named as such.
    """
    if outcome.status is not OutcomeStatus.RETRY:
        return outcome
    return replace(outcome, status=OutcomeStatus.FAILED, reason=f"{EXHAUSTED}{outcome.reason}")


def outcome_records(
    names: Topics, outcome: Outcome, record: KafkaRecord, change: ContactChange, attempts: int
) -> list[KafkaRecord]:
    """The outcome; of a failure the dead letter as well. `attempts` failed with a fault that might
    have passed.
    """
    if outcome.status is not OutcomeStatus.FAILED:
        return [_outcome_record(names, outcome, record, change)]
    detail = "; ".join(f"{error.code}: {error.message}" for error in outcome.errors)
    if outcome.reason == f"{EXHAUSTED}duplicate_value":
        detail = f"{HIDDEN}; {detail}"
    if not outcome.reason.startswith(EXHAUSTED):
        attempts += 1
    return dead_letter_records(names, outcome, record, change, attempts, detail)


def dead_letter_records(
    names: Topics,
    outcome: Outcome,
    record: KafkaRecord,
    change: ContactChange,
    attempts: int,
    detail: str,
) -> list[KafkaRecord]:
    """The dead letter, and the outcome that says so to whoever reads the compacted topic."""
    headers = dead_letter_headers(record, STAGE, outcome.reason, detail, attempts)
    ids = dict.fromkeys(match.record_id for error in outcome.errors for match in error.duplicates)
    if ids:
        headers.append(("dlq.duplicates", " ".join(ids).encode()))
    letter = KafkaRecord(names.dead_letter.name, record.key, record.value, headers)
    return [letter, _outcome_record(names, outcome, record, change)]


def unreadable_record(names: Topics, record: KafkaRecord, error: UnreadableRecord) -> KafkaRecord:
    """The dead letter of what is no change."""
    headers = dead_letter_headers(record, STAGE, error.reason, str(error))
    return KafkaRecord(names.dead_letter.name, record.key, record.value, headers)


def _outcome_record(
    names: Topics, outcome: Outcome, record: KafkaRecord, change: ContactChange
) -> KafkaRecord:
    return KafkaRecord(
        names.outcomes.name, record.key, outcome_value(outcome, change), [], timestamp_ms=now_ms()
    )


def outcome_value(outcome: Outcome, change: ContactChange) -> bytes:
    """The value of a record of contacts.outcomes."""
    return orjson.dumps(
        {
            "outcome": outcome.status.value,
            "sobject": outcome.sobject,
            "id": outcome.record_id,
            "matched": outcome.matched,
            "reason": outcome.reason,
            "version": change.version,
            "kind": change.kind.value,
            "origin": change.origin,
            "received_ms": change.received_ms,
            "at_ms": now_ms(),
        }
    )
