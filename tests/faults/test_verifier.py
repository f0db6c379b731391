"""The verifier finds each broken promise in evidence that was spoiled on purpose.

It finds nothing in evidence that was not spoiled.
"""

import ast
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness.evidence import Evidence, FinalBook, Sample, StoredRecord, Write
from tests.faults.harness.load import BASE, GRANT, contact, envelope, person
from tests.faults.harness.model import Contact, parse
from tests.faults.harness.verifier import verify

KEY = "storm-grant/c1"


def event(
    offset: int, version: int, title: str, *, kind: str = "contact.updated", number: int = 1
) -> StoredRecord:
    subject: object = (
        contact(number, title)
        if kind == "contact.updated"
        else {"grant_id": GRANT, "id": f"c{number}"}
    )
    name = f"n{version}" if number == 1 else f"n{number}-{version}"
    body = envelope(name, BASE + version, subject, kind)
    headers = {"origin": "webhook", "received_ms": str(BASE * 1000)}
    return StoredRecord(0, offset, f"{GRANT}/c{number}", body, headers)


def bodyless(offset: int, version: int) -> StoredRecord:
    body = envelope(f"n{version}", BASE + version, {"grant_id": GRANT, "id": "c1"})
    return StoredRecord(0, offset, KEY, body, {"origin": "webhook"})


def page(offset: int, version: int, title: str) -> StoredRecord:
    """The event of a contact that was read again."""
    return replace(event(offset, version, title), headers={"origin": "refetch"})


def asked(offset: int, reason: str, not_before: int) -> StoredRecord:
    return StoredRecord(
        0, offset, KEY, b"", {"reason": reason, "not_before": str(BASE + not_before)}
    )


def change(
    offset: int, version: int, title: str, *, kind: str = "updated", number: int = 1
) -> StoredRecord:
    value = json.dumps(contact(number, title)).encode()
    return StoredRecord(
        0, offset, f"{GRANT}/c{number}", value, {"kind": kind, "version": str(BASE + version)}
    )


def outcome(offset: int, version: int) -> StoredRecord:
    return StoredRecord(0, offset, KEY, json.dumps({"version": BASE + version}).encode(), {})


def letter(record: StoredRecord, stage: str, topic: str, **headers: str) -> StoredRecord:
    """The dead letter that a record becomes."""
    where = {
        "topic": f"storm.{topic}",
        "partition": str(record.partition),
        "offset": str(record.offset),
    }
    original = {f"dlq.original.{name}": value for name, value in where.items()}
    return replace(
        record, offset=0, headers={**record.headers, **original, "dlq.stage": stage, **headers}
    )


def record(version: int, title: str, **fields: Any) -> dict[str, Any]:
    known = {
        "Id": "00Q1",
        "FirstName": "Storm",
        "LastName": "Person1",
        "Company": "Storm 1",
        "Title": title,
    }
    known |= {"Email": "person1@storm1.example.com"}
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

# An event does not say how the contact changed, and Nylas is asked.
ASKED = replace(
    GOOD,
    acknowledged=["n4"],
    events=[*GOOD.events, bodyless(3, 4), page(4, 5, "v5")],
    changes=[*GOOD.changes, change(2, 5, "v5")],
    outcomes=[*GOOD.outcomes, outcome(2, 5)],
    refetch=[asked(0, "bodyless", 605)],
    org=[record(5, "v5")],
    grants=[GRANT],
    samples=[Sample({0: 5}, 3, 3, 3, 1, 0, 1, {0: 5})],
)

# Deleted, not taken over by another contact, and back again.
RETURNED = replace(
    GOOD,
    events=[*GOOD.events, event(3, 4, "", kind="contact.deleted"), event(4, 6, "v6")],
    changes=[*GOOD.changes, change(2, 4, "", kind="deleted"), change(3, 6, "v6")],
    outcomes=[*GOOD.outcomes, outcome(2, 4), outcome(3, 6)],
    writes=[*GOOD.writes, Write(3, "00Q1", None, None), Write(4, "00Q1", KEY, BASE + 6)],
    org=[record(6, "v6")],
)

