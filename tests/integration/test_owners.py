"""Whom a created record gets as its owner, from the address of its grant to the org."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.kafka import Kafka
from tests.support.product import GRANT, OTHER_GRANT, Product, person, product, updated
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.system]

REP, LEFT = "005000000000701AAA", "005000000000702AAA"


def grant(identity: str, address: str, contact: str) -> dict[str, Any]:
    people = [person(contact, f"{contact}@{contact}.example", grant=identity, surname=contact)]
    return {"id": identity, "email": address, "provider": "google", "contacts": people}


def lead(running: Product, contact: str) -> dict[str, Any]:
    (found,) = running.records("Lead", Email=f"{contact}@{contact}.example")
    return found


def deactivate(running: Product, user: str) -> None:
    url = f"{running.salesforce}/_sim/records/User/{user}"
    running.http.patch(url, json={"IsActive": False}).raise_for_status()


def test_the_user_of_the_grants_address_owns_the_record_and_a_refused_one_falls_back(
    kafka: Kafka, tmp_path: Path
) -> None:
    """A sandbox adds `.invalid` to the address of a user, and Nylas spells it in its own case."""
    users = [
        {"Id": REP, "Email": "rep@reps.example.invalid", "IsActive": True},
        {"Id": LEFT, "Email": "left@reps.example", "IsActive": True},
    ]
    grants = [
        grant(GRANT, "Rep@Reps.example", "ada"),
        grant(OTHER_GRANT, "left@reps.example", "eve"),
    ]
    environ = {"PEOPLE_OWNER": "user", "READER_RECONCILE_EVERY": "0"}
    with product(kafka, tmp_path, org={"users": users}, grants=grants, environ=environ) as running:
        running.command("backfill", "--grant", GRANT)
        assert running.outcome("ada", 1)["owner_rule"] == "user"
        assert lead(running, "ada")["OwnerId"] == REP

        deactivate(running, LEFT)  # the sink has read the users before
        running.command("backfill", "--grant", OTHER_GRANT)
        fallen = running.outcome("eve", 1, OTHER_GRANT)
        assert (fallen["outcome"], fallen["owner_rule"]) == ("created", "fallback")
        ours = lead(running, "eve")["OwnerId"]
        assert ours not in (REP, LEFT), "the record is our user's, and is not lost"
        for rule in ("user", "fallback"):
            assert (
                running.count("sink", "contactstream_sink_owners_total", rule=rule, sobject="Lead")
                == 1
            )
        said = json.loads(running.command("status", "--json", status=1))
        assert said["outcomes"]["fell_back_to_our_user"] == 1
        assert any("fell back to our user" in line for line in said["needs_a_person"])

        boss = person("ada", "ada@ada.example", surname="ada", job_title="Countess")
        running.notify([updated(boss, int(time.time()), "n-boss")])
        wait_until(lambda: lead(running, "ada")["Title"] == "Countess", "ada is updated", 60)
        assert lead(running, "ada")["OwnerId"] == REP, "an update never changes the owner"
