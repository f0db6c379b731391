"""Login, latency, faults, world document and control plane of the simulated org."""

from __future__ import annotations

import ast
import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.salesforce import simulator
from connectors.salesforce.simulator.settings import BadValueError
from connectors.salesforce.simulator.world import HUMAN_USER, World
from tests.support.raw_org import BASE, KEY, Json, query_part, raw_org, row, upsert_part

ALL = "SELECT Id FROM Contact"
TOKEN = "/services/oauth2/token"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
PRIVATE_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_PEM = PRIVATE_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
AUTH = {
    "client_id": "app",
    "client_secret": "secret",
    "username": "sync@example.com",
    "public_key": PUBLIC_PEM.decode(),
    "refresh_token": "refresh",
}


Form = dict[str, str] | Callable[[], dict[str, str]]


def assertion(
    key: Any = PRIVATE_KEY, algorithm: str = "RS256", expires_in: float = 170, **claims: str
) -> Callable[[], dict[str, str]]:
    """The form, signed when it is called: tests are collected long before they run."""

    def form() -> dict[str, str]:
        known = {"iss": "app", "sub": "sync@example.com", "aud": "https://login.salesforce.com"}
        all_claims = known | {"exp": time.time() + expires_in} | claims
        return {
            "grant_type": JWT_BEARER,
            "assertion": jwt.encode(all_claims, key, algorithm=algorithm),
        }

    return form


def filled(form: Form) -> dict[str, str]:
    return form() if callable(form) else form


@pytest.mark.parametrize(
    "form",
    [
        assertion(),
        assertion(aud="https://test.salesforce.com"),
        {"grant_type": "client_credentials", "client_id": "app", "client_secret": "secret"},
        {"grant_type": "refresh_token", "refresh_token": "refresh", "client_id": "app"},
        {
            "grant_type": "refresh_token",
            "refresh_token": "refresh",
            "client_id": "app",
            "client_secret": "secret",
        },
    ],
)
async def test_a_login_gives_a_token_that_is_let_in_and_names_the_instance(form: Form) -> None:
    async with raw_org({"auth": AUTH}, logged_in=False) as org:
        response = await org.http.post(TOKEN, data=filled(form))
        body = response.json()
        assert response.status_code == 200
        assert {"access_token", "instance_url", "id", "token_type", "scope"} <= set(body)
        assert "refresh_token" not in body
        assert "expires_in" not in body
        headers = {"Authorization": f"Bearer {body['access_token']}"}
        assert (
            await org.http.get(f"{body['instance_url']}{BASE}/limits", headers=headers)
        ).status_code == 200
        who = (await org.http.get("/services/oauth2/userinfo", headers=headers)).json()
        assert body["id"].endswith(f"/{who['organization_id']}/{who['user_id']}")
        assert "Sforce-Limit-Info" not in response.headers