# Poison in both topics, under the key of a real contact.
ODD_HEADERS = {"kind": "updated", "version": "9" * 5000}
POISONED = replace(
    GOOD,
    events=[*GOOD.events, StoredRecord(0, 3, KEY, b"\xff", {})],
    changes=[
        *GOOD.changes,
        StoredRecord(0, 2, KEY, b"{}", ODD_HEADERS),
        StoredRecord(0, 3, KEY, None, {}),
    ],
    outcomes=[
        *GOOD.outcomes,
        StoredRecord(0, 2, KEY, b"\xff", {}),
        StoredRecord(0, 3, KEY, None, {}),
        StoredRecord(0, 4, "x", b"[]", {}),
    ],
    refetch=[StoredRecord(0, 0, "poison", None, {"not_before": "9" * 5000, "reason": "x"})],
    dead_letters=[
        letter(StoredRecord(0, 3, KEY, b"\xff", {}), "dedupe", "contacts.events"),
        letter(StoredRecord(0, 2, KEY, b"{}", ODD_HEADERS), "sink", "contacts.changes"),
        StoredRecord(0, 2, KEY, b"\xff", {}),
    ],
    samples=[Sample({0: 4}, 4, 4, 5, 1, 3)],
)

REFUSED = replace(
    GOOD,
    outcomes=[outcome(0, 1)],
    dead_letters=[
        letter(change(1, 3, "v3"), "sink", "contacts.changes", **{"dlq.detail": "X: on purpose"})
    ],
    org=[record(1, "v1")],
    samples=[Sample({0: 3}, 2, 2, 1, 0, 1)],
    refusal="on purpose",
    refused=1,
)

READ_BY_PAGES = replace(GOOD, book=FinalBook(GRANT, {"c1": contact(1, "v3")}))

# One person in two grants, whose record the first holds.
SHARED = replace(
    GOOD,
    events=[
        replace(
            event(0, 1, ""), value=envelope("n1", BASE + 1, person(8, "v1")), key=f"{GRANT}/c8"
        ),
        replace(
            event(0, 1, ""),
            partition=1,
            value=envelope("n2", BASE + 1, person(9, "v1")),
            key="storm-second/c9",
        ),
    ],
    acknowledged=["n1", "n2"],
    changes=[
        StoredRecord(
            0,
            at,
            key,
            json.dumps(person(number, "v1")).encode(),
            {"kind": "updated", "version": str(BASE + 1)},
        )
        for at, key, number in ((0, f"{GRANT}/c8", 8), (1, "storm-second/c9", 9))
    ],
    outcomes=[],
    writes=[],
    org=[
        {
            "Id": "00Q8",
            "FirstName": "Storm (v1)",
            "LastName": "Person8 (v1)",
            "Company": "storm8.example v1",
            "Title": "v1",
            "Email": "person8@storm8.example",
            "Nylas_Email_2__c": "person8.v1@storm8.example",
            "Phone": person(8, "v1")["phone_numbers"][0]["number"],  # type: ignore[index]
            "MobilePhone": person(8, "v1")["phone_numbers"][1]["number"],  # type: ignore[index]
            "Nylas_Contact_Id__c": f"{GRANT}/c8",
            "Nylas_Version__c": BASE + 1,
        }
    ],
    samples=[],
)

ALL_GOOD = {
    "plain": GOOD,
    "asked": ASKED,
    "returned": RETURNED,
    "poisoned": POISONED,
    "refused": REFUSED,
    "read by pages": READ_BY_PAGES,
    "shared": SHARED,
}

