"""The speed of the dedupe stage, compared with quix-streams with state and changelog.

    make bench ARGS=tests/benchmarks/bench_dedupe.py

And with a plain loop. All get the same events on the same broker, one after the other, and decide
by the same rule. quix-streams needs older clients than the stage, so it has its own virtual
environment (`.local/bench`, from quix.lock).
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import psutil
import pytest
from confluent_kafka import Producer

from tests.benchmarks.comparison import Comparison, Figures
from tests.benchmarks.conftest import Measured, MeasuredSheet
from tests.benchmarks.profiles import profile_sheet, sample, shares
from tests.support.dedupe_load import create_topics, environ, wait_changes
from tests.support.kafka import GroupObserver, Kafka
from tests.support.paths import ROOT
from tests.support.processes import Process, Processes

EVENTS = int(os.environ.get("BENCH_EVENTS", "150000"))
PARTITIONS = 4
ROUNDS = 3
RUN_SECONDS = 240.0

QUIX, PLAIN = "quix-streams with state", "plain loop"
BASELINES: dict[str, Callable[[Path], tuple[str, ...]]] = {
    QUIX: lambda python: (str(python), "-m", "tests.benchmarks.quix_dedupe"),
    PLAIN: lambda _: (sys.executable, "-m", "tests.benchmarks.plain_dedupe"),
}
GOAL = 1.5  # of the processor time of quix-streams
# Below it the test fails, whatever is committed. The baselines do not decide who is left out.
LEAST_RATIO = 0.8

# The share of the changes that passes before the clock starts, so that joining a group is not
# measured.
WARM_UP_SHARE = 0.1

APPLICATION = "0a1b2c3d-0000-4000-8000-000000000000"

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]


def envelopes(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and realistic envelopes of about 950 bytes.

    Each contact comes three times: new, unchanged, and changed.
    """
    contacts = count // 3
    for version, name in enumerate(("Ada", "Ada", "Grace")):
        for contact in range(contacts):
            grant, identity = (
                f"5967ca40-a2d8-4ee0-a0e0-6f18ace39a{contact % 3:02}",
                f"{contact:012}",
            )
            person = {
                "grant_id": grant, "id": identity, "object": "contact",
                "given_name": name, "surname": "Example", "source": "address_book",
                "company_name": "Example Industries", "job_title": "Head of Examples",
                "emails": [
                    {"email": f"person{contact}@example-{contact % 50}.com", "type": "work"},
                    {"email": f"p{contact}@mail.example", "type": "home"},
                ],
                "phone_numbers": [
                    {"number": "+1 555 0100", "type": "work"},
                    {"number": "+1 555 0101", "type": "mobile"},
                ],
                "physical_addresses": [{
                    "type": "work", "street_address": "1 Main St",
                    "city": "Springfield", "country": "US",
                }],
                "notes": "met at the conference, wants a call back next quarter",
                "web_pages": [], "im_addresses": [], "groups": [{"id": "starred"}],
                "picture_url": "https://example.com/picture.png",
            }  # fmt: skip
            yield (
                f"{grant}/{identity}".encode(),
                orjson.dumps(
                    {
                        "specversion": "1.0", "type": "contact.updated",
                        "source": "/google/contacts/incremental",
                        "id": uuid.uuid4().hex, "time": 1_700_000_000 + version,
                        "webhook_delivery_attempt": 1,
                        "data": {"application_id": APPLICATION, "object": person},
                    }
                ),
            )  # fmt: skip


def fill(kafka: Kafka) -> int:
    """Writes the events; returns how many changes dedupe forwards of them."""
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    headers: list[tuple[str, str | bytes | None]] = [
        ("origin", b"webhook"),
        ("received_ms", b"1800000000000"),
    ]
    for number, (key, value) in enumerate(envelopes(EVENTS)):
        producer.produce(kafka.name("contacts.events"), value, key, headers=headers)
        if number % 1000 == 0:
            producer.poll(0)
    assert producer.flush(RUN_SECONDS) == 0
    return EVENTS // 3 * 2


def measure(kafka: Kafka, process: Process, changes: int) -> tuple[float, float]:
    """Events a second, and the processor microseconds of an event.

    Measured from the first tenth of the changes to the last.
    """
    observer = GroupObserver(kafka, "benchmark", "contacts.changes")
    end = observer.end

    def spent() -> float:
        used = psutil.Process(process.pid).cpu_times()
        return float(used.user + used.system)

    deadline = time.monotonic() + RUN_SECONDS
    while (first := end()) < changes * WARM_UP_SHARE:
        assert process.exit_code is None, process.log[-3000:]
        assert time.monotonic() < deadline, process.log[-3000:]
        time.sleep(0.02)
    began, before = time.monotonic(), spent()
    while end() < changes:
        assert time.monotonic() < deadline, f"{end()} of {changes} changes: {process.log[-3000:]}"
        time.sleep(0.02)
    seconds, processor = time.monotonic() - began, spent() - before
    done = EVENTS * (changes - first) / changes
    return done / seconds, processor / done * 1e6


