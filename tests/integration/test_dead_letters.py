"""Dead letters on a real Kafka, from bridge to sink: found, redriven, discarded and erased."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kafka import Kafka
from tests.support.product import GRANT, Product, person, product, updated
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

BASE = 1_760_000_000
SECONDS = 60.0
REASON = "field_custom_validation_exception"


@pytest.fixture
def running(kafka: Kafka, tmp_path: Path) -> Iterator[Product]:
    """Bridge, dedupe, sink and the org."""
    with product(kafka, tmp_path, org={}, without=("reader",)) as one:
        yield one


def refuse(running: Product, *contained: str) -> None:
    """From now on the org refuses rows that contain one of these; none removes the rule."""
    listed = [
        {
            "effect": "rows",
            "kind": "composite_write",
            "code": "FIELD_CUSTOM_VALIDATION_EXCEPTION",
            "contains": text,
        }
        for text in contained
    ]
    answer = running.http.post(f"{running.salesforce}/_sim/faults", json={"faults": listed})
    answer.raise_for_status()


def command(running: Product, *arguments: str, expect: int = 0) -> str:
    process = running.processes.start("dead-letters", *arguments)
    code = process.popen.wait(SECONDS)
    assert code == expect, process.log
    return process.log


def listed(running: Product, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(command(running, "list", "--json", *arguments))
    return found


def notify(running: Product, version: int, *contact_ids: str, **fields: Any) -> None:
    running.notify(
        [
            updated(
                person(one, f"{one}@{one}.example", **fields), BASE + version, f"{one}-{version}"
            )
            for one in contact_ids
        ]
    )


def failed(running: Product, contact_id: str, version: int) -> None:
    assert running.outcome(contact_id, BASE + version)["outcome"] == "failed"


def test_a_letter_is_redriven_once_its_cause_is_mended_and_a_loop_shows_in_its_attempts(
    running: Product,
) -> None:
    refuse(running, "bad@")
    notify(running, 1, "bad", "worse")  # in one call: both are refused
    for contact_id in ("bad", "worse"):
        failed(running, contact_id, 1)
    summary = command(running)
    assert f"2  {REASON}  (sink)" in summary
    assert "Change the rule in Salesforce" in summary
    assert "bad@" not in summary
    assert "A*** L***" in summary

    refuse(running, "worse@")
    preview = command(running, "redrive", "--reason", REASON)
    assert "Nothing is changed" in preview
    assert len(listed(running)) == 2
    mended = ("--key", f"{GRANT}/bad", "--execute", "--expect", "1", "--why", "mended")
    command(running, "redrive", "--reason", REASON, *mended)
    wait_until(lambda: running.records("Lead", Email="bad@bad.example"), "the record is there")
    command(running, "redrive", "--all-of-them", expect=2)
    command(running, "redrive", "--yes", "--execute")

    def failed_again() -> bool:
        return [one["attempts"] for one in listed(running)] == [2]

    wait_until(failed_again, "it failed again", SECONDS)
    (left,) = listed(running)
    assert left["contact"] == f"{GRANT}/worse"
    assert left["first_failed_ms"] < left["last_failed_ms"]
    shown = json.loads(command(running, "show", left["id"], "--json"))
    assert "@worse" not in json.dumps(shown)
    revealed = command(running, "show", left["id"], "--reveal", "--actor", "ada")
    assert "worse@worse.example" in revealed
    audit = running.processes.start("audit")
    assert audit.popen.wait(SECONDS) == 0
    assert audit.log.count("dead-letters redrive  1") == 2
    assert ": mended" in audit.log
    assert "by ada" in audit.log
    assert "NOT ENDED" not in audit.log


def test_a_letter_that_something_newer_superseded_changes_nothing(running: Product) -> None:
    refuse(running, "OldTitle")
    notify(running, 1, "one", job_title="OldTitle")
    failed(running, "one", 1)
    notify(running, 2, "one", job_title="NewTitle")
    assert running.outcome("one", BASE + 2)["outcome"] == "created"
    refuse(running)
    assert [one["state"] for one in listed(running)] == ["superseded"]
    refused = command(running, "redrive", "--key", f"{GRANT}/one", "--execute", expect=1)
    assert "1 are superseded" in refused
    assert len(running.kafka.read("contacts.changes")) == 2
    command(running, "discard", "--superseded", "--yes", "--execute")
    assert listed(running) == []
    (lead,) = running.records("Lead", Email="one@one.example")
    assert lead["Title"] == "NewTitle"


def test_a_person_is_erased_from_the_dead_letters_and_bad_input_names_the_remedy(
    running: Product, tmp_path: Path
) -> None:
    refuse(running, "one@", "two@")
    notify(running, 1, "one", "two")
    failed(running, "one", 1)
    failed(running, "two", 1)
    assert "did you mean" in command(
        running, "redrive", "--reason", "field_custom_validation", expect=2
    )
    assert "add --yes" in command(running, "discard", "--execute", expect=1)
    assert "has grown from 1 to 2" in command(
        running, "discard", "--grant", GRANT, "--expect", "1", "--execute", expect=1
    )
    assert "no open letter has this ID" in command(running, "show", "x", expect=1)
    assert "after `list`" in command(running, "--reason", REASON, "list", expect=2)
    running.notify([{"raw": "[1"}])
    preview = command(running, "redrive", "--reason", "not_json")
    assert "1 cannot be redriven and stay open: this version cannot read it either" in preview
    assert "no open letter is selected" in preview
    command(running, "discard", "--reason", "not_json", "--execute")
    suppress = running.processes.start("suppress", "one@one.example")
    assert suppress.popen.wait(SECONDS) == 0, suppress.log
    assert "contacts.dead-letter: 1 records" in suppress.log
    assert [one["contact"] for one in listed(running)] == [f"{GRANT}/two"]
    tombstones = [
        found.key
        for found in running.kafka.read("contacts.dead-letter")
        if found.value is None and b"contacts.changes" in (found.key or b"")
    ]
    assert tombstones == [
        found.key
        for found in running.kafka.read("contacts.dead-letter")
        if found.value is not None and b"one@one.example" in found.value
    ]
