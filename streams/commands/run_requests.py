"""Writes requests to the reader: that it starts a run, or ends one."""

from confluent_kafka import Producer

from streams.kafka.clients import producer_config
from streams.kafka.records import KafkaRecord
from streams.runs import Run, new_run_id, run_record
from streams.settings import KafkaSettings
from streams.topics import topics

# A person waits for the acknowledgement.
ACKNOWLEDGE_SECONDS = 30.0


class NotAcknowledged(RuntimeError):
    """The broker did not acknowledge a request, so the reader may never see it."""


def request_run(kafka: KafkaSettings, run: Run, within: float = ACKNOWLEDGE_SECONDS) -> str:
    """Writes a run to reader.runs for the reader to start; returns the run's ID.

    Blocks for up to `within` seconds. Raises NotAcknowledged.
    """
    run_id = new_run_id(run.kind, run.requested_at)
    write_record(kafka, run_record(topics(kafka), run_id, run), within)
    return run_id


def write_record(kafka: KafkaSettings, record: KafkaRecord, within: float) -> None:
    """Writes a record and waits up to `within` seconds for its acknowledgement. Blocks.

    Raises NotAcknowledged.
    """
    # Collected instead of logged: a log line would stand between the command's own output.
    connection_errors: list[str] = []
    delivery_errors: list[str] = []
    producer = Producer(
        producer_config(kafka, delivery_timeout=within)
        | {"log_level": 0, "error_cb": lambda error: connection_errors.append(error.str())}
    )
    producer.produce(
        record.topic,
        record.value,
        record.key,
        on_delivery=lambda error, _: delivery_errors.append(error.str()) if error else None,
    )
    unsent = producer.flush(within)
    if unsent or delivery_errors:
        reasons = connection_errors or delivery_errors or [f"no answer within {within:.0f} s"]
        raise NotAcknowledged(
            f"{record.topic} was not written: {reasons[-1]}; "
            f"check that the broker at {kafka.bootstrap_servers} runs"
        )
