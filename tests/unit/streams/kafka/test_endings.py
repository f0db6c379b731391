"""Each error of Kafka that a process cannot go on after has its exit code."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.kafka.endings import ending
from streams.kafka.polling import OffsetOutOfRange
from streams.kafka.publisher import PublishFailed
from streams.runtime.exit_codes import ExitCode


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PublishFailed("sequence lost", fatal=True), ExitCode.KAFKA_REFUSED),
        (
            KafkaException(KafkaError(KafkaError._FATAL, "sequence lost", fatal=True)),
            ExitCode.KAFKA_REFUSED,
        ),
        (OffsetOutOfRange("sequence lost"), ExitCode.OFFSET_OUT_OF_RANGE),
    ],
)
def test_an_error_of_kafka_has_its_exit_code_also_inside_of_a_group(
    error: Exception, code: ExitCode
) -> None:
    nested = ExceptionGroup("tasks", [ValueError("a bug"), ExceptionGroup("more", [error])])
    for one in (error, nested):
        found = ending(one)
        assert found is not None
        assert found[0] is code
        assert "sequence lost" in found[1]


def test_another_error_has_none() -> None:
    assert ending(ExceptionGroup("tasks", [ValueError("a bug")])) is None
