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

pytestmark = [pytest.mark.kafka, pytest.mark.storm]  # each stage ends and starts several times

AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
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


def rule(kind: ResourceType, name: str, operation: AclOperation) -> dict[str, Any]:
    return {
        "restype": kind,
        "name": name,
        "resource_pattern_type": ResourcePatternType.LITERAL,
        "principal": USER,
        "host": "*",
        "operation": operation,
        "permission_type": AclPermissionType.DENY,
    }


def forbid(kafka: Kafka, **denied: Any) -> None:
    admin = kafka.admin()
    made = admin.create_acls([AclBinding(**denied)], request_timeout=REQUEST_SECONDS)
    for future in made.values():
        future.result()


def permit(kafka: Kafka, **denied: Any) -> None:
    admin = kafka.admin()
    gone = admin.delete_acls([AclBindingFilter(**denied)], request_timeout=REQUEST_SECONDS)
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


def test_a_stage_that_loses_a_permission_ends_and_goes_on_when_it_has_it_again(
    scenario: Scenario,
) -> None:
    """One broker for all: a start takes longer than what is tested."""
    ended: dict[str, int] = {}
    running = {stage: scenario.start(stage).wait_ready() for stage in ("dedupe", "sink")}
    versions = itertools.count(1)
    for what, (stage, kind, name, operation) in LOST.items():
        denied = rule(kind, scenario.kafka.name(name), operation)
        send(scenario, next(versions))
        scenario.wait_until_idle()
        forbid(scenario.kafka, **denied)
        send(scenario, next(versions))
        ended[what] = running[stage].popen.wait(ENDS_SECONDS)
        permit(scenario.kafka, **denied)
        running[stage] = scenario.start(stage).wait_ready()
    scenario.wait_until_idle()
    print(ended)
    assert ended == dict.fromkeys(LOST, ExitCode.KAFKA_REFUSED)
    verdict = scenario.verdict()
    assert verdict.good, verdict.examples
