"""Gives the Kafka of the cluster TLS, logins by SCRAM and the authorizer, as production has them.

Each process logs in as the user that the page makes for it, with exactly its ACLs.
"""

from collections.abc import Mapping
from pathlib import Path

from confluent_kafka.admin import AdminClient

from streams.acls import ROLES, role_acls
from streams.settings import KafkaSettings, load
from tests.cluster.kubectl import Namespace, until
from tests.cluster.traffic import TESTS_PORT
from tests.support.certificates import Authority
from tests.support.secured_kafka import KafkaUsers

# The users that the page makes.
LOGIN_ROLES = ("bridge", "dedupe", "reader", "sink", "console", "operator", "topics")
assert set(LOGIN_ROLES) <= set(ROLES)

TLS_SECRET = "contactstream-kafka-tls"
_TLS_FOLDER = "/run/secrets/kafka-tls"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


def user_of(role: str) -> str:
    """The user of a role, as the page names it."""
    return f"contactstream-{role}"


def tls_files(folder: Path) -> tuple[str, dict[str, str]]:
    """The certificate of the CA, and the Secret's values of a broker with a certificate by it."""
    authority = Authority(folder)
    issued = authority.issue("broker", hosts=("contactstream-kafka",))
    # The private key first: Kafka reads both out of one file.
    broker = issued.key.read_text() + issued.certificate.read_text()
    ca = authority.file.read_text()
    return ca, {"broker.pem": broker, "ca.pem": ca}


def listener_patch() -> dict[str, object]:
    """A patch of the StatefulSet of Kafka: a login and TLS on its port, none for the tests."""
    environ = {
        "KAFKA_LISTENERS": "SASL_SSL://:9092,CONTROLLER://localhost:9093,"
        f"INTERNAL://localhost:9094,TESTS://:{TESTS_PORT}",
        "KAFKA_ADVERTISED_LISTENERS": "SASL_SSL://contactstream-kafka:9092,"
        f"INTERNAL://localhost:9094,TESTS://$(POD_IP):{TESTS_PORT}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,"
        "INTERNAL:PLAINTEXT,TESTS:PLAINTEXT",
        "KAFKA_SSL_KEYSTORE_TYPE": "PEM",
        "KAFKA_SSL_KEYSTORE_LOCATION": f"{_TLS_FOLDER}/broker.pem",
        "KAFKA_SSL_TRUSTSTORE_TYPE": "PEM",
        "KAFKA_SSL_TRUSTSTORE_LOCATION": f"{_TLS_FOLDER}/ca.pem",
        # In such a variable two underscores stand for one, and three for a hyphen.
        "KAFKA_LISTENER_NAME_SASL__SSL_SASL_ENABLED_MECHANISMS": "SCRAM-SHA-512",
        "KAFKA_LISTENER_NAME_SASL__SSL_SCRAM___SHA___512_SASL_JAAS_CONFIG": _SCRAM,
        "KAFKA_AUTHORIZER_CLASS_NAME": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND": "false",
        # Who uses the listeners without a login: the broker itself, and the tests.
        "KAFKA_SUPER_USERS": "User:ANONYMOUS",
    }
    pod_ip = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    container = {
        "name": "kafka",
        "env": [pod_ip, *({"name": name, "value": value} for name, value in environ.items())],
        "volumeMounts": [{"name": "tls", "mountPath": _TLS_FOLDER, "readOnly": True}],
    }
    tls = {"name": "tls", "secret": {"secretName": TLS_SECRET, "defaultMode": 0o440}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "contactstream-kafka"},
        "spec": {"template": {"spec": {"containers": [container], "volumes": [tls]}}},
    }


def users(namespace: Namespace) -> KafkaUsers:
    """Who may log in at the Kafka of the cluster, once it answers."""

    def address() -> str:
        pod = namespace.get("pod", namespace.pod("kafka"))
        return f"{pod['status']['podIP']}:{TESTS_PORT}"

    def answers() -> bool:
        found = AdminClient({"bootstrap.servers": address(), "log_level": 0})
        return bool(found.list_topics(timeout=5.0).brokers)

    until(answers, "Kafka answers")
    return KafkaUsers(address())


def make_users(namespace: Namespace, passwords: Mapping[str, str]) -> None:
    """Makes the user of each role, with its password and exactly its ACLs."""
    kafka = load(KafkaSettings, {})
    found = users(namespace)
    for role, password in passwords.items():
        found.add_scram_user(user_of(role), password)
        found.grant(user_of(role), role_acls(kafka, role))
