"""Creates topics, compares existing ones with how they have to be, and changes their settings."""

import time
from collections.abc import Container, Iterable, Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from streams.kafka.topic_policy import Topic, TopicFinding, compare, missing

# One admin request. While the controller moves to another broker, an answer takes long.
ADMIN_REQUEST_SECONDS = 30.0

# Until a new topic is in the broker's metadata, or a changed setting in force; usually well below a
# second.
TOPIC_VISIBLE_SECONDS = 10.0

# Between two checks of that.
TOPIC_VISIBLE_CHECK_SECONDS = 0.05


def absent(admin: AdminClient, wanted: Iterable[Topic]) -> list[Topic]:
    """The topics that do not exist. Blocks. Raises KafkaException without an answer."""
    existing = admin.list_topics(timeout=ADMIN_REQUEST_SECONDS).topics
    return [topic for topic in wanted if topic.name not in existing]


def create(admin: AdminClient, wanted: Sequence[Topic]) -> list[str]:
    """Creates the topics that are missing, and returns their names. Blocks.

    Existing topics are left as they are. Returns once the broker's metadata has the new topics, or
    after TOPIC_VISIBLE_SECONDS.

    Raises KafkaException when the broker refuses one; `refusal` turns it into a message.
    """
    missing_topics = absent(admin, wanted)
    if not missing_topics:
        return []
    new = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=topic.replicas,
            config=dict(topic.config),
        )
        for topic in missing_topics
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
    _wait_until_visible(admin, {topic.name for topic in missing_topics})
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


def topic_settings(admin: AdminClient, topics: Iterable[str]) -> dict[str, dict[str, str]]:
    """By topic, every setting that is in force. Blocks. Raises KafkaException."""
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    answers = admin.describe_configs(resources, request_timeout=ADMIN_REQUEST_SECONDS)
    return {
        resource.name: {name: str(entry.value) for name, entry in answer.result().items()}
        for resource, answer in answers.items()
    }


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
        "grant our user Create, Describe and DescribeConfigs on the topics of KAFKA_TOPIC_PREFIX, "
        "and AlterConfigs for contactstream topics alter: contactstream topics acls topics "
        "--format commands"
    ),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (
        "grant our user Create on the cluster, or on the topics of KAFKA_TOPIC_PREFIX"
    ),
}
"""By the code of the broker's refusal: what the operator can do."""


def refusal(error: KafkaException) -> str:
    """Why the broker refused to create, describe or change topics, and what to do; for people."""
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
            findings.append(missing(topic))
            continue
        config = {name: entry.value for name, entry in described[topic.name].items()}
        copies = [len(partition.replicas) for partition in existing[topic.name].partitions.values()]
        findings += compare(topic, copies, config)
    return findings


def alter(admin: AdminClient, findings: Iterable[TopicFinding]) -> dict[str, KafkaException]:
    """Makes the changes of these findings; returns the topics whose changes are refused. Blocks.

    Kafka makes the changes of a topic together or not at all.
    """
    changes: dict[str, list[ConfigEntry]] = {}
    for finding in findings:
        if change := finding.change:
            entry = ConfigEntry(
                change.name, change.wanted, incremental_operation=AlterConfigOpType.SET
            )
            changes.setdefault(finding.topic, []).append(entry)
    if not changes:
        return {}
    resources = [
        ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        for topic, entries in changes.items()
    ]
    answers = admin.incremental_alter_configs(resources, request_timeout=ADMIN_REQUEST_SECONDS)
    refused = {}
    for resource, future in answers.items():
        try:
            future.result()
        except KafkaException as error:
            refused[str(resource.name)] = error
    return refused


def check_until_altered(
    admin: AdminClient, wanted: Sequence[Topic], refused: Container[str]
) -> list[TopicFinding]:
    """What still differs after `alter`, as `check` finds it. Blocks.

    A broker may answer with settings that are older than the change, because it hears of it from
    the controller. So it is asked until every change has been made, except those of the topics in
    `refused`, for up to TOPIC_VISIBLE_SECONDS.
    """
    until = time.monotonic() + TOPIC_VISIBLE_SECONDS
    while True:
        findings = check(admin, wanted)
        waiting = any(each.change and each.topic not in refused for each in findings)
        if not waiting or time.monotonic() > until:
            return findings
        time.sleep(TOPIC_VISIBLE_CHECK_SECONDS)
