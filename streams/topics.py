"""The topics: their names, their policies and why, their creation and their check."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from streams.kafka.admin import Topic
from streams.kafka.clients import MAX_MESSAGE_BYTES
from streams.settings import KafkaSettings

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Topics:
    """Every topic of one org. A second org is a second prefix."""

    events: Topic
    changes: Topic
    refetch: Topic
    outcomes: Topic
    dead_letter: Topic
    grants: Topic
    runs: Topic
    seen_changelog: Topic

    def all(self) -> list[Topic]:
        """In the order of the flow."""
        return [getattr(self, field.name) for field in fields(self)]


def topics(kafka: KafkaSettings) -> Topics:
    """The topics of a deployment."""
    compact = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}

    def kept(days: int) -> dict[str, str]:
        return {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}

    # A signed notification of up to 1 MB and our headers; librdkafka's and Kafka's default of 1 MB
    # would refuse it.
    large = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
    prefix, many, replicas = kafka.topic_prefix, kafka.events_partitions, kafka.replication_factor
    # An acknowledgement means that two brokers have the record, where there are two: of two
    # replicas too, which then stop taking records while one is down. The bridge answers 503
    # meanwhile and Nylas sends again; a lost disk gives nothing back.
    acknowledged = {"min.insync.replicas": str(min(2, replicas))}

    def topic(name: str, partitions: int, config: Mapping[str, str]) -> Topic:
        return Topic(name, partitions, {**config, **acknowledged}, replicas)

    return Topics(
        events=topic(prefix + "contacts.events", many, kept(14) | large),
        changes=topic(prefix + "contacts.changes", 1, compact | large),
        refetch=topic(prefix + "contacts.refetch", 1, kept(7)),
        outcomes=topic(prefix + "contacts.outcomes", 1, compact),
        dead_letter=topic(prefix + "contacts.dead-letter", 1, kept(90) | large),
        grants=topic(prefix + "grants.events", 1, compact),
        runs=topic(prefix + "reader.runs", 1, compact),
        # Faust names it <application>-<table>-changelog and writes to it by the partition of the
        # source.
        seen_changelog=topic(f"{group(kafka, 'dedupe')}-seen-changelog", many, compact),
    )


def group(kafka: KafkaSettings, stage: str) -> str:
    """The consumer group of a stage."""
    return f"{kafka.topic_prefix}contactstream-{stage}"
