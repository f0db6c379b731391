"""The console beside the running product: it shows what the topics hold, and acts on it."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.broker import free_ports
from tests.support.kafka import Kafka
from tests.support.processes import Process
from tests.support.product import GRANT, OTHER_GRANT, Product, person, product, updated
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

BASE = 1_760_000_000
SECONDS = 60.0
REASON = "field_custom_validation_exception"


class Console:
    """A console, asked as a browser asks it."""

    def __init__(self, process: Process, address: str, http: httpx.Client) -> None:
        self.process, self._address, self._http = process, address, http

    def get(self, path: str, **query: str) -> str:
        answer = self._http.get(f"{self._address}{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.text

    def rows(self, path: str, table: str, **query: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = json.loads(self.get(path, export=f"{table}.json", **query))
        return found

    def post(self, path: str, **fields: str) -> str:
        own = {"Sec-Fetch-Site": "same-origin", "Origin": self._address}
        answer = self._http.post(
            f"{self._address}{path}", data=fields, headers=own, follow_redirects=True
        )
        assert answer.status_code == 200, answer.text
        return answer.text


@pytest.fixture
def running(kafka: Kafka, tmp_path: Path) -> Iterator[Product]:
    """Bridge, dedupe, sink and the org."""
    with product(kafka, tmp_path, org={}, without=("reader",)) as one:
        yield one


def started(running: Product) -> Console:
    (port,) = free_ports(1)
    process = running.processes.start("console", environ={"CONSOLE_LISTEN": f"127.0.0.1:{port}"})
    process.wait_ready()
    console = Console(process, f"http://127.0.0.1:{port}", running.http)

    def known() -> bool:
        answer = running.http.get(f"http://127.0.0.1:{port}/dead-letters")
        return answer.status_code == 200

    wait_until(known, "the console knows the topics", SECONDS)
    return console


def refuse(running: Product, *contained: str) -> None:
    """From now on the org refuses rows that contain one of these; none removes the rule."""
    faults = [
        {
            "effect": "rows",
            "kind": "composite_write",
            "code": "FIELD_CUSTOM_VALIDATION_EXCEPTION",
            "contains": text,
        }
        for text in contained
    ]
    running.http.post(
        f"{running.salesforce}/_sim/faults", json={"faults": faults}
    ).raise_for_status()


def notify(running: Product, version: int, *ids: str, grant: str = GRANT) -> None:
    running.notify(
        [
            updated(
                person(one, f"{one}@{one}.example", grant=grant), BASE + version, f"{one}-{version}"
            )
            for one in ids
        ]
    )


def newest_outcomes(running: Product) -> dict[str, dict[str, Any]]:
    """What contacts.outcomes holds of each contact."""
    found: dict[str, dict[str, Any]] = {}
    for record in running.kafka.read("contacts.outcomes"):
        if record.key and record.value:
            found[record.key.decode()] = json.loads(record.value)
    return found


def audited(running: Product) -> list[dict[str, Any]]:
    return [
        json.loads(record.value)
        for record in running.kafka.read("contactstream.audit")
        if record.value
    ]


def test_the_pages_show_what_the_topics_hold_and_a_redrive_lands_in_the_org(
    running: Product,
) -> None:
    notify(running, 1, "good")
    notify(running, 1, "other", grant=OTHER_GRANT)
    for contact, grant in (("good", GRANT), ("other", OTHER_GRANT)):
        running.outcome(contact, BASE + 1, grant)
    refuse(running, "bad@")
    notify(running, 1, "bad")
    running.outcome("bad", BASE + 1)
    console = started(running)

    outcomes = newest_outcomes(running)
    of_grants = Counter(key.partition("/")[0] for key in outcomes)
    shown = {row["grant"]: row for row in console.rows("/people", "coverage")}
    assert {grant: int(row["eligible"]) for grant, row in shown.items()} == of_grants
    created = Counter(
        key.partition("/")[0] for key in outcomes if outcomes[key]["outcome"] == "created"
    )
    assert {grant: int(row["with_record"]) for grant, row in shown.items()} == created
    assert shown[GRANT]["failed"] == "1"

    (letter,) = console.rows("/dead-letters", "letters")
    assert letter["reason"] == REASON
    (group,) = console.rows("/dead-letters", "reasons")
    assert group["letters"] == "1"
    assert "Change the rule in Salesforce" in group["remedy"]

    letter_id = letter["id"]
    assert "bad@bad.example" not in console.get("/dead-letters/letter", id=letter_id)
    assert "bad@bad.example" in console.post("/dead-letters/reveal", id=letter_id)
    assert audited(running)[-1]["action"] == "dead-letters show --reveal"
    assert audited(running)[-1]["selection"] == {"id": letter_id}

    refuse(running)
    assert "Redrive 1 letter?" in console.get("/dead-letters/redrive", reason=REASON)
    done = console.post("/dead-letters/redrive", reason=REASON, expect="1", why="mended")
    assert "1 letter was redriven." in done
    wait_until(lambda: running.records("Lead", Email="bad@bad.example"), "the record", SECONDS)
    wait_until(lambda: not console.rows("/dead-letters", "letters"), "the letter is closed")
    begun, ended = audited(running)[-2:]
    assert (begun["state"], ended["state"], ended["count"]) == ("begun", "ended", 1)
    assert (begun["action"], begun["why"]) == ("dead-letters redrive", "mended")

    def followed() -> bool:
        return console.rows("/people", "coverage", grant="")[0]["with_record"] == "2"

    wait_until(followed, "the outcome of the redrive is counted", SECONDS)
    assert_metrics(console.process)
    assert_one_person(running, console)


def assert_metrics(process: Process) -> None:
    def metric(name: str, **labels: str) -> float:
        return process.metric(f"contactstream_{name}", **labels)

    wait_until(lambda: metric("coverage_people", state="with_record") == 3, "the metrics", SECONDS)
    assert metric("coverage_people", state="eligible") == 3
    assert metric("coverage_grant_people", grant="other", state="eligible") == 0
    wait_until(lambda: metric("dead_letters_open", reason=REASON) == 0, "no open letter", SECONDS)


def assert_one_person(running: Product, console: Console) -> None:
    page = console.post("/person", subject="bad@bad.example")
    assert f"{GRANT}/bad" in page
    timeline = console.rows("/person", "timeline_1", subject=f"{GRANT}/bad")
    assert [row["result"] for row in timeline if row["what"] == "outcome"] == [
        "failed",
        "created",
    ] or timeline[-1]["result"] == "created"
    assert "bad@bad.example" not in console.get("/person", subject=f"{GRANT}/bad")
    assert "Lovelace" in console.post("/person/reveal", subject=f"{GRANT}/bad")
    assert audited(running)[-1]["action"] == "person reveal"
    assert audited(running)[-1]["selection"] == {"keys": [f"{GRANT}/bad"]}
