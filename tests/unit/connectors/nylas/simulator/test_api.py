"""The simulated Nylas over HTTP: pages, single contacts, grants, limits, faults."""

from __future__ import annotations

import ast
import asyncio
import email.utils
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from connectors.nylas.simulator import app
from connectors.nylas.simulator.world import BadInput, World

KEY = {"Authorization": "Bearer the-key"}
Json = dict[str, Any]


def contact(number: int, **more: Any) -> Json:
    return {
        "id": f"c{number}",
        "given_name": "Ada",
        "emails": [{"email": f"ada{number}@lace.example"}],
        **more,
    }


def world(**more: Any) -> Json:
    grant = {
        "id": "g1",
        "email": "rep@lace.example",
        "provider": "google",
        "contacts": [contact(n) for n in range(450)],
    }
    return {"api_key": "the-key", "grants": [grant], **more}


@asynccontextmanager
async def running(source: Json) -> AsyncIterator[httpx.AsyncClient]:
    runner = web.AppRunner(app(World.from_json(source)), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{runner.addresses[0][1]}", headers=KEY
        ) as client:
            yield client
    finally:
        await runner.cleanup()


async def walk(client: httpx.AsyncClient, grant: str = "g1", **query: Any) -> list[str]:
    """The IDs of a whole listing, in the order served."""
    ids: list[str] = []
    while True:
        answer = await client.get(f"/v3/grants/{grant}/contacts", params=query)
        answer.raise_for_status()
        page = answer.json()
        ids += [one["id"] for one in page["data"]]
        if not page.get("next_cursor"):
            return ids
        query["page_token"] = page["next_cursor"]


async def control(client: httpx.AsyncClient, path: str, value: Json, method: str = "POST") -> Json:
    answer = await client.request(method, f"/_sim/{path}", json=value)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_a_call_without_the_key_is_refused() -> None:
    async with running(world()) as client:
        answer = await client.get("/v3/grants", headers={"Authorization": "Bearer other"})
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "unauthorized"


async def test_error_types_come_in_the_dialect_that_is_asked_for() -> None:
    async with running(world(settings={"error_dialect": "api."})) as client:
        answer = await client.get("/v3/grants/g1/contacts/nobody")
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "api.not_found_error")


async def test_pages_are_walked_by_cursor_to_the_last_contact() -> None:
    async with running(world()) as client:
        assert await walk(client, limit=200) == [f"c{n}" for n in range(450)]
        first = (await client.get("/v3/grants/g1/contacts")).json()
        assert len(first["data"]) == 30
        state = (await client.get("/_sim/state")).json()
        assert state["calls"]["contacts"] == 4
        assert state["contacts"] == 450


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "201"},
        {"limit": "0"},
        {"limit": "x"},
        {"source": "gal"},
        {"page_token": "made-up"},
    ],
)
async def test_a_wrong_listing_is_a_400_that_says_so(query: dict[str, str]) -> None:
    async with running(world()) as client:
        answer = await client.get("/v3/grants/g1/contacts", params=query)
        assert (answer.status_code, answer.json()["error"]["type"]) == (
            400,
            "invalid_request_error",
        )


async def test_a_cursor_belongs_to_its_listing() -> None:
    async with running(world()) as client:
        token = (await client.get("/v3/grants/g1/contacts", params={"email": "lace"})).json()[
            "next_cursor"
        ]
        answer = await client.get("/v3/grants/g1/contacts", params={"page_token": token})
        assert answer.status_code == 400


async def test_a_listing_holds_one_source_and_the_filters_narrow_it() -> None:
    book = [
        contact(1),
        contact(2, source="inbox"),
        contact(3, source="domain", groups=[{"id": "friends"}]),
    ]
    async with running(
        {"api_key": "the-key", "grants": [{"id": "g", "provider": "google", "contacts": book}]}
    ) as client:
        assert await walk(client, "g") == ["c1"]
        assert await walk(client, "g", source="inbox") == ["c2"]
        assert await walk(client, "g", source="domain", group="friends") == ["c3"]
        assert await walk(client, "g", email="ADA1@") == ["c1"]
        assert (
            await client.get("/v3/grants/g/contacts", params={"source": "inbox,address_book"})
        ).status_code == 400