Spoil = Callable[[Evidence], Evidence]
SPOILED: dict[str, tuple[str, Evidence, Spoil]] = {
    "a notification that is nowhere": (
        "acknowledged_lost",
        GOOD,
        lambda e: replace(e, acknowledged=[*e.acknowledged, "n4"]),
    ),
    "a contact in two partitions": (
        "partition_split",
        GOOD,
        lambda e: replace(e, events=[*e.events, replace(event(0, 1, "v1"), partition=1)]),
    ),
    "another content": (
        "change_differs",
        GOOD,
        lambda e: replace(e, changes=[change(0, 1, "v1"), change(1, 3, "v2")]),
    ),
    "an older change that compaction keeps": (
        "older_change_last",
        GOOD,
        lambda e: replace(e, changes=[*e.changes, change(2, 1, "v1")]),
    ),
    "a refetch request that is missing": (
        "refetch_missing",
        ASKED,
        lambda e: replace(e, refetch=[]),
    ),
    "a refetch for another reason": (
        "refetch_missing",
        ASKED,
        lambda e: replace(e, refetch=[asked(0, "no_time", 605)]),
    ),
    "a refetch without an answer": (
        "refetch_unanswered",
        ASKED,
        lambda e: replace(e, refetch=[asked(0, "bodyless", 606)]),
    ),
    "an older version in the org": (
        "org_differs",
        GOOD,
        lambda e: replace(e, org=[record(1, "v3")]),
    ),
    "another phone in the org": (
        "org_differs",
        SHARED,
        lambda e: replace(e, org=[{**e.org[0], "MobilePhone": "+1 555 0"}]),
    ),
    "another surname in the org": (
        "org_differs",
        GOOD,
        lambda e: replace(e, org=[record(3, "v3", LastName="Person2")]),
    ),
    "another company in the org": (
        "org_differs",
        GOOD,
        lambda e: replace(e, org=[record(3, "v3", Company="x")]),
    ),
    "a contact that is not in the org": ("org_differs", GOOD, lambda e: replace(e, org=[])),
    "a dead letter of an older version": (
        "org_differs",
        REFUSED,
        lambda e: replace(e, dead_letters=[letter(change(0, 1, "v1"), "sink", "contacts.changes")]),
    ),
    "neither of two contacts holds the record": (
        "org_differs",
        SHARED,
        lambda e: replace(e, org=[{**e.org[0], "Nylas_Contact_Id__c": None}]),
    ),
    "a page that did not reach the org": (
        "book_differs",
        READ_BY_PAGES,
        lambda e: replace(e, org=[record(3, "v2")]),
    ),
    "a page's contact that is not in the org": (
        "book_differs",
        READ_BY_PAGES,
        lambda e: replace(e, org=[]),
    ),
    "gone from the address book and not from the org": (
        "book_differs",
        READ_BY_PAGES,
        lambda e: replace(e, book=FinalBook(GRANT, {})),
    ),
    "an older version on the record": (
        "went_backwards",
        GOOD,
        lambda e: replace(e, writes=[*e.writes, Write(3, "00Q1", KEY, BASE + 1)]),
    ),
    "an older version on another record": (
        "went_backwards",
        GOOD,
        lambda e: replace(e, writes=[*e.writes, Write(3, "00Q2", KEY, BASE + 2)]),
    ),
    "an older version after the release": (
        "went_backwards",
        RETURNED,
        lambda e: replace(
            e,
            writes=[
                *e.writes[:3],
                Write(4, "00Q1", KEY, BASE + 3),
                Write(5, "00Q1", KEY, BASE + 6),
            ],
        ),
    ),
    "an older version after the release, elsewhere": (
        "went_backwards",
        RETURNED,
        lambda e: replace(
            e,
            writes=[
                *e.writes[:3],
                Write(4, "00Q2", KEY, BASE + 3),
                Write(5, "00Q1", KEY, BASE + 6),
            ],
        ),
    ),
    "released for an older deletion": (
        "went_backwards",
        RETURNED,
        lambda e: replace(e, writes=[*e.writes, Write(5, "00Q1", None, None)]),
    ),
    "a key on two records": (
        "key_doubled",
        GOOD,
        lambda e: replace(e, org=[*e.org, record(3, "v3", Id="0031", Email="other@x.example")]),
    ),
    "a person on two records": (
        "person_doubled",
        GOOD,
        lambda e: replace(e, org=[*e.org, record(3, "v3", Id="00Q2", Nylas_Contact_Id__c=None)]),
    ),
    "a person on two records, by the second address": (
        "person_doubled",
        SHARED,
        lambda e: replace(e, org=[*e.org, {"Id": "0032", "Email": "person8.v1@storm8.example"}]),
    ),
    "a commit before the change": (
        "commit_ahead",
        GOOD,
        lambda e: replace(e, samples=[Sample({0: 2}, 0, 1, 0, 0, 0), *e.samples]),
    ),
    "a commit before the outcome": (
        "commit_ahead",
        GOOD,
        lambda e: replace(e, samples=[Sample({}, 2, 2, 1, 0, 0)]),
    ),
    "a commit before the request": (
        "commit_ahead",
        ASKED,
        lambda e: replace(e, samples=[Sample({0: 5}, 3, 3, 3, 0, 0, 0, {})]),
    ),
    "a commit before the answer": (
        "commit_ahead",
        ASKED,
        lambda e: replace(e, samples=[Sample({0: 5}, 3, 3, 3, 1, 0, 1, {0: 4})]),
    ),
    "a commit before dedupe's dead letter": (
        "commit_ahead",
        POISONED,
        lambda e: replace(e, samples=[Sample({0: 4}, 0, 4, 5, 1, 0)]),
    ),
    "a commit before the sink's dead letter": (
        "commit_ahead",
        POISONED,
        lambda e: replace(e, samples=[Sample({0: 3}, 4, 4, 5, 1, 0)]),
    ),
    "too few samples": ("unwatched", GOOD, lambda e: replace(e, least_samples=3)),
    "poison that is nowhere": (
        "poison_vanished",
        POISONED,
        lambda e: replace(e, dead_letters=e.dead_letters[1:]),
    ),
    "poisoned changes that are nowhere": (
        "poison_vanished",
        POISONED,
        lambda e: replace(e, dead_letters=[e.dead_letters[0], e.dead_letters[2]]),
    ),
    "the same poison twice, one letter": (
        "poison_vanished",
        POISONED,
        lambda e: replace(e, events=[*e.events, StoredRecord(0, 4, KEY, b"\xff", {})]),
    ),
    "a good change dead-lettered": (
        "valid_dead_lettered",
        GOOD,
        lambda e: replace(e, dead_letters=[letter(e.changes[0], "sink", "contacts.changes")]),
    ),
    "a good event dead-lettered": (
        "valid_dead_lettered",
        GOOD,
        lambda e: replace(e, dead_letters=[letter(e.events[0], "dedupe", "contacts.events")]),
    ),
    "more refused than the org was made to": (
        "valid_dead_lettered",
        REFUSED,
        lambda e: replace(e, refused=0),
    ),
}


