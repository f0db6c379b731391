"""Bounds that do not grow with a backlog: memory, the time to stop, the time to restore a table."""

import itertools
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from deploy.local.broker import Broker, free_ports
from streams.dedupe.versions import DedupeState, encode
from streams.reader.refetch import MAX_PENDING
from streams.runtime.exit_codes import ExitCode
from streams.sink.process import OVERDUE_SECONDS
from tests.faults.harness.load import BASE, GRANT
from tests.faults.harness.scenario import SESSION_SECONDS, Scenario, change, event
from tests.support.children import child_command
from tests.support.kafka import Kafka
from tests.support.paths import ROOT
from tests.support.processes import Process, Processes
from tests.support.reader_harness import ReaderHarness, grant, people
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

BACKLOG = 20_000  # events: enough to fill what dedupe holds in memory
# changes: librdkafka fetches up to 16 MB ahead, and the sink notes the offsets of up to 100,000
SINK_BACKLOG = 120_000
# The same people again and again, so that only the backlog grows, not the state of the people.
PEOPLE = 1000
# The second backlog is so many times the first. Allocators and caches vary by GROWTH; that much of
# the backlog in memory would be far more.
TIMES = 5
GROWTH = 1.3
GRACE_SECONDS = 30.0
BOOK = 2000  # contacts: ten pages
# contacts: librdkafka fetches up to 100,000 records ahead of what the reader takes into memory
REFETCH_REQUESTS = 120_000
SENDERS = 16
ENDS_WITHOUT_A_BROKER = (ExitCode.STOP_OVERDUE, ExitCode.NOT_ACKNOWLEDGED, ExitCode.NO_HEARTBEAT)
DRAIN_SECONDS = 300.0
MILLION = 1_000_000
# Of half a million entries, on cores that the broker and both workers share.
RESTORE_SECONDS = 15.0
# Until two workers have shared the partitions and restored them.
READY_SECONDS = 240.0
# So many contacts that each of the partitions has some.
TAKEOVER_CONTACTS = 64