@pytest.mark.parametrize(
    ("form", "error", "description"),
    [
        (
            assertion(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
            "invalid_grant",
            "invalid assertion",
        ),
        (assertion("x" * 32, "HS256"), "invalid_grant", "invalid assertion"),
        ({"grant_type": JWT_BEARER, "assertion": "nonsense"}, "invalid_grant", "invalid assertion"),
        (assertion(iss="other"), "invalid_client_id", "client identifier invalid"),
        (assertion(sub="other"), "invalid_grant", "user hasn't approved this consumer"),
        (assertion(aud="https://example.com"), "invalid_grant", "audience is invalid"),
        (assertion(expires_in=-1), "invalid_grant", "expired authorization code"),
        (assertion(expires_in=3600), "invalid_grant", "expired authorization code"),
        (
            {"grant_type": "client_credentials", "client_id": "app", "client_secret": "x"},
            "invalid_client",
            None,
        ),
        (
            {"grant_type": "client_credentials", "client_id": "x", "client_secret": "secret"},
            "invalid_client_id",
            None,
        ),
        (
            {"grant_type": "refresh_token", "refresh_token": "x", "client_id": "app"},
            "invalid_grant",
            "expired access/refresh token",
        ),
        (
            {"grant_type": "password", "username": "a", "password": "b"},
            "unsupported_grant_type",
            None,
        ),
        ({}, "unsupported_grant_type", None),
    ],
)
async def test_a_login_is_refused(form: Form, error: str, description: str | None) -> None:
    async with raw_org({"auth": AUTH}, logged_in=False) as org:
        response = await org.http.post(TOKEN, data=filled(form))
        assert response.status_code == 400
        assert response.json()["error"] == error
        assert description is None or response.json()["error_description"] == description
        assert org.refused == {error: 1}


async def test_client_credentials_may_come_in_the_header_and_the_instance_may_be_elsewhere() -> (
    None
):
    async with raw_org(
        {"auth": AUTH, "settings": {"instance_url": "https://acme.example"}}, logged_in=False
    ) as org:
        response = await org.http.post(
            TOKEN, data={"grant_type": "client_credentials"}, auth=("app", "secret")
        )
        assert response.json()["instance_url"] == "https://acme.example"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "INVALID_SESSION_ID"),
        ("Bearer nothing", "INVALID_SESSION_ID"),
        ("Basic x", "INVALID_AUTH_HEADER"),
    ],
)
async def test_without_a_valid_token_every_call_is_a_401_without_a_limit_header(
    header: str | None, code: str
) -> None:
    async with raw_org(logged_in=False) as org:
        response = await org.http.get(
            f"{BASE}/limits", headers={} if header is None else {"Authorization": header}
        )
        assert response.status_code == 401
        assert response.json()[0]["errorCode"] == code
        assert "Sforce-Limit-Info" not in response.headers
        assert (await org.control("GET", "state"))["api_calls"] == 0


async def test_a_token_lasts_for_so_many_calls() -> None:
    async with raw_org({"settings": {"token_max_calls": 2}}) as org:
        statuses = [(await org.ask(ALL)).status_code for _ in range(3)]
        assert statuses == [200, 200, 401]


async def test_a_token_lasts_for_so_many_seconds() -> None:
    async with raw_org({"settings": {"token_max_seconds": 0.0}}) as org:
        assert (await org.ask(ALL)).status_code == 401


async def test_all_tokens_can_be_expired() -> None:
    async with raw_org() as org:
        await org.control("POST", "tokens/expire")
        response = await org.ask(ALL)
        assert response.json() == [
            {"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}
        ]


async def test_a_call_takes_its_latency_and_that_of_its_rows() -> None:
    async with raw_org({"settings": {"latency_ms_call": 40, "latency_ms_row": 20}}) as org:
        began = time.monotonic()
        await org.query(ALL)
        assert time.monotonic() - began >= 0.04
        began = time.monotonic()
        await org.subresponses(
            upsert_part("w", [row("g/1"), row("g/2")]), upsert_part("v", [row("g/3")])
        )
        assert time.monotonic() - began >= 0.1


async def test_long_requests_are_limited_in_number() -> None:
    settings = {"latency_ms_call": 200, "long_request_seconds": 0.1, "concurrent_limit": 2}
    async with raw_org({"settings": settings}) as org:
        responses = await asyncio.gather(*(org.ask(ALL) for _ in range(3)))
        assert sorted(response.status_code for response in responses) == [200, 200, 403]
        refused = next(response for response in responses if response.status_code == 403)
        message = "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
        assert refused.json() == [{"message": message, "errorCode": "REQUEST_LIMIT_EXCEEDED"}]
        assert (await org.control("GET", "state"))["most_in_flight"] == 2


def fault(effect: str, **options: Any) -> Json:
    return {"faults": [{"effect": effect, **options}]}


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        ({"status": 500}, 500, "UNKNOWN_EXCEPTION"),
        ({"status": 503}, 503, "SERVER_UNAVAILABLE"),
        ({"status": 503, "body": "html"}, 503, "down for maintenance"),
        ({"status": 200, "body": "html"}, 200, "<html>"),
        (
            {"status": 502, "body": "text", "text": "no healthy upstream"},
            502,
            "no healthy upstream",
        ),
        ({"status": 400, "code": "MALFORMED_QUERY", "message": "so"}, 400, '"so"'),
    ],
)
async def test_a_scripted_status_is_answered_once_and_nothing_is_done(
    options: Json, status: int, text: str
) -> None:
    async with raw_org() as org:
        await org.control(
            "POST", "faults", fault("status", kind="composite_write", retry_after=7, **options)
        )
        assert await org.query(ALL) == []
        response = await org.composite(upsert_part("w", [row("g/1")]))
        assert response.status_code == status
        assert text in response.text
        assert response.headers["Retry-After"] == "7"
        assert await org.query(ALL) == []
        assert (await org.subresponses(upsert_part("w", [row("g/1")])))[0]["body"][0]["success"]
        state = await org.control("GET", "state")
        assert (state["faults"], state["faults_queued"], state["refusals"]) == (
            {"status": 1},
            0,
            {},
        )


