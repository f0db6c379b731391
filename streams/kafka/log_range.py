"""Asks the broker for the offsets of a partition, also where the client's metadata are wrong."""

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition


def offset_range(consumer: Consumer, partition: TopicPartition, seconds: float) -> tuple[int, int]:
    """The first offset that a partition keeps, and the one behind its last record. Blocks.

    Waits up to `seconds` for each of at most three requests. Raises KafkaException.

    A broker that starts or stops may answer that a topic has no such partition. librdkafka keeps
    that answer for minutes and asks nobody in between, however often the offsets are asked for. A
    request for the metadata of the topic corrects it.
    """
    try:
        return _ask(consumer, partition, seconds)
    except KafkaException as error:
        if error.args[0].code() != KafkaError._UNKNOWN_PARTITION:
            raise
    consumer.list_topics(partition.topic, timeout=seconds)
    return _ask(consumer, partition, seconds)


def _ask(consumer: Consumer, partition: TopicPartition, seconds: float) -> tuple[int, int]:
    found = consumer.get_watermark_offsets(partition, timeout=seconds)
    # Seen while a broker started: neither an error nor an offset.
    if found is None or min(found) < 0:
        raise KafkaException(KafkaError(KafkaError._NO_OFFSET))
    return int(found[0]), int(found[1])