@pytest.fixture
def scenario(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(kafka, processes, tmp_path) as one:
        yield one.set_up(settings={"write_log": False})


def peak(process: Process) -> int:
    """The largest resident size that the process ever had, in bytes, as the kernel kept it."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def settled_peak(process: Process) -> int:
    """The peak once it has not grown for a second: records fetched ahead come a little later."""
    before = 0
    while (now := peak(process)) != before:
        before = now
        time.sleep(1.0)
    return before


def send_backlog(scenario: Scenario, stage: str, records: int, first_version: int = 1) -> None:
    """Writes so many records for dedupe or the sink: each person in many versions."""
    versions = range(first_version, first_version + records // PEOPLE)
    if stage == "dedupe":
        scenario.send(
            [
                event(number, version, f"v{version}")
                for version in versions
                for number in range(PEOPLE)
            ]
        )
    else:  # of equal versions the later one wins, so that all records can have the same headers
        made = [
            change(number, 1, f"v{version}") for version in versions for number in range(PEOPLE)
        ]
        scenario.kafka.produce("contacts.changes", [record for record, _ in made], made[0][1])


def drain(scenario: Scenario, stage: str, total: int) -> int:
    """Starts a new process of the stage that works off its backlog; returns its peak bytes."""
    topic = {"dedupe": "contacts.events", "sink": "contacts.changes"}[stage]
    process = scenario.start(stage)
    began = time.monotonic()
    scenario.wait_committed(stage, topic, total, DRAIN_SECONDS)
    largest = peak(process)
    print(f"{stage}: {total} committed, {largest // 2**20} MB, {time.monotonic() - began:.0f} s")
    assert process.stop() == 0
    return largest


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("stage", "records"),
    [("dedupe", BACKLOG), pytest.param("sink", SINK_BACKLOG, marks=pytest.mark.storm)],
    ids=["dedupe", "sink"],
)
def test_memory_does_not_grow_with_the_backlog(
    scenario: Scenario, stage: str, records: int
) -> None:
    send_backlog(scenario, stage, records)
    small = drain(scenario, stage, records)
    send_backlog(scenario, stage, TIMES * records, 1 + records // PEOPLE)
    large = drain(scenario, stage, (1 + TIMES) * records)
    assert large < small * GROWTH, f"{small // 2**20} MB, then {large // 2**20} MB"


def test_a_bridges_memory_does_not_grow_with_the_notifications(scenario: Scenario) -> None:
    (port,) = free_ports(1)
    bridge = scenario.start("bridge", environ={"BRIDGE_LISTEN": f"127.0.0.1:{port}"}).wait_ready()
    _, body = event(1, 1, "first")
    peaks = []
    with ThreadPoolExecutor(SENDERS) as senders:
        for records in (300, 3000):
            statuses = senders.map(
                lambda number: scenario.notify(port, body, f"n{number}"), range(records)
            )
            assert set(statuses) == {200}
            peaks.append(peak(bridge))
    small, large = (each // 2**20 for each in peaks)
    print(f"bridge: {small} MB, then {large} MB, {SENDERS} notifications at a time")
    assert peaks[1] < peaks[0] * GROWTH


def read_book(harness: ReaderHarness, grant_id: str, count: int) -> int:
    """Starts a reader that reads an address book of so many contacts; returns its peak bytes."""
    reader = harness.reader()
    printed = harness.command("backfill", "--grant", grant_id, seconds=DRAIN_SECONDS)
    assert f"{count} contacts" in printed
    largest = peak(reader)
    print(f"reader: an address book of {count} contacts, {largest // 2**20} MB")
    assert reader.stop() == 0
    return largest


@pytest.mark.storm
@pytest.mark.timeout(600)
def test_a_readers_memory_does_not_grow_with_the_address_book(
    kafka: Kafka, processes: Processes, tmp_path: Path
) -> None:
    harness = ReaderHarness(
        kafka,
        processes,
        tmp_path,
        {"grants": [grant("g1", people(BOOK)), grant("g2", people(10 * BOOK))]},
    )
    # No dedupe and no sink runs, and the reader must not wait for them.
    processes.environ["READER_MAX_LAG"] = str(100 * BOOK)
    assert read_book(harness, "g2", 10 * BOOK) < read_book(harness, "g1", BOOK) * GROWTH


def wait_until_full(reader: Process) -> None:
    """Waits until the reader has taken as many requests into memory as it ever does."""
    wait_until(
        lambda: reader.metric("contactstream_reader_refetch_pending") >= MAX_PENDING,
        "the reader has taken as many requests as it takes",
        90.0,
    )


@pytest.mark.storm
@pytest.mark.timeout(600)
def test_a_readers_memory_does_not_grow_with_the_contacts_that_wait_to_be_read_again(
    kafka: Kafka, processes: Processes, tmp_path: Path
) -> None:
    harness = ReaderHarness(kafka, processes, tmp_path, {"grants": [grant("g1", people(1))]})
    peaks = []
    for first, records in ((0, REFETCH_REQUESTS), (REFETCH_REQUESTS, 9 * REFETCH_REQUESTS)):
        for start in range(first, first + records, REFETCH_REQUESTS):
            harness.refetch(
                time.time() + 3600,
                *[f"g1/{'x' * 30}{number}" for number in range(start, start + REFETCH_REQUESTS)],
            )
        reader = harness.reader()
        wait_until_full(reader)
        peaks.append(settled_peak(reader))
        assert reader.stop() == 0
    small, large = (each // 2**20 for each in peaks)
    print(
        f"reader: {REFETCH_REQUESTS} contacts to read again, {small} MB; "
        f"{10 * REFETCH_REQUESTS}, {large} MB"
    )
    assert peaks[1] < peaks[0] * GROWTH


REPLAYED = 1_000_000
"""Events that are replayed in one run."""
WRITTEN_AT_ONCE = 50_000


@pytest.mark.storm
@pytest.mark.timeout(1800)
def test_a_readers_memory_does_not_grow_with_what_it_replays(
    kafka: Kafka, processes: Processes, tmp_path: Path
) -> None:
    harness = ReaderHarness(kafka, processes, tmp_path, {"grants": []})
    # No dedupe and no sink runs, and the reader must not wait for them.
    reader = harness.reader(READER_RECONCILE_EVERY="0", READER_MAX_LAG=str(10 * REPLAYED))
    peaks, began = [], time.monotonic()
    # The second run publishes what was written for the first one, and the rest.
    for first, last in ((0, REPLAYED // 10), (REPLAYED // 10, REPLAYED)):
        for start in range(first, last, WRITTEN_AT_ONCE):
            events = [event(number, 1, "v1") for number in range(start, start + WRITTEN_AT_ONCE)]
            kafka.produce(
                "contacts.events",
                events,
                [("origin", b"webhook"), ("received_ms", b"%d" % (BASE * 1000))],
            )
        words = ("replay", "events", "--yes", "--execute")
        printed = harness.command(*words, seconds=3 * DRAIN_SECONDS)
        assert "replay done" in printed
        peaks.append(settled_peak(reader))
        print(f"reader: {last} events replayed, {peaks[-1] // 2**20} MB")
    print(f"{time.monotonic() - began:.0f} s")
    assert peaks[1] < peaks[0] * GROWTH


@pytest.mark.parametrize("stage", ["dedupe", "sink", "bridge"])
def test_a_stage_stops_within_the_grace_period_under_load(scenario: Scenario, stage: str) -> None:
    (port,) = free_ports(1)
    environ = {"BRIDGE_LISTEN": f"127.0.0.1:{port}"} if stage == "bridge" else {}
    if stage != "bridge":
        send_backlog(scenario, stage, 100_000)
    process = scenario.start(stage, environ=environ)
    stopping = threading.Event()

    def load() -> None:
        while not stopping.is_set():
            scenario.notify(port, event(1, 1, "first")[1], "n")

    loaders = [threading.Thread(target=load) for _ in range(8)] if stage == "bridge" else []
    if stage == "bridge":
        process.wait_ready()
    for each in loaders:
        each.start()
    result = {
        "dedupe": "contacts.changes",
        "sink": "contacts.outcomes",
        "bridge": "contacts.events",
    }[stage]
    wait_until(lambda: scenario.end(result) > 0, f"{stage} is active", 60.0)
    began = time.monotonic()
    process.send(signal.SIGTERM)
    status = process.popen.wait(GRACE_SECONDS)
    took = time.monotonic() - began
    stopping.set()
    for each in loaders:
        each.join()
    print(f"{stage}: stopped {took:.1f} s after SIGTERM, in the middle of its work")
    assert status == 0


def test_a_reader_stops_within_the_grace_period_in_the_middle_of_an_address_book(
    kafka: Kafka, processes: Processes, tmp_path: Path
) -> None:
    world = {"grants": [grant("g1", people(BOOK))], "settings": {"latency": 0.3}}
    harness = ReaderHarness(kafka, processes, tmp_path, world)
    reader = harness.reader()
    harness.command("backfill", "--all", "--no-wait")
    wait_until(
        lambda: reader.metric("contactstream_reader_contacts_total") > 0,
        "the reader is active",
        60.0,
    )
    began = time.monotonic()
    assert reader.stop(GRACE_SECONDS) == 0
    print(
        f"reader: stopped {time.monotonic() - began:.1f} s after SIGTERM, in the middle of its work"
    )
    assert reader.metric("contactstream_reader_contacts_total") < BOOK


@pytest.mark.parametrize("stage", ["dedupe", "sink", "bridge"])
def test_a_stage_stops_within_the_grace_period_while_no_broker_answers(
    proxied_broker: tuple[Broker, TcpProxy], processes: Processes, tmp_path: Path, stage: str
) -> None:
    broker, proxy = proxied_broker
    with Scenario(Kafka(broker.direct, "t."), processes, tmp_path).set_up(
        settings={"write_log": False}
    ) as scenario:
        environ = {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap}
        if stage == "sink":  # a commit that hangs makes the sink wait all of this
            assert OVERDUE_SECONDS < GRACE_SECONDS
            environ["FAULTS_OVERDUE_SECONDS"] = "12"
        if stage == "bridge":
            (port,) = free_ports(1)
            process = scenario.start(
                stage, environ=environ | {"BRIDGE_LISTEN": f"127.0.0.1:{port}"}
            ).wait_ready()
            assert scenario.notify(port, event(1, 1, "first")[1], "n") == 200
        else:
            moment = {"dedupe": "before_outputs", "sink": "before_commit"}[stage]
            scenario.hold(moment)
            send_backlog(scenario, stage, 2000)
            process = scenario.start(stage, environ=environ)
            scenario.wait_reached(moment)
        proxy.black_hole()
        if stage != "bridge":
            scenario.release(moment)
        began = time.monotonic()
        process.send(signal.SIGTERM)
        status = process.popen.wait(GRACE_SECONDS)
        took = time.monotonic() - began
        print(f"{stage}: ended with {status} {took:.1f} s after SIGTERM, while no broker answered")
        assert status in (0, *ENDS_WITHOUT_A_BROKER)


def test_a_reader_stops_within_the_grace_period_while_no_broker_answers(
    proxied_broker: tuple[Broker, TcpProxy], processes: Processes, tmp_path: Path
) -> None:
    broker, proxy = proxied_broker
    world = {"grants": [grant("g1", people(BOOK))], "settings": {"latency": 0.3}}
    harness = ReaderHarness(Kafka(broker.bootstrap, "t."), processes, tmp_path, world)
    reader = harness.reader()
    harness.command("backfill", "--all", "--no-wait")
    wait_until(
        lambda: reader.metric("contactstream_reader_contacts_total") > 0,
        "the reader is active",
        60.0,
    )
    proxy.black_hole()
    began = time.monotonic()
    assert reader.stop(GRACE_SECONDS) == 0
    print(
        f"reader: stopped {time.monotonic() - began:.1f} s after SIGTERM, while no broker answered"
    )


def test_a_dedupe_worker_whose_batch_hangs_ends_itself_when_the_stop_is_overdue(
    scenario: Scenario,
) -> None:
    scenario.hold("before_outputs")
    worker = scenario.start("dedupe", environ={"FAULTS_STOP_SECONDS": "3"})
    scenario.send([event(1, 1, "first")])
    scenario.wait_reached("before_outputs")
    worker.send(signal.SIGTERM)
    assert worker.popen.wait(GRACE_SECONDS) == ExitCode.STOP_OVERDUE
    assert scenario.committed("dedupe", "contacts.events") == {0: 0}
    scenario.release("before_outputs")
    scenario.start("dedupe")
    scenario.wait_committed("dedupe", "contacts.events", 1)
    assert scenario.end("contacts.changes") == 1


def test_a_dedupe_worker_that_consumes_nothing_fails_its_liveness_probe(scenario: Scenario) -> None:
    worker = scenario.start(
        "dedupe", environ={"FAULTS_STALLED_SECONDS": "6", "FAULTS_LAG_SECONDS": "1"}
    ).wait_ready()
    wait_until(lambda: worker.ask("/livez")[0] == 200, "a worker with nothing to do is alive", 60.0)
    scenario.hold("before_outputs")
    scenario.send([event(1, 1, "first")])
    wait_until(lambda: worker.ask("/livez")[0] == 503, "the probe fails", 60.0)
    assert worker.exit_code is None, "only the probe shows that it stalls"
    scenario.release("before_outputs")
    wait_until(lambda: worker.ask("/livez")[0] == 200, "the probe holds again", 60.0)


def test_a_sink_that_takes_nothing_fails_its_liveness_probe(scenario: Scenario) -> None:
    bounds = {"FAULTS_STALLED_SECONDS": "6", "FAULTS_LAG_SECONDS": "1"}
    sink = scenario.start("sink", "takes_nothing", bounds).wait_ready()
    wait_until(
        lambda: '"assigned"' in sink.log and sink.ask("/livez")[0] == 200,
        "a sink with nothing to do is alive",
        60.0,
    )
    send_backlog(scenario, "sink", PEOPLE)
    wait_until(lambda: sink.ask("/livez")[0] == 503, "the probe fails", 60.0)
    assert sink.exit_code is None, "only the probe shows that it stalls"


@dataclass
class Diskless:
    """A dedupe worker that cannot write a byte to any file. Its log goes to a pipe."""

    popen: "subprocess.Popen[bytes]"
    log: list[bytes] = field(default_factory=list)

    @staticmethod
    def start(scenario: Scenario) -> "Diskless":
        (port,) = free_ports(1)
        given = {
            name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ
        } | scenario.kafka.environ
        given |= {
            "KAFKA_EVENTS_PARTITIONS": "1",
            "OPS_LISTEN": f"127.0.0.1:{port}",
            "PYTHONPATH": str(ROOT),
        }
        given |= {"HOME": "/proc", "TMPDIR": "/proc"}  # not even root can make a file there
        popen = subprocess.Popen(
            child_command([sys.executable, "-m", "streams.cli", "dedupe"]),
            env=given,
            cwd="/proc",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        )
        one = Diskless(popen)
        threading.Thread(target=one._read, daemon=True).start()
        return one

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as lines:
            self.log.extend(lines)

    def stop(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(GRACE_SECONDS)


def test_a_full_disk_does_not_stop_a_dedupe_worker(scenario: Scenario) -> None:
    sent = 0
    # The second worker knows from its restored table that version 1 is stale.
    for version, also in ((2, 2), (3, 1)):
        worker = Diskless.start(scenario)
        try:
            scenario.send(
                [
                    event(number, each, f"v{each}")
                    for each in (version, also)
                    for number in range(100)
                ]
            )
            sent += 200
            scenario.wait_committed("dedupe", "contacts.events", sent)
            assert worker.stop() == 0, b"".join(worker.log)
        finally:
            worker.popen.kill()
    versions = [
        int(found.headers["version"]) - BASE for found in scenario.kafka.read("contacts.changes")
    ]
    assert sorted(versions) == [2] * 100 + [3] * 100


def fill_table(scenario: Scenario, contacts: int) -> None:
    """Writes entries of so many contacts to the changelog of dedupe's table."""
    entry = encode(DedupeState(BASE, BASE, bytes(16), bytes(4), (bytes(8),)))
    for start in range(0, contacts, 100_000):
        keys = [
            f"{GRANT}/known-{number}-{'x' * 30}".encode()
            for number in range(start, start + 100_000)
        ]
        scenario.kafka.produce(
            "contactstream-dedupe-seen-changelog", [(key, entry) for key in keys]
        )


def processor_seconds(process: Process) -> float:
    """The processor time that a process has taken."""
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def table_entries(worker: Process) -> int:
    """How many entries a worker holds, as of its last batch."""
    return int(worker.metric("contactstream_dedupe_table_entries"))


@pytest.mark.storm
@pytest.mark.timeout(600)
def test_a_table_of_a_million_contacts_is_restored_within_thirty_seconds(
    scenario: Scenario,
) -> None:
    fill_table(scenario, MILLION)
    scenario.send([event(1, 1, "first")])
    began = time.monotonic()
    worker = scenario.start("dedupe")
    wait_until(lambda: scenario.end("contacts.changes") == 1, "the first event is forwarded", 60.0)
    took = time.monotonic() - began
    print(
        f"dedupe: a table of 1,000,000 contacts, {took:.1f} s from start to first event, "
        f"{worker.rss // 2**20} MB"
    )
    wait_until(
        lambda: table_entries(worker) == MILLION + 1,
        "the new contact is remembered too",
    )
    assert took < 30.0


@pytest.mark.storm
@pytest.mark.timeout(900)
@pytest.mark.parametrize("copies", [0, 1])
def test_a_takeover_with_a_million_contacts_takes_the_session_and_the_restore(
    kafka: Kafka, processes: Processes, tmp_path: Path, copies: int
) -> None:
    """Two workers share the partitions, one is killed, and the other takes them over."""
    with Scenario(kafka, processes, tmp_path, partitions=4) as scenario:
        versions = itertools.count(1)

        def send() -> None:
            version = next(versions)
            scenario.send(
                [event(number, version, f"v{version}") for number in range(TAKEOVER_CONTACTS)]
            )

        def forwarded() -> bool:
            return scenario.end("contacts.changes") == scenario.end_of_all("contacts.events")

        scenario.set_up(org=False)
        fill_table(scenario, MILLION)
        environ = {"DEDUPE_STANDBY_COPIES": str(copies)}
        workers = [scenario.start("dedupe", environ=environ) for _ in range(2)]
        for worker in workers:
            worker.wait_ready(READY_SECONDS)
        held = (1 + copies) * (MILLION + TAKEOVER_CONTACTS)

        def whole() -> bool:
            send()  # with each batch a worker reports its entries
            wait_until(forwarded, "the events are forwarded", 60.0)
            return sum(map(table_entries, workers)) == held

        wait_until(whole, f"the workers hold {held} entries", READY_SECONDS)
        sizes = " and ".join(f"{worker.rss // 2**20} MB" for worker in workers)
        began, busy = time.monotonic(), processor_seconds(workers[1])
        workers[0].kill()
        send()
        wait_until(forwarded, "the other worker has forwarded an event of each partition", 120.0)
        took = time.monotonic() - began
        print(
            f"dedupe: a table of 1,000,000 contacts, two workers of {sizes}, {copies} standby "
            f"copies: taken over {took:.1f} s after kill -9, with "
            f"{processor_seconds(workers[1]) - busy:.1f} s of processor; "
            f"{workers[1].rss // 2**20} MB then"
        )
        assert took < SESSION_SECONDS + 5 + RESTORE_SECONDS