async def test_a_fault_waits_for_its_turn_its_body_and_lasts_as_long_as_asked() -> None:
    async with raw_org() as org:
        await org.control(
            "POST", "faults", fault("status", status=500, after=1, times=2, contains="g/2")
        )
        statuses = []
        for key in ("g/2", "g/1", "g/2", "g/2", "g/2"):
            response = await org.collection("PATCH", f"/Contact/{KEY}", [row(key)])
            statuses.append(response.status_code)
        assert statuses == [200, 200, 500, 500, 200]
        await org.control("POST", "faults", fault("status", status=500, times=None))
        assert [(await org.ask(ALL)).status_code for _ in range(3)] == [500] * 3
        assert (await org.control("GET", "faults"))["queue"][0]["effect"] == "status"
        await org.control("DELETE", "faults")
        assert (await org.ask(ALL)).status_code == 200


async def test_faults_of_one_queue_are_met_one_after_the_other() -> None:
    async with raw_org() as org:
        await org.control(
            "POST",
            "faults",
            {"faults": [{"effect": "status", "status": 500 + n} for n in range(3)]},
        )
        assert [(await org.ask(ALL)).status_code for _ in range(4)] == [500, 501, 502, 200]


@pytest.mark.parametrize(("effect", "stored"), [("reset", 0), ("cut_after", 1)])
async def test_a_connection_is_cut_before_or_after_the_work(effect: str, stored: int) -> None:
    async with raw_org() as org:
        await org.control("POST", "faults", fault(effect, kind="collections_upsert"))
        with pytest.raises(httpx.TransportError):
            await org.upsert(row("g/1"))
        assert len(await org.query(ALL)) == stored
        assert (await org.upsert(row("g/1")))[0]["created"] is not bool(stored)


@pytest.mark.parametrize(("effect", "stored"), [("hang", 0), ("delay_after", 1)])
async def test_an_answer_that_comes_too_late_tells_nothing_of_the_work(
    effect: str, stored: int
) -> None:
    async with raw_org() as org:
        await org.control("POST", "faults", fault(effect, kind="collections_upsert", seconds=0.5))
        with pytest.raises(httpx.TimeoutException):
            await org.http.patch(
                f"{BASE}/composite/sobjects/Contact/{KEY}",
                json={"records": [row("g/1")]},
                timeout=0.2,
            )
        assert len(await org.query(ALL)) == stored


async def test_work_can_be_delayed_or_done_and_answered_as_an_error() -> None:
    async with raw_org() as org:
        await org.control("POST", "faults", fault("delay", seconds=0.05))
        began = time.monotonic()
        await org.query(ALL)
        assert time.monotonic() - began >= 0.05
        await org.control("POST", "faults", fault("status_after", status=500))
        assert (await org.collection("PATCH", f"/Contact/{KEY}", [row("g/1")])).status_code == 500
        assert len(await org.query(ALL)) == 1


async def test_an_answer_can_be_short_of_parts_or_of_rows() -> None:
    async with raw_org() as org:
        parts = [
            upsert_part("a", [row("g/1"), row("g/2")]),
            upsert_part("b", [row("g/3"), row("g/4")]),
        ]
        await org.control("POST", "faults", fault("short"))
        assert [answer["referenceId"] for answer in await org.subresponses(*parts)] == ["a"]
        await org.control("POST", "faults", fault("short_rows"))
        assert [len(answer["body"]) for answer in await org.subresponses(*parts)] == [1, 1]
        assert len(await org.query(ALL)) == 4


