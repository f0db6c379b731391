"""Pauses on a real Kafka: what stops, what goes on, and what survives a restart."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kafka import Kafka
from tests.support.processes import Process
from tests.support.product import GRANT, Product, person, product, updated
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.system]

CONTACTS = 120
# From a command to what follows from it, on two cores that other tests may share.
SECONDS = 120.0


@pytest.fixture
def running(kafka: Kafka, tmp_path: Path) -> Iterator[Product]:
    contacts = [person(f"c{n}", f"p{n}@acme.example", surname=f"P{n}") for n in range(CONTACTS)]
    grant = {"id": GRANT, "email": "rep@reps.example", "provider": "google", "contacts": contacts}
    environ = {"READER_RECONCILE_EVERY": "0", "SINK_BULK_LINGER": "1"}
    with product(kafka, tmp_path, org={}, grants=[grant], environ=environ) as one:
        yield one


def pauses(running: Product) -> list[dict[str, Any]]:
    log = running.command("pause", "--json")
    found: list[dict[str, Any]] = json.loads(log[log.index("[") :])
    return found


def pause_ends(process: Process, part: str) -> float:
    stage = {"writes": "sink", "reading": "reader"}[part]
    name = f"contactstream_{stage}_pause_ends_timestamp_seconds"
    return process.metric(name, part=part)


def restart(running: Product, stage: str) -> Process:
    running.stages[stage].kill()
    running.stages[stage] = running.processes.start(stage)
    return running.stages[stage]


def until_waiting(reader: Process) -> None:
    def waits() -> bool:
        return reader.metric("contactstream_reader_waits_total", reason="paused") > 0

    wait_until(waits, "the run waits", SECONDS)


def notify(running: Product, name: str) -> None:
    contact = person(name, f"{name}@live.example", surname=name.title())
    running.notify([updated(contact, 1_790_000_000, f"n-{name}")])


def test_paused_writing_stops_the_sink_through_a_restart_until_it_is_resumed(
    running: Product,
) -> None:
    sink = running.stages["sink"]
    said = running.command(
        "pause", "writes", "--until", "1h", "--why", "a migration", "--actor", "ada"
    )
    assert "paused writes until" in said
    wait_until(lambda: pause_ends(sink, "writes") > time.time(), "the sink has heard it", SECONDS)
    notify(running, "grace")
    wait_until(
        lambda: any(b"grace" in (one.key or b"") for one in running.kafka.read("contacts.changes")),
        "the change waits on its topic",
        SECONDS,
    )
    assert sink.ask("/readyz")[0] == 200, "a rollout does not wait for the end of the pause"
    sink = restart(running, "sink").wait_ready()
    wait_until(lambda: pause_ends(sink, "writes") > time.time(), "the next one as well", SECONDS)
    (one,) = pauses(running)
    assert (one["part"], one["by"], one["why"]) == ("writes", "ada", "a migration")
    log = running.processes.start("status", "--json")
    log.popen.wait(SECONDS)
    status = json.loads(log.log[log.log.index("{") :])
    assert [each["part"] for each in status["pauses"]] == ["writes"]
    assert running.records("Lead") == []
    assert "resumed writes" in running.command("resume", "writes", "--actor", "ada")
    assert running.outcome("grace", 1_790_000_000)["outcome"] == "created"
    assert pauses(running) == []
    assert pause_ends(sink, "writes") == 0


def test_paused_reading_asks_nylas_for_nothing_while_webhooks_are_written(
    running: Product,
) -> None:
    reader = running.stages["reader"]
    running.command("pause", "reading", "--until", "1h", "--why", "limits", "--actor", "ada")
    wait_until(lambda: pause_ends(reader, "reading") > time.time(), "it has heard it", SECONDS)
    run_id = running.command("backfill", "--all", "--no-wait").split()[-1]
    until_waiting(reader)
    until_waiting(restart(running, "reader").wait_ready())
    assert "ada paused reading; see contactstream pause" in running.command("runs")
    notify(running, "grace")
    assert running.outcome("grace", 1_790_000_000)["outcome"] == "created"
    assert len(running.kafka.read("contacts.events")) == 1, "nothing but the webhook"
    running.command("resume", "reading", "--actor", "ada")
    running.command("runs", "follow", run_id)
    wait_until(lambda: len(running.records("Lead")) == CONTACTS + 1, "all are there", SECONDS)
