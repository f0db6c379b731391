"""Writes requests to the reader: that it starts a run, or ends one."""

from streams.commands.publishing import ACKNOWLEDGE_SECONDS, CommandPublisher
from streams.kafka.records import KafkaRecord
from streams.runs import Run, new_run_id, run_record
from streams.settings import KafkaSettings
from streams.topics import topics


def request_run(
    kafka: KafkaSettings, run: Run, within: float = ACKNOWLEDGE_SECONDS, run_id: str = ""
) -> str:
    """Writes a run to reader.runs for the reader to start; returns the run's ID.

    `run_id` is the ID that it gets; by default a new one. Blocks for up to `within` seconds. Raises
    NotAcknowledged.
    """
    run_id = run_id or new_run_id(run.kind, run.requested_at)
    write_record(kafka, run_record(topics(kafka), run_id, run), within)
    return run_id


def write_record(kafka: KafkaSettings, record: KafkaRecord, within: float) -> None:
    """Writes a record and waits up to `within` seconds for its acknowledgement. Blocks.

    Raises NotAcknowledged.
    """
    with CommandPublisher(kafka, within) as publisher:
        publisher.publish([record])
