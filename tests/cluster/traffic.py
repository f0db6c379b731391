"""Signed notifications for the bridge while a test disturbs the cluster, and the proof afterwards.

The load, the sender and the verifier are those of the fault tests: the verifier shares no code with
the stages.
"""

import asyncio
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.cluster.kubectl import Namespace, until
from tests.faults.harness.collect import read_topics, writes_from
from tests.faults.harness.evidence import Evidence, Verdict
from tests.faults.harness.load import (
    GRANT,
    SECOND_GRANT,
    Notification,
    Sender,
    is_odd,
    notifications,
)
from tests.faults.harness.verifier import verify
from tests.support.kafka import Kafka

# Kafka's listener for the tests, which are outside of the cluster; see installation.py.
TESTS_PORT = 9095
CONTACTS = 200
# Notifications a second: much for a company, and little beside what a bridge can take.
RATE = 40.0
# The versions of one test; it stops earlier.
VERSIONS = 150
# For everything to be written after the last notification. The successor of a sink that was killed
# releases nothing for ten minutes, because its calls may still be alive.
IDLE_SECONDS = 720.0


@dataclass
class Traffic:
    """What was sent to a deployment since it was installed."""

    namespace: Namespace
    sender: Sender
    acknowledged: list[str] = field(default_factory=list)
    seed: int = 0

    @contextmanager
    def flowing(self, rate: float = RATE) -> Iterator[Sender]:
        """Notifications flow while the block works, at least some hundred of them.

        Each is sent again until it is answered with 200.
        """
        self.seed += 1
        queue = self._queue(rate)
        stopping = threading.Event()
        sender = Sender(self.sender.urls)
        thread = threading.Thread(target=_send, args=(sender, queue, rate, stopping), daemon=True)
        thread.start()
        try:
            yield sender
            until(lambda: len(sender.acknowledged) >= CONTACTS, "the first notifications")
        finally:
            stopping.set()
            thread.join(timeout=120.0)
        assert not thread.is_alive(), "a notification was not acknowledged for two minutes"
        assert sender.unexpected_statuses == []
        self.acknowledged += sender.acknowledged

    def _queue(self, rate: float) -> list[Notification]:
        """Without the contacts that Nylas would have to be asked for, which takes minutes."""
        load = notifications(
            self.seed, CONTACTS, VERSIONS, int(time.time()) + 2, max(1.0, CONTACTS / rate)
        )
        return [one for one in load.queue if not is_odd(int(one.id.split("-")[1]))]


def _send(
    sender: Sender, queue: list[Notification], rate: float, stopping: threading.Event
) -> None:
    def until_stopped() -> Iterator[Notification]:
        for one in queue:
            if stopping.is_set():
                return
            yield one

    asyncio.run(sender.send(until_stopped(), rate))


def until_idle(
    namespace: Namespace, wanted: Collection[str] = ("dedupe", "reader", "sink")
) -> float:
    """Returns once none of these stages lags, at two looks in a row; the seconds that took."""
    quiet = 0

    def idle() -> bool:
        nonlocal quiet
        stages = namespace.status()["stages"]
        lags = [one["lag_records"] for one in stages if one["stage"] in wanted]
        quiet = quiet + 1 if all(lag == 0 for lag in lags) else 0
        return quiet >= 2

    return until(idle, f"{wanted} have finished what they were given", IDLE_SECONDS)


def verdict(namespace: Namespace, traffic: Traffic) -> Verdict:
    """Reads every topic and the org, and checks each promise for all that was ever sent."""
    until_idle(namespace)
    kafka_pod = namespace.get("pod", namespace.pod("kafka"))
    topics = read_topics(Kafka(f"{kafka_pod['status']['podIP']}:{TESTS_PORT}", ""))
    org = f"http://{namespace.service('contactstream-salesforce-simulator')}"
    with httpx.Client(base_url=org, timeout=30.0) as http:
        records = [
            one
            for sobject in ("Contact", "Lead")
            for one in http.get(f"/_sim/records/{sobject}").raise_for_status().json()
        ]
        writes = writes_from(http.get("/_sim/writes").raise_for_status().json())
    # The verifier knows the traffic of these tests, and nothing of the simulators' address books.
    ours = {name: [one for one in found if _is_ours(one.key)] for name, found in topics.items()}
    record_ids = {write.record_id for write in writes if _is_ours(write.key)}
    return verify(
        Evidence(
            acknowledged=traffic.acknowledged,
            events=ours["events"],
            changes=ours["changes"],
            outcomes=ours["outcomes"],
            refetch=ours["refetch"],
            dead_letters=ours["dead-letter"],
            writes=[write for write in writes if write.record_id in record_ids],
            org=[record for record in records if record["Id"] in record_ids],
        )
    )


def _is_ours(key: str | None) -> bool:
    return (key or "").partition("/")[0] in (GRANT, SECOND_GRANT)
