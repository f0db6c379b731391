"""Creates the topics and checks them against their policies."""

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

REQUEST_SECONDS = 30.0  # one admin request: a controller that moves takes its time to answer again


VISIBLE_SECONDS = 10.0  # a new topic reaches every broker's metadata within moments


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it has to be. `config` names only what the policy depends on; the cluster's
    defaults decide the rest.
    """

    name: str
    partitions: int
    config: Mapping[str, str]
    replicas: int


@dataclass(frozen=True, slots=True)
class TopicFinding:
    """A topic that is not as it has to be, and what to do."""

    topic: str
    problem: str
    remedy: str


def create(admin: AdminClient, wanted: Sequence[Topic]) -> list[str]:
    """Creates what is missing, waits until the broker tells of all, and returns the names. Existing
    topics are left as they are.

    Raises KafkaException when the broker refuses one; `refusal` says why, and what to do.
    """
    existing = admin.list_topics(timeout=REQUEST_SECONDS).topics
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
    for name, future in admin.create_topics(new, request_timeout=REQUEST_SECONDS).items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            if (
                error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS
            ):  # another process was faster
                raise
    until = time.monotonic() + VISIBLE_SECONDS
    while {topic.name for topic in missing} - admin.list_topics(
        timeout=REQUEST_SECONDS
    ).topics.keys():
        if time.monotonic() > until:
            break  # `check` says what is still missing
        time.sleep(0.05)
    return created


REMEDIES = {
    KafkaError.INVALID_REPLICATION_FACTOR: "set KAFKA_REPLICATION_FACTOR to no more than the brokers of the cluster (1 on a single one)",
    KafkaError.POLICY_VIOLATION: "the cluster's own policy says so: ask who runs it, or have the topics made by hand",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant our user Create, Describe and DescribeConfigs on the topics of KAFKA_TOPIC_PREFIX",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant our user Create on the cluster, or on the topics of KAFKA_TOPIC_PREFIX",
}


def refusal(error: KafkaException) -> str:
    """Why the broker refuses to create or to describe topics, and what to do; for a person."""
    fault: KafkaError = error.args[0]
    return f"the broker refuses: {fault.str()}\n{REMEDIES.get(fault.code(), 'see what contactstream doctor finds')}"


def check(admin: AdminClient, wanted: Sequence[Topic]) -> list[TopicFinding]:
    """What differs from the policies, each with its remedy. Raises KafkaException when the broker
    does not answer.
    """
    existing = admin.list_topics(timeout=REQUEST_SECONDS).topics
    present = [topic for topic in wanted if topic.name in existing]
    resources = {ConfigResource(ResourceType.TOPIC, topic.name): topic for topic in present}
    answers = (
        admin.describe_configs(list(resources), request_timeout=REQUEST_SECONDS)
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
    """What of a topic that exists is not as it has to be: `copies` are the replicas of each
    partition, `config` is the broker's.
    """
    findings = []
    if len(copies) != topic.partitions:
        findings.append(
            TopicFinding(
                topic.name,
                f"has {len(copies)} partitions instead of {topic.partitions}",
                "never repartition a live topic: set KAFKA_EVENTS_PARTITIONS to what it has, or start with a new KAFKA_TOPIC_PREFIX",
            )
        )
    fewest = min(copies, default=topic.replicas)
    if fewest < topic.replicas:
        findings.append(
            TopicFinding(
                topic.name,
                f"has {fewest} of {topic.replicas} copies",
                f"kafka-reassign-partitions with {topic.replicas} replicas for each of its partitions, "
                f"or set KAFKA_REPLICATION_FACTOR={fewest} if so many are meant",
            )
        )
    for name, value in topic.config.items():
        if name in config and not _as_wanted(name, config[name], value, fewest):
            findings.append(
                TopicFinding(
                    topic.name,
                    f"{name} is {config[name]} instead of {value}",
                    f"kafka-configs --alter --topic {topic.name} --add-config {name}={value}",
                )
            )
    return findings


def _as_wanted(name: str, found: str, wanted: str, copies: int) -> bool:
    if (
        name == "min.insync.replicas"
    ):  # more is safer still, up to where no record could ever be acknowledged
        return int(wanted) <= int(found) <= copies or found == wanted
    return found == wanted
