"""An operator takes a permission away while the stages run: none hangs, and nothing is lost.

The broker's only user is anonymous. It may do everything that no rule forbids.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from deploy.local.broker import Broker, make_broker
from streams.runtime.exit_codes import ExitCode
from tests.faults.harness.scenario import Scenario, event
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.processes import Processes

# Each stage ends and starts several times.
pytestmark = [pytest.mark.kafka, pytest.mark.storm, pytest.mark.timeout(900)]

AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
REFUSED = "authorization"
"""In the name of each error that a client has for it."""
USER = "User:ANONYMOUS"
CONTACTS = 20
# The producer's delivery time-out, and the loop that notices it.
ENDS_SECONDS = 60.0


@pytest.fixture
def guarded_broker(tmp_path: Path) -> Iterator[Broker]:
    broker = make_broker(tmp_path / "broker", settings=AUTHORIZER)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@pytest.fixture
def scenario(guarded_broker: Broker, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(Kafka(guarded_broker.direct, "t."), processes, tmp_path) as one:
        yield one.set_up()


def send(scenario: Scenario, version: int) -> None:
    scenario.send([event(number, version, f"v{version}") for number in range(CONTACTS)])


def rule(
    kind: ResourceType, name: str, operation: AclOperation, permission: AclPermissionType
) -> dict[str, Any]:
    return {
        "restype": kind,
        "name": name,
        "resource_pattern_type": ResourcePatternType.LITERAL,
        "principal": USER,
        "host": "*",
        "operation": operation,
        "permission_type": permission,
    }


def add(kafka: Kafka, **made_of: Any) -> None:
    admin = kafka.admin()
    made = admin.create_acls([AclBinding(**made_of)], request_timeout=REQUEST_SECONDS)
    for future in made.values():
        future.result()


def remove(kafka: Kafka, **made_of: Any) -> None:
    admin = kafka.admin()
    gone = admin.delete_acls([AclBindingFilter(**made_of)], request_timeout=REQUEST_SECONDS)
    for future in gone.values():
        future.result()


LOST = {
    "dedupe, reading events": ("dedupe", ResourceType.TOPIC, "contacts.events", AclOperation.READ),
    "dedupe, writing changes": (
        "dedupe",
        ResourceType.TOPIC,
        "contacts.changes",
        AclOperation.WRITE,
    ),
    "dedupe, its group": ("dedupe", ResourceType.GROUP, "contactstream-dedupe", AclOperation.READ),
    "sink, reading changes": ("sink", ResourceType.TOPIC, "contacts.changes", AclOperation.READ),
    "sink, writing outcomes": (
        "sink",
        ResourceType.TOPIC,
        "contacts.outcomes",
        AclOperation.WRITE,
    ),
    "sink, its group": ("sink", ResourceType.GROUP, "contactstream-sink", AclOperation.READ),
}


ENDINGS = {
    "dedupe": {ExitCode.CRASHED, ExitCode.NOT_ACKNOWLEDGED, ExitCode.KAFKA_REFUSED},
    "sink": {ExitCode.KAFKA_REFUSED},
}


def test_a_stage_that_loses_a_permission_says_so_and_loses_nothing(scenario: Scenario) -> None:
    """One broker for all: a start takes longer than what is tested."""
    for kind in (ResourceType.TOPIC, ResourceType.GROUP):  # a rule ends the permission of the rest
        add(scenario.kafka, **rule(kind, "*", AclOperation.ALL, AclPermissionType.ALLOW))
    running = {stage: scenario.start(stage).wait_ready() for stage in ("dedupe", "sink")}
    versions = itertools.count(1)
    for what, (stage, kind, name, operation) in LOST.items():
        denied = rule(kind, scenario.kafka.name(name), operation, AclPermissionType.DENY)
        send(scenario, next(versions))
        scenario.wait_until_idle()
        process = running[stage]
        add(scenario.kafka, **denied)
        send(scenario, next(versions))
        code = process.popen.wait(ENDS_SECONDS)
        print(f"{what}: ended with {code}")
        assert code in ENDINGS[stage], process.log[-3000:]
        assert REFUSED in process.log.lower()
        running[stage] = scenario.start(stage)
        remove(scenario.kafka, **denied)
    scenario.wait_until_idle()
    verdict = scenario.verdict()
    assert verdict.good, verdict.examples
