"""With which exit code a process ends after an error of Kafka that it cannot go on after."""

from confluent_kafka import KafkaException

from streams.kafka.polling import OffsetOutOfRange, TopicReplaced
from streams.kafka.publisher import PublishFailed
from streams.runtime.exit_codes import ExitCode


def ending(error: BaseException) -> tuple[ExitCode, str] | None:
    """The exit code for an error, and the reason for an operator; None for no error of Kafka.

    Of an exception group the first error of Kafka in it counts.
    """
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(ending, error.exceptions)), None)
    if isinstance(error, OffsetOutOfRange):
        return ExitCode.OFFSET_OUT_OF_RANGE, str(error)
    if isinstance(error, TopicReplaced):
        return ExitCode.TOPIC_REPLACED, str(error)
    if isinstance(error, PublishFailed):
        return ExitCode.KAFKA_REFUSED, str(error)
    if isinstance(error, KafkaException):
        return ExitCode.KAFKA_REFUSED, str(error.args[0].str())
    return None
