"""The simulated Nylas as a sender: challenge, signatures, attempts, failing endpoints."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

import httpx
import pytest
from aiohttp import web

from connectors.nylas.simulator import app
from connectors.nylas.simulator.delivery import judge
from connectors.nylas.simulator.world import Destination, World

KEY = {"Authorization": "Bearer the-key"}
SECRET = "41dD3-nXTUfebYuk81Gr"
NOON = 1_700_000_000
Json = dict[str, Any]


@dataclass
class Receiver:
    """A destination that answers with the given statuses and keeps what it got.

    After the last status it repeats that one.
    """

    url: str = ""
    statuses: Iterator[int] = field(default_factory=lambda: repeat(200))
    echo: Callable[[str], web.Response] = lambda value: web.Response(text=value)
    delay: float = 0.0
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    challenges: int = 0

    @property
    def envelopes(self) -> list[Json]:
        return [
            json.loads(gzip.decompress(body) if "content-encoding" in head else body)
            for head, body in self.got
        ]

    async def post(self, request: web.Request) -> web.Response:
        self.got.append(
            ({name.lower(): value for name, value in request.headers.items()}, await request.read())
        )
        await asyncio.sleep(self.delay)
        return web.Response(status=next(self.statuses))

    async def get(self, request: web.Request) -> web.StreamResponse:
        self.challenges += 1
        return self.echo(request.query["challenge"])


@dataclass
class Stage:
    client: httpx.AsyncClient
    receiver: Receiver

    async def control(self, path: str, method: str = "POST", **value: Any) -> Json:
        # ASCII, so that a lone surrogate can be sent as its escape.
        answer = await self.client.request(
            method, f"/_sim/{path}", content=json.dumps(value).encode()
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def notify(self, *notifications: Json, **more: Any) -> list[Json]:
        answer = await self.control("notify", notifications=list(notifications), wait=True, **more)
        return list(answer["deliveries"])

    async def at(self, seconds: float) -> None:
        """Stops the clock at NOON + seconds."""
        await self.control("clock", at=NOON + seconds, frozen=True)

    async def got(self, number: int) -> list[Json]:
        """What the receiver got, once that many have come."""
        async with asyncio.timeout(10):
            while len(self.receiver.got) < number:
                await asyncio.sleep(0.005)
        return self.receiver.envelopes

    async def status(self) -> str:
        return str((await self.client.get("/_sim/state")).json()["webhooks"][0]["status"])


def grant(provider: str = "microsoft", **more: Any) -> Json:
    contacts = [
        {
            "id": "c1",
            "given_name": "Ada",
            "picture_url": "x",
            "emails": [{"email": "ada@lace.example"}],
        }
    ]
    return {
        "id": "g",
        "email": "rep@lace.example",
        "provider": provider,
        "contacts": contacts,
        **more,
    }


@asynccontextmanager
async def stage(
    *grants: Json,
    compressed: bool = False,
    subscribed: bool = True,
    statuses: list[int] | None = None,
    **settings: Any,
) -> AsyncIterator[Stage]:
    receiver = Receiver(statuses=chain(statuses, repeat(statuses[-1])) if statuses else repeat(200))
    target = web.Application()
    target.add_routes(
        [web.post("/hook", receiver.post), web.get("/hook", receiver.get, allow_head=False)]
    )
    async with _served(target, auto_decompress=False) as url:
        receiver.url = url + "/hook"
        source: Json = {
            "api_key": "the-key",
            "application_id": "app-1",
            "grants": list(grants or [grant()]),
        }
        source["settings"] = {"retry_delay": 0.005, **settings}
        if subscribed:
            source["webhook"] = {
                "id": "w",
                "url": receiver.url,
                "secret": SECRET,
                "compressed": compressed,
            }
        async with (
            _served(app(World.from_json(source))) as base,
            httpx.AsyncClient(base_url=base, headers=KEY, timeout=30) as client,
        ):
            yield Stage(client, receiver)


@asynccontextmanager
async def _served(application: web.Application, **more: Any) -> AsyncIterator[str]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, **more)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def signed(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def test_a_changed_contact_is_announced_in_full_and_signed() -> None:
    async with stage() as s:
        await s.at(0)
        answer = await s.control(
            "contacts", grant_id="g", patch=[{"id": "c1", "given_name": "Grace"}], wait=True
        )
        assert [one["outcome"] for one in answer["deliveries"]] == ["acknowledged"]
        head, body = s.receiver.got[0]
        assert head["x-nylas-signature"] == signed(SECRET, body)
        assert head["content-type"] == "application/json"
        assert "content-encoding" not in head
        assert json.loads(body) == {
            "specversion": "1.0",
            "type": "contact.updated",
            "source": "/microsoft/contacts/realtime",
            "id": answer["deliveries"][0]["id"],
            "time": NOON,
            "webhook_delivery_attempt": 1,
            "data": {
                "application_id": "app-1",
                "object": {
                    "id": "c1",
                    "grant_id": "g",
                    "object": "contact",
                    "source": "address_book",
                    "given_name": "Grace",
                    "emails": [{"email": "ada@lace.example"}],
                },
            },
        }


async def test_a_deletion_carries_nothing_but_its_identity() -> None:
    async with stage() as s:
        await s.control("contacts", grant_id="g", delete=["c1"], wait=True)
        envelope = s.receiver.envelopes[0]
        assert envelope["type"] == "contact.deleted"
        assert envelope["data"]["object"] == {"grant_id": "g", "id": "c1", "object": "contact"}
        assert (await s.client.get("/v3/grants/g/contacts/c1")).status_code == 404


async def test_a_compressed_delivery_is_signed_over_the_compressed_bytes() -> None:
    async with stage(compressed=True) as s:
        await s.control("contacts", grant_id="g", delete=["c1"], wait=True)
        head, body = s.receiver.got[0]
        assert head["content-encoding"] == "gzip"
        assert head["x-nylas-signature"] == signed(SECRET, body)
        assert json.loads(gzip.decompress(body))["type"] == "contact.deleted"


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504, 507])
async def test_a_passing_refusal_is_tried_three_times_with_one_id(status: int) -> None:
    async with stage(statuses=[status]) as s:
        (delivery,) = await s.notify({"object": {}, "id": "n1"})
        assert (delivery["attempts"], delivery["outcome"]) == ([status] * 3, "given_up")
        assert [(one["id"], one["webhook_delivery_attempt"]) for one in s.receiver.envelopes] == [
            ("n1", 1),
            ("n1", 2),
            ("n1", 3),
        ]
        assert {head["x-nylas-signature"] for head, _ in s.receiver.got} == {
            signed(SECRET, body) for _, body in s.receiver.got
        }


@pytest.mark.parametrize("status", [201, 202, 204, 301, 400, 401, 404, 410, 413, 415, 500, 501])
async def test_any_other_answer_is_final(status: int) -> None:
    async with stage(statuses=[status]) as s:
        (delivery,) = await s.notify({"object": {}})
        assert (delivery["attempts"], delivery["outcome"]) == ([status], "given_up")


async def test_a_retry_that_gets_its_200_ends_well() -> None:
    async with stage(statuses=[503, 200]) as s:
        (delivery,) = await s.notify({"object": {}, "id": "n1"})
        assert (delivery["attempts"], delivery["outcome"]) == ([503, 200], "acknowledged")
        counted = (await s.client.get("/_sim/state")).json()["deliveries"]
        assert counted["acknowledged"] == ["n1"]
        assert counted["given_up"] == []
        assert counted["by_status"] == {"503": 1, "200": 1}
        assert counted["by_attempt"] == {"1": 1, "2": 1}
        assert counted["outcomes"] == {"acknowledged": 1}


async def test_the_delay_doubles_from_attempt_to_attempt() -> None:
    async with stage(statuses=[503], retry_delay=0.1) as s:
        began = time.monotonic()
        await s.notify({"object": {}})
        assert 0.3 <= time.monotonic() - began < 2


async def test_no_answer_within_the_time_out_is_tried_again() -> None:
    async with stage(timeout=0.05) as s:
        s.receiver.delay = 0.5
        (delivery,) = await s.notify({"object": {}})
        assert (delivery["attempts"], delivery["outcome"]) == ([0, 0, 0], "given_up")


async def test_nobody_at_home_is_tried_again() -> None:
    async with stage(subscribed=False) as s:
        await s.control(
            "world",
            "PUT",
            api_key="the-key",
            webhook={"url": "http://127.0.0.1:9/"},
            settings={"retry_delay": 0},
        )
        (delivery,) = await s.notify({"object": {}})
        assert delivery["attempts"] == [0, 0, 0]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("good", lambda body: signed(SECRET, body)),
        ("upper", lambda body: signed(SECRET, body).upper()),
        ("mock", lambda body: signed("mock-webhook-secret", body)),
        ("missing", lambda body: None),
    ],
)
async def test_signatures_of_each_kind(asked: str, expected: Callable[[bytes], str | None]) -> None:
    async with stage() as s:
        await s.notify({"object": {}, "signature": asked})
        head, body = s.receiver.got[0]
        assert head.get("x-nylas-signature") == expected(body)


async def test_a_bad_signature_looks_like_one_and_is_wrong() -> None:
    async with stage() as s:
        await s.notify({"object": {}, "signature": "bad"})
        head, body = s.receiver.got[0]
        assert len(head["x-nylas-signature"]) == 64
        assert head["x-nylas-signature"] != signed(SECRET, body)


async def test_raw_bytes_are_sent_and_signed_as_they_are() -> None:
    async with stage() as s:
        await s.notify(
            {"raw": "not json"},
            {"raw_base64": "AAH/"},
            {"raw": '"\ud800"', "headers": {"X-Odd": "1"}},
            sequential=True,
        )
        assert [body for _, body in s.receiver.got] == [
            b"not json",
            b"\x00\x01\xff",
            b'"\xed\xa0\x80"',
        ]
        assert s.receiver.got[2][0]["x-odd"] == "1"
        assert all(
            head["x-nylas-signature"] == signed(SECRET, body) for head, body in s.receiver.got
        )


async def test_an_envelope_is_sent_as_given() -> None:
    whole = {
        "type": "contact.updated",
        "id": "n1",
        "data": {"object": {"id": "\ud800"}},
        "metric": 1,
    }
    async with stage() as s:
        await s.notify({"envelope": whole, "gzip": True})
        assert s.receiver.envelopes == [whole]


async def test_duplicates_come_with_the_same_id_or_another() -> None:
    async with stage() as s:
        await s.notify({"object": {}, "id": "n1", "copies": 3})
        assert [one["id"] for one in s.receiver.envelopes] == ["n1"] * 3
        await s.notify({"object": {}, "id": "n2", "copies": 3, "same_id": False})
        assert len({one["id"] for one in s.receiver.envelopes[3:]}) == 3


@pytest.mark.parametrize("order", ["given", "reversed", "shuffled"])
async def test_notifications_come_in_the_order_asked_for(order: str) -> None:
    async with stage() as s:
        sent = [{"object": {}, "id": f"n{n}", "time": n} for n in range(12)]
        await s.notify(*sent, order=order, seed=1, sequential=True)
        got = [one["time"] for one in s.receiver.envelopes]
        assert sorted(got) == list(range(12))
        assert (got == list(range(12))) == (order == "given")
        assert (got == list(range(11, -1, -1))) == (order == "reversed")


async def test_a_new_destination_is_challenged_and_gets_a_secret_once() -> None:
    async with stage(subscribed=False) as s:
        asked = {
            "webhook_url": s.receiver.url + "?tenant=1",
            "trigger_types": ["contact.updated"],
            "compressed_delivery": True,
        }
        made = (await s.client.post("/v3/webhooks", json=asked)).json()["data"]
        assert s.receiver.challenges == 1
        assert len(made["webhook_secret"]) == 20
        assert made["status"] == "active"
        listed = (await s.client.get("/v3/webhooks")).json()["data"]
        assert [one["id"] for one in listed] == [made["id"]]
        one = (await s.client.get(f"/v3/webhooks/{made['id']}")).json()["data"]
        assert "webhook_secret" not in listed[0] | one
        await s.notify({"object": {}})
        head, body = s.receiver.got[0]
        assert head["x-nylas-signature"] == signed(made["webhook_secret"], body)


@pytest.mark.parametrize(
    ("echo", "why"),
    [
        (lambda value: web.Response(text=value + "\n"), "does not match"),
        (lambda value: web.Response(text=value, status=201), "got 201"),
        (lambda value: web.Response(status=404), "got 404"),
    ],
)
async def test_a_destination_that_fails_the_challenge_is_not_made(
    echo: Callable[[str], web.Response], why: str
) -> None:
    async with stage(subscribed=False) as s:
        s.receiver.echo = echo
        asked = {"webhook_url": s.receiver.url, "trigger_types": ["contact.updated"]}
        answer = await s.client.post("/v3/webhooks", json=asked)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "70005")
        assert why in answer.json()["error"]["message"]
        assert (await s.client.get("/v3/webhooks")).json()["data"] == []


@pytest.mark.parametrize("triggers", [None, [], ["contact.created"], "contact.updated"])
async def test_a_wrong_trigger_is_refused(triggers: object) -> None:
    async with stage(subscribed=False) as s:
        asked = {"webhook_url": s.receiver.url, "trigger_types": triggers}
        assert (await s.client.post("/v3/webhooks", json=asked)).status_code == 400


async def test_a_rotated_secret_signs_at_once_and_the_old_one_no_more() -> None:
    async with stage() as s:
        fresh = (await s.client.post("/v3/webhooks/rotate-secret/w")).json()["data"][
            "webhook_secret"
        ]
        assert fresh != SECRET
        await s.notify({"object": {}})
        head, body = s.receiver.got[0]
        assert head["x-nylas-signature"] == signed(fresh, body)
        assert (await s.client.put("/v3/webhooks/w/rotate-secret", json={})).status_code == 404


async def test_an_update_overwrites_only_what_it_names() -> None:
    async with stage() as s:
        changed = {"description": "ours", "notification_email_addresses": []}
        data = (await s.client.put("/v3/webhooks/w", json=changed)).json()["data"]
        assert (data["description"], data["webhook_url"], data["status"]) == (
            "ours",
            s.receiver.url,
            "active",
        )
        assert s.receiver.challenges == 0
        assert (await s.client.put("/v3/webhooks/w", json={"status": "failed"})).status_code == 400
        assert (await s.client.put("/v3/webhooks/none", json={})).json()["error"]["type"] == "70000"


async def test_a_paused_destination_gets_nothing_and_is_challenged_when_it_comes_back() -> None:
    async with stage() as s:
        await s.client.put("/v3/webhooks/w", json={"status": "pause"})
        (delivery,) = await s.notify({"object": {}})
        assert (delivery["attempts"], delivery["outcome"]) == ([], "unsent")
        assert (await s.client.put("/v3/webhooks/w", json={"status": "active"})).json()["data"][
            "status"
        ] == "active"
        assert s.receiver.challenges == 1
        await s.notify({"object": {}})
        assert len(s.receiver.got) == 1


async def test_a_deleted_destination_is_gone() -> None:
    async with stage() as s:
        assert (await s.client.delete("/v3/webhooks/w")).json()["data"] == {"status": "success"}
        assert (await s.client.get("/v3/webhooks/w")).status_code == 400
        await s.control("contacts", grant_id="g", delete=["c1"], wait=True)
        assert s.receiver.got == []


async def test_a_destination_gets_only_what_it_subscribed_to_and_each_gets_its_own_copy() -> None:
    async with stage() as s:
        asked = {
            "webhook_url": s.receiver.url,
            "trigger_types": ["contact.updated", "grant.expired"],
        }
        other = (await s.client.post("/v3/webhooks", json=asked)).json()["data"]["id"]
        answer = await s.control(
            "contacts", grant_id="g", upsert=[{"id": "c2"}], delete=["c1"], wait=True
        )
        kinds = sorted((one["type"], one["webhook_id"]) for one in answer["deliveries"])
        assert kinds == sorted(
            [("contact.deleted", "w"), ("contact.updated", "w"), ("contact.updated", other)]
        )


async def test_a_retry_reaches_every_destination_of_its_type_again() -> None:
    async with stage(statuses=[200, 503, 200], concurrency=1) as s:
        asked = {"webhook_url": s.receiver.url, "trigger_types": ["contact.updated"]}
        await s.client.post("/v3/webhooks", json=asked)
        await s.notify({"object": {}, "id": "n1"})
        attempts = [one["webhook_delivery_attempt"] for one in await s.got(4)]
        assert attempts == [1, 1, 2, 2]


async def test_a_test_event_is_signed_with_the_mock_secret() -> None:
    async with stage(compressed=True) as s:
        asked = {"trigger_type": "contact.updated", "webhook_url": s.receiver.url}
        assert (await s.client.post("/v3/webhooks/send-test-event", json=asked)).json()[
            "data"
        ] == "success"
        head, body = s.receiver.got[0]
        assert head["x-nylas-signature"] == signed("mock-webhook-secret", body)
        sample = (await s.client.post("/v3/webhooks/mock-payload", json=asked)).json()["data"]
        assert sample["type"] == "contact.updated"
        assert sample["data"]["object"]["object"] == "contact"


@pytest.mark.parametrize(
    ("provider", "announced"),
    [("microsoft", 2), ("icloud", 2), ("google", 2), ("yahoo", 0), ("imap", 0), ("ews", 0)],
)
async def test_providers_differ_in_what_they_announce(provider: str, announced: int) -> None:
    async with stage(grant(provider)) as s:
        await s.control("contacts", grant_id="g", upsert=[{"id": "c2"}], delete=["c1"], wait=True)
        assert len(s.receiver.got) == announced
        assert [
            one["id"] for one in (await s.client.get("/v3/grants/g/contacts")).json()["data"]
        ] == ["c2"]


async def test_google_is_polled_and_shows_a_contact_as_it_is_by_then() -> None:
    async with stage(grant("google"), poll_interval=0.1) as s:
        await s.at(0)
        await s.control("contacts", grant_id="g", patch=[{"id": "c1", "given_name": "Grace"}])
        await s.at(60)
        await s.control(
            "contacts",
            grant_id="g",
            patch=[{"id": "c1", "given_name": "Emmy"}],
            upsert=[{"id": "c2"}],
        )
        await s.control("contacts", grant_id="g", delete=["c2"], wait=True)
        assert s.receiver.got == []
        envelopes = await s.got(2)
        assert {(one["type"], one["time"]) for one in envelopes} == {
            ("contact.updated", NOON + 60),
            ("contact.deleted", NOON + 60),
        }
        assert {one["data"]["object"].get("given_name") for one in envelopes} == {"Emmy", None}


@pytest.mark.parametrize("created_first", [True, False])
async def test_an_identity_that_moves_is_a_deletion_and_a_new_contact_in_either_order(
    created_first: bool,
) -> None:
    async with stage(concurrency=1) as s:
        await s.control(
            "contacts",
            grant_id="g",
            move=[{"id": "c1", "to": "C1", "created_first": created_first}],
            wait=True,
        )
        expected = [("contact.deleted", "c1"), ("contact.updated", "C1")]
        got = [(one["type"], one["data"]["object"]["id"]) for one in s.receiver.envelopes]
        assert got == (expected[::-1] if created_first else expected)
        assert [
            one["id"] for one in (await s.client.get("/v3/grants/g/contacts")).json()["data"]
        ] == ["C1"]


async def test_a_change_may_be_silent_and_may_have_happened_before() -> None:
    async with stage() as s:
        await s.control(
            "contacts",
            grant_id="g",
            patch=[{"id": "c1", "surname": "Silent"}],
            notify=False,
            wait=True,
        )
        assert s.receiver.got == []
        await s.control("contacts", grant_id="g", delete=["c1"], time=NOON - 5, wait=True)
        assert s.receiver.envelopes[0]["time"] == NOON - 5


async def test_the_life_of_a_grant_is_told_with_the_documented_codes() -> None:
    async with stage(concurrency=1) as s:
        await s.at(0)
        made = {
            "id": "new",
            "email": "new@lace.example",
            "provider": "google",
            "scope": ["contacts"],
            "name": "New",
        }
        await s.control("grants", action="create", grant=made, wait=True)
        await s.control(
            "grants", action="update", grant_id="new", grant={"name": "Newer"}, wait=True
        )
        await s.control("grants", action="expire", grant_id="new", wait=True)
        await s.control("grants", action="reauthenticate", grant_id="new", wait=True)
        await s.control("grants", action="delete", grant_id="new", wait=True)
        envelopes = s.receiver.envelopes
        assert [(one["type"], one["data"]["object"]["code"]) for one in envelopes] == [
            ("grant.created", 25012),
            ("grant.updated", 25014),
            ("grant.expired", 25009),
            ("grant.updated", 25027),
            ("grant.deleted", 25013),
        ]
        assert {one["source"] for one in envelopes} == {"/nylas/system"}
        bodies = [one["data"]["object"] for one in envelopes]
        assert bodies[0].keys() == {
            "code",
            "grant_id",
            "integration_id",
            "provider",
            "login_id",
            "name",
            "scope",
            "metadata",
        }
        assert [body.get("reauthentication_flag") for body in bodies] == [
            None,
            False,
            None,
            True,
            None,
        ]
        assert bodies[2]["grant_updated_at"] == NOON
        assert bodies[4].keys() == {"code", "grant_id", "integration_id", "provider", "email"}
        assert (await s.client.get("/v3/grants/new/contacts")).status_code == 404


@pytest.mark.parametrize(("hours", "replayed"), [(71, 2), (72, 0)])
async def test_an_expired_grant_is_silent_and_its_backlog_lives_for_72_hours(
    hours: int, replayed: int
) -> None:
    async with stage(concurrency=1) as s:
        await s.at(0)
        await s.control("grants", action="expire", grant_id="g", wait=True)
        assert (await s.client.get("/v3/grants/g")).json()["data"]["grant_status"] == "invalid"
        assert (await s.client.get("/v3/grants/g/contacts")).status_code == 401
        await s.control("contacts", grant_id="g", upsert=[{"id": "c2"}], delete=["c1"], wait=True)
        await s.at(hours * 3600)
        await s.control("grants", action="reauthenticate", grant_id="g", wait=True)
        kinds = [(one["type"], one["time"] - NOON) for one in s.receiver.envelopes]
        assert kinds[:2] == [("grant.expired", 0), ("grant.updated", hours * 3600)]
        assert kinds[2:] == [("contact.updated", 0), ("contact.deleted", 0)][:replayed]
        assert [
            one["id"] for one in (await s.client.get("/v3/grants/g/contacts")).json()["data"]
        ] == ["c2"]


async def test_an_endpoint_is_failing_after_15_minutes_of_refusals_and_failed_after_72_hours() -> (
    None
):
    async with stage(statuses=[401]) as s:
        for minutes in (0, 5, 10):
            await s.at(minutes * 60)
            await s.notify({"object": {}})
        assert await s.status() == "active"
        await s.at(16 * 60)
        await s.notify({"object": {}})
        assert await s.status() == "failing"
        for hour in (20, 40, 60, 71):
            await s.at(hour * 3600)
            await s.notify({"object": {}})
        assert await s.status() == "failing"
        await s.at(73 * 3600)
        await s.notify({"object": {}})
        assert await s.status() == "failed"
        before = len(s.receiver.got)
        (delivery,) = await s.notify({"object": {}})
        assert delivery["outcome"] == "unsent"
        assert len(s.receiver.got) == before
        data = (await s.client.get("/v3/webhooks/w")).json()["data"]
        assert (data["status"], data["status_updated_at"]) == ("failed", NOON + 73 * 3600)


async def test_an_endpoint_that_recovers_is_active_again() -> None:
    async with stage(statuses=[401, 401, 200]) as s:
        for minutes in (0, 16):
            await s.at(minutes * 60)
            await s.notify({"object": {}})
        assert await s.status() == "failing"
        await s.at(60 * 60)
        await s.notify({"object": {}})
        assert await s.status() == "active"


def test_less_than_95_percent_of_refusals_is_no_failure() -> None:
    destination = Destination("w", "http://x", "s", [], False, "", [], "active", NOON, NOON, NOON)
    for number in range(1, 2001):
        judge(destination, 200 if number % 10 == 0 else 500, NOON + number)
    assert destination.status == "active"


async def wait_for(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_another_world_forgets_what_was_under_way() -> None:
    async with stage(statuses=[503], retry_delay=60) as s:
        waiting = asyncio.create_task(s.notify({"object": {}}))
        await s.got(1)
        await s.control("world", "PUT", api_key="the-key", webhook={"url": s.receiver.url})
        assert [one["outcome"] for one in await waiting] == ["unsent"]
        assert (await s.client.get("/_sim/state")).json()["deliveries"]["total"] == 0


async def test_a_burst_is_delivered_whole_and_accounted_for() -> None:
    async with stage(statuses=[503, 500, *([200] * 1000)], concurrency=32) as s:
        await s.control("notify", notifications=[{"object": {"id": str(n)}} for n in range(1000)])

        async def done() -> bool:
            counted = (await s.client.get("/_sim/state?ids=false")).json()["deliveries"]
            return not counted["outcomes"].get("pending")

        await wait_for(done)
        listed = (await s.client.get("/_sim/deliveries")).json()["deliveries"]
        assert len(listed) == 1000
        assert sorted(one["attempts"] for one in listed if one["attempts"] != [200]) == [
            [500],
            [503, 200],
        ]
        state = (await s.client.get("/_sim/state")).json()["deliveries"]
        assert (len(state["acknowledged"]), len(state["given_up"])) == (999, 1)
