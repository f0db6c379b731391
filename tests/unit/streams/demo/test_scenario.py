"""For every seed, the contacts that the demo chooses let its notifications have their effect."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.nylas.simulator.world import World as Nylas
from connectors.salesforce.simulator.world import World as Salesforce
from streams.demo.scenario import (
    Roles,
    addresses,
    all_contacts,
    assign_roles,
    initial_data,
    make_scenario,
)

seeds = st.integers(min_value=0, max_value=1_000_000)
sizes = st.integers(min_value=150, max_value=600)


def prepare(seed: int, people: int) -> tuple[dict[str, Any], dict[str, Any], Roles]:
    books, org = initial_data(people, seed)
    return books, org, assign_roles(books, org, seed)


def key(contact: Any) -> str:
    return f"{contact['grant_id']}/{contact['id']}"


@given(seeds, sizes)
@settings(deadline=None, max_examples=30)
def test_deleted_and_owned_contacts_share_no_address(seed: int, people: int) -> None:
    books, _, roles = prepare(seed, people)
    holders = Counter(
        address for contact in all_contacts(books) for address in set(addresses(contact))
    )
    assert (len(roles.deleted), len(roles.owned)) == (5, 9)
    for contact in (*roles.deleted, *roles.owned):
        assert (
            [holders[address] for address in addresses(contact)]
            == [1] * len(addresses(contact))
            != []
        )


@given(seeds, sizes)
@settings(deadline=None, max_examples=30)
def test_the_org_does_not_know_the_owned_contacts_before(seed: int, people: int) -> None:
    _, org, roles = prepare(seed, people)
    known = {str(record["Email"]).lower() for name in ("contacts", "leads") for record in org[name]}
    assert not known & {address for contact in roles.owned for address in addresses(contact)}


@pytest.mark.slow
@given(seeds, sizes)
@settings(deadline=None, max_examples=30)
def test_no_contact_has_two_roles_and_every_role_is_full(seed: int, people: int) -> None:
    _, _, roles = prepare(seed, people)
    keys = [key(one) for one in (*roles.owned, *roles.changed, *roles.noted, *roles.deleted)]
    assert len(keys) == len(set(keys)) == 9 + 31 + 20 + 5


@given(seeds, st.integers(min_value=30, max_value=120))
@settings(deadline=None, max_examples=50)
def test_small_address_books_make_a_shorter_scenario_and_no_error(seed: int, people: int) -> None:
    books, org, roles = prepare(seed, people)
    scenario = make_scenario(roles, books["grants"][0]["id"], 1_790_000_000)
    sent = {kind: len(notifications) for kind, notifications in scenario.notifications}
    assert sent["deleted"] == len(roles.deleted)
    assert sent["change"] == len(roles.owned) + len(roles.changed)
    assert len(scenario.titles) == len(roles.owned) > 1
    assert roles.deleted
    Salesforce(org)
    Nylas.from_json(books)


def test_the_org_knows_contacts_leads_and_converted_leads() -> None:
    _, org = initial_data(2000, 1)
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


def test_each_kind_of_notification_is_what_its_name_says() -> None:
    books, _, roles = prepare(1, 300)
    sent = dict(make_scenario(roles, books["grants"][0]["id"], 1_790_000_000).notifications)
    promoted = {key(one["object"]): one for one in sent["change"]}
    for older in sent["older after newer"]:
        assert older["time"] < promoted[key(older["object"])]["time"]
    for again in sent["same content, new event"]:
        first = promoted[key(again["object"])]
        assert (again["object"], again["id"] != first["id"], again["time"] > first["time"]) == (
            first["object"],
            True,
            True,
        )
    assert all(one == promoted[key(one["object"])] for one in sent["exact duplicate"])
    assert {one["signature"] for one in sent["bad signature"]} == {"bad"}