async def test_select_leaves_only_the_fields_asked_for() -> None:
    async with running(world()) as client:
        page = (
            await client.get("/v3/grants/g1/contacts", params={"select": "id,emails", "limit": 1})
        ).json()
        assert page["data"] == [{"id": "c0", "emails": [{"email": "ada0@lace.example"}]}]


@pytest.mark.parametrize(
    "odd",
    [
        "a/b#c d",
        "people/c1",
        "Ünïcödé",
        "50%25",
        "50%2F",
        "q?x=1&y",
        "AAMkAD==",
        "aamkad==",
        ".hidden",
    ],
)
async def test_a_contact_is_found_by_its_percent_encoded_id(odd: str) -> None:
    book = [contact(1, id=odd), contact(2, id="other")]
    async with running({"api_key": "the-key", "grants": [{"id": "g", "contacts": book}]}) as client:
        answer = await client.get(f"/v3/grants/g/contacts/{quote(odd, safe='')}")
        assert answer.json()["data"]["id"] == odd


@pytest.mark.parametrize("odd", ["a/b", "a#b", "a?b"])
async def test_an_id_that_is_not_encoded_is_not_found(odd: str) -> None:
    async with running(
        {"api_key": "the-key", "grants": [{"id": "g", "contacts": [contact(1, id=odd)]}]}
    ) as client:
        answer = await client.get(f"/v3/grants/g/contacts/{odd}")
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("name", ["g1", "rep@lace.example", "email:rep@lace.example", "grant:g1"])
async def test_a_grant_is_named_by_id_or_address(name: str) -> None:
    async with running(world()) as client:
        assert (await client.get(f"/v3/grants/{quote(name, safe='')}")).json()["data"]["id"] == "g1"
        assert (await client.get(f"/v3/grants/{name}/contacts")).status_code == 200


async def test_an_unknown_grant_differs_from_an_unknown_contact() -> None:
    async with running(world()) as client:
        answer = await client.get("/v3/grants/none/contacts")
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "grant.not_found")
        answer = await client.get("/v3/grants/g1/contacts/none")
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


async def test_grants_are_listed_by_offset_ten_at_a_time_newest_first() -> None:
    grants = [
        {
            "id": f"g{n}",
            "email": f"rep{n}@lace.example",
            "created_at": n,
            "provider": "yahoo" if n % 2 else "google",
        }
        for n in range(25)
    ]
    async with running({"api_key": "the-key", "grants": grants}) as client:
        page = (await client.get("/v3/grants")).json()
        assert [one["id"] for one in page["data"]] == [f"g{n}" for n in range(24, 14, -1)]
        assert (page["limit"], page["offset"]) == (10, 0)
        rest = (await client.get("/v3/grants", params={"offset": 20, "limit": 200})).json()
        assert len(rest["data"]) == 5
        yahoo = (await client.get("/v3/grants", params={"provider": "yahoo", "limit": 200})).json()
        assert len(yahoo["data"]) == 12
        assert (await client.get("/v3/grants", params={"limit": 201})).status_code == 400


async def test_a_grant_shows_its_aliases_when_asked() -> None:
    aliases = ["sales@lace.example"]
    grants = [
        {"id": one, "provider": one, "email": f"{one}@b.example", "email_aliases": aliases}
        for one in ("google", "yahoo")
    ]
    async with running({"api_key": "the-key", "grants": grants}) as client:
        assert "email_aliases" not in (await client.get("/v3/grants/google")).json()["data"]
        listed = (await client.get("/v3/grants", params={"expose_aliases": "true"})).json()["data"]
        assert {one["id"]: one.get("email_aliases") for one in listed} == {
            "google": aliases,
            "yahoo": None,
        }


async def test_the_date_of_an_answer_follows_the_clock() -> None:
    async with running(world()) as client:
        await control(client, "clock", {"at": 1_700_000_000, "frozen": True})
        answer = await client.get("/v3/grants/g1/contacts")
        assert (
            email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp() == 1_700_000_000
        )
        await control(client, "clock", {"offset": -3600})
        answer = await client.get("/v3/grants/g1/contacts/none")
        assert (
            abs(
                email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()
                - (time.time() - 3600)
            )
            < 5
        )


