"""Creates topics and compares existing ones with how they have to be."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

# The largest batch of records that a topic takes, in bytes. By default it is the broker's
# `message.max.bytes`.
LIMIT = "max.message.bytes"

# One admin request. While the controller moves to another broker, an answer takes long.
ADMIN_REQUEST_SECONDS = 30.0

# Until a new topic is in the broker's metadata; usually well below a second.
TOPIC_VISIBLE_SECONDS = 10.0

# Between two checks whether a new topic is in the broker's metadata.
TOPIC_VISIBLE_CHECK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it has to be.

    `config` holds only the settings that matter; the cluster's defaults decide the others.
    """

    name: str
    partitions: int
    config: Mapping[str, str]
    replicas: int


@dataclass(frozen=True, slots=True)
class TopicFinding:
    """A problem of a topic, and the command or the setting that fixes it; for an operator."""

    topic: str
    problem: str
    remedy: str
    stops_stages: bool = False
    """Whether the stages that read the topic refuse to start: its number of partitions is wrong."""


def create(admin: AdminClient, wanted: Sequence[Topic]) -> list[str]:
    """Creates the topics that are missing, and returns their names. Blocks.

    Existing topics are left as they are. Returns once the broker's metadata has the new topics, or
    after TOPIC_VISIBLE_SECONDS.

    Raises KafkaException when the broker refuses one; `refusal` turns it into a message.
    """
    existing = admin.list_topics(timeout=ADMIN_REQUEST_SECONDS).topics
    missing = [topic for topic in wanted if topic.name not in existing]
    if not missing:
        return []
    new = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=topic.replicas,
            config=dict(topic.config),
        )
        for topic in missing
    ]
    created = []
    for name, future in admin.create_topics(new, request_timeout=ADMIN_REQUEST_SECONDS).items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            # Another process may have created it since.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    _wait_until_visible(admin, {topic.name for topic in missing})
    return created


def _wait_until_visible(admin: AdminClient, names: set[str]) -> None:
    """Waits for the topics to be in the metadata; `check` reports those that are still missing."""
    until = time.monotonic() + TOPIC_VISIBLE_SECONDS
    while names - admin.list_topics(timeout=ADMIN_REQUEST_SECONDS).topics.keys():
        if time.monotonic() > until:
            return
        time.sleep(TOPIC_VISIBLE_CHECK_SECONDS)


def topic_setting(admin: AdminClient, topic: str, name: str) -> str:
    """A topic's setting that is in force. Blocks. Raises KafkaException."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    answers = admin.describe_configs([resource], request_timeout=ADMIN_REQUEST_SECONDS)
    return str(answers[resource].result()[name].value)


REMEDIES = {
    KafkaError.INVALID_REPLICATION_FACTOR: (
        "set KAFKA_REPLICATION_FACTOR to no more than the brokers of the cluster "
        "(1 on a single one)"
    ),
    KafkaError.POLICY_VIOLATION: (
        "the cluster's own policy forbids it: ask the operators of the cluster, "
        "or have the topics created by hand"
    ),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (
        "grant our user Create, Describe and DescribeConfigs on the topics of KAFKA_TOPIC_PREFIX"
    ),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (
        "grant our user Create on the cluster, or on the topics of KAFKA_TOPIC_PREFIX"
    ),
}
"""By the code of the broker's refusal: what the operator can do."""


def refusal(error: KafkaException) -> str:
    """Why the broker refused to create or to describe topics, and what to do; for an operator."""
    fault: KafkaError = error.args[0]
    remedy = REMEDIES.get(fault.code(), "see what contactstream doctor finds")
    return f"the broker refuses: {fault.str()}\n{remedy}"


def check(admin: AdminClient, wanted: Sequence[Topic]) -> list[TopicFinding]:
    """Compares the topics with the broker's; returns what differs, each with its remedy. Blocks.

    Raises KafkaException when the broker does not answer.
    """
    existing = admin.list_topics(timeout=ADMIN_REQUEST_SECONDS).topics
    present = [topic for topic in wanted if topic.name in existing]
    resources = {ConfigResource(ResourceType.TOPIC, topic.name): topic for topic in present}
    answers = (
        admin.describe_configs(list(resources), request_timeout=ADMIN_REQUEST_SECONDS)
        if resources
        else {}
    )
    described = {resource.name: future.result() for resource, future in answers.items()}
    findings = []
    for topic in wanted:
        if topic.name not in existing:
            findings.append(
                TopicFinding(topic.name, "does not exist", "contactstream topics create")
            )
            continue
        config = {name: entry.value for name, entry in described[topic.name].items()}
        copies = [len(partition.replicas) for partition in existing[topic.name].partitions.values()]
        findings += compare(topic, copies, config)
    return findings


def compare(topic: Topic, copies: Sequence[int], config: Mapping[str, str]) -> list[TopicFinding]:
    """Compares a topic with the existing one of this name.

    `copies` are the numbers of replicas of the existing partitions. `config` is the configuration
    that is in force, of which a broker's own settings are a part.
    """
    findings = []
    if len(copies) != topic.partitions:
        findings.append(
            TopicFinding(
                topic.name,
                f"has {len(copies)} partitions instead of {topic.partitions}",
                _partitions_remedy(topic.partitions),
                stops_stages=True,
            )
        )
    fewest = min(copies, default=topic.replicas)
    if fewest < topic.replicas:
        findings.append(
            TopicFinding(
                topic.name,
                f"has {fewest} of {topic.replicas} copies",
                f"kafka-reassign-partitions with {topic.replicas} replicas for each of its "
                f"partitions, or set KAFKA_REPLICATION_FACTOR={fewest} if so many are meant",
            )
        )
    for name, value in topic.config.items():
        if name in config and not _as_wanted(name, config[name], value, fewest):
            findings.append(
                TopicFinding(
                    topic.name,
                    f"{name} is {config[name]} instead of "
                    f"{'at least ' if name == LIMIT else ''}{value}",
                    f"kafka-configs --alter --topic {topic.name} --add-config {name}={value}",
                )
            )
    return findings


def _partitions_remedy(wanted: int) -> str:
    if wanted == 1:
        return (
            "it must have one partition, and Kafka cannot take partitions away: stop the stages, "
            "start with a new KAFKA_TOPIC_PREFIX, and run contactstream backfill --all"
        )
    return (
        "never repartition a live topic: set KAFKA_EVENTS_PARTITIONS to what it has, "
        "or start with a new KAFKA_TOPIC_PREFIX"
    )


def _as_wanted(name: str, found: str, wanted: str, copies: int) -> bool:
    if name == LIMIT:
        return int(found) >= int(wanted)
    # More in-sync replicas are safer still. More than there are copies, and no record would ever be
    # acknowledged.
    if name == "min.insync.replicas":
        return int(wanted) <= int(found) <= copies or found == wanted
    return found == wanted
