"""Modes on a real Kafka: the sink waits for a choice, looks first, and obeys without a restart."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.kafka.admin import create
from streams.runtime.exit_codes import ExitCode
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.kafka import Kafka
from tests.support.processes import Processes
from tests.support.product import GRANT, Product, person, product
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.system]

CONTACTS = 60
# From a command to what follows from it, on two cores that other tests may share.
SECONDS = 120.0


@pytest.fixture
def looking(kafka: Kafka, tmp_path: Path) -> Iterator[Product]:
    """Everything runs, and the mode that the settings name is report-only."""
    contacts = [person(f"c{n}", f"p{n}@acme.example", surname=f"P{n}") for n in range(CONTACTS)]
    grant = {"id": GRANT, "email": "rep@reps.example", "provider": "google", "contacts": contacts}
    environ = {"READER_RECONCILE_EVERY": "0", "SALESFORCE_MODE": "report-only"}
    with product(kafka, tmp_path, org={}, grants=[grant], environ=environ) as one:
        yield one


def last_outcomes(running: Product) -> list[str]:
    found: dict[bytes | None, dict[str, Any]] = {
        one.key: json.loads(one.value)
        for one in running.kafka.read("contacts.outcomes")
        if one.value
    }
    return [outcome["outcome"] for outcome in found.values()]


def until_all(running: Product, outcome: str) -> None:
    wait_until(
        lambda: last_outcomes(running) == [outcome] * CONTACTS, f"all are {outcome}", SECONDS
    )


def test_report_only_writes_nothing_and_another_mode_writes_it_without_asking_nylas_again(
    looking: Product,
) -> None:
    looking.command("backfill", "--all")
    until_all(looking, "planned")
    assert not looking.records("Lead")
    asked = looking.asked("contacts")
    looking.stages["sink"].kill()  # the mode that is set counts for its successor too
    looking.command("mode", "set", "mirror", "--why", "the plan is right", "--actor", "ada")
    looking.stages["sink"] = looking.processes.start("sink")
    until_all(looking, "created")
    assert len(looking.records("Lead")) == CONTACTS
    assert looking.asked("contacts") == asked
    shown = json.loads(looking.command("mode", "show", "--json"))
    assert shown["mode"] == "mirror"
    assert "set by ada" in shown["origin"]


def test_without_a_mode_the_sink_does_not_start_against_an_org_it_has_not_written_to(
    kafka: Kafka, tmp_path: Path
) -> None:
    create(kafka.admin(), topics(load(KafkaSettings, kafka.environ)).all())
    org = {
        "SALESFORCE_LOGIN_URL": "http://127.0.0.1:1",
        "SALESFORCE_CLIENT_ID": "test",
        "SALESFORCE_CLIENT_SECRET": "test",
    }
    processes = Processes(tmp_path, kafka.environ | org)
    try:
        sink = processes.start("sink")
        assert sink.popen.wait(SECONDS) == ExitCode.MODE_REQUIRED, sink.log
        assert "contactstream mode set report-only" in sink.log
    finally:
        processes.end()
