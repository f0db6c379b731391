"""How time and memory of dedupe and sink grow with contacts, workers and partitions.

    make bench ARGS=tests/benchmarks/bench_growth.py
    make bench ARGS="tests/benchmarks/bench_growth.py --growth"

The second one goes to a million contacts, and takes about a quarter of an hour.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer

from streams.events import Kind, change_headers
from streams.kafka.records import Headers
from tests.benchmarks.bench_dedupe import envelopes
from tests.benchmarks.conftest import MeasuredGrowth
from tests.benchmarks.growth import Growth, GrowthPoint
from tests.benchmarks.machine import versions
from tests.benchmarks.whole_product import (
    DEFAULT_LINGERS,
    DELAYS,
    NO_LIMITS,
    RECIPE_ORG,
    SimulatedOrg,
    processor_seconds,
)
from tests.support.dedupe_load import create_topics, environ
from tests.support.kafka import REQUEST_SECONDS, GroupObserver, Kafka
from tests.support.processes import Process, Processes
from tests.support.product import product
from tests.support.waiting import wait_until

PARTITIONS = 4
USUAL = int(os.environ.get("BENCH_GROWTH", "40000"))
# The sink holds 10,000 changes at once (SINK_MAX_UNFINISHED): up to there its memory grows, and
# these sizes show whether it does beyond.
USUAL_SIZES = {"dedupe": (USUAL // 40, USUAL // 4, USUAL), "sink": (USUAL // 4, USUAL)}
MILLION = (1_000, 10_000, 100_000, 1_000_000)
# Workers and partitions, all with the largest number of contacts.
USUAL_SPREADS = ((1, 1), (1, 12), (2, 12), (3, 12))
# Of the largest point, on a machine that others use.
POINT_SECONDS = 1800.0

pytestmark = pytest.mark.benchmark


@pytest.mark.timeout(900)
def test_growth(
    kafka: Kafka, processes: Processes, tmp_path: Path, measured_growth: MeasuredGrowth
) -> None:
    """Sizes for which a usual run has time."""
    points = [
        dedupe_point(kafka, processes, contacts, 1, PARTITIONS)
        for contacts in USUAL_SIZES["dedupe"]
    ]
    points += [
        dedupe_point(kafka, processes, USUAL, workers, partitions)
        for workers, partitions in USUAL_SPREADS
    ]
    points += [sink_point(kafka, tmp_path, contacts) for contacts in USUAL_SIZES["sink"]]
    measured_growth(growth("growth", points, on_demand=False))


@pytest.mark.on_demand
@pytest.mark.timeout(2 * 3600)
def test_growth_to_a_million(
    kafka: Kafka, processes: Processes, tmp_path: Path, measured_growth: MeasuredGrowth
) -> None:
    """10^3 to 10^6 contacts, and one to three workers with 10^5."""
    points = [dedupe_point(kafka, processes, contacts, 1, PARTITIONS) for contacts in MILLION]
    points += [
        dedupe_point(kafka, processes, MILLION[-2], workers, partitions)
        for workers, partitions in USUAL_SPREADS
    ]
    points += [sink_point(kafka, tmp_path, contacts) for contacts in MILLION]
    measured_growth(growth("growth to a million", points, on_demand=True))


def growth(name: str, points: Sequence[GrowthPoint], *, on_demand: bool) -> Growth:
    """What was measured, with when and by which version."""
    return Growth(
        name,
        "New contacts for dedupe and sink, each alone on the machine with the broker and starting "
        f"with nothing, once each. The org of the sink takes {DELAYS}.",
        f"{datetime.now(UTC):%Y-%m-%d}, contactstream {versions()['contactstream']}",
        on_demand,
        list(points),
    )


def dedupe_point(
    kafka: Kafka, processes: Processes, contacts: int, workers: int, partitions: int
) -> GrowthPoint:
    """Workers of dedupe that take in new contacts."""
    own = Kafka(kafka.bootstrap, f"{kafka.prefix}d{contacts}-{workers}-{partitions}.")
    create_topics(own, partitions)
    settings = environ(own, partitions, 10.0)

    def start() -> list[Process]:
        started = [processes.start("dedupe", environ=settings) for _ in range(workers)]
        return [process.wait_ready() for process in started]

    headers: Headers = [("origin", b"webhook"), ("received_ms", b"1800000000000")]
    events = ((*event, headers) for event in new_events(contacts))
    observer = GroupObserver(own, "growth", "contacts.changes")
    try:
        return measure(
            "dedupe",
            contacts,
            partitions,
            start,
            lambda: produce(own, "contacts.events", events),
            lambda: observer.end() >= contacts,
        )
    finally:
        observer.close()
        own.delete_all()


def sink_point(kafka: Kafka, folder: Path, contacts: int) -> GrowthPoint:
    """A sink that writes new contacts to an org without any."""
    own = Kafka(kafka.bootstrap, f"{kafka.prefix}s{contacts}.")
    place = folder / f"sink-{contacts}"
    place.mkdir()
    # What the simulated org remembers of each write would fill the machine.
    org = {"settings": RECIPE_ORG["settings"] | {"write_log": False}}
    stages = ("bridge", "reader", "dedupe", "sink")
    group = f"{own.prefix}contactstream-sink"
    with product(
        own, place, org=org, environ=DEFAULT_LINGERS | NO_LIMITS, without=stages
    ) as running:
        observer = GroupObserver(own, group, "contacts.changes")
        try:
            return measure(
                "sink",
                contacts,
                1,
                lambda: [running.processes.start("sink").wait_ready()],
                lambda: produce(own, "contacts.changes", new_changes(contacts)),
                lambda: sum(observer.committed().values()) >= contacts,
                lambda: SimulatedOrg(running.salesforce, running.http).counted()[0],
            )
        finally:
            observer.close()
            own.delete_all()


def measure(
    stage: str,
    contacts: int,
    partitions: int,
    start: Callable[[], list[Process]],
    publish: Callable[[], None],
    done: Callable[[], bool],
    calls: Callable[[], int] = lambda: 0,
) -> GrowthPoint:
    """Starts workers, gives them work until it is done, and starts them once more.

    `calls` returns how many calls Salesforce has counted so far.
    """
    running = start()

    def check() -> bool:
        for process in running:
            assert process.exit_code is None, process.log[-3000:]
        return done()

    before, calls_before, began = _used(running), calls(), time.monotonic()
    publish()
    wait_until(check, f"{stage} has worked off {contacts} contacts", POINT_SECONDS)
    seconds = time.monotonic() - began
    used, peak, calls_after = _used(running) - before, max(map(peak_mb, running)), calls()
    for process in running:
        process.stop()
    began = time.monotonic()
    again = start()
    restart, kept = time.monotonic() - began, max(process.rss for process in again) / 1e6
    for process in again:
        process.kill()
    return GrowthPoint(
        stage,
        contacts,
        len(running),
        partitions,
        round(seconds, 2),
        round(used, 2),
        round(peak, 1),
        round(restart, 2),
        round(kept, 1),
        calls_after - calls_before,
    )


def _used(running: Sequence[Process]) -> float:
    return sum(map(processor_seconds, running))


def peak_mb(process: Process) -> float:
    """The most memory that a process has held."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError("VmHWM")


def new_events(contacts: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and envelopes of new contacts, each once."""
    return islice(envelopes(3 * contacts), contacts)


def new_changes(contacts: int) -> Iterator[tuple[bytes, bytes, Headers]]:
    """Records of contacts.changes about new contacts."""
    for key, value in new_events(contacts):
        envelope = orjson.loads(value)
        headers = change_headers(
            Kind.UPDATED, envelope["time"], "f" * 32, "m", b"webhook", b"1800000000000"
        )
        yield key, orjson.dumps(envelope["data"]["object"]), headers


def produce(kafka: Kafka, topic: str, records: Iterable[tuple[bytes, bytes, Headers]]) -> None:
    """Writes records as fast as the broker takes them."""
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": 20,
        }
    )
    for key, value, headers in records:
        while True:
            try:
                producer.produce(kafka.name(topic), value, key, headers=headers)
                break
            except BufferError:  # librdkafka's queue is full: acknowledgements have to come in
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(REQUEST_SECONDS) == 0