async def test_pages_of_a_polled_grant_lag_behind_its_events() -> None:
    grant = {"id": "g", "page_lag": 300, "contacts": [contact(1), contact(2)]}
    async with running({"api_key": "the-key", "grants": [grant]}) as client:
        await control(client, "clock", {"at": 1_700_000_000, "frozen": True})
        await control(
            client, "contacts", {"grant_id": "g", "upsert": [contact(3)], "delete": ["c1"]}
        )
        assert await walk(client, "g") == ["c1", "c2"]
        await control(client, "clock", {"at": 1_700_000_299, "frozen": True})
        assert (await client.get("/v3/grants/g/contacts/c3")).status_code == 404
        await control(client, "clock", {"at": 1_700_000_300, "frozen": True})
        assert await walk(client, "g") == ["c2", "c3"]


async def test_answers_are_compressed_for_who_accepts_it() -> None:
    async with running(world()) as client:
        assert (await client.get("/v3/grants/g1/contacts")).headers["Content-Encoding"] == "gzip"
        plain = await client.get("/v3/grants/g1/contacts", headers={"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in plain.headers
        small = await client.get("/v3/grants/g1/contacts", params={"limit": 1, "select": "id"})
        assert "Content-Encoding" not in small.headers


async def test_a_listing_ends_with_null_or_without_the_field() -> None:
    grants = [
        {"id": "g", "provider": "google", "email": "a@b.example"},
        {"id": "m", "provider": "microsoft", "email": "c@d.example"},
    ]
    async with running({"api_key": "the-key", "grants": grants}) as client:
        assert "next_cursor" not in (await client.get("/v3/grants/g/contacts")).json()
        assert (await client.get("/v3/grants/m/contacts")).json()["next_cursor"] is None


async def test_more_than_the_limit_in_a_second_is_429_without_a_retry_after() -> None:
    async with running(
        world(settings={"contacts_per_second": 3, "grants_per_second": 2})
    ) as client:
        answers = [await client.get("/v3/grants/g1/contacts/c1") for _ in range(10)]
        refused = next(one for one in answers if one.status_code == 429)
        assert refused.json()["error"] == {
            "type": "nylas_rate_limit_exceeded",
            "message": "Too many requests",
        }
        assert "Retry-After" not in refused.headers
        assert 429 in [(await client.get("/v3/grants")).status_code for _ in range(8)]


async def test_a_mailbox_of_microsoft_takes_four_calls_at_once() -> None:
    source = {
        "api_key": "the-key",
        "grants": [{"id": "m", "provider": "microsoft"}],
        "settings": {"latency": 0.1},
    }
    async with running(source) as client:
        answers = await asyncio.gather(*(client.get("/v3/grants/m/contacts") for _ in range(8)))
        statuses = sorted(one.status_code for one in answers)
        assert statuses[:4] == [200] * 4
        assert statuses[-1] == 429
        refused = next(one for one in answers if one.status_code == 429)
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert "MailboxConcurrency" in refused.json()["error"]["provider_error"]["error"]["message"]


@pytest.mark.parametrize(
    ("provider", "limit", "retry_after"),
    [("google", "google_per_minute", None), ("microsoft", "microsoft_per_10_minutes", "10")],
)
async def test_a_provider_throttles_by_its_own_count(
    provider: str, limit: str, retry_after: str | None
) -> None:
    source = {
        "api_key": "the-key",
        "grants": [{"id": "g", "provider": provider}],
        "settings": {limit: 2},
    }
    async with running(source) as client:
        answers = [await client.get("/v3/grants/g/contacts") for _ in range(6)]
        assert answers[0].headers["Nylas-Provider-Request-Count"] == "1"
        assert answers[-1].status_code == 429
        assert answers[-1].json()["error"]["type"] == "rate_limit_error"
        assert answers[-1].json()["error"]["provider_error"]
        assert answers[-1].headers.get("Retry-After") == retry_after


@given(
    lag=st.integers(0, 5),
    changes=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.booleans()), max_size=30
    ),
    looks=st.sets(st.integers(0, 60)),
)
def test_pages_show_the_book_as_it_was_before_the_lag(
    lag: int, changes: list[tuple[int, str, bool]], looks: set[int]
) -> None:
    grant = World.from_json({"grants": [{"id": "g", "page_lag": lag}]}).grants["g"]
    history: list[tuple[int, str, Json | None]] = []
    now = 0
    for step, (pause, name, deleted) in enumerate(changes):
        for moment in sorted(looks):
            if now <= moment < now + pause:
                assert grant.visible(moment) == book_at(history, moment - lag)
        now += pause
        value = None if deleted else {"id": name, "step": step}
        grant.change(now, name, value)
        history.append((now, name, value))
    assert grant.visible(now) == book_at(history, now - lag)
    assert grant.visible(now + lag) == grant.contacts == book_at(history, now)