async def test_rows_can_fail_by_script() -> None:
    async with raw_org() as org:
        script = fault(
            "rows",
            kind="collections_upsert",
            code="TOO_MANY_APEX_REQUESTS",
            every=2,
            message="Too many",
        )
        await org.control("POST", "faults", script)
        results = await org.upsert(*(row(f"g/{number}") for number in range(4)))
        assert [result["success"] for result in results] == [True, False, True, False]
        error = {"statusCode": "TOO_MANY_APEX_REQUESTS", "message": "Too many", "fields": []}
        assert results[1]["errors"] == [error]
        assert all(
            result["success"]
            for result in await org.upsert(*(row(f"g/{number}") for number in range(4)))
        )


async def test_a_flow_can_fail_every_row_of_a_collection_by_script() -> None:
    async with raw_org() as org:
        script = fault("flow", kind="collections_upsert", most=3, poison="Poison", times=None)
        await org.control("POST", "faults", script)
        large = await org.upsert(*(row(f"g/{number}") for number in range(4)))
        poisoned = await org.upsert(row("g/1"), row("g/2", LastName="Poison"))
        for results, text in ((large, "LIMIT_EXCEEDED"), (poisoned, "flow interview")):
            errors = [result["errors"][0] for result in results]
            assert {error["statusCode"] for error in errors} == {"CANNOT_EXECUTE_FLOW_TRIGGER"}
            assert len({error["message"] for error in errors}) == 1
            assert text in errors[0]["message"]
        assert not await org.query(ALL)
        assert all(result["success"] for result in await org.upsert(row("g/1"), row("g/3")))


async def test_a_token_can_expire_in_mid_flight_and_the_login_can_fail() -> None:
    async with raw_org() as org:
        await org.control("POST", "faults", {"faults": [{"effect": "expire", "kind": "query"}]})
        assert (await org.ask(ALL)).status_code == 401
        await org.control("POST", "faults", fault("status", kind="token", status=503))
        form = {"grant_type": "client_credentials", "client_id": "a", "client_secret": "b"}
        assert (await org.http.post(TOKEN, data=form)).status_code == 503
        assert (await org.http.post(TOKEN, data=form)).status_code == 200


async def statuses_of_a_storm(seed: int) -> list[int]:
    async with raw_org() as org:
        document = {
            "seed": seed,
            "rates": {"500": 0.3, "503": 0.2, "html": 0.1},
            "kinds": ["query"],
            "limit": 20,
        }
        await org.control("PUT", "faults/random", document)
        statuses = [(await org.ask(ALL)).status_code for _ in range(60)]
        assert (await org.http.get(f"{BASE}/limits")).status_code == 200
        assert (await org.control("GET", "state"))["faults"] == {"status": 20}
        await org.control("PUT", "faults/random", {})
        assert (await org.ask(ALL)).status_code == 200
        return statuses


async def test_random_faults_repeat_with_their_seed_and_end_at_their_limit() -> None:
    first = await statuses_of_a_storm(7)
    assert first == await statuses_of_a_storm(7)
    assert first != await statuses_of_a_storm(8)
    assert len([status for status in first if status != 200]) == 20
    assert set(first) == {200, 500, 503}


async def test_random_locks_fall_on_rows() -> None:
    async with raw_org() as org:
        await org.control("PUT", "faults/random", {"seed": 1, "rates": {"lock": 0.5}})
        results = await org.upsert(*(row(f"g/{number}") for number in range(100)))
        errors = [result["errors"][0]["statusCode"] for result in results if not result["success"]]
        assert set(errors) == {"UNABLE_TO_LOCK_ROW"}
        assert 20 < len(errors) < 80


