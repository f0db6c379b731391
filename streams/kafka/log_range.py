"""Asks the broker for the offsets of a partition, also where the client's metadata are wrong."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

# Between two requests while a partition gets a leader, which takes some tenths of a second.
LEADER_RETRY_SECONDS = 0.1
_WITHOUT_LEADER = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})


def offset_range(consumer: Consumer, partition: TopicPartition, seconds: float) -> tuple[int, int]:
    """The first offset that a partition keeps, and the one behind its last record. Blocks.

    Waits up to `seconds` for each request, and as long for the partition to get a leader. Raises
    KafkaException.

    A broker that starts or stops may answer that a topic has no such partition. librdkafka keeps
    that answer for minutes and asks nobody in between, however often the offsets are asked for. A
    request for the metadata of the topic corrects it.
    """
    ends = time.monotonic() + seconds
    believed = True  # that the topic has no such partition; once it was asked, that is so
    while True:
        try:
            return _ask(consumer, partition, seconds)
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError._UNKNOWN_PARTITION and believed:
                believed = False
            elif code in _WITHOUT_LEADER and time.monotonic() < ends:
                time.sleep(LEADER_RETRY_SECONDS)
            else:
                raise
        consumer.list_topics(partition.topic, timeout=seconds)


def _ask(consumer: Consumer, partition: TopicPartition, seconds: float) -> tuple[int, int]:
    found = consumer.get_watermark_offsets(partition, timeout=seconds)
    # Seen while a broker started: neither an error nor an offset.
    if found is None or min(found) < 0:
        raise KafkaException(KafkaError(KafkaError._NO_OFFSET))
    return int(found[0]), int(found[1])
