"""What a run has read is written when the run is complete, not after the wait for a full batch."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.complete_runs import COMPLETE_RUNS_KEY
from tests.support.kafka import Kafka
from tests.support.product import GRANT, Product, person, product
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CONTACTS = 60
# From a command to what follows from it, on two cores that other tests may share.
SECONDS = 120.0
# No test waits for so long: what is written was written because its run was complete.
LINGER = "3600"


@pytest.fixture
def running(kafka: Kafka, tmp_path: Path) -> Iterator[Product]:
    """Everything but dedupe runs."""
    contacts = [person(f"c{n}", f"p{n}@acme.example", surname=f"P{n}") for n in range(CONTACTS)]
    grant = {"id": GRANT, "email": "rep@reps.example", "provider": "google", "contacts": contacts}
    environ = {"READER_RECONCILE_EVERY": "0", "SINK_BULK_LINGER": LINGER}
    with product(
        kafka, tmp_path, org={}, grants=[grant], environ=environ, without=("dedupe",)
    ) as one:
        yield one


def told(running: Product) -> list[int]:
    """How far contacts.changes was said to be complete."""
    return [
        json.loads(found.value or b"{}")["changes_end"]
        for found in running.kafka.read("contactstream.control")
        if found.key == COMPLETE_RUNS_KEY
    ]


def test_a_backfill_is_written_in_one_batch_once_dedupe_has_worked_on_all_of_it(
    running: Product,
) -> None:
    running.command("backfill", "--all")
    assert told(running) == [], "the run has ended, but dedupe has seen nothing of it"
    assert not running.records("Lead")
    running.stages["dedupe"] = running.processes.start("dedupe")
    wait_until(lambda: len(running.records("Lead")) == CONTACTS, "all are written", SECONDS)
    assert told(running) == [CONTACTS]
    assert running.count("sink", "contactstream_sink_batch_rows_count") == 1
    running.command("reconcile", "--all")
    wait_until(lambda: told(running) == [CONTACTS, CONTACTS], "the next run is complete", SECONDS)
    assert running.count("sink", "contactstream_sink_batch_rows_count") == 1, "nothing was news"
