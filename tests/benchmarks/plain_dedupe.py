"""A baseline of dedupe: its rule in a plain loop, without a changelog and without its guarantees.

    python -m tests.benchmarks.plain_dedupe BOOTSTRAP PREFIX

It shows what reading, deciding and publishing cost by themselves. It commits what it has read,
keeps its state in memory alone, and waits for no acknowledgement: a crash loses events.
"""

import sys
import time

import orjson
from confluent_kafka import Consumer, Producer

from connectors.nylas.model import parse_notification
from connectors.salesforce.fingerprint import fingerprint
from connectors.salesforce.mapping_rules import FieldMapping
from streams.dedupe.versions import (
    ContactEvent,
    DedupeState,
    decide,
    hash_id,
    mapping_tag,
)

BATCH_RECORDS = 1000
# How long the consumer waits for a batch to fill.
POLL_SECONDS = 0.1


def main(bootstrap: str, prefix: str) -> None:
    """Runs until it is killed."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{prefix}plain",
            "auto.offset.reset": "earliest",
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "compression.type": "lz4",
            "delivery.report.only.error": True,
        }
    )
    mapping = FieldMapping()
    tag, changes = mapping_tag(mapping.hash), f"{prefix}contacts.changes"
    states: dict[bytes, DedupeState] = {}
    consumer.subscribe([f"{prefix}contacts.events"])
    while True:
        now = int(time.time())
        for message in consumer.consume(BATCH_RECORDS, POLL_SECONDS):
            key, value = message.key(), message.value()
            if message.error() is not None or not isinstance(key, bytes) or value is None:
                continue
            notification = parse_notification(bytes(value))
            event = ContactEvent(
                notification.time,
                hash_id(notification.id),
                fingerprint(mapping, notification.object),
                tag,
                False,
            )
            forward, _, after, _ = decide(states.get(key), event, now)
            if after is not None:
                states[key] = after
            if forward:
                producer.produce(changes, orjson.dumps(notification.object), key)
        producer.poll(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
