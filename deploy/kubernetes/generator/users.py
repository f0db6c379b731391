"""The users of Kafka with their ACLs, as objects of Strimzi's user operator."""

from deploy.kubernetes.generator.manifests import Manifest, parse
from deploy.kubernetes.generator.topics import CLUSTER
from streams.commands.acls import Users, strimzi_lines
from streams.settings import KafkaSettings, load

# The topic operator makes the topics, so that no user of ours has to.
ROLES = ("bridge", "dedupe", "reader", "sink", "console", "operator")

USERS = Users(prefix="contactstream-kafka-", cluster=CLUSTER, authentication="tls")
"""The Secret of a user has its name, and is the one that the pods of its role mount."""


def kafka_users() -> list[Manifest]:
    """A KafkaUser for each role, with the least ACLs and without a topic prefix."""
    users = parse("\n".join(strimzi_lines(load(KafkaSettings, {}), ROLES, USERS)))
    for user in users:
        user["metadata"]["labels"]["app.kubernetes.io/name"] = "contactstream"
    return users
