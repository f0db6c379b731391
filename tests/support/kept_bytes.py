"""What a topic really keeps, tombstones and aborted transactions too, and Kafka's cleaning on call.

For tests with a broker of their own that stopped every process which writes to the topics.
"""

from collections.abc import Collection

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.support.kafka import REQUEST_SECONDS, Found, Kafka

# Kafka cleans what is not in the active segment, and a segment ends with the next record. So many
# keys reach each partition of a topic.
ROLLS = [(b"roll-%d" % number, None) for number in range(64)]
AT_ONCE = {
    "segment.ms": "1",
    "min.cleanable.dirty.ratio": "0.0",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "1",
    "delete.retention.ms": "0",
}


def kept_records(kafka: Kafka, topic: str) -> list[Found]:
    """Every record that the topic keeps, those of aborted transactions too."""
    return kafka.read(topic.removeprefix(kafka.prefix), isolation="read_uncommitted")


def clean_now(kafka: Kafka, topics: Collection[str], *, expire: bool = False) -> None:
    """Has Kafka compact topics within seconds instead of days; with `expire` everything is old.

    It is as if the time of the topics' policies had passed. Returns before it is done.
    """
    admin = kafka.admin()
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    config = AT_ONCE | ({"retention.ms": "1"} if expire else {})
    for resource in resources:
        for name, value in config.items():
            entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            resource.add_incremental_config(entry)
    for future in admin.incremental_alter_configs(resources).values():
        future.result(REQUEST_SECONDS)
    for topic in topics:
        kafka.produce(topic.removeprefix(kafka.prefix), ROLLS)
