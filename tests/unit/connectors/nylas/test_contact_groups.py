"""The names of contact groups over real HTTP, from the simulator and from a broken server."""

from typing import Any

import pytest
from aiohttp import web

from connectors.nylas.contact_groups import MAX_PAGES, list_contact_groups
from connectors.nylas.errors import Passing, Refused
from connectors.nylas.model import groups_of
from connectors.nylas.simulator import app
from connectors.nylas.simulator.world import BadInput, World
from tests.unit.connectors.nylas.test_client import Sleeps, answering, serving


def world(provider: str = "google", count: int = 0) -> World:
    groups = [{"id": f"g{number}", "name": f" Group {number} "} for number in range(count)]
    grant = {"id": "g", "email": "a@example.com", "provider": provider, "groups": groups}
    return World.from_json({"grants": [grant]})


async def test_every_page_of_groups_is_read() -> None:
    simulated = world(count=450)
    async with serving(app(simulated)) as client:
        names = await list_contact_groups(client, "g")
    assert len(names) == 450
    assert names["g449"] == "Group 449"
    assert simulated.calls["groups"] == 3


async def test_an_address_book_without_groups_has_none() -> None:
    async with serving(app(world())) as client:
        assert await list_contact_groups(client, "g") == {}


async def test_ews_refuses_the_question() -> None:
    async with serving(app(world("ews"))) as client:
        with pytest.raises(Refused) as refused:
            await list_contact_groups(client, "g")
    assert refused.value.status == 400
    with pytest.raises(BadInput, match="ews has no contact groups"):
        world("ews", count=1)


async def test_a_listing_that_does_not_end_is_given_up() -> None:
    asked: list[str] = []

    def endless(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"data": [], "next_cursor": "again"})

    async with serving(answering(endless), Sleeps()) as client:
        with pytest.raises(Passing, match="has not ended"):
            await list_contact_groups(client, "g")
    assert len(asked) == MAX_PAGES


async def test_a_page_that_is_no_list_of_groups_passes() -> None:
    broken = answering(lambda _: web.json_response({"data": ["x"]}))
    async with serving(broken, Sleeps()) as client:
        with pytest.raises(Passing, match="no list of contact groups"):
            await list_contact_groups(client, "g")


@pytest.mark.parametrize(
    ("groups", "ids"),
    [
        ([{"id": "a"}, {"id": ""}, {"id": 5}, "b", None, {}], ["a"]),
        (None, []),
        ("a", []),
    ],
)
def test_groups_of_a_contact_that_have_no_id_are_left_out(groups: Any, ids: list[str]) -> None:
    assert [group["id"] for group in groups_of({"groups": groups})] == ids


@pytest.mark.parametrize("provider", ["microsoft", "icloud", "imap"])
def test_the_simulator_holds_one_group_of_a_contact_where_the_provider_does(provider: str) -> None:
    source = {"id": "g", "provider": provider, "contacts": [{"groups": [{"id": "a"}, {"id": "b"}]}]}
    with pytest.raises(BadInput, match="groups: 2 given, this provider holds 1"):
        World.from_json({"grants": [source]})
