"""The Nylas client over real HTTP: pages, IDs, limits, and the faults that time heals."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from connectors.nylas.client import (
    LONGEST_DELAY,
    LONGEST_RETRY_AFTER,
    Bucket,
    Limits,
    NylasClient,
    delay,
    parse_answer,
    retry_after_seconds,
    seconds_until_next,
)
from connectors.nylas.contacts import get_contact, list_contacts
from connectors.nylas.errors import NotFound, Passing, RateLimited, Refused
from connectors.nylas.grants import (
    PAGE_SIZE,
    Grant,
    get_grant,
    list_grants,
    parse_grant,
    sources_of,
    unreadable,
)
from connectors.nylas.simulator import app
from connectors.nylas.simulator.world import World

KEY = "sim-api-key"


def world(count: int = 0, **settings: Any) -> World:
    contacts = [{"id": f"c{number}", "given_name": f"N{number}"} for number in range(count)]
    grant = {"id": "g", "email": "a@example.com", "provider": "google", "contacts": contacts}
    return World.from_json({"grants": [grant], "settings": settings})


class Sleeps(list[float]):
    """Waits that take no time, written down."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(
    application: web.Application, sleep: Callable[[float], Any] = asyncio.sleep, **more: Any
) -> AsyncIterator[NylasClient]:
    async with (
        TestServer(application) as server,
        NylasClient(str(server.make_url("/")), KEY, sleep=sleep, **more) as client,
    ):
        yield client


def answering(handler: Callable[[web.Request], web.StreamResponse]) -> web.Application:
    async def handle(request: web.Request) -> web.StreamResponse:
        return handler(request)

    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", handle)
    return application


async def test_pages_are_read_two_hundred_at_a_time_to_the_end() -> None:
    async with serving(app(world(450))) as client:
        pages = [await list_contacts(client, "g")]
        while pages[-1].next_cursor is not None:
            pages.append(await list_contacts(client, "g", pages[-1].next_cursor))
    assert [len(page.contacts) for page in pages] == [200, 200, 50]
    assert len({contact["id"] for page in pages for contact in page.contacts}) == 450
    assert all(page.request_id for page in pages)


async def test_a_page_says_when_nylas_served_it_by_nylas_own_clock() -> None:
    state = world(1)
    state.clock.offset = -5000.0
    async with serving(app(state)) as client:
        page = await list_contacts(client, "g")
        reading = await get_contact(client, "g", "c0")
    assert abs(page.served_at - (time.time() - 5000)) < 5
    assert abs(reading.served_at - (time.time() - 5000)) < 5


@pytest.mark.parametrize("contact_id", ["a/b#c d", "A%2Fb?x=1", "ünï/☃", "..", "a+b&c"])
async def test_an_id_with_any_character_reaches_its_contact(contact_id: str) -> None:
    state = World.from_json(
        {
            "grants": [
                {
                    "id": "g",
                    "email": "a@x.com",
                    "contacts": [{"id": contact_id}, {"id": contact_id.swapcase() + "!"}],
                }
            ]
        }
    )
    async with serving(app(state)) as client:
        assert (await get_contact(client, "g", contact_id)).contact["id"] == contact_id


async def test_a_contact_that_is_gone_is_told_from_a_grant_that_is() -> None:
    async with serving(app(world(1))) as client:
        with pytest.raises(NotFound) as contact:
            await get_contact(client, "g", "nobody")
        with pytest.raises(NotFound) as grant:
            await get_contact(client, "another", "c0")
        with pytest.raises(NotFound):
            await get_grant(client, "another")
    assert not contact.value.of_grant
    assert abs(contact.value.served_at - time.time()) < 5
    assert grant.value.of_grant


