"""Failure breakers on a real Kafka: what stops, what goes on, and what a release does."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from streams.events import Kind, change_headers
from tests.support.kafka import Kafka
from tests.support.processes import Process
from tests.support.product import GRANT, Product, person, product, updated
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.system, pytest.mark.slow]

REASON = "field_custom_validation_exception"
CONTACTS = 1500
# Little beside the address book, so that the run is not over before its breaker opens.
MAX_LAG = 200
# From an outcome to what follows from it, on two cores that other tests may share.
SECONDS = 180.0


# Several batches are in flight when the breaker opens.
SMALL_BATCHES = {"SINK_BATCH_SIZE": "200"}


@pytest.fixture
def running(kafka: Kafka, tmp_path: Path) -> Iterator[Product]:
    contacts = [
        person(f"c{n}", f"p{n}@acme{n}.example", surname=f"Person{n}") for n in range(CONTACTS)
    ]
    grant = {"id": GRANT, "email": "rep@reps.example", "provider": "google", "contacts": contacts}
    environ = SMALL_BATCHES | {"READER_MAX_LAG": str(MAX_LAG), "READER_RECONCILE_EVERY": "0"}
    with product(kafka, tmp_path, org={}, grants=[grant], environ=environ) as one:
        yield one


@pytest.fixture
def sink_alone(kafka: Kafka, tmp_path: Path) -> Iterator[Product]:
    """The sink and the org; the test writes to contacts.changes itself."""
    others = ("bridge", "reader", "dedupe")
    with product(kafka, tmp_path, org={}, environ=SMALL_BATCHES, without=others) as one:
        yield one


def rule(running: Product, every: int) -> None:
    """The org refuses one row of so many, as a validation rule does; 0 removes the rule."""
    url = f"{running.salesforce}/_sim/faults"
    running.http.delete(url).raise_for_status()
    fault = {
        "effect": "rows",
        "kind": "composite_write",
        "code": "FIELD_CUSTOM_VALIDATION_EXCEPTION",
        "message": "Enter a region",
        "every": every,
        "times": None,
    }
    if every:
        running.http.post(url, json={"faults": [fault]}).raise_for_status()


def open_breakers(running: Product) -> list[dict[str, Any]]:
    log = running.command("breakers", "--json")
    found: list[dict[str, Any]] = json.loads(log[log.index("{") :])["open"]
    return found


def is_open(sink: Process, stops: str) -> bool:
    return sink.metric("contactstream_sink_breakers_open", stops=stops) == 1


def outcomes(running: Product) -> dict[str, str]:
    """The last outcome of each contact."""
    return {
        (found.key or b"").decode(): json.loads(found.value)["outcome"]
        for found in running.kafka.read("contacts.outcomes")
        if found.value
    }


def dead_letter_keys(running: Product) -> list[str]:
    return [(found.key or b"").decode() for found in running.dead_letters()]


def restart(running: Product, stage: str) -> Process:
    running.stages[stage].kill()
    running.stages[stage] = running.processes.start(stage)
    return running.stages[stage]


def live_outcome(running: Product, name: str) -> str:
    contact = person(name, f"{name}@live.example", surname=name.title())
    running.notify([updated(contact, 1_790_000_000, f"n-{name}")])
    return str(running.outcome(name, 1_790_000_000)["outcome"])


def test_a_rule_that_refuses_rows_of_a_bulk_run_pauses_the_run_until_it_is_released(
    running: Product,
) -> None:
    rule(running, 25)
    run_id = running.command("backfill", "--all", "--no-wait").split()[-1]
    wait_until(partial(is_open, running.stages["sink"], "bulk"), "the breaker opens", SECONDS)
    (found,) = open_breakers(running)
    assert (found["reason"], found["stops"]) == (REASON, "bulk")
    assert found["failures"] / found["outcomes"] >= 0.01
    assert f"running, paused: too many contacts fail with {REASON}" in running.command("runs")
    reader = running.stages["reader"]
    wait_until(
        lambda: reader.metric("contactstream_reader_waits_total", reason="breaker") > 0,
        "the run waits",
        SECONDS,
    )
    rule(running, 0)  # the operator has corrected it, and has not released the run yet
    published = len(running.kafka.read("contacts.events"))
    assert published < CONTACTS
    assert live_outcome(running, "grace") == "created"
    for stage, stops in (("sink", "bulk"), ("reader", "")):
        process = restart(running, stage).wait_ready()
        if stops:
            wait_until(partial(is_open, process, stops), "a restart keeps it open", SECONDS)
    reader = running.stages["reader"]
    wait_until(
        lambda: reader.metric("contactstream_reader_waits_total", reason="breaker") > 0,
        "another reader waits as well",
        SECONDS,
    )
    assert live_outcome(running, "ada") == "created"
    assert len(running.kafka.read("contacts.events")) == published + 2, "only the live ones came"
    before = sorted(dead_letter_keys(running))

    said = running.command("breakers", "release", REASON, "--actor", "test")
    assert f"released {REASON}" in said
    running.command("runs", "follow", run_id)
    everybody = {f"{GRANT}/c{n}" for n in range(CONTACTS)}

    def all_done() -> bool:
        return everybody <= outcomes(running).keys()

    wait_until(all_done, "every contact has an outcome", SECONDS)
    assert sorted(dead_letter_keys(running)) == before, "only what failed before is a dead letter"
    failed = {key for key, outcome in outcomes(running).items() if outcome == "failed"}
    assert failed == set(before)
    assert len(running.records("Lead")) == CONTACTS + 2 - len(failed)
    assert open_breakers(running) == []


def test_a_rule_that_refuses_everything_leaves_the_changes_on_the_topic(
    sink_alone: Product,
) -> None:
    rule(sink_alone, 1)
    keys = [f"{GRANT}/live{n}" for n in range(1200)]
    sink_alone.kafka.produce(
        "contacts.changes",
        [
            (
                key.encode(),
                json.dumps(person(key.partition("/")[2], f"p{n}@x{n}.example")).encode(),
            )
            for n, key in enumerate(keys)
        ],
        change_headers(Kind.UPDATED, 1_790_000_000, "f" * 32, "m", b"webhook", b"0"),
    )
    sink = sink_alone.stages["sink"]
    wait_until(lambda: REASON in sink.ask("/readyz")[1], "the sink is stopped", SECONDS)
    assert sink.ask("/readyz")[0] == 503
    assert sink.ask("/livez")[0] == 200, "no restart would help"
    (found,) = open_breakers(sink_alone)
    assert (found["stops"], found["failures"]) == ("all", 500)
    sink = restart(sink_alone, "sink")
    wait_until(lambda: REASON in sink.ask("/readyz")[1], "a restart keeps it stopped", SECONDS)
    rule(sink_alone, 0)
    before = sorted(dead_letter_keys(sink_alone))
    assert len(before) == len(set(before)) == 500, "those that opened the breaker, and no more"
    assert sink_alone.records("Lead") == []
    sink_alone.command("breakers", "release", REASON, "--actor", "test")
    wait_until(lambda: set(keys) <= outcomes(sink_alone).keys(), "all have outcomes", SECONDS)
    sink.wait_ready()
    assert sorted(dead_letter_keys(sink_alone)) == before
    # The killed sink may have been unable to commit behind a dead letter, which is then repeated.
    written = {lead["Nylas_Contact_Id__c"] for lead in sink_alone.records("Lead")}
    assert written | set(before) == set(keys)
