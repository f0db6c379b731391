"""Whoever the dice choose, the demo's story comes out as it is told: its parts are played by people
for whom it can.
"""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.nylas.simulator.world import World as Nylas
from connectors.salesforce.simulator import World as Salesforce
from streams.demo.world import Cast, addresses_of, cast, everyone, story, worlds

pytestmark = pytest.mark.slow

seeds = st.integers(min_value=0, max_value=1_000_000)
sizes = st.integers(min_value=150, max_value=600)


def made(seed: int, people: int) -> tuple[dict[str, Any], dict[str, Any], Cast]:
    books, org = worlds(people, seed)
    return books, org, cast(books, org, seed)


def key(contact: Any) -> str:
    return f"{contact['grant_id']}/{contact['id']}"


@given(seeds, sizes)
@settings(deadline=None, max_examples=30)
def test_who_is_deleted_or_read_back_owns_the_record(seed: int, people: int) -> None:
    books, _, parts = made(seed, people)
    holders = Counter(
        address for contact in everyone(books) for address in set(addresses_of(contact))
    )
    assert (len(parts.gone), len(parts.ours)) == (5, 9)
    for contact in (*parts.gone, *parts.ours):
        assert (
            [holders[address] for address in addresses_of(contact)]
            == [1] * len(addresses_of(contact))
            != []
        )


@given(seeds, sizes)
@settings(deadline=None, max_examples=30)
def test_a_title_that_is_read_back_is_ours_to_change(seed: int, people: int) -> None:
    _, org, parts = made(seed, people)
    known = {str(record["Email"]).lower() for name in ("contacts", "leads") for record in org[name]}
    assert not known & {address for contact in parts.ours for address in addresses_of(contact)}


@given(seeds, sizes)
@settings(deadline=None, max_examples=30)
def test_nobody_has_two_parts_and_every_part_is_played(seed: int, people: int) -> None:
    _, _, parts = made(seed, people)
    keys = [key(one) for one in (*parts.ours, *parts.changed, *parts.noted, *parts.gone)]
    assert len(keys) == len(set(keys)) == 9 + 31 + 20 + 5


@given(seeds, st.integers(min_value=30, max_value=120))
@settings(deadline=None, max_examples=50)
def test_small_address_books_make_a_shorter_story_and_no_fault(seed: int, people: int) -> None:
    books, org, parts = made(seed, people)
    told = story(parts, books["grants"][0]["id"], 1_790_000_000)
    sent = {what: len(notifications) for what, notifications in told.chapters}
    assert sent["deleted"] == len(parts.gone)
    assert sent["change"] == len(parts.ours) + len(parts.changed)
    assert len(told.titles) == len(parts.ours) > 1
    assert parts.gone
    Salesforce(org)
    Nylas.from_json(books)


def test_the_org_knows_contacts_leads_and_converted_leads_that_lead_to_a_contact() -> None:
    _, org = worlds(2000, 1)
    contacts = {record["Id"] for record in org["contacts"] if "Id" in record}
    converted = [record for record in org["leads"] if record.get("IsConverted")]
    assert len(converted) > 5
    assert {record["ConvertedContactId"] for record in converted} == contacts
    addresses = {str(record["Email"]).lower() for record in org["contacts"]}
    assert not addresses & {str(record["Email"]).lower() for record in converted}, (
        "found behind the Lead, or not at all"
    )
    assert len(org["contacts"]) > len(contacts) > 0
    assert len(org["leads"]) > len(converted)


def test_the_story_is_told_by_each_event_about_its_contact() -> None:
    books, _, parts = made(1, 300)
    told = dict(story(parts, books["grants"][0]["id"], 1_790_000_000).chapters)
    promoted = {key(one["object"]): one for one in told["change"]}
    for older in told["older after newer"]:
        assert older["time"] < promoted[key(older["object"])]["time"]
    for again in told["same content, new event"]:
        first = promoted[key(again["object"])]
        assert (again["object"], again["id"] != first["id"], again["time"] > first["time"]) == (
            first["object"],
            True,
            True,
        )
    assert all(one == promoted[key(one["object"])] for one in told["exact duplicate"])
    assert {one["signature"] for one in told["bad signature"]} == {"bad"}
