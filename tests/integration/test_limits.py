"""Limits on a real Kafka: who is held, through a restart, and what a release and a pause do."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kafka import Kafka
from tests.support.processes import Process
from tests.support.product import GRANT, Product, person, product, updated
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.system]

CONTACTS, LIMIT = 60, 25
# From a command to what follows from it, on two cores that other tests may share.
SECONDS = 120.0


@pytest.fixture
def limited(kafka: Kafka, tmp_path: Path) -> Iterator[Product]:
    contacts = [person(f"c{n}", f"p{n}@acme.example", surname=f"P{n}") for n in range(CONTACTS)]
    grant = {"id": GRANT, "email": "rep@reps.example", "provider": "google", "contacts": contacts}
    environ = {"READER_RECONCILE_EVERY": "0", "SINK_CREATIONS_PER_DAY": str(LIMIT)}
    with product(kafka, tmp_path, org={}, grants=[grant], environ=environ) as one:
        yield one


def last_outcomes(running: Product) -> Counter[str]:
    found: dict[bytes | None, dict[str, Any]] = {
        one.key: json.loads(one.value)
        for one in running.kafka.read("contacts.outcomes")
        if one.value
    }
    return Counter(outcome["outcome"] for outcome in found.values())


def until(running: Product, **outcomes: int) -> None:
    wait_until(lambda: last_outcomes(running) == outcomes, f"outcomes are {outcomes}", SECONDS)


def restart_sink(running: Product) -> Process:
    running.stages["sink"].kill()
    running.stages["sink"] = running.processes.start("sink").wait_ready()
    return running.stages["sink"]


def notify(running: Product, name: str, time: int, **fields: Any) -> None:
    contact = person(name, f"{name}@live.example", surname=name.title(), **fields)
    running.notify([updated(contact, time, f"n-{name}-{time}")])


def test_who_is_beyond_the_limit_is_held_through_a_restart_until_somebody_releases_them(
    limited: Product,
) -> None:
    limited.command("backfill", "--all")
    until(limited, created=LIMIT, held=CONTACTS - LIMIT)
    assert len(limited.records("Lead")) == LIMIT
    restart_sink(limited)
    notify(limited, "grace", 1_790_000_000)
    held = limited.outcome("grace", 1_790_000_000)
    assert (held["outcome"], held["reason"]) == ("held", "creations_per_day"), (
        "a successor counts what its predecessor created"
    )
    listed = json.loads(limited.command("held", "--json"))
    assert listed["held"] == CONTACTS - LIMIT + 1
    assert listed["groups"][0]["mailbox"] == "r***@r***"
    asked = limited.asked("contacts")
    limited.command("held", "release", "--all", "--why", "checked", "--actor", "ada")
    until(limited, created=CONTACTS + 1)
    assert len(limited.records("Lead")) == CONTACTS + 1
    assert limited.asked("contacts") == asked, "Nylas is not asked"


def test_while_creations_are_paused_updates_go_on_and_a_resume_offers_the_held_again(
    limited: Product,
) -> None:
    notify(limited, "ada", 1_790_000_000)
    assert limited.outcome("ada", 1_790_000_000)["outcome"] == "created"
    limited.command("pause", "creations", "--until", "1h", "--why", "a migration")
    sink = limited.stages["sink"]
    name = "contactstream_sink_pause_ends_timestamp_seconds"
    wait_until(lambda: sink.metric(name, part="creations") > 0, "the sink has heard it", SECONDS)
    notify(limited, "grace", 1_790_000_100)
    held = limited.outcome("grace", 1_790_000_100)
    assert (held["outcome"], held["reason"]) == ("held", "creations_paused")
    notify(limited, "ada", 1_790_000_200, job_title="Countess")
    assert limited.outcome("ada", 1_790_000_200)["outcome"] == "updated"
    limited.command("resume", "creations")
    until(limited, created=1, updated=1)
    assert limited.records("Lead", LastName="Grace")