async def test_sources_are_asked_for_by_name() -> None:
    state = World.from_json(
        {
            "grants": [
                {
                    "id": "g",
                    "email": "a@x.com",
                    "contacts": [
                        {"id": "book"},
                        {"id": "mail", "source": "inbox"},
                        {"id": "dir", "source": "domain"},
                    ],
                }
            ]
        }
    )
    async with serving(app(state)) as client:
        found = {
            source: [
                contact["id"]
                for contact in (await list_contacts(client, "g", source=source)).contacts
            ]
            for source in ("address_book", "inbox", "domain")
        }
    assert found == {"address_book": ["book"], "inbox": ["mail"], "domain": ["dir"]}


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 399, 400, 650])
async def test_every_grant_is_listed_once_however_many_pages_it_takes(count: int) -> None:
    grants = [
        {"id": f"g{number}", "email": f"{number}@x.com", "created_at": 1_700_000_000 + number}
        for number in range(count)
    ]
    async with serving(app(World.from_json({"grants": grants}))) as client:
        listed = await list_grants(client)
    assert [grant.id for grant in listed] == [f"g{number}" for number in range(count)]


async def test_a_grant_deleted_while_the_pages_are_read_hides_no_other() -> None:
    grants = [
        {"id": f"g{number}", "email": f"{number}@x.com", "created_at": 1_700_000_000 + number}
        for number in range(500)
    ]
    state = World.from_json({"grants": grants})

    def after_first_page(kind: str, status: int | None, seconds: float) -> None:
        for number in range(3):
            state.grants.pop(f"g{number}", None)

    async with serving(app(state), on_call=after_first_page) as client:
        listed = await list_grants(client)
    assert {f"g{number}" for number in range(3, 500)} <= {grant.id for grant in listed}


@pytest.mark.parametrize(
    "kind",
    [
        "server_error",
        "bad_gateway",
        "unavailable",
        "provider_timeout",
        "empty",
        "text_error",
        "html",
        "truncated",
        "cut",
    ],
)
async def test_a_fault_that_passes_is_waited_out(kind: str) -> None:
    state, sleeps = world(3), Sleeps()
    state.faults.rules.append(rule(kind, times=3))
    waits: list[str] = []
    async with serving(app(state), sleeps, on_wait=waits.append) as client:
        page = await list_contacts(client, "g")
    assert len(page.contacts) == 3
    assert waits == ["transient_error"] * 3
    assert all(1 <= seconds <= LONGEST_DELAY for seconds in sleeps)


async def test_a_limit_is_waited_for_as_long_as_nylas_asks() -> None:
    state, sleeps = world(3), Sleeps()
    state.faults.rules.append(rule("provider_limit", times=1, retry_after=7.0))
    state.faults.rules.append(rule("nylas_limit", times=1))
    waits: list[str] = []
    async with serving(app(state), sleeps, on_wait=waits.append) as client:
        assert len((await list_contacts(client, "g")).contacts) == 3
    assert waits == ["rate_limited"] * 2
    assert 7 <= sleeps[0] <= 7.7
    assert 1 <= sleeps[1] <= 4


async def test_a_long_wait_for_one_grant_is_the_callers_who_may_read_others_meanwhile() -> None:
    state, sleeps = world(3), Sleeps()
    state.faults.rules.append(rule("provider_limit", times=1, retry_after=60.0))
    waits: list[str] = []
    async with serving(app(state), sleeps, on_wait=waits.append) as client:
        with pytest.raises(RateLimited) as limited:
            await list_contacts(client, "g")
        assert len((await list_contacts(client, "g")).contacts) == 3
    assert (sleeps, waits) == ([], ["rate_limited"])
    assert seconds_until_next(limited.value, 30.0) == 60.0
    assert seconds_until_next(limited.value, 90.0) == 90.0
    assert seconds_until_next(RateLimited(10**6), 1.0) == LONGEST_RETRY_AFTER
    assert seconds_until_next(Passing(503), 30.0) == 30.0


async def test_a_listed_grant_that_no_id_names_costs_no_other_one() -> None:
    odd: list[object] = [{"id": 7}, {"id": None}, {}, {"id": ""}, {"id": "a/b"}]
    listed = [{"id": f"g{number}"} for number in range(PAGE_SIZE - 3)]
    pages = [
        [*listed[:100], *odd[:2], *listed[100:], odd[2]],
        [odd[2], odd[3], {"id": "last"}, odd[4]],
    ]
    asked: list[int] = []

    def handler(request: web.Request) -> web.StreamResponse:
        asked.append(int(request.query["offset"]))
        return web.json_response({"data": pages[len(asked) - 1], "limit": PAGE_SIZE})

    passed: list[int] = []
    async with serving(answering(handler)) as client:
        found = await list_grants(client, lambda: passed.append(1))
    assert [grant.id for grant in found] == [*(one["id"] for one in listed), "last"]
    assert (len(passed), asked) == (6, [0, PAGE_SIZE - 1])


