"""The sink in a container of 1 GB works off large contacts, whatever their sizes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.kafka.clients import MAX_MESSAGE_BYTES
from tests.faults.harness.load import GRANT, contact
from tests.faults.harness.scenario import Scenario, change
from tests.support.kafka import Kafka
from tests.support.memory_limit import memory_limit
from tests.support.processes import Processes
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.storm]

GIGABYTE = 2**30
CHANGES = 12_000
NOTES_BYTES = 100_000
# Now and then a contact of the largest size, and many small ones between them.
LARGE_EVERY, LARGE_BYTES = 400, MAX_MESSAGE_BYTES - 50_000
SMALL_EVERY = 3
AT_ONCE = 500
SECONDS = 240.0


@pytest.fixture
def scenario(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(kafka, processes, tmp_path) as one:
        yield one.set_up(settings={"write_log": False})


def text(size: int) -> str:
    """Text of which an answer of the broker, which is compressed, holds much."""
    return ("Met at the fair in spring; wants a quote for forty seats. " * (size // 50))[:size]


def send(scenario: Scenario) -> int:
    """Writes the changes; returns how many. Two contacts in three have notes of 100 KB or more."""
    notes, large = text(NOTES_BYTES), text(LARGE_BYTES)
    _, headers = change(0, 1, "")
    total = CHANGES * SMALL_EVERY // (SMALL_EVERY - 1)
    for start in range(0, total, AT_ONCE):
        records: list[tuple[bytes | None, bytes | None]] = []
        for number in range(start, min(start + AT_ONCE, total)):
            held = notes if number % SMALL_EVERY else ""
            if number % LARGE_EVERY == 0:
                held = large
            value = json.dumps(contact(number, "first", held)).encode()
            records.append((f"{GRANT}/c{number}".encode(), value))
        scenario.kafka.produce("contacts.changes", records, headers, compression="lz4")
    return total


@pytest.mark.timeout(480)
def test_large_contacts_are_written_by_a_sink_with_one_gigabyte(scenario: Scenario) -> None:
    total = send(scenario)
    with memory_limit(GIGABYTE) as limit:
        sink = scenario.start("sink")
        if limit is not None:
            limit.add(sink.pid)

        def done() -> bool:
            assert sink.exit_code is None, f"ended with {sink.exit_code}:\n{sink.log[-3000:]}"
            return scenario.committed("sink", "contacts.changes").get(0, 0) >= total

        wait_until(done, "every change is committed", SECONDS)
        status = Path(f"/proc/{sink.pid}/status").read_text()
        (line,) = (one for one in status.splitlines() if one.startswith("VmHWM:"))
        peak = int(line.split()[1]) * 1024
        written = sink.metric("contactstream_sink_rows_total", outcome="created")
        sink.kill()
    print(f"sink: {total} changes, {peak // 2**20} MB at most, limit {limit}")
    assert written == total
    assert peak < GIGABYTE
