"""Asks for the committed offsets of a group, and reports what the client hides of a refusal."""

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.kafka.access import ERRORS_AT_ONCE, is_denied, named_denial


def committed_offsets(
    consumer: Consumer, partitions: list[TopicPartition], seconds: float
) -> list[TopicPartition]:
    """What the consumer's group has committed; a negative offset where it never did. Blocks.

    Raises KafkaException when the broker does not answer within so many seconds, and when it
    refuses one of the partitions: its offset would look like that of a group without a commit.
    """
    found = consumer.committed(partitions, timeout=seconds)
    for each in found:
        if each.error is not None:
            raise KafkaException(KafkaError(each.error.code(), f"{each.topic}: {each.error.str()}"))
    return found


def committed_of_group(
    consumer: Consumer, group: str, partitions: list[TopicPartition], seconds: float
) -> list[TopicPartition]:
    """As `committed_offsets`, for a consumer of the group that reads nothing now.

    When the broker refuses the group, the client only says that the time is over, and that it was
    refused to whoever polls it. Then that is raised, with the name of the group.
    """
    try:
        return committed_offsets(consumer, partitions, seconds)
    except KafkaException as error:
        refusal = _refusal(consumer)
        if refusal is None:
            raise
        raise KafkaException(
            KafkaError(refusal.code(), f"the group {group}: {named_denial(refusal).str()}")
        ) from error


def _refusal(consumer: Consumer) -> KafkaError | None:
    """The refusal among what the client has to say; None if there is none."""
    errors = (message.error() for message in consumer.consume(ERRORS_AT_ONCE, 0))
    return next((error for error in errors if error is not None and is_denied(error)), None)
