"""Every stage on a Kafka with TLS, a login and the authorizer, allowed exactly what it needs."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from streams.acls import role_acls
from streams.kafka.access import Acl
from streams.kafka.admin import create
from streams.kafka.clients import BrokerUnavailable, wait_for_broker
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.kafka import Kafka
from tests.support.product import GRANT, person, product, updated
from tests.support.secured_kafka import Login, SecuredKafka, secured_kafka
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

STAGES = ("bridge", "reader", "dedupe", "sink")
USERS = (*STAGES, "console", "operator", "topics")
NOW = 1_790_000_000


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One broker for all tests of this module."""
    with secured_kafka(tmp_path_factory.mktemp("secured"), USERS) as running:
        for user in USERS:
            running.add_scram_user(user)
        yield running


@dataclass(frozen=True, slots=True)
class Deployment:
    """A topic prefix of a test, and users that are named as their roles."""

    secured: SecuredKafka
    kafka: Kafka
    """For the test itself, which may do everything."""

    @property
    def settings(self) -> KafkaSettings:
        return load(KafkaSettings, self.kafka.environ)

    def environ(self, login: Login, role: str) -> dict[str, str]:
        """The settings by which a role logs in."""
        return self.secured.environ(login, role) | {"KAFKA_TOPIC_PREFIX": self.kafka.prefix}

    def grant(self, *roles: str) -> None:
        """Allows each role what it needs, and nothing else."""
        for role in roles:
            self.secured.delete_acls(role)
            self.secured.grant(role, role_acls(self.settings, role))


@pytest.fixture
def deployment(secured: SecuredKafka) -> Iterator[Deployment]:
    """A deployment of its own for each test; its topics are deleted at the end."""
    kafka = Kafka(secured.broker.direct, f"t{uuid.uuid4().hex[:8]}.")
    yield Deployment(secured, kafka)
    kafka.delete_all()
    for user in USERS:
        secured.delete_acls(user)


def test_a_notification_reaches_the_org_by_scram_over_tls_with_exactly_the_acls_of_each_stage(
    deployment: Deployment, tmp_path: Path
) -> None:
    deployment.grant(*STAGES)
    grants = [{"id": GRANT, "email": "rep@our-team.example", "contacts": [person("b", "b@x.de")]}]
    with product(
        deployment.kafka,
        tmp_path,
        org={},
        grants=grants,
        stage_environ={stage: deployment.environ("SCRAM", stage) for stage in STAGES},
    ) as running:
        running.notify([updated(person("a", "ada@engines.example"), NOW, "n1")])
        assert running.outcome("a", NOW)["outcome"] == "created"
        for stage in running.stages.values():
            assert "uthorization" not in stage.log
            assert stage.stop() == 0


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_lacks_one_operation_on_a_topic_says_which_and_how_to_grant_it(
    deployment: Deployment, stage: str
) -> None:
    create(deployment.kafka.admin(), topics(deployment.settings).all())
    kafka = load(KafkaSettings, deployment.environ("SCRAM", stage))
    needed = role_acls(kafka, stage)
    names = [topic.name for topic in topics(kafka).all() if _covered(needed, topic.name)]
    tried = 0
    for acl in needed:
        for operation in acl.operations if acl.kind == "topic" else ():
            deployment.secured.delete_acls(stage)
            deployment.secured.grant(stage, _without(needed, acl, operation))
            said = wait_until(lambda: _what_is_missing(kafka, names, needed), "a refusal")
            topic = next(name for name in names if acl.covers("topic", name))
            assert f"{operation} on the topic {topic}" in said or (
                f"{operation} and " in said and f" on the topic {topic}" in said
            )
            assert f"--allow-principal 'User:{stage}'" in said
            tried += 1
    deployment.grant(stage)
    wait_until(lambda: not _what_is_missing(kafka, names, needed), "everything is allowed")
    assert tried >= 8


def _covered(acls: list[Acl], topic: str) -> bool:
    return any(acl.covers("topic", topic) for acl in acls)


def _without(acls: list[Acl], which: Acl, operation: str) -> list[Acl]:
    """The ACLs without one operation of one of them."""
    return [
        replace(acl, operations=tuple(each for each in acl.operations if each != operation))
        if acl == which
        else acl
        for acl in acls
    ]


def _what_is_missing(kafka: KafkaSettings, names: list[str], needed: list[Acl]) -> str:
    """What a stage with these settings waits for at its start; empty when it goes on."""
    reasons: list[str] = []
    try:
        wait_for_broker(
            kafka, names, stopped=lambda: False, waiting=reasons.append, deadline=0.0, needs=needed
        )
    except BrokerUnavailable as error:
        return str(error)
    return ""