async def test_after_eight_tries_the_caller_may_turn_to_another_grant() -> None:
    state, sleeps = world(3), Sleeps()
    state.faults.rules.append(rule("nylas_limit", times=None))
    async with serving(app(state), sleeps) as client:
        with pytest.raises(RateLimited):
            await list_contacts(client, "g")
    assert state.calls["contacts"] == 8


async def test_no_answer_within_the_time_out_passes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.nylas.client.TIMEOUT", httpx.Timeout(0.2))
    state, sleeps = world(3), Sleeps()
    state.faults.rules.append(rule("hang", times=1, seconds=1.0))
    async with serving(app(state), sleeps) as client:
        assert len((await list_contacts(client, "g")).contacts) == 3


async def test_a_key_that_is_not_accepted_is_refused_with_the_remedy_and_without_the_key() -> None:
    async with (
        TestServer(app(world(1))) as server,
        NylasClient(str(server.make_url("/")), "wrong-key") as client,
    ):
        with pytest.raises(Refused, match="NYLAS_API_KEY") as refused:
            await list_contacts(client, "g")
    assert refused.value.status == 401
    assert "wrong-key" not in str(refused.value)


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    asked: list[str] = []

    def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async with serving(answering(handler)) as client:
        with pytest.raises(Refused):
            await get_contact(client, "g", "c")
    assert len(asked) == 1


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b'{"request_id": "r"}', b"{", b'"data"', b"[" * 10_000]
)
async def test_a_success_that_is_no_answer_is_a_fault_that_passes(body: bytes) -> None:
    sleeps = Sleeps()
    async with serving(answering(lambda _: web.Response(body=body)), sleeps) as client:
        with pytest.raises(Passing):
            await get_contact(client, "g", "c")
    assert len(sleeps) == 7


@pytest.mark.parametrize("data", [b"{}", b"[1]", b"null", b'"x"'])
async def test_a_page_that_holds_no_contacts_is_a_fault_that_passes(data: bytes) -> None:
    async with serving(
        answering(lambda _: web.Response(body=b'{"data": %s}' % data)), Sleeps()
    ) as client:
        with pytest.raises(Passing):
            await list_contacts(client, "g")
        with pytest.raises(Passing):
            await list_grants(client)


async def test_half_a_surrogate_in_one_contact_does_not_cost_the_page() -> None:
    body = b'{"request_id": "r", "data": [{"id": "a", "given_name": "x\\ud800y"}, {"id": "b"}]}'
    async with serving(answering(lambda _: web.Response(body=body))) as client:
        page = await list_contacts(client, "g")
    assert [contact["id"] for contact in page.contacts] == ["a", "b"]
    page.contacts[0]["given_name"].encode()


async def test_one_grant_is_asked_one_thing_at_a_time_and_grants_do_not_wait_for_each_other() -> (
    None
):
    under_way: dict[str, int] = {}
    most: dict[str, int] = {}
    together = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal together
        grant = request.match_info["grant"]
        under_way[grant] = under_way.get(grant, 0) + 1
        most[grant] = max(most.get(grant, 0), under_way[grant])
        together = max(together, sum(under_way.values()))
        await asyncio.sleep(0.02)
        under_way[grant] -= 1
        return web.json_response({"data": []})

    application = web.Application()
    application.router.add_get("/v3/grants/{grant}/contacts", handle)
    async with serving(application) as client:
        await asyncio.gather(*[list_contacts(client, grant) for grant in "abc" for _ in range(5)])
    assert most == {"a": 1, "b": 1, "c": 1}
    assert together == 3


async def test_the_rate_of_an_application_is_kept_across_its_grants() -> None:
    now = time.monotonic()
    limits = Limits(grant=1000, application=20, administration=50)
    async with serving(
        answering(lambda _: web.json_response({"data": []})), limits=limits
    ) as client:
        await asyncio.gather(*[list_contacts(client, f"g{number}") for number in range(40)])
    assert time.monotonic() - now >= 0.9


