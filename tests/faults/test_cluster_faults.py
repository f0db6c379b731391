"""Faults of a cluster of three brokers that a storm cannot make good.

An unclean election gives up what only the dead leader had, and that includes acknowledged events.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from deploy.local.broker import Cluster, start_cluster
from streams.runtime.exit_codes import ExitCode
from tests.faults.harness.cluster_requests import Election, elect
from tests.faults.harness.scenario import Scenario, event
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.processes import Processes
from tests.support.waiting import wait_until

# A cluster takes long to start.
pytestmark = [pytest.mark.kafka, pytest.mark.storm, pytest.mark.timeout(900)]

CONTACTS = 50
# Brokers stop and start for longer than a usual session; the worker stays in its group.
SESSION_SECONDS = 90.0
# A start of a broker on shared cores, and the quorum's election.
ELECTED_SECONDS = 90.0
# Two looks at the log, ten seconds apart.
ENDS_SECONDS = 90.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = start_cluster(3, tmp_path / "broker")
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def scenario(cluster: Cluster, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    kafka = Kafka(cluster.bootstrap, "t.", replication_factor=3)
    with Scenario(kafka, processes, tmp_path) as one:
        yield one.set_up(org=False)


def keep_events_on_two_brokers(kafka: Kafka) -> str:
    """contacts.events anew, on the brokers 1 and 2, which take events without each other."""
    admin, name = kafka.admin(), kafka.name("contacts.events")
    for future in admin.delete_topics([name], request_timeout=REQUEST_SECONDS).values():
        future.result()
    new = NewTopic(
        name, num_partitions=1, replica_assignment=[[1, 2]], config={"min.insync.replicas": "1"}
    )

    def created() -> bool:
        (future,) = admin.create_topics([new], request_timeout=REQUEST_SECONDS).values()
        return future.exception() is None

    wait_until(created, "contacts.events is created anew", ELECTED_SECONDS)
    return name


def send(scenario: Scenario, version: int) -> None:
    scenario.send([event(number, version, f"v{version}") for number in range(CONTACTS)])


def test_events_that_an_unclean_election_gives_up_stop_dedupe(
    cluster: Cluster, scenario: Scenario
) -> None:
    one, two, _ = cluster.brokers
    name = keep_events_on_two_brokers(scenario.kafka)
    admin = scenario.kafka.admin()

    def partition() -> tuple[int, list[int]]:
        """The leader of contacts.events, and the replicas in sync."""
        found = admin.list_topics(name, timeout=REQUEST_SECONDS).topics[name].partitions[0]
        return found.leader, list(found.isrs)

    worker = scenario.start("dedupe", session=SESSION_SECONDS).wait_ready()
    send(scenario, 1)
    scenario.wait_committed("dedupe", "contacts.events", CONTACTS)
    two.kill()
    wait_until(lambda: partition() == (1, [1]), "only broker 1 has events", ELECTED_SECONDS)
    send(scenario, 2)
    scenario.wait_committed("dedupe", "contacts.events", 2 * CONTACTS)
    one.kill()
    two.start()
    # The policy of the topics: no broker that lacks acknowledged events becomes the leader.
    wait_until(lambda: partition()[0] == -1, "contacts.events has no leader", ELECTED_SECONDS)
    assert worker.exit_code is None
    asyncio.run(elect(cluster.bootstrap, Election.UNCLEAN, [(name, 0)]))
    wait_until(lambda: partition()[0] == 2, "broker 2 leads", ELECTED_SECONDS)
    assert worker.popen.wait(ENDS_SECONDS) == ExitCode.OFFSET_OUT_OF_RANGE
    assert "lost its end" in worker.log
    assert "contactstream reconcile --all" in worker.log
