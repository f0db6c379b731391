"""An undo on a real Kafka and a strict org: former values come back, and stay."""

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.control import Pause, PausedPart, pause_record, resume_record
from streams.events import Kind, change_headers
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.kafka import Kafka
from tests.support.processes import Process
from tests.support.product import GRANT, Product, person, product
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.system]

# For a command, on two cores that other tests may share.
SECONDS = 120.0
RUN = "backfill-20260131-abc"


@pytest.fixture
def running(kafka: Kafka, tmp_path: Path) -> Iterator[Product]:
    """The sink and the org; the test writes to contacts.changes itself."""
    with product(kafka, tmp_path, org={}, without=("bridge", "reader", "dedupe")) as one:
        yield one


def change(running: Product, version: int, title: str, run: str = "") -> None:
    contact = person("ada", "ada@acme.example", job_title=title)
    headers = change_headers(Kind.UPDATED, version, "f" * 32, "m", b"backfill", b"1700000000000")
    if run:
        headers.append(("run.id", run.encode()))
    key = f"{GRANT}/ada".encode()
    running.kafka.produce("contacts.changes", [(key, json.dumps(contact).encode())], headers)
    running.outcome("ada", version)


def undo(running: Product, *arguments: str) -> dict[str, Any]:
    log = running.command("undo", *arguments, "--json")
    found: dict[str, Any] = json.loads(log[log.index("{") : log.rindex("}") + 1])
    return found


def pause(running: Product, *, ended: bool = False) -> None:
    """Pauses writing since a time at which no call of the sink can be on its way any more."""
    names = topics(load(KafkaSettings, {"KAFKA_TOPIC_PREFIX": running.kafka.prefix}))
    now_ms = int(time.time() * 1000)
    part = PausedPart.WRITES
    begun = Pause(part, "ada", "an undo", now_ms - 600_000, now_ms + 3_600_000)
    record = resume_record(names, part) if ended else pause_record(names, begun)
    running.kafka.produce("contactstream.control", [(record.key, record.value)], [])
    sink = running.stages["sink"]
    wait_until(lambda: _is_paused(sink) is not ended, "the sink has heard it", SECONDS)


def _is_paused(sink: Process) -> bool:
    name = "contactstream_sink_pause_ends_timestamp_seconds"
    return sink.metric(name, part="writes") > time.time()


def title(running: Product) -> str:
    (lead,) = running.records("Lead", Email="ada@acme.example")
    return str(lead["Title"])


def test_a_wrong_run_is_undone_once_and_the_value_stays(running: Product, tmp_path: Path) -> None:
    change(running, 1, "Engineer")
    change(running, 2, "Wrong", RUN)
    values = tmp_path / "values.csv"
    assert undo(running, RUN, "--values", str(values))["restored"] == 1
    (row,) = csv.DictReader(values.read_text().splitlines())
    assert (row["Field"], row["Before"], row["Written"], row["Stands"]) == (
        "Lead.Title",
        "Engineer",
        "Wrong",
        "ours",
    )
    assert "--values" in running.command("undo", RUN, "--values", str(values), status=2)
    assert title(running) == "Wrong", "without --execute nothing is changed"
    refused = running.command("undo", RUN, "--execute", status=2)
    assert "writing is not paused" in refused
    pause(running)
    done = undo(running, RUN, "--execute", "--why", "a wrong mapping", "--actor", "ada")
    assert (done["restored"], done["fields"]) == (1, {"Lead.Title": {"ours": 1}})
    assert title(running) == "Engineer"
    again = undo(running, RUN, "--execute")
    assert (again["restored"], again["undone_before"]) == (0, 1)
    assert "is an undo" in running.command("undo", done["undo"], "--execute", status=2)
    assert "did you mean" in running.command("undo", f"{RUN}d", status=2)
    assert "nothing limits the undo" in running.command("undo", status=2)
    pause(running, ended=True)
    change(running, 3, "Wrong again")
    assert title(running) == "Engineer", "the field counts as people's"
    audit = running.command("audit", "--json")
    assert '"undo"' in audit
    assert '"undo --values"' in audit
    assert "a wrong mapping" in audit
    explained = running.command("explain", f"{GRANT}/ada")
    assert "restored" in explained
    assert "Engineer" not in explained
    path = tmp_path / "created.csv"
    created = undo(running, "--since", "1h", "--created", str(path))
    assert (created["created"], created["untouched"]) == (1, 0), "a person's value is in it"
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows == [["Id", "Object", "Contact", "Run", "Created"]]
