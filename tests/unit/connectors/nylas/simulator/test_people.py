"""The generator of synthetic people: repeatable, within the limits of providers."""

from __future__ import annotations

import json

import pytest

from connectors.nylas.simulator.people import address_books, books, companies, people
from connectors.nylas.simulator.providers import PROVIDERS, excess
from connectors.nylas.simulator.world import World

WITH_BOOKS = [name for name, provider in PROVIDERS.items() if provider.sources]


def test_the_same_seed_makes_the_same_people() -> None:
    assert people(1, 200) == people(1, 200)
    assert people(1, 200) != people(2, 200)
    assert address_books(1, 300) == address_books(1, 300)


@pytest.mark.parametrize("provider", WITH_BOOKS)
def test_a_book_fits_its_provider_and_nobody_shares_an_id_or_a_first_address(provider: str) -> None:
    book = people(7, 1500, provider)
    assert [excess(PROVIDERS[provider], one) for one in book] == [None] * 1500
    assert (
        len({one["id"] for one in book}) == len({one["emails"][0]["email"] for one in book}) == 1500
    )
    World.from_json({"grants": [{"id": "g", "provider": provider, "contacts": book}]})


def test_every_address_is_in_a_reserved_domain_and_plain_ascii() -> None:
    for one in people(3, 1000):
        for email in one["emails"]:
            assert email["email"].endswith(".example")
            assert email["email"].isascii()


def test_companies_have_a_domain_each() -> None:
    many = companies(1, 4000)
    assert len({one.domain for one in many}) == 4000
    with pytest.raises(ValueError, match="1000000"):
        companies(1, 1_000_000)


def test_colleagues_know_some_of_the_same_people_under_other_ids() -> None:
    first, second, third = books(1, 2000, ["google", "microsoft", "yahoo"], overlap=0.1)
    assert len(first) + len(second) + len(third) == 2000
    addresses = [{one["emails"][0]["email"] for one in book} for book in (first, second, third)]
    assert len(addresses[0] & addresses[1]) == len(addresses[0] & addresses[2]) == 66
    assert not {one["id"] for one in first} & {one["id"] for one in second}
    assert books(1, 10, ["google", "yahoo"], overlap=0)[1] != []
    with pytest.raises(ValueError, match="not between 0 and 1"):
        books(1, 10, ["google"], overlap=1.5)


def test_the_address_books_are_a_world_that_the_simulator_plays() -> None:
    world = World.from_json(json.loads(json.dumps(address_books(1, 2000))))
    assert [grant.provider for grant in world.grants.values()] == ["google", "microsoft", "yahoo"]
    assert sum(len(grant.contacts) for grant in world.grants.values()) == 2000