def quix_python() -> Path:
    """The interpreter of an environment with quix-streams, which is made at the first call."""
    folder = ROOT / ".local" / "bench"
    python = folder / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    if not python.exists():
        subprocess.run(
            [uv, "venv", "--quiet", "--python", sys.executable, folder], check=True, timeout=120
        )
    lock = Path(__file__).with_name("quix.lock")
    subprocess.run(
        [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, lock],
        check=True,
        timeout=300,
    )
    return python


def test_the_stage_beside_quix_streams_with_state_and_beside_a_plain_loop(
    kafka: Kafka, processes: Processes, measured: Measured
) -> None:
    python = quix_python()
    sides: dict[str, list[tuple[float, float]]] = {"dedupe": [], QUIX: [], PLAIN: []}
    for number in range(ROUNDS):
        for name, found in sides.items():
            # Deleted with the test's own topics, whose prefix it shares.
            own = Kafka(kafka.bootstrap, f"{kafka.prefix}{name[0]}{number}.")
            create_topics(own, PARTITIONS)
            changes = fill(own)
            if name == "dedupe":
                process = processes.start("dedupe", environ=environ(own, PARTITIONS, 10.0))
            else:
                process = processes.start(
                    own.bootstrap,
                    own.prefix,
                    command=BASELINES[name](python),
                    environ={"PYTHONPATH": str(ROOT)},
                )
            found.append(measure(own, process, changes))
            process.kill()
            own.delete_all()
    comparison = Comparison(
        "dedupe",
        "events",
        f"{ROUNDS} rounds each in turn of {EVENTS:,} events of {len(next(envelopes(3))[1])} bytes, "
        f"{PARTITIONS} partitions: each contact new, unchanged and changed. The plain loop commits "
        "what it has read and keeps its state in memory alone: it is fast and loses events.",
        _figures("dedupe", sides["dedupe"]),
        [_figures(QUIX, sides[QUIX]), _figures(PLAIN, sides[PLAIN])],
        GOAL,
    )
    measured(comparison)
    assert comparison.processor_ratio >= LEAST_RATIO


PARTS = {
    "fetching (Faust, aiokafka)": ["faust/", "aiokafka/", "mode/"],
    "batches and acknowledgements": ["streams/dedupe/faust_", "streams/dedupe/fence.py"],
    "parsing notifications": ["connectors/nylas/"],
    "fingerprints and kept fields": ["connectors/salesforce/"],
    "mailboxes and groups": [
        "streams/dedupe/mailbox_filter.py", "streams/mailboxes.py", "streams/contact_groups.py",
        "streams/grant_addresses.py", "streams/dedupe/left_out.py",
    ],
    "versions": ["streams/dedupe/versions.py"],
    "headers": ["streams/events.py"],
    "planning": ["streams/dedupe/planner.py", "streams/dedupe/stage.py"],
    "publishing": ["streams/dedupe/producer.py", "streams/kafka/"],
    "event loop (uvloop)": ["streams/dedupe/process.py", "streams/cli/"],
}  # fmt: skip
"""The first part whose path fits counts."""
NEXT_CHANGE = (
    "The baselines read with librdkafka, which is C; Faust reads with aiokafka, which is Python. "
    "The smallest change that would help much: a driver of Faust that reads batches by librdkafka."
)
PROFILED_SECONDS = 5


def test_where_the_processors_time_goes(
    kafka: Kafka, processes: Processes, tmp_path: Path, measured_sheet: MeasuredSheet
) -> None:
    """So that whoever wants it faster knows where to begin."""
    create_topics(kafka, PARTITIONS)
    fill(kafka)
    process = processes.start("dedupe", environ=environ(kafka, PARTITIONS, 10.0))
    wait_changes(kafka, 1)
    stacks = sample(process.pid, PROFILED_SECONDS, tmp_path)
    found = shares(stacks, PARTS)
    measured_sheet(
        profile_sheet("dedupe stage", "dedupe with the events above", found, NEXT_CHANGE)
    )
    assert {*found} >= {*PARTS}


def _figures(name: str, found: list[tuple[float, float]]) -> Figures:
    return Figures(name, [rate for rate, _ in found], [us for _, us in found])