@pytest.mark.parametrize("name", ALL_GOOD)
def test_nothing_is_found_where_nothing_is_wrong(name: str) -> None:
    verdict = verify(ALL_GOOD[name])
    assert verdict.good, verdict.examples
    assert verdict.checked["contacts"] == (2 if name == "shared" else 1)


@pytest.mark.parametrize("what", SPOILED)
def test_each_broken_promise_is_found_by_its_name(what: str) -> None:
    name, good, spoil = SPOILED[what]
    verdict = verify(spoil(good))
    assert name in verdict.violations, verdict.violations


def test_a_sink_that_commits_before_the_outcome_is_found() -> None:
    verdict = verify(replace(GOOD, samples=[Sample({0: 2}, 2, 2, 1, 0, 0)]))
    assert verdict.examples["commit_ahead"] == [f"sink: {KEY} version {BASE + 3} had no outcome"]


def test_an_outcome_that_a_fault_has_removed_was_there_before() -> None:
    lost = replace(GOOD, outcomes=[], samples=[Sample({0: 2}, 2, 2, 0, 0, 0)])
    assert verify(lost).violations["commit_ahead"] == 1, "a newer change supersedes the other one"
    assert "commit_ahead" not in verify(replace(lost, lost_outcomes=GOOD.outcomes)).violations
    older = replace(lost, lost_outcomes=[outcome(1, 1)])
    assert verify(older).violations["commit_ahead"] == 1