def book_at(history: list[tuple[int, str, Json | None]], moment: int) -> dict[str, Json]:
    book = {name: value for at, name, value in history if at <= moment}
    return {name: value for name, value in book.items() if value is not None}


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("nylas_limit", 429),
        ("provider_limit", 429),
        ("quota", 429),
        ("server_error", 500),
        ("text_error", 500),
        ("bad_gateway", 502),
        ("unavailable", 503),
        ("provider_timeout", 504),
        ("empty", 504),
        ("unauthorized", 401),
        ("html", 200),
    ],
)
async def test_a_fault_is_played_once_and_then_the_call_works(kind: str, status: int) -> None:
    async with running(world()) as client:
        await control(
            client, "faults", {"rules": [{"kind": kind, "on": "contacts", "retry_after": 7}]}
        )
        assert (await client.get("/v3/grants/g1")).status_code == 200
        faulty = await client.get("/v3/grants/g1/contacts")
        assert faulty.status_code == status
        assert faulty.headers.get("Retry-After") == ("7" if kind == "provider_limit" else None)
        if kind in ("bad_gateway", "html"):
            assert faulty.text.startswith("<html>")
        assert "data" in (await client.get("/v3/grants/g1/contacts")).json()


@pytest.mark.parametrize("kind", ["cut", "truncated"])
async def test_a_connection_may_break(kind: str) -> None:
    async with running(world()) as client:
        await control(client, "faults", {"rules": [{"kind": kind, "after": 1}]})
        assert (await client.get("/v3/grants/g1/contacts")).status_code == 200
        with pytest.raises(httpx.HTTPError):
            await client.get("/v3/grants/g1/contacts")
        assert (await client.get("/v3/grants/g1/contacts")).status_code == 200


async def test_an_answer_may_never_come() -> None:
    async with running(world()) as client:
        await control(client, "faults", {"rules": [{"kind": "hang", "seconds": 60}]})
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/v3/grants/g1/contacts", timeout=0.1)


async def test_a_cursor_may_be_lost_on_the_second_page() -> None:
    async with running(world()) as client:
        await control(client, "faults", {"rules": [{"kind": "lost_cursor"}]})
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            await walk(client, limit=200)
        assert len(await walk(client, limit=200)) == 450


async def test_a_cursor_may_repeat_itself() -> None:
    async with running(world()) as client:
        await control(client, "faults", {"rules": [{"kind": "repeated_cursor"}]})
        token = (await client.get("/v3/grants/g1/contacts")).json()["next_cursor"]
        page = (await client.get("/v3/grants/g1/contacts", params={"page_token": token})).json()
        assert page["next_cursor"] == token


@pytest.mark.parametrize(("kind", "served"), [("moved_missed", 449), ("moved_twice", 451)])
async def test_a_contact_may_move_between_pages(kind: str, served: int) -> None:
    async with running(world()) as client:
        await control(client, "faults", {"rules": [{"kind": kind, "grant_id": "g1"}]})
        ids = await walk(client, limit=200)
        assert len(ids) == served
        assert len(set(ids)) == min(served, 450)
        assert len(await walk(client, limit=200)) == 450


