"""Each broker of a cluster of three is killed in turn, with Kafka's default time-outs.

The partitions that it leads have no leader until the controller has missed its heartbeats for 9 s
(`broker.session.timeout.ms`), and the groups have no coordinator. A worker of dedupe may not
publish for so long without a heartbeat, so it has to wait and go on.
"""

import threading
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from deploy.local.broker import start_cluster
from tests.faults.harness.scenario import Scenario, event
from tests.support.kafka import Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.storm, pytest.mark.timeout(600)]

NODES = 3
# Kafka's default; the brokers of the other tests are noticed sooner.
BROKER_SESSION_MS = "9000"
# Between two events: a batch is in flight whenever a broker is killed.
EVENT_SECONDS = 0.2
# Until everything that was sent is committed: the election, and what the machine adds.
RECOVERY_SECONDS = 90.0


class Load:
    """Sends events until it is stopped, with a producer that waits for any election."""

    def __init__(self, kafka: Kafka) -> None:
        self._topic = kafka.name("contacts.events")
        self._producer = Producer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "log_level": 0,
            }
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = self.acknowledged = 0

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the load, and waits until everything is acknowledged."""
        self._stopping.set()
        self._thread.join()
        assert self._producer.flush(RECOVERY_SECONDS) == 0

    def _run(self) -> None:
        while not self._stopping.wait(EVENT_SECONDS):
            self.sent += 1
            key, value = event(self.sent, 1, "first")
            headers: list[tuple[str, str | bytes | None]] = [("origin", b"webhook")]
            self._producer.produce(
                self._topic, value, key, headers=headers, on_delivery=self._delivered
            )
            self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        self.acknowledged += error is None


def wait_for_progress(scenario: Scenario, worker: Process, events: int) -> None:
    """Waits until more than so many events are committed, or the worker has ended."""

    def goes_on() -> bool:
        try:
            return sum(scenario.committed("dedupe", "contacts.events").values()) > events
        except KafkaException:  # the coordinator is elected
            return False

    wait_until(
        lambda: worker.exit_code is not None or goes_on(),
        "the worker has committed an event that was sent later, or has ended",
        RECOVERY_SECONDS,
    )


def test_an_election_after_a_brokers_death_ends_no_dedupe_worker(
    processes: Processes, tmp_path: Path
) -> None:
    cluster = start_cluster(
        NODES, tmp_path / "brokers", settings={"broker.session.timeout.ms": BROKER_SESSION_MS}
    )
    kafka = Kafka(cluster.bootstrap, "t.", replication_factor=NODES)
    try:
        with Scenario(kafka, processes, tmp_path) as scenario:
            scenario.set_up(org=False)
            worker = scenario.start("dedupe").wait_ready()
            with Load(kafka) as load:
                for broker in cluster.brokers:
                    killed_at, before = time.monotonic(), load.sent
                    broker.kill()
                    wait_for_progress(scenario, worker, before)
                    print(
                        f"broker {broker.node.id} killed: the worker had committed an event of "
                        f"later after {time.monotonic() - killed_at:.1f} s"
                    )
                    assert worker.exit_code is None, worker.log
                    broker.launch()
                    broker.wait(brokers=NODES)
            assert load.acknowledged == load.sent
            wait_for_progress(scenario, worker, load.sent - 1)
            assert worker.exit_code is None, worker.log
            keys = {record.key for record in kafka.read("contacts.changes")}
            assert len(keys) == load.sent
            assert worker.stop() == 0
    finally:
        cluster.stop()
