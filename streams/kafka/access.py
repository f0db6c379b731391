"""What a process may do in a cluster with an authorizer: ACLs as plain data, and what is missing.

The operations have Kafka's names, as `kafka-acls.sh` and Strimzi's `KafkaUser` take them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AclOperation, AdminClient  # type: ignore[attr-defined]

from streams.kafka.security import librdkafka_security
from streams.runtime.logs import process_name
from streams.settings import KafkaSettings

ResourceKind = Literal["topic", "group", "transactional-id"]

# One request.
ACCESS_REQUEST_SECONDS = 5.0

# For the coordinator of a group and its answer. The client notes a refusal, and then waits until
# this is over. A refusal that comes later ends the process, which says so.
GROUP_REQUEST_SECONDS = 2.0

# More than one client ever holds.
ERRORS_AT_ONCE = 100

# Kafka grants Describe with each of these.
_IMPLY_DESCRIBE = {"Read", "Write", "Delete", "Alter"}

_OPERATIONS = {
    AclOperation.READ: "Read",
    AclOperation.WRITE: "Write",
    AclOperation.CREATE: "Create",
    AclOperation.DELETE: "Delete",
    AclOperation.ALTER: "Alter",
    AclOperation.DESCRIBE: "Describe",
    AclOperation.DESCRIBE_CONFIGS: "DescribeConfigs",
    AclOperation.ALTER_CONFIGS: "AlterConfigs",
}

DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
"""The codes by which a broker says that an operation is not allowed."""


@dataclass(frozen=True, slots=True)
class Acl:
    """Operations that a user may do with one topic, group or transactional ID."""

    kind: ResourceKind
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False
    """Whether `name` is the beginning of the names that are meant."""

    def covers(self, kind: ResourceKind, name: str) -> bool:
        """Whether it is about this resource."""
        return self.kind == kind and (
            name.startswith(self.name) if self.prefixed else name == self.name
        )


def principal(kafka: KafkaSettings) -> str:
    """Whom the broker takes us for, as far as the settings say it: `User:NAME`."""
    if kafka.uses_oauth:
        return f"User:{kafka.oauth_client_id}"
    if kafka.uses_sasl:
        return f"User:{kafka.sasl_username}"
    return "User:NAME_OF_OUR_CERTIFICATE" if kafka.ssl_certificate_location else "User:ANONYMOUS"


def grant_command(acl: Acl, user: str, bootstrap: str) -> str:
    """The command by which the operators of the cluster allow the operations.

    `user` is a principal, `User:NAME`.
    """
    operations = " ".join(f"--operation {operation}" for operation in acl.operations)
    pattern = " --resource-pattern-type prefixed" if acl.prefixed else ""
    return (
        f"kafka-acls.sh --bootstrap-server {bootstrap} --command-config admin.properties --add "
        f"--allow-principal '{user}' {operations} --{acl.kind} '{acl.name}'{pattern}"
    )


def missing_operations(acls: Iterable[Acl], allowed: Mapping[str, frozenset[str]]) -> list[Acl]:
    """What of the ACLs for topics is not allowed, as an ACL for each topic.

    `allowed` are the operations that may be done, by topic; other topics are not looked at.
    """
    wanted = list(acls)
    found = []
    for topic, operations in allowed.items():
        needed = [
            operation
            for acl in wanted
            if acl.covers("topic", topic)
            for operation in acl.operations
            if operation not in operations
        ]
        if needed:
            found.append(Acl("topic", topic, tuple(dict.fromkeys(needed))))
    return found


def explain_missing(missing: Sequence[Acl], kafka: KafkaSettings) -> str:
    """What is missing, and the commands that grant it; for an operator."""
    what = "; ".join(
        f"{' and '.join(each.operations)} on the {each.kind} {each.name}" for each in missing
    )
    commands = "; ".join(
        grant_command(each, principal(kafka), kafka.bootstrap_servers) for each in missing
    )
    return f"our user {principal(kafka)} is not allowed: {what}. Grant it: {commands}"


def allowed_operations(admin: AdminClient, topics: Iterable[str]) -> dict[str, frozenset[str]]:
    """What the client's user may do with each topic that exists.

    Without Describe the broker does not say whether a topic exists; nothing is allowed then. A
    broker without an authorizer allows everything. One that does not know the question says
    nothing; such topics are left out. Blocks. Raises KafkaException when no broker answers.
    """
    asked = TopicCollection(list(topics))
    answers = admin.describe_topics(
        asked, include_authorized_operations=True, request_timeout=ACCESS_REQUEST_SECONDS
    )
    allowed = {}
    for topic, future in answers.items():
        try:
            operations = future.result().authorized_operations
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                allowed[topic] = frozenset[str]()
            elif error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            continue
        if operations:
            known = {_OPERATIONS[each] for each in operations if each in _OPERATIONS}
            allowed[topic] = frozenset(known | ({"Describe"} if known & _IMPLY_DESCRIBE else set()))
    return allowed


def denied_group(kafka: KafkaSettings, acl: Acl) -> bool:
    """Whether the broker refuses the group of an ACL, or the first one that begins with its name.

    False while nothing is known: without a coordinator, and without an answer within
    GROUP_REQUEST_SECONDS. Blocks.
    """
    consumer = Consumer(
        librdkafka_security(kafka)
        | {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": acl.name,
            "enable.auto.commit": False,
            "log_level": 0,
            "error_cb": lambda _: None,
        }
    )
    try:
        # Any partition: the broker looks at the group first.
        consumer.committed([TopicPartition(acl.name, 0)], timeout=GROUP_REQUEST_SECONDS)
    except KafkaException:
        errors = (message.error() for message in consumer.consume(ERRORS_AT_ONCE, 0))
        return any(error is not None and is_denied(error) for error in errors)
    finally:
        consumer.close()
    return False


def acls_command() -> str:
    """The command that prints what this process needs."""
    role = "operator" if process_name() == "command" else process_name()
    return f"contactstream topics acls {role} --format commands"


def named_denial(error: KafkaError, topic: str = "") -> KafkaError:
    """The same error, with the topic in its text and the command that shows what is needed.

    Other errors than refusals are returned as they are.
    """
    if not is_denied(error):
        return error
    where = f"{topic}: " if topic and topic not in error.str() else ""
    text = f"{where}{error.str()}; our user needs what this prints: {acls_command()}"
    return KafkaError(error.code(), text, fatal=error.fatal())


def is_denied(error: KafkaError) -> bool:
    """Whether the broker says that an operation is not allowed."""
    return error.code() in DENIED