@pytest.mark.parametrize(
    ("method", "path", "document", "named"),
    [
        ("PUT", "world", {"nonsense": 1}, "nonsense"),
        ("PUT", "world", [], "object"),
        ("PUT", "world", {"settings": {"page_size": 0}}, "page_size"),
        ("PUT", "world", {"settings": {"hidden_fields": ["Contact.Nothing"]}}, "Contact.Nothing"),
        ("PUT", "world", {"contacts": {}}, "contacts"),
        ("PUT", "world", {"contacts": [{"LastName": "A", "Foo": 1}]}, "contacts[0].Foo"),
        (
            "PUT",
            "world",
            {"contacts": [{"LastName": "A"}, {"LastName": "x" * 81}]},
            "contacts[1].LastName",
        ),
        ("PUT", "world", {"contacts": [{"FirstName": "A"}]}, "LastName is missing"),
        ("PUT", "world", {"contacts": [{"Id": "nonsense", "LastName": "A"}]}, "contacts[0].Id"),
        (
            "PUT",
            "world",
            {"contacts": [{"LastName": "A", KEY: "k"}, {"LastName": "B", KEY: "k"}]},
            f"contacts[1].{KEY}",
        ),
        (
            "PUT",
            "world",
            {"leads": [{"LastName": "A", "Company": "B", "CreatedDate": "soon"}]},
            "leads[0].CreatedDate",
        ),
        ("PUT", "world", {"duplicate_rules": [{"sobject": "Contact", "action": "Warn"}]}, "'Warn'"),
        (
            "PUT",
            "world",
            {"fields": {"Contact": {"X__c": {"type": "blob"}}}},
            "fields.Contact.X__c.type",
        ),
        ("PUT", "world", {"fields": {"Nothing": {}}}, "fields.Nothing"),
        ("PUT", "world", {"auth": {"password": "x"}}, "auth.password"),
        ("POST", "settings", {"latency_ms_call": -1}, "latency_ms_call"),
        ("POST", "settings", {"latency_ms_call": True}, "latency_ms_call"),
        ("POST", "settings", {"nonsense": 1}, "nonsense"),
        ("POST", "settings", {"governor_error": "x"}, "governor_error"),
        ("POST", "settings", {"limit_info": "{nothing}"}, "limit_info"),
        ("POST", "faults", {"faults": [{"effect": "explode"}]}, "explode"),
        ("POST", "faults", {"faults": [{"effect": "rows"}]}, "code"),
        ("POST", "faults", {"faults": [{"effect": "flow"}]}, "most"),
        ("POST", "faults", {"faults": [{"effect": "flow", "most": 0}]}, "most"),
        ("POST", "faults", {"faults": [{"effect": "status", "status": 99}]}, "99"),
        ("POST", "faults", {"faults": [{"effect": "status", "times": 0}]}, "times"),
        ("POST", "faults", {"effect": "status"}, "effect"),
        ("PUT", "faults/random", {"rates": {"500": 2}}, "500"),
        ("PUT", "faults/random", {"rates": {"meteor": 0.1}}, "meteor"),
        ("PUT", "faults/random", {"rates": {"500": 0.6, "503": 0.6}}, "more than 1"),
        ("POST", "clock", {"now": "soon"}, "soon"),
        ("POST", "convert", {"lead": "nonsense"}, "nonsense"),
        ("GET", "records/Nothing", None, "Nothing"),
        ("PATCH", "records/Contact/nonsense", {"Title": "x"}, "nonsense"),
        ("GET", "writes?after=x", None, "after"),
    ],
)
async def test_a_bad_control_request_is_a_400_that_names_the_value(
    method: str, path: str, document: Any, named: str
) -> None:
    async with raw_org({"contacts": [{"LastName": "Here"}]}) as org:
        response = await org.http.request(method, f"/_sim/{path}", json=document)
        assert response.status_code == 400
        assert named in response.json()["error"]
        assert len(await org.query(ALL)) == 1


async def test_another_world_replaces_records_counters_faults_and_tokens() -> None:
    async with raw_org({"contacts": [{"LastName": "A"}]}) as org:
        await org.upsert(row("g/1"))
        await org.control("POST", "faults", fault("status"))
        state = await org.control("PUT", "world", {"leads": [{"LastName": "L", "Company": "C"}]})
        assert state["records"] == {"Account": 0, "Contact": 0, "Lead": 1}
        assert (state["calls"], state["writes"], state["faults_queued"]) == ({}, 0, 0)
        assert (await org.ask(ALL)).status_code == 401


