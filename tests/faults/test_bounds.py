"""Bounds that a backlog does not move: memory, the time to stop, and the time to restore a table."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.broker import free_ports
from streams.versions import State, encode
from tests.faults.load import BASE, GRANT
from tests.faults.scene import Scene, change, event
from tests.support.kafka import Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import POLL_SECONDS, wait_until

pytestmark = pytest.mark.kafka

BACKLOG = 20_000  # events: enough to fill what dedupe holds in memory
BACKLOG_OF_THE_SINK = 60_000  # changes: librdkafka fetches up to 16 MB ahead, and the sink takes up to 10,000 records
PEOPLE = 1000  # the same people again and again, so that only the backlog grows, not what is known of people
GROWTH = 1.3  # allocators and caches breathe; ten times the backlog in memory would be far beyond
GRACE_SECONDS = 30.0
DRAIN_SECONDS = 300.0


@pytest.fixture
def scene(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Scene]:
    with Scene(kafka, processes, tmp_path) as one:
        yield one.set_up(settings={"write_log": False})


class Peak:
    """The largest resident size of a process while the block runs."""

    def __init__(self, process: Process) -> None:
        self.bytes = 0
        self._process = process
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(POLL_SECONDS) and self._process.exit_code is None:
            self.bytes = max(self.bytes, self._process.rss)


def send_backlog(scene: Scene, stage: str, records: int, first_version: int = 1) -> None:
    """So many records, for either stage: each person in many versions."""
    versions = range(first_version, first_version + records // PEOPLE)
    if stage == "dedupe":
        scene.send([event(number, version, f"v{version}") for version in versions for number in range(PEOPLE)])
    else:  # of equal versions the later one wins, and so one set of headers does for all
        made = [change(number, 1, f"v{version}") for version in versions for number in range(PEOPLE)]
        scene.kafka.produce("contacts.changes", [record for record, _ in made], made[0][1])


def drain(scene: Scene, stage: str, total: int) -> int:
    """Peak bytes of a fresh process that works off what waits."""
    topic = {"dedupe": "contacts.events", "sink": "contacts.changes"}[stage]
    process = scene.start(stage)
    with Peak(process) as peak:
        began = time.monotonic()
        scene.wait_committed(stage, topic, total, DRAIN_SECONDS)
        print(f"{stage}: {total} committed, {peak.bytes // 2**20} MB, {time.monotonic() - began:.0f} s")
    assert process.stop() == 0
    return peak.bytes


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("stage", "records"),
    [("dedupe", BACKLOG), pytest.param("sink", BACKLOG_OF_THE_SINK, marks=pytest.mark.storm)],
    ids=["dedupe", "sink"],
)
def test_memory_does_not_grow_with_the_backlog(scene: Scene, stage: str, records: int) -> None:
    send_backlog(scene, stage, records)
    small = drain(scene, stage, records)
    send_backlog(scene, stage, 10 * records, 1 + records // PEOPLE)
    large = drain(scene, stage, 11 * records)
    assert large < small * GROWTH, f"{small // 2**20} MB, then {large // 2**20} MB"


def test_a_bridge_holds_little_of_what_it_has_taken(scene: Scene) -> None:
    (port,) = free_ports(1)
    bridge = scene.start("bridge", environ={"BRIDGE_LISTEN": f"127.0.0.1:{port}"}).wait_ready()
    peaks = []
    for records in (200, 2000):
        with Peak(bridge) as peak:
            for number in range(records):
                _, body = event(number, 1, "first")
                assert scene.notify(port, body, f"n{number}-1-first") == 200
        peaks.append(peak.bytes)
    print(f"bridge: {peaks[0] // 2**20} MB, then {peaks[1] // 2**20} MB")
    assert peaks[1] < peaks[0] * GROWTH


@pytest.mark.parametrize("stage", ["dedupe", "sink", "bridge"])
def test_a_stage_stops_within_the_grace_period_under_load(scene: Scene, stage: str) -> None:
    (port,) = free_ports(1)
    environ = {"BRIDGE_LISTEN": f"127.0.0.1:{port}"} if stage == "bridge" else {}
    if stage != "bridge":
        send_backlog(scene, stage, 100_000)
    process = scene.start(stage, environ=environ)
    stopping = threading.Event()

    def load() -> None:
        while not stopping.is_set():
            scene.notify(port, event(1, 1, "first")[1], "n")

    loaders = [threading.Thread(target=load) for _ in range(8)] if stage == "bridge" else []
    if stage == "bridge":
        process.wait_ready()
    for each in loaders:
        each.start()
    result = {"dedupe": "contacts.changes", "sink": "contacts.outcomes", "bridge": "contacts.events"}[stage]
    wait_until(lambda: scene.end(result) > 0, f"{stage} is at work", 60.0)
    began = time.monotonic()
    process.send(signal.SIGTERM)
    status = process.popen.wait(GRACE_SECONDS)
    took = time.monotonic() - began
    stopping.set()
    for each in loaders:
        each.join()
    print(f"{stage}: stopped {took:.1f} s after SIGTERM, in the middle of its work")
    assert status == 0
    assert took < GRACE_SECONDS


@pytest.mark.storm
@pytest.mark.timeout(600)
def test_a_table_of_a_million_contacts_is_restored_within_thirty_seconds(scene: Scene) -> None:
    for start in range(0, 1_000_000, 100_000):
        entry = encode(State(BASE, BASE, bytes(16), bytes(4), (bytes(8),)))
        keys = [f"{GRANT}/known-{number}-{'x' * 30}".encode() for number in range(start, start + 100_000)]
        scene.kafka.produce("contactstream-dedupe-seen-changelog", [(key, entry) for key in keys])
    scene.send([event(1, 1, "first")])
    began = time.monotonic()
    worker = scene.start("dedupe")
    wait_until(lambda: scene.end("contacts.changes") == 1, "the first event is forwarded", 60.0)
    took = time.monotonic() - began
    print(f"dedupe: a table of 1,000,000 contacts, {took:.1f} s from start to first event, {worker.rss // 2**20} MB")
    assert worker.metric("contactstream_dedupe_table_entries") == 1_000_001
    assert took < 30.0
