"""How large the batches are that the producers send, and what follows when a topic refuses one.

A topic's limit (`max.message.bytes`, by default the broker's `message.max.bytes`) holds for a
batch of records. A batch of small records is refused as a whole, and librdkafka does not split it:
https://github.com/confluentinc/librdkafka/issues/1716.
"""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.kafka.admin import LIMIT, topic_setting


def one_record_a_batch(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a producer that sends each record in a batch of its own."""
    return {**config, "batch.num.messages": 1}


def topic_limit(config: Mapping[str, Any], topic: str) -> str:
    """The largest batch that a topic takes, in bytes; "?" when no broker says it. Blocks."""
    try:
        return topic_setting(AdminClient(dict(config)), topic, LIMIT)
    except (KafkaException, KeyError):
        return "?"


def refused_as_too_large(topic: str, record_bytes: int, limit: str) -> str:
    """Why a record was refused although it was sent alone, and what to do; for an operator."""
    return (
        f"{topic} refuses a record of {record_bytes} bytes, because its {LIMIT} is {limit}. Run "
        "`contactstream topics check`, which names the limit that the topic has to have"
    )