async def test_a_world_may_say_who_created_what_and_when() -> None:
    record = {
        "LastName": "A",
        "CreatedById": "integration",
        "CreatedDate": "2020-01-01T12:00:00+02:00",
    }
    async with raw_org({"contacts": [record, {"LastName": "B"}]}) as org:
        ours, theirs = await org.query("SELECT CreatedById, CreatedDate FROM Contact")
        assert ours["CreatedById"] == (await org.control("GET", "state"))["user_id"]
        assert ours["CreatedDate"] == "2020-01-01T10:00:00.000+0000"
        assert theirs["CreatedById"] == HUMAN_USER


async def test_other_users_create_change_and_delete() -> None:
    async with raw_org() as org:
        made = await org.control("POST", "records/Contact", {"LastName": "A", "Email": "A@x.com"})
        await org.control(
            "PATCH", f"records/Contact/{made['Id']}", {"Email": "b@x.com", "Title": "T"}
        )
        assert await org.ids("Email = 'b@x.com'") == [made["Id"]]
        (record,) = await org.control("GET", "records/Contact")
        assert record["LastModifiedById"] == HUMAN_USER
        await org.control("DELETE", f"records/Contact/{made['Id']}")
        assert await org.control("GET", "records/Contact") == []
        assert len(await org.control("GET", "records/Contact?deleted=true")) == 1


async def test_refusals_are_listed_with_their_part_and_row() -> None:
    async with raw_org() as org:
        await org.subresponses(
            query_part("bad", "SELECT X FROM Contact"),
            upsert_part("w", [row("g/1"), row("g/2", Email="bad")]),
        )
        first, second = await org.control("GET", "refusals")
        assert (first["reference_id"], first["code"], first["row"]) == (
            "bad",
            "INVALID_FIELD",
            None,
        )
        assert (second["kind"], second["code"], second["row"]) == (
            "collections_upsert",
            "INVALID_EMAIL_ADDRESS",
            1,
        )
        assert (await org.control("GET", "state"))["rows"] == {
            "created": 1,
            "updated": 0,
            "failed": 1,
        }


def test_the_simulator_shares_no_code_with_the_client_that_it_tests() -> None:
    for source in Path(simulator.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, f"{source.name} imports from above"
                assert not (node.module or "").startswith(("connectors", "streams")), source.name
            if isinstance(node, ast.Import):
                assert not any(
                    name.name.startswith(("connectors", "streams")) for name in node.names
                ), source.name


def test_a_world_that_cannot_be_is_refused_in_the_process_as_well() -> None:
    with pytest.raises(BadValueError, match=r"settings\.daily_limit"):
        World({"settings": {"daily_limit": "much"}})


def test_as_a_process_it_says_where_it_listens_serves_its_world_and_ends_on_sigterm(
    tmp_path: Path,
) -> None:
    world = tmp_path / "world.json"
    world.write_text(json.dumps({"contacts": [{"LastName": "A"}]}))
    code = (
        "from pathlib import Path; from connectors.salesforce.simulator import serve; "
        f"serve('127.0.0.1', 0, Path({str(world)!r}))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            said, _, url = line.rpartition(" ")
            assert said == "salesforce simulator listening on"
            assert httpx.get(f"{url}/_sim/state").json()["records"]["Contact"] == 1
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0
        finally:
            process.kill()


async def test_a_void_refresh_token_that_is_used_again_revokes_the_current_one() -> None:
    world = {"auth": {"refresh_token": "first", "rotate_refresh_token": True}}
    async with raw_org(world) as org:

        async def log_in(refresh_token: str) -> httpx.Response:
            form = {"grant_type": "refresh_token", "client_id": "a", "refresh_token": refresh_token}
            return await org.http.post("/services/oauth2/token", data=form)

        second = (await log_in("first")).json()["refresh_token"]
        assert (await log_in("first")).json()["error"] == "invalid_grant"
        assert (await log_in(second)).json()["error"] == "invalid_grant"
