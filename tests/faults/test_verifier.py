"""The verifier finds each broken promise in evidence that was spoiled on purpose, and nothing in evidence that was not."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.load import BASE, contact, envelope
from tests.faults.verifier import Evidence, Sample, Stored, Write, verify

KEY = "storm-grant/c1"


def event(offset: int, version: int, title: str, *, kind: str = "contact.updated") -> Stored:
    subject: object = contact(1, title) if kind == "contact.updated" else {"grant_id": "storm-grant", "id": "c1"}
    return Stored(0, offset, KEY, envelope(f"n{version}", BASE + version, subject, kind), {"origin": "webhook"})


def change(offset: int, version: int, title: str) -> Stored:
    value = json.dumps(contact(1, title)).encode()
    return Stored(0, offset, KEY, value, {"kind": "updated", "version": str(BASE + version)})


def outcome(offset: int, version: int) -> Stored:
    return Stored(0, offset, KEY, json.dumps({"version": BASE + version}).encode(), {})


def record(version: int, title: str, **fields: Any) -> dict[str, Any]:
    known = {"Id": "00Q1", "Email": "person1@storm1.example.com", "Title": title}
    return known | {"Nylas_Contact_Id__c": KEY, "Nylas_Version__c": BASE + version} | fields


GOOD = Evidence(
    acknowledged=["n1", "n2", "n3"],
    events=[event(0, 1, "v1"), event(1, 3, "v3"), event(2, 2, "v2")],
    changes=[change(0, 1, "v1"), change(1, 3, "v3")],
    outcomes=[outcome(0, 1), outcome(1, 3)],
    refetch=[],
    dead_letters=[],
    writes=[Write(1, "00Q1", KEY, BASE + 1), Write(2, "00Q1", KEY, BASE + 3)],
    org=[record(3, "v3")],
    samples=[Sample({0: 2}, 1, 2, 1, 0, 0), Sample({0: 3}, 2, 2, 2, 0, 0)],
)

SPOILED: dict[str, Callable[[Evidence], Evidence]] = {
    "acknowledged_lost": lambda e: replace(e, acknowledged=[*e.acknowledged, "n4"]),
    "change_differs": lambda e: replace(e, changes=[change(0, 1, "v1"), change(1, 3, "v2")]),
    "org_differs": lambda e: replace(e, org=[record(1, "v1")]),
    "went_backwards": lambda e: replace(e, writes=[*e.writes, Write(3, "00Q1", KEY, BASE + 1)]),
    "person_doubled": lambda e: replace(e, org=[*e.org, record(3, "v3", Id="00Q2", Nylas_Contact_Id__c=None)]),
    "commit_ahead": lambda e: replace(e, samples=[Sample({0: 2}, 0, 1, 0, 0, 0)]),
    "poison_vanished": lambda e: replace(e, events=[*e.events, Stored(0, 3, "x", b"\xff", {})]),
    "valid_dead_lettered": lambda e: replace(
        e, dead_letters=[Stored(0, 0, KEY, e.changes[0].value, {"dlq.stage": "sink", "dlq.reason": "string_too_long"})]
    ),
}


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    verdict = verify(GOOD)
    assert verdict.good, verdict.examples
    assert verdict.checked["contacts"] == 1


@pytest.mark.parametrize("name", SPOILED)
def test_each_broken_promise_is_found_by_its_name(name: str) -> None:
    verdict = verify(SPOILED[name](GOOD))
    assert name in verdict.violations, verdict.violations


def test_a_sink_that_commits_before_the_outcome_is_found() -> None:
    verdict = verify(replace(GOOD, samples=[Sample({0: 2}, 2, 2, 1, 0, 0)]))
    assert verdict.examples["commit_ahead"] == [f"sink: {KEY} version {BASE + 3} had no outcome"]


def test_a_contact_in_the_dead_letters_needs_no_record() -> None:
    letter = Stored(0, 0, KEY, b"\xff", {"dlq.stage": "dedupe"})
    assert "org_differs" not in verify(replace(GOOD, org=[], dead_letters=[letter])).violations


def test_a_deleted_contact_holds_no_key() -> None:
    gone = replace(
        GOOD,
        events=[*GOOD.events, event(3, 4, "", kind="contact.deleted")],
        changes=[*GOOD.changes, Stored(0, 2, KEY, b"{}", {"kind": "deleted", "version": str(BASE + 4)})],
    )
    assert verify(gone).violations.keys() == {"org_differs"}
    assert verify(replace(gone, org=[record(3, "v3", Nylas_Contact_Id__c=None)])).good


def test_a_change_without_a_version_that_can_be_one_is_nobodys_change() -> None:
    poison = [Stored(0, 7, "x/y", b"{}", {"kind": "updated", "version": version}) for version in ("9" * 5000, "\ufffd")]
    assert verify(replace(GOOD, changes=[*GOOD.changes, *poison])).good
