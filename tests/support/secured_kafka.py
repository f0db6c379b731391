"""A Kafka broker with TLS, every kind of login, and the authorizer, for a test module."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from deploy.local.broker import Broker, Node, free_ports
from streams.kafka.access import Acl
from tests.support.certificates import Authority
from tests.support.kafka import REQUEST_SECONDS
from tests.support.token_server import AUDIENCE, ISSUER, SECRET, TokenServer
from tests.support.waiting import wait_until

Login = Literal["PLAIN", "SCRAM", "OAUTHBEARER", "MTLS"]
LOGINS: tuple[Login, ...] = ("PLAIN", "SCRAM", "OAUTHBEARER", "MTLS")

PASSWORD = "password-of-every-user"
KEY_PASSWORD = "password-of-every-key"
SCRAM_ITERATIONS = 4096

# Above 0 the broker closes connections whose token expired, and at the latest after this.
REAUTHENTICATE_MS = 3_600_000

_KAFKA_SECURITY = "org.apache.kafka.common.security"


class KafkaUsers:
    """The users of a broker, and what they may do."""

    def __init__(self, direct: str) -> None:
        self._direct = direct

    @property
    def direct(self) -> str:
        """The address of a listener that wants no login, and allows everything."""
        return self._direct

    def admin(self) -> AdminClient:
        """A client that may do everything."""
        return AdminClient({"bootstrap.servers": self.direct, "log_level": 3})

    def add_scram_user(self, user: str, password: str = PASSWORD) -> None:
        """Creates a user for SCRAM, or gives it another password."""
        how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, SCRAM_ITERATIONS)
        change = UserScramCredentialUpsertion(user, how, password.encode())
        admin = self.admin()
        for future in admin.alter_user_scram_credentials([change]).values():
            future.result(REQUEST_SECONDS)

    def delete_acls(self, user: str) -> None:
        """Takes everything away from a user."""
        admin = self.admin()
        for future in admin.delete_acls([_everything(user)]).values():
            future.result(REQUEST_SECONDS)
        wait_until(lambda: not self._allowed(user), "the broker has dropped the ACLs")

    def _allowed(self, user: str) -> "set[AclKey]":
        """What the broker's authorizer has for a user now: later than the controller took it."""
        admin = self.admin()
        return _keys(admin.describe_acls(_everything(user)).result(REQUEST_SECONDS))

    def revoke(self, user: str, acl: Acl) -> None:
        """Takes back what one ACL allows a user."""
        anything: Any = None
        wanted = [
            AclBindingFilter(
                each.restype,
                each.name,
                each.resource_pattern_type,
                each.principal,
                anything,
                each.operation,
                AclPermissionType.ANY,
            )
            for each in _bindings(acl, user)
        ]
        admin = self.admin()
        for future in admin.delete_acls(wanted).values():
            future.result(REQUEST_SECONDS)
        gone = _keys(_bindings(acl, user))
        wait_until(lambda: not gone & self._allowed(user), "the broker has dropped the ACLs")

    def grant(self, user: str, acls: Iterable[Acl]) -> None:
        """Allows a user these operations."""
        admin, wanted = self.admin(), [each for acl in acls for each in _bindings(acl, user)]
        answers = admin.create_acls(wanted)
        for future in answers.values():
            future.result(REQUEST_SECONDS)
        wait_until(lambda: _keys(wanted) <= self._allowed(user), "the broker has the ACLs")


@dataclass(frozen=True)
class SecuredKafka(KafkaUsers):
    """A running broker whose listeners all want a login, but for the one of the test itself."""

    broker: Broker
    ports: Mapping[Login, int]
    authority: Authority
    tokens: TokenServer

    @property
    def direct(self) -> str:
        """The address of the test's own listener."""
        return self.broker.direct

    def bootstrap(self, login: Login) -> str:
        """The address of the listener for a kind of login."""
        return f"127.0.0.1:{self.ports[login]}"

    def environ(self, login: Login, user: str) -> dict[str, str]:
        """The settings by which a user logs in."""
        common = {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap(login),
            "KAFKA_SSL_CA_LOCATION": str(self.authority.file),
            "KAFKA_SECURITY_PROTOCOL": "SSL" if login == "MTLS" else "SASL_SSL",
            "KAFKA_REPLICATION_FACTOR": "1",
        }
        if login == "MTLS":
            issued = self.authority.issue(user, key_password=KEY_PASSWORD)
            return common | {
                "KAFKA_SSL_CERTIFICATE_LOCATION": str(issued.certificate),
                "KAFKA_SSL_KEY_LOCATION": str(issued.key),
                "KAFKA_SSL_KEY_PASSWORD": KEY_PASSWORD,
            }
        if login == "OAUTHBEARER":
            return common | {
                "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
                "KAFKA_OAUTH_TOKEN_ENDPOINT_URL": self.tokens.url,
                "KAFKA_OAUTH_CLIENT_ID": user,
                "KAFKA_OAUTH_CLIENT_SECRET": SECRET,
                "KAFKA_OAUTH_SCOPE": "kafka",
                "KAFKA_OAUTH_CA_LOCATION": str(self.authority.file),
            }
        return common | {
            "KAFKA_SASL_MECHANISM": "PLAIN" if login == "PLAIN" else "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD": PASSWORD,
        }