async def test_random_faults_are_the_same_for_the_same_seed() -> None:
    async def statuses(seed: int) -> list[int]:
        async with running(world(settings={"contacts_per_second": 0})) as client:
            kinds = ["server_error", "bad_gateway", "nylas_limit"]
            await control(
                client, "faults", {"random": {"seed": seed, "share": 0.3, "kinds": kinds}}
            )
            found = [(await client.get("/v3/grants/g1/contacts/c1")).status_code for _ in range(60)]
            await control(client, "faults", {"clear": True})
            assert (await client.get("/v3/grants/g1/contacts/c1")).status_code == 200
            return found

    first = await statuses(1)
    assert first == await statuses(1)
    assert first != await statuses(2)
    assert {200, 500, 502, 429} == set(first)


@pytest.mark.parametrize(
    ("provider", "book", "named"),
    [
        (
            "yahoo",
            [contact(1, emails=[{"email": "a@b.example"}, {"email": "c@d.example"}])],
            "emails",
        ),
        (
            "microsoft",
            [contact(1, emails=[{"email": f"a{n}@b.example"} for n in range(4)])],
            "emails",
        ),
        ("imap", [contact(1, phone_numbers=[{"number": "1"}, {"number": "2"}])], "phone_numbers"),
        ("ews", [contact(1, source="inbox")], "inbox"),
        ("aol", [], "aol"),
    ],
)
def test_what_a_provider_cannot_hold_is_refused_by_name(
    provider: str, book: list[Json], named: str
) -> None:
    with pytest.raises(BadInput, match=named):
        World.from_json({"grants": [{"id": "g", "provider": provider, "contacts": book}]})


async def test_the_type_of_an_address_is_lost_where_the_provider_does_not_keep_it() -> None:
    book = [contact(1, emails=[{"email": "a@b.example", "type": "work"}])]
    grants = [
        {"id": one, "provider": one, "contacts": book, "email": f"{one}@b.example"}
        for one in ("google", "microsoft")
    ]
    async with running({"api_key": "the-key", "grants": grants}) as client:
        assert (await client.get("/v3/grants/google/contacts/c1")).json()["data"]["emails"][0][
            "type"
        ] == "work"
        assert (
            "type"
            not in (await client.get("/v3/grants/microsoft/contacts/c1")).json()["data"]["emails"][
                0
            ]
        )


async def test_a_source_needs_the_scope_that_the_grant_was_asked_for() -> None:
    scope = ["https://www.googleapis.com/auth/contacts.readonly"]
    async with running({"api_key": "the-key", "grants": [{"id": "g", "scope": scope}]}) as client:
        assert (await client.get("/v3/grants/g/contacts")).status_code == 200
        assert (
            await client.get("/v3/grants/g/contacts", params={"source": "inbox"})
        ).status_code == 403


BAD_INPUTS: list[tuple[str, str, Any, str]] = [
    ("PUT", "world", {"grant": []}, "grant"),
    ("PUT", "world", {"grants": [{"id": 7}]}, "7"),
    (
        "PUT",
        "world",
        {"grants": [{"id": "a", "email": "x@y.example"}, {"id": "b", "email": "X@y.example"}]},
        "X@y.example",
    ),
    ("PUT", "world", {"webhook": {"url": "ftp://x"}}, "ftp://x"),
    ("POST", "settings", {"retry_delay": -1}, "-1"),
    ("POST", "settings", {"concurrency": "many"}, "many"),
    ("POST", "contacts", {"grant_id": "nobody"}, "nobody"),
    ("POST", "contacts", {"grant_id": "g1", "delete": ["c-none"]}, "c-none"),
    ("POST", "contacts", {"grant_id": "g1", "upsert": ["text"]}, "text"),
    ("POST", "contacts", {"grant_id": "g1", "wait": "yes"}, "yes"),
    ("POST", "grants", {"action": "sell", "grant_id": "g1"}, "sell"),
    ("POST", "notify", {"notifications": [{"object": {}}]}, "destination"),
    ("POST", "notify", {"notifications": [{"object": {}, "raw": ""}]}, "exactly one"),
    ("POST", "notify", {"notifications": [{"object": {}, "signature": "blue"}]}, "blue"),
    ("POST", "notify", {"notifications": [{"raw_base64": "%"}]}, "%"),
    ("POST", "faults", {"rules": [{"kind": "flood"}]}, "flood"),
    ("POST", "faults", {"rules": [{"kind": "cut", "on": "mars"}]}, "mars"),
    ("POST", "faults", {"random": {"share": 2}}, "2"),
    ("POST", "clock", {"at": "noon"}, "noon"),
    ("POST", "clock", [], "[]"),
]


