"""The mode in which a sink starts, or that it may not start because nobody has chosen one."""

import structlog

from streams.control import ControlTable
from streams.control_mode import ModeInForce, mode_in_force
from streams.kafka.snapshot import log_ranges, read_to_end
from streams.settings import KafkaSettings
from streams.topics import Topics

log = structlog.get_logger()

MODE_REQUIRED = (
    "nobody has chosen what may be written to the org, and this deployment has written nothing "
    "yet; look at first, without writing anything: contactstream mode set report-only --why TEXT"
)


def mode_at_start(kafka: KafkaSettings, names: Topics, setting: str) -> ModeInForce | None:
    """The mode in force, from Kafka and SALESFORCE_MODE; None if a person has to choose one.

    Blocks. Raises SnapshotStalled, KafkaException.
    """
    table = ControlTable()
    for record in read_to_end(kafka, names.control.name):
        table.apply(record)
    return mode_in_force(table.mode, setting, has_outcomes=has_outcomes(kafka, names))


def has_outcomes(kafka: KafkaSettings, names: Topics) -> bool:
    """Whether this deployment has ever finished a contact. Blocks; raises as mode_at_start."""
    return any(log.end > 0 for log in log_ranges(kafka, names.outcomes.name).values())