@given(st.floats(0.5, 500), st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_a_bucket_never_lets_more_through_than_its_rate_and_one_burst(
    rate: float, gaps: list[float]
) -> None:
    bucket, now, goes = Bucket(rate, rate), 1000.0, []
    for gap in gaps:
        now += gap
        goes.append(now + bucket.reserve(now))
    for first in range(0, len(goes), 7):
        for last in range(first, len(goes), 7):
            assert last - first + 1 <= rate * (goes[last] - goes[first]) + rate + 1.001


@given(st.integers(1, 1000), st.one_of(st.none(), st.floats(-10, 1e9)), st.floats(0, 1))
def test_every_wait_is_bounded_and_none_is_shorter_than_asked(
    attempt: int, asked: float | None, chance: float
) -> None:
    seconds = delay(attempt, asked, chance)
    if asked is None:
        assert 1 <= seconds <= LONGEST_DELAY
    else:
        assert min(asked, LONGEST_RETRY_AFTER) <= seconds <= LONGEST_RETRY_AFTER


def test_retry_after_is_read_in_both_of_its_forms() -> None:
    assert retry_after_seconds("7", 0) == 7
    assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT", 1445412470) == 10
    assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT", 1445412490) == 0
    assert [retry_after_seconds(text, 0) for text in (None, "", "soon", "-1", "1" * 30, "٣")] == [
        None
    ] * 6


def test_an_answer_without_a_date_is_dated_by_when_it_was_asked_for() -> None:
    assert parse_answer(httpx.Response(200, json={"data": {}}), 1234).served_at == 1234
    assert (
        parse_answer(
            httpx.Response(200, json={"data": {}}, headers={"Date": "yesterday"}), 1234
        ).served_at
        == 1234
    )


@pytest.mark.parametrize(
    "kind", ["not_found_error", "api.not_found_error", "grant.not_found", "api.grant.not_found"]
)
def test_the_status_decides_in_both_dialects(kind: str) -> None:
    response = httpx.Response(
        404, json={"error": {"type": kind}}, headers={"Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    )
    with pytest.raises(NotFound) as gone:
        parse_answer(response, 0)
    assert gone.value.of_grant == ("grant" in kind)
    assert gone.value.served_at == 1445412480


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"provider": "google", "scope": []}, ""),
        (
            {"provider": "google", "scope": ["https://www.googleapis.com/auth/contacts.readonly"]},
            "",
        ),
        ({"provider": "microsoft", "scope": ["Mail.Read", "People.Read"]}, ""),
        ({"provider": "google", "scope": ["https://www.googleapis.com/auth/calendar"]}, "no_scope"),
        ({"provider": "imap", "scope": ["mail"]}, ""),
        ({"provider": "zoom"}, "no_contacts"),
        ({"provider": "virtual-calendar"}, "no_contacts"),
        ({"provider": "yahoo", "grant_status": "invalid"}, "expired"),
        ({"provider": "ews", "blocked": True}, "blocked"),
        ({"provider": "something new"}, "no_contacts"),
    ],
)
def test_only_grants_with_an_address_book_that_may_be_read_are_read(
    fields: dict[str, Any], reason: str
) -> None:
    assert unreadable(parse_grant({"id": "g", **fields})) == reason


def test_a_grant_is_read_from_whatever_the_listing_says_of_it() -> None:
    assert parse_grant({"id": "g"}) == Grant("g")
    assert parse_grant({"id": "g", "scope": None, "email": None, "provider": None}) == Grant("g")
    with pytest.raises(ValueError, match="without an ID"):
        parse_grant({"email": "a@example.com"})


def test_exchange_has_no_inbox_source() -> None:
    assert sources_of("ews", ("address_book", "inbox")) == ("address_book",)
    assert sources_of("google", ("address_book", "inbox")) == ("address_book", "inbox")


def rule(
    kind: str, times: int | None, retry_after: float | None = None, seconds: float = 0.0
) -> Any:
    from connectors.nylas.simulator.faults import Rule

    return Rule(kind, times=times, retry_after=retry_after, seconds=seconds)
