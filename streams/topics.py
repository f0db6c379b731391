"""The topics: their names, their policies and why, their creation and their check."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from streams.settings import KafkaSettings

DAY_MS = 86_400_000
REQUEST_SECONDS = 30.0  # one admin request: a controller that moves takes up to 20 s to answer again


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it has to be. `config` names only what the policy depends on; the cluster's defaults decide the rest."""

    name: str
    partitions: int
    config: Mapping[str, str]


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

    # A signed notification of up to 1 MB and our headers; librdkafka's and Kafka's default of 1 MB would refuse it.
    large = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
    prefix, many = kafka.topic_prefix, kafka.events_partitions
    return Topics(
        events=Topic(prefix + "contacts.events", many, kept(14) | large),
        changes=Topic(prefix + "contacts.changes", 1, compact | large),
        refetch=Topic(prefix + "contacts.refetch", 1, kept(7)),
        outcomes=Topic(prefix + "contacts.outcomes", 1, compact),
        dead_letter=Topic(prefix + "contacts.dead-letter", 1, kept(90) | large),
        grants=Topic(prefix + "grants.events", 1, compact),
        runs=Topic(prefix + "reader.runs", 1, compact),
        # Faust names it <application>-<table>-changelog and writes to it by the partition of the source.
        seen_changelog=Topic(f"{group(kafka, 'dedupe')}-seen-changelog", many, compact),
    )


MAX_MESSAGE_BYTES = 3 * 1024 * 1024


def group(kafka: KafkaSettings, stage: str) -> str:
    """The consumer group of a stage."""
    return f"{kafka.topic_prefix}contactstream-{stage}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A topic that is not as it has to be, and what to do."""

    topic: str
    problem: str
    remedy: str


def create(admin: AdminClient, wanted: Topics, replication_factor: int) -> list[str]:
    """Creates what is missing and returns the names. Existing topics are left as they are: see `check`.

    Raises KafkaException when the broker refuses one.
    """
    existing = admin.list_topics(timeout=REQUEST_SECONDS).topics
    missing = [topic for topic in wanted.all() if topic.name not in existing]
    if not missing:
        return []
    new = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=replication_factor,
            config=dict(topic.config) | ({"min.insync.replicas": "2"} if replication_factor > 2 else {}),
        )
        for topic in missing
    ]
    created = []
    for name, future in admin.create_topics(new, request_timeout=REQUEST_SECONDS).items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":  # another process was faster
                raise
    return created


def check(admin: AdminClient, wanted: Topics) -> list[Finding]:
    """What differs from the policies, each with its remedy. Raises KafkaException when the broker does not answer."""
    existing = admin.list_topics(timeout=REQUEST_SECONDS).topics
    present = [topic for topic in wanted.all() if topic.name in existing]
    findings = [
        Finding(topic.name, "does not exist", "contactstream topics create")
        for topic in wanted.all()
        if topic.name not in existing
    ]
    resources = {ConfigResource(ResourceType.TOPIC, topic.name): topic for topic in present}
    answers = admin.describe_configs(list(resources), request_timeout=REQUEST_SECONDS) if resources else {}
    described = {resource.name: future.result() for resource, future in answers.items()}
    for topic in present:
        partitions = len(existing[topic.name].partitions)
        if partitions != topic.partitions:
            findings.append(
                Finding(
                    topic.name,
                    f"has {partitions} partitions instead of {topic.partitions}",
                    "never repartition a live topic: set KAFKA_EVENTS_PARTITIONS to what it has, or start with a new KAFKA_TOPIC_PREFIX",
                )
            )
        for name, value in topic.config.items():
            entry = described[topic.name].get(name)
            if entry is not None and entry.value != value:
                findings.append(
                    Finding(
                        topic.name,
                        f"{name} is {entry.value} instead of {value}",
                        f"kafka-configs --alter --topic {topic.name} --add-config {name}={value}",
                    )
                )
    return findings
