"""`contactstream status` against the running product."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.kafka import Kafka
from tests.support.product import Product, person, product, updated
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

BASE = 1_760_000_000
SECONDS = 60.0


def status(running: Product, expect: int, **environ: str) -> dict[str, Any]:
    process = running.processes.start("status", "--json", environ=environ)
    assert process.popen.wait(SECONDS) == expect, process.log
    found: dict[str, Any] = json.loads(process.log)
    return found


def test_the_page_shows_what_the_topics_hold_and_ends_with_1_when_a_stage_is_missing(
    kafka: Kafka, tmp_path: Path
) -> None:
    people = [person(f"p{number}", f"p{number}@p{number}.example") for number in range(5)]
    known = {"LastName": "Lovelace", "FirstName": "Ada", "Company": "x", "Email": "p0@p0.example"}
    with product(kafka, tmp_path, org={"leads": [known]}) as running:
        running.notify([updated(one, BASE, f"n-{one['id']}") for one in people])
        for one in people:
            running.outcome(one["id"], BASE)
        fine = status(running, 0)
        stages = {stage["stage"]: stage for stage in fine["stages"]}
        assert fine["needs_a_person"] == []
        assert {name: stage["workers"] for name, stage in stages.items()} == {
            "bridge": None,
            "dedupe": 1,
            "reader": 1,
            "sink": 1,
        }
        assert sum(fine["outcomes"]["by_status"].values()) == 5
        assert fine["outcomes"]["match_rate"] == 0.2
        assert fine["dead_letters"]["by_reason"] == {}
        uses = {use["setting"]: use for use in fine["limits"]}
        assert uses["SINK_CREATIONS_PER_DAY"]["used"] == 4
        assert uses["SINK_STORAGE_SHARE"]["used"] == 24, "MB, as the org says"
        assert fine["org"]["pinned"] == fine["org"]["login"] is not None
        assert fine["bulk_load_permission"]["held"] is False
        near = status(running, 1, SINK_CREATIONS_PER_DAY="5")
        assert near["needs_a_person"] == [
            "creations of today (UTC): 4 of 5 (80%), by SINK_CREATIONS_PER_DAY; whoever is beyond "
            "it is held: raise it, or see contactstream held"
        ]
        assert 0 < fine["salesforce_calls"]["left"] < fine["salesforce_calls"]["allowed"]

        sink = running.stages["sink"]
        sink.popen.send_signal(signal.SIGTERM)
        assert sink.popen.wait(SECONDS) == 0
        running.notify([updated(people[0] | {"job_title": "Boss"}, BASE + 1, "later")])
        wait_until(lambda: len(running.kafka.read("contacts.changes")) == 6, "it waits")
        page = running.processes.start("status")
        assert page.popen.wait(SECONDS) == 1, page.log
        assert "! no sink runs; start one: contactstream sink" in page.log
        assert max(map(len, page.log.splitlines())) <= 80
        (waiting,) = [one for one in status(running, 1)["stages"] if one["stage"] == "sink"]
        assert waiting["lag_records"] >= 1
        assert 0 < waiting["lag_seconds"] < SECONDS
        print(page.log)