def test_each_commit_is_judged_by_the_sample_that_saw_it_first() -> None:
    late = replace(GOOD, samples=[Sample({0: 3}, 2, 1, 1, 0, 0), Sample({0: 3}, 2, 2, 2, 0, 0)])
    assert verify(late).violations == {"commit_ahead": 2}


def test_a_deleted_contact_holds_no_key() -> None:
    gone = replace(
        GOOD,
        events=[*GOOD.events, event(3, 4, "", kind="contact.deleted")],
        changes=[
            *GOOD.changes,
            StoredRecord(0, 2, KEY, b"{}", {"kind": "deleted", "version": str(BASE + 4)}),
        ],
    )
    assert verify(gone).violations.keys() == {"org_differs"}
    assert verify(replace(gone, org=[record(3, "v3", Nylas_Contact_Id__c=None)])).good


@pytest.mark.parametrize("time", [None, "soon", True, 0, -5, 1.5, BASE * 1000])
def test_an_invalid_time_asks_for_the_contact_again(time: object) -> None:
    body = json.loads(envelope("n1", BASE, contact(1, "v1"))) | {"time": time}
    known = Contact()
    assert not known.take(parse(json.dumps(body).encode(), "webhook", KEY, BASE * 1000))
    assert known.refetch == {"no_time": 1}
    assert known.newest == -1


def test_a_time_ahead_of_the_clock_counts_as_a_minute_after_the_receipt() -> None:
    body = json.loads(envelope("n1", BASE, contact(1, "v1"))) | {"time": BASE + 2 * 86_400}
    known = Contact()
    assert known.take(parse(json.dumps(body).encode(), "webhook", KEY, BASE * 1000))
    assert known.newest == BASE + 60


def test_a_further_address_may_stand_behind_one_that_the_contact_had_before() -> None:
    (full,) = SHARED.org
    further = full["Nylas_Email_2__c"]
    moved = {**full, "Nylas_Email_2__c": "person8.v0@x.example", "Nylas_Email_3__c": further}
    assert verify(replace(SHARED, org=[moved])).good
    gone = {**moved, "Nylas_Email_3__c": None}
    assert verify(replace(SHARED, org=[gone])).violations.keys() == {"org_differs"}


def test_another_content_in_the_same_second_wins_and_asks_for_the_contact_again() -> None:
    known = Contact()
    for title, identity in (("a", "n1"), ("b", "n2"), ("b", "n2"), ("b", "n3")):
        known.take(parse(envelope(identity, BASE, contact(1, title)), "webhook"))
    assert known.forwarded is not None
    assert known.forwarded["job_title"] == "b"
    assert known.refetch == {"same_second": 1}


VERIFIER = ("model", "evidence", "records", "commit_check", "org_check", "verifier")


@pytest.mark.parametrize("name", VERIFIER)
def test_the_verifier_shares_no_code_with_the_stages(name: str) -> None:
    source = (Path(__file__).parent / "harness" / f"{name}.py").read_text()
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    others = {module for module in found if module.partition(".")[0] not in sys.stdlib_module_names}
    assert others <= {f"tests.faults.harness.{module}" for module in VERIFIER}