@pytest.mark.parametrize(("method", "path", "value", "named"), BAD_INPUTS)
async def test_a_bad_input_of_the_control_plane_is_named(
    method: str, path: str, value: Any, named: str
) -> None:
    async with running(world()) as client:
        before = (await client.get("/_sim/state")).json()["grants"]
        answer = await client.request(method, f"/_sim/{path}", json=value)
        assert answer.status_code == 400
        assert named in answer.json()["error"]
        assert (await client.get("/_sim/state")).json()["grants"] == before
        assert (await client.post("/_sim/clock", content=b"{")).status_code == 400


async def test_another_world_replaces_everything_but_the_clock() -> None:
    async with running(world()) as client:
        await client.get("/v3/grants")
        await control(client, "world", {"api_key": "new", "grants": [{"id": "g2"}]}, "PUT")
        assert (await client.get("/v3/grants")).status_code == 401
        answer = await client.get("/v3/grants", headers={"Authorization": "Bearer new"})
        assert [one["id"] for one in answer.json()["data"]] == ["g2"]
        assert (await client.get("/_sim/state")).json()["calls"] == {"grants": 2}


def test_the_process_says_where_it_listens_and_ends_on_a_signal(tmp_path: Path) -> None:
    file = tmp_path / "world.json"
    file.write_text('{"api_key": "the-key", "grants": [{"id": "g"}]}')
    code = (
        "import sys; from pathlib import Path; from connectors.nylas.simulator import serve; "
        "serve('127.0.0.1', 0, Path(sys.argv[1]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("nylas simulator listening on http://127.0.0.1:")
        answer = httpx.get(line.rsplit(" ", 1)[1].strip() + "/v3/grants", headers=KEY)
        assert [one["id"] for one in answer.json()["data"]] == ["g"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_the_simulator_shares_no_code_with_the_client() -> None:
    here = Path(sys.modules["connectors.nylas.simulator"].__file__ or "").parent
    for file in here.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), (
                f"{file}: a relative import may lead anywhere"
            )
            names = (
                [one.name for one in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                assert not name.startswith("streams"), file
                assert not name.startswith("connectors") or name.startswith(
                    "connectors.nylas.simulator"
                ), file


async def test_groups_are_renamed_without_a_notification_and_their_cursors_are_their_own() -> None:
    source = world()
    groups = [{"id": f"g{number}", "name": "Customers"} for number in range(3)]
    source["grants"][0]["groups"] = groups
    async with running(source) as client:
        path = "/v3/grants/g1/contacts/groups"
        first = (await client.get(path, params={"limit": 2, "select": "id,name"})).json()
        assert first["data"] == groups[:2]
        token = {"page_token": first["next_cursor"]}
        rest = (await client.get(path, params=token)).json()
        assert [group["id"] for group in rest["data"]] == ["g2"]
        assert rest["data"][0]["object"] == "contact_group"
        assert "next_cursor" not in rest
        contacts = await client.get("/v3/grants/g1/contacts", params=token)
        assert contacts.status_code == 400, "a cursor of groups lists no contacts"
        change = {"action": "groups", "grant_id": "g1", "grant": {"groups": [{"id": "g0"}]}}
        renamed = (await client.post("/_sim/grants", json=change)).json()
        assert renamed == {"grant_id": "g1", "deliveries": []}
        assert [group["name"] for group in (await client.get(path)).json()["data"]] == [""]
        wrong = change | {"grant": {"groups": [{"name": "no ID"}]}}
        refused = await client.post("/_sim/grants", json=wrong)
        assert (refused.status_code, "needs an ID" in refused.text) == (400, True)
