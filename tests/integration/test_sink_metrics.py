"""The metrics of a running sink: the match rate, the error rate, and the lag."""

import json
from pathlib import Path
from typing import Any

import pytest

from streams.events import Kind, change_headers
from tests.support.kafka import Kafka
from tests.support.product import GRANT, Product, person, product
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

FOUND, CREATED, REFUSED = 3, 4, 2


def send(running: Product, version: int, *names: str) -> None:
    records: list[tuple[bytes | None, bytes | None]] = [
        (
            f"{GRANT}/{name}".encode(),
            json.dumps(person(name, f"{name}@{name}.example", job_title=f"{version}")).encode(),
        )
        for name in names
    ]
    running.kafka.produce(
        "contacts.changes",
        records,
        change_headers(Kind.UPDATED, version, "f" * 32, "m", b"webhook", b"1700000000000"),
    )


def faults(running: Product, *listed: dict[str, Any]) -> None:
    """These meet every request from now on."""
    running.http.delete(f"{running.salesforce}/_sim/faults").raise_for_status()
    body = {"faults": [one | {"times": None} for one in listed]}
    running.http.post(f"{running.salesforce}/_sim/faults", json=body).raise_for_status()


def test_the_match_rate_the_error_rate_and_the_lag_of_a_running_sink(
    kafka: Kafka, tmp_path: Path
) -> None:
    known = [f"known{number}" for number in range(FOUND)]
    new = [f"new{number}" for number in range(CREATED)]
    bad = [f"bad{number}" for number in range(REFUSED)]
    org: dict[str, Any] = {
        "leads": [
            {"LastName": "Lovelace", "Company": "Engines", "Email": f"{name}@{name}.example"}
            for name in known
        ]
    }
    with product(kafka, tmp_path, org=org, without=("bridge", "reader", "dedupe")) as running:
        refused = {
            "effect": "rows",
            "kind": "composite_write",
            "code": "FIELD_CUSTOM_VALIDATION_EXCEPTION",
        }
        faults(running, refused)
        send(running, 1, *bad)
        wait_until(
            lambda: len(running.dead_letters()) == REFUSED, "the refused ones are dead letters", 60
        )
        faults(running)
        send(running, 1, *known, *new)
        for name in (*known, *new):
            running.outcome(name, 1)
        send(running, 2, *known, *new)  # found by key: says nothing of the match rate
        for name in (*known, *new):
            running.outcome(name, 2)

        def resolved(result: str) -> float:
            return running.count(
                "sink", "contactstream_sink_first_resolutions_total", result=result
            )

        def rows(**labels: str) -> float:
            return running.count("sink", "contactstream_sink_rows_total", **labels)

        assert (resolved("found"), resolved("created")) == (FOUND, CREATED)
        assert (rows(outcome="failed"), rows()) == (REFUSED, 2 * (FOUND + CREATED) + REFUSED)
        assert running.count("sink", "contactstream_sink_dead_lettered_total") == REFUSED

        faults(running, {"effect": "status", "status": 503, "retry_after": 1})
        send(running, 3, *known)
        lag = "contactstream_sink_lag_records"
        wait_until(lambda: running.count("sink", lag) == FOUND, "what waits for the org is the lag")
        oldest = "contactstream_sink_oldest_unfinished_timestamp_seconds"
        waiting_since = running.count("sink", oldest)
        assert running.count("sink", oldest) == waiting_since, "the time stands while all wait"
        faults(running)
        wait_until(lambda: running.count("sink", lag) == 0, "nothing waits", 90)
        assert running.count("sink", oldest) > waiting_since