def _settings(
    node: Node,
    ports: Mapping[Login, int],
    folder: Path,
    users: Iterable[str],
) -> dict[str, str]:
    listeners: dict[str, int] = {
        "PLAINTEXT": node.port,
        "DIRECT": node.direct_port,
        "CONTROLLER": node.controller_port,
    } | {str(login): port for login, port in ports.items()}
    protocols = {
        name: "SSL" if name == "MTLS" else "SASL_SSL" if name in ports else "PLAINTEXT"
        for name in listeners
    }
    advertised: dict[str, int] = {
        name: port for name, port in listeners.items() if name != "CONTROLLER"
    }
    passwords = " ".join(f'user_{user}="{PASSWORD}"' for user in users)
    oauth = "listener.name.oauthbearer"
    return {
        "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items()),
        "advertised.listeners": ",".join(
            f"{name}://127.0.0.1:{port}" for name, port in advertised.items()
        ),
        "listener.security.protocol.map": ",".join(
            f"{name}:{protocol}" for name, protocol in protocols.items()
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.mtls.ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^CN=(.*?)$/$1/",
        "listener.name.plain.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.plain.plain.sasl.jaas.config": (
            f"{_KAFKA_SECURITY}.plain.PlainLoginModule required {passwords};"
        ),
        "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": (
            f"{_KAFKA_SECURITY}.scram.ScramLoginModule required;"
        ),
        f"{oauth}.sasl.enabled.mechanisms": "OAUTHBEARER",
        f"{oauth}.oauthbearer.sasl.jaas.config": (
            f"{_KAFKA_SECURITY}.oauthbearer.OAuthBearerLoginModule required;"
        ),
        f"{oauth}.oauthbearer.sasl.server.callback.handler.class": (
            f"{_KAFKA_SECURITY}.oauthbearer.OAuthBearerValidatorCallbackHandler"
        ),
        f"{oauth}.oauthbearer.connections.max.reauth.ms": str(REAUTHENTICATE_MS),
        f"{oauth}.sasl.oauthbearer.jwks.endpoint.url": (folder / "jwks.json").as_uri(),
        f"{oauth}.sasl.oauthbearer.expected.audience": AUDIENCE,
        f"{oauth}.sasl.oauthbearer.expected.issuer": ISSUER,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        # Who uses the listeners without a login: the broker itself, and the test.
        "super.users": "User:ANONYMOUS",
    }


AclKey = tuple[str, str, str, str]
"""The kind and the name of a resource, how the name is meant, and the operation."""


def _keys(bindings: Iterable[Any]) -> set[AclKey]:
    return {
        (each.restype.name, each.name, each.resource_pattern_type.name, each.operation.name)
        for each in bindings
    }


def _everything(user: str) -> AclBindingFilter:
    """Matches every ACL of a user."""
    anything: Any = None
    return AclBindingFilter(
        ResourceType.ANY,
        anything,
        ResourcePatternType.ANY,
        f"User:{user}",
        anything,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )


def _bindings(acl: Acl, user: str) -> Iterator[AclBinding]:
    kinds = {
        "topic": ResourceType.TOPIC,
        "group": ResourceType.GROUP,
        "transactional-id": ResourceType.TRANSACTIONAL_ID,
    }
    pattern = ResourcePatternType.PREFIXED if acl.prefixed else ResourcePatternType.LITERAL
    for operation in acl.operations:
        name = "".join(f"_{letter}" if letter.isupper() else letter for letter in operation)
        yield AclBinding(
            kinds[acl.kind],
            acl.name,
            pattern,
            f"User:{user}",
            "*",
            AclOperation[name.lstrip("_").upper()],
            AclPermissionType.ALLOW,
        )


@contextmanager
def secured_kafka(folder: Path, users: Iterable[str]) -> Iterator[SecuredKafka]:
    """Starts the broker; stops it at the end of the block.

    `users` are those of PLAIN. The users of SCRAM are added later; certificates and tokens name any
    user. The broker closes a connection by OAUTHBEARER when the token of its login expires.
    """
    authority = Authority(folder)
    own = authority.issue("broker")
    (folder / "broker.pem").write_bytes(own.key.read_bytes() + own.certificate.read_bytes())
    port, direct, controller, *listening = free_ports(3 + len(LOGINS))
    ports = dict(zip(LOGINS, listening, strict=True))
    node = Node(1, port, port, direct, controller)
    with TokenServer(authority.issue("issuer")) as tokens:
        tokens.write_keys(folder / "jwks.json")
        broker = Broker(
            node,
            [node],
            folder / "broker",
            _settings(node, ports, folder, users),
            "512m",
            [
                "-Dorg.apache.kafka.sasl.oauthbearer.allowed.files=" + str(folder / "jwks.json"),
                "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls="
                + (folder / "jwks.json").as_uri(),
            ],
        )
        try:
            broker.start()
            yield SecuredKafka(broker, ports, authority, tokens)
        finally:
            broker.kill()
