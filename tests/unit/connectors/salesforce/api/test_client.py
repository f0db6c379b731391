"""The client over real HTTP, against a small server with an org's good and bad answers."""

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from connectors.salesforce.api.auth import ClientCredentials, Session
from connectors.salesforce.api.budget import PROBE_SECONDS, Budget, Usage
from connectors.salesforce.api.client import GZIP_FROM, SalesforceClient, encode, http_client
from connectors.salesforce.api.composite import (
    Subrequest,
    query_subrequest,
    row_results,
    upsert_subrequest,
)
from connectors.salesforce.api.errors import (
    Action,
    OrgUnavailable,
    RequestRejected,
    UnexpectedAnswer,
    WriterFenced,
)
from connectors.salesforce.org_fields import KEY_FIELD

Handler = Callable[[web.BaseRequest, bytes], Awaitable[web.StreamResponse]]
COMPOSITE = "/services/data/v62.0/composite"


class Org:
    """Checks tokens, counts calls, keeps what was asked, and answers by `handler`."""

    def __init__(self) -> None:
        self.url = ""
        self.logins = 0
        self.valid = "token1"
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.handler: Handler = self.echo
        self.calls: list[tuple[str, int | None]] = []
        self.now = 0.0

    def on_call(self, kind: str, status: int | None, seconds: float) -> None:
        self.calls.append((kind, status))

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if request.path == "/services/oauth2/token":
            self.logins += 1
            await asyncio.sleep(0)
            return web.json_response(
                {"access_token": f"token{self.logins}", "instance_url": self.url}
            )
        self.asked.append((request.method, request.raw_path, dict(request.headers), body))
        if request.headers.get("Authorization") != f"Bearer {self.valid}":
            return web.json_response(
                [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}],
                status=401,
            )
        return await self.handler(request, body)

    async def echo(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        return web.json_response(
            composite_answer(body), headers={"Sforce-Limit-Info": "api-usage=10/15000"}
        )

    def answers(self, *responses: Callable[[], web.StreamResponse]) -> None:
        """One response after the other; then as usual."""
        left = list(responses)

        async def handler(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
            return left.pop(0)() if left else await self.echo(request, body)

        self.handler = handler


def composite_answer(body: bytes) -> dict[str, Any]:
    """Every subrequest succeeds: aiohttp has already inflated the body."""
    parts = json.loads(body)["compositeRequest"] if body else []
    return {
        "compositeResponse": [
            {
                "referenceId": part["referenceId"],
                "httpStatusCode": 200,
                "httpHeaders": {},
                "body": [
                    {"id": f"003{place:015}", "success": True, "errors": [], "created": True}
                    for place, _ in enumerate(part.get("body", {}).get("records", ()))
                ],
            }
            for part in parts
        ]
    }


@pytest.fixture
async def org() -> AsyncIterator[Org]:
    org = Org()
    runner = web.ServerRunner(web.Server(org), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    org.url = f"http://{host}:{port}"
    yield org
    await runner.cleanup()


def connect(
    org: Org, answer_seconds: float = 5.0, budget: Budget | None = None
) -> SalesforceClient:
    http = http_client()
    session = Session(ClientCredentials("client", "secret", org.url), http, org.on_call)
    return SalesforceClient(
        session, http, on_call=org.on_call, budget=budget, answer_seconds=answer_seconds
    )


@pytest.fixture
async def client(org: Org) -> AsyncIterator[SalesforceClient]:
    async with connect(org) as client:
        yield client


def upsert(count: int = 1, ref: str = "a") -> Subrequest:
    return upsert_subrequest(
        "Lead", KEY_FIELD, [{KEY_FIELD: f"g/{n}", "LastName": "Doe"} for n in range(count)], ref
    )


ONE = [query_subrequest("SELECT Id FROM Lead", "a")]


async def test_a_composite_of_five_collections_is_one_call_with_a_result_for_each_row(
    client: SalesforceClient, org: Org
) -> None:
    answers = await client.composite([upsert(200, f"r{n}") for n in range(5)], "composite_write")
    assert [len(row_results(answer, range(200))) for answer in answers] == [200] * 5
    assert org.calls == [("token", 200), ("composite_write", 200)]


async def test_twenty_calls_with_an_expired_token_cost_one_login(
    client: SalesforceClient, org: Org
) -> None:
    await client.composite(ONE, "composite_query")
    org.valid = "token2"
    await asyncio.gather(*(client.composite(ONE, "composite_query") for _ in range(20)))
    assert org.logins == 2
    assert org.calls.count(("composite_query", 401)) <= 20
    assert org.calls.count(("composite_query", 200)) == 21


async def test_a_token_that_is_refused_again_pauses_the_sink(
    client: SalesforceClient, org: Org
) -> None:
    org.valid = "another"
    with pytest.raises(OrgUnavailable) as raised:
        await client.composite(ONE, "composite_query")
    assert raised.value.reason == "login"
    assert org.logins == 2
    assert len(org.asked) == 2


async def test_a_large_body_is_compressed_and_a_small_one_is_not(
    client: SalesforceClient, org: Org
) -> None:
    await client.composite(ONE, "composite_query")
    await client.composite([upsert(200)], "composite_write")
    (_, _, small, query), (_, _, large, rows) = org.asked
    assert "Content-Encoding" not in small
    assert large["Content-Encoding"] == "gzip"
    assert int(large["Content-Length"]) * 5 < len(rows)
    assert int(small["Content-Length"]) == len(query) < GZIP_FROM
    assert "gzip" in large["Accept-Encoding"]
    assert large["Content-Type"].startswith("application/json")


async def test_a_compressed_answer_is_read(client: SalesforceClient, org: Org) -> None:
    org.answers(
        lambda: web.Response(
            body=gzip.compress(b'{"a": "\xc3\xa9"}'),
            headers={"Content-Encoding": "gzip", "Content-Type": "application/json;charset=UTF-8"},
        )
    )
    assert await client.get("/anything") == {"a": "é"}


async def test_an_answer_whose_compression_is_broken_is_a_network_fault(
    client: SalesforceClient, org: Org
) -> None:
    org.answers(lambda: web.Response(body=b"not gzip at all", headers={"Content-Encoding": "gzip"}))
    with pytest.raises(OrgUnavailable, match="network"):
        await client.get("/anything")


async def test_data_goes_to_the_instance_that_the_login_named(org: Org) -> None:
    other = Org()
    runner = web.ServerRunner(web.Server(other), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    login_url, org.url = org.url, f"http://{host}:{port}"
    http = http_client()
    async with SalesforceClient(
        Session(ClientCredentials("client", "secret", login_url), http), http
    ) as client:
        await client.composite(ONE, "composite_query")
    assert len(other.asked) == 1
    assert not org.asked
    await runner.cleanup()


async def test_an_org_that_moved_is_found_by_a_new_login(
    client: SalesforceClient, org: Org
) -> None:
    def moved() -> web.Response:
        org.valid = "token2"
        return web.Response(status=302, headers={"Location": "https://elsewhere.invalid/"})

    org.answers(moved)
    await client.composite(ONE, "composite_query")
    assert org.logins == 2
    assert [path for _, path, _, _ in org.asked] == [COMPOSITE, COMPOSITE]


HTML = "<html><head><title>Down for maintenance</title></head></html>"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, "not_json"),
        (403, "not_json"),
        (404, "not_json"),
        (500, "server_error"),
        (502, "maintenance"),
        (503, "maintenance"),
    ],
)
async def test_a_page_of_html_pauses_the_sink(
    client: SalesforceClient, org: Org, status: int, reason: str
) -> None:
    org.answers(lambda: web.Response(status=status, text=HTML, content_type="text/html"))
    with pytest.raises(OrgUnavailable) as raised:
        await client.composite(ONE, "composite_query")
    assert raised.value.reason == reason
    assert "html" not in str(raised.value)


async def test_the_daily_limit_pauses_for_minutes_and_a_concurrent_one_for_seconds(
    client: SalesforceClient, org: Org
) -> None:
    def limit(text: str) -> Callable[[], web.Response]:
        return lambda: web.json_response(
            [{"message": text, "errorCode": "REQUEST_LIMIT_EXCEEDED"}], status=403
        )

    org.answers(
        limit("TotalRequests Limit exceeded."), limit("ConcurrentPerOrgLongTxn Limit exceeded.")
    )
    waits = []
    for reason in ("daily_limit", "concurrent_limit"):
        with pytest.raises(OrgUnavailable, match=reason) as raised:
            await client.composite(ONE, "composite_query")
        waits.append(raised.value.retry_after or 0.0)
    assert waits[0] >= 60 > waits[1]


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7, 7),
        ("999999", 600, 600),
        ("a date in 500 s", 300, 500),
        ("soon", 60, 60),
        ("", 60, 60),
    ],
)
async def test_retry_after_is_honoured_within_bounds(
    client: SalesforceClient, org: Org, value: str, least: float, most: float
) -> None:
    if value == "a date in 500 s":
        value = format_datetime(datetime.now(UTC) + timedelta(seconds=500), usegmt=True)
    org.answers(lambda: web.Response(status=503, headers={"Retry-After": value}))
    with pytest.raises(OrgUnavailable) as raised:
        await client.composite(ONE, "composite_query")
    assert least <= (raised.value.retry_after or 0) <= most


async def test_a_refused_request_carries_a_verdict(client: SalesforceClient, org: Org) -> None:
    org.answers(
        lambda: web.json_response(
            [{"message": "line 1", "errorCode": "JSON_PARSER_ERROR"}], status=400
        )
    )
    with pytest.raises(RequestRejected) as raised:
        await client.composite([upsert()], "composite_write")
    assert raised.value.verdict.action is Action.BISECT


@pytest.mark.parametrize(
    "body",
    [
        {"compositeResponse": []},
        {
            "compositeResponse": [
                {
                    "body": [
                        {
                            "errorCode": "LIMIT_EXCEEDED",
                            "message": "The request can’t contain more than 25 operations.",
                        }
                    ],
                    "httpHeaders": {},
                    "httpStatusCode": 400,
                    "referenceId": None,
                }
            ]
        },
        [],
        None,
    ],
)
async def test_a_short_or_odd_composite_answer_is_an_error(
    client: SalesforceClient, org: Org, body: Any
) -> None:
    org.answers(lambda: web.json_response(body))
    with pytest.raises(UnexpectedAnswer):
        await client.composite([upsert()], "composite_write")


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    assert transport is not None
    # no lingering: the client sees a reset instead of an orderly end
    transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
    )
    transport.abort()


def resets(org: Org, times: int) -> None:
    left = times

    async def handler(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        nonlocal left
        if left:
            left -= 1
            _reset(request)
        return await org.echo(request, body)

    org.handler = handler


async def test_a_connection_that_was_reset_is_tried_once_more(
    client: SalesforceClient, org: Org
) -> None:
    resets(org, 1)
    await client.composite([upsert(200)], "composite_write")
    assert org.calls[1:] == [("composite_write", None), ("composite_write", 200)]


async def test_connections_that_keep_being_reset_pause_the_sink(
    client: SalesforceClient, org: Org
) -> None:
    resets(org, 10)
    with pytest.raises(OrgUnavailable, match="network"):
        await client.composite([upsert(200)], "composite_write")
    assert len(org.asked) == 2


async def test_an_answer_that_ends_in_the_middle_is_asked_for_again(
    client: SalesforceClient, org: Org
) -> None:
    cut = 1

    async def handler(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        nonlocal cut
        if not cut:
            return await org.echo(request, body)
        cut -= 1
        response = web.StreamResponse(
            headers={"Content-Length": "1000", "Content-Type": "application/json"}
        )
        await response.prepare(request)
        await response.write(b'{"compositeResponse": [')
        _reset(request)
        return response

    org.handler = handler
    (answer,) = await client.composite([upsert(3)], "composite_write")
    assert len(row_results(answer, range(3))) == 3


async def test_an_org_that_cannot_be_reached_pauses_the_sink() -> None:
    org = Org()
    with contextlib.closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        org.url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    async with connect(org) as client:
        with pytest.raises(OrgUnavailable, match="network"):
            await client.get("/limits")
    assert org.calls == [("token", None)]


async def test_a_missing_answer_pauses_the_sink_and_the_rows_can_be_sent_again(
    org: Org,
) -> None:
    written: list[bytes] = []
    done = asyncio.Event()

    async def slow(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        written.append(body)
        if len(written) == 1:
            await done.wait()
        return await org.echo(request, body)

    org.handler = slow
    async with connect(org, answer_seconds=0.2) as client:
        with pytest.raises(OrgUnavailable, match="network"):
            await client.composite([upsert(200)], "composite_write")
        done.set()
        answers = await client.composite([upsert(200)], "composite_write")
    assert all(result.success for result in row_results(answers[0], range(200)))
    assert written[0] == written[1]


async def test_an_answer_that_trickles_without_end_is_bounded_too(org: Org) -> None:
    async def trickle(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.01)
        return response

    org.handler = trickle
    async with connect(org, answer_seconds=0.2) as client:
        with pytest.raises(OrgUnavailable, match="network"):
            await client.get("/limits")


# pages of records


async def pages(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
    at = int(request.path.rsplit("-", 1)[1]) if "-" in request.path else 0
    more = (
        {"done": False, "nextRecordsUrl": f"/services/data/v62.0/query/01g-{at + 2}"}
        if at < 4
        else {"done": True}
    )
    return web.json_response({"totalSize": 6, "records": [{"Id": at}, {"Id": at + 1}], **more})


async def test_a_query_is_read_to_its_last_page(client: SalesforceClient, org: Org) -> None:
    org.handler = pages
    records = await client.query_all("SELECT Id FROM Account WHERE Website = 'a+b'", "accounts")
    assert [record["Id"] for record in records] == list(range(6))
    assert "a%2Bb" in org.asked[0][1]
    assert org.calls[1:] == [("accounts", 200)] * 3


async def test_a_query_inside_a_composite_is_read_to_its_last_page(
    client: SalesforceClient, org: Org
) -> None:
    first = {
        "totalSize": 6,
        "done": False,
        "records": [{"Id": 0}, {"Id": 1}],
        "nextRecordsUrl": "/services/data/v62.0/query/01g-2",
    }
    part = {"referenceId": "a", "httpStatusCode": 200, "httpHeaders": {}, "body": first}
    org.answers(lambda: web.json_response({"compositeResponse": [part]}))
    (answer,) = await client.composite(ONE, "composite_query")
    org.handler = pages
    assert [record["Id"] for record in await client.rest_of(answer)] == list(range(6))


# the fence


class CountingFence:
    """Lets so many requests pass, and then none."""

    def __init__(self, passes: int) -> None:
        self.left = passes

    def __call__(self) -> None:
        if not self.left:
            raise WriterFenced("another process writes now")
        self.left -= 1


async def test_a_fenced_caller_sends_nothing(client: SalesforceClient, org: Org) -> None:
    for call in (client.composite(ONE, "composite_write", CountingFence(0)),
                 client.query_all("SELECT Id FROM Lead", fence=CountingFence(0)),
                 client.limits(CountingFence(0))):  # fmt: skip
        with pytest.raises(WriterFenced):
            await call
    assert org.asked == []
    await client.composite(ONE, "composite_query")  # another caller of the same client
    assert len(org.asked) == 1


async def test_the_fence_is_asked_before_a_repetition(client: SalesforceClient, org: Org) -> None:
    resets(org, 1)
    with pytest.raises(WriterFenced):
        await client.composite([upsert(200)], "composite_write", CountingFence(1))
    assert len(org.asked) == 1


async def test_the_fence_is_asked_before_a_repetition_with_a_new_token(
    client: SalesforceClient, org: Org
) -> None:
    org.valid = "token2"
    with pytest.raises(WriterFenced):
        await client.composite(ONE, "composite_write", CountingFence(1))
    assert len(org.asked) == 1


async def test_the_fence_is_asked_before_each_further_page(
    client: SalesforceClient, org: Org
) -> None:
    org.handler = pages
    with pytest.raises(WriterFenced):
        await client.query_all("SELECT Id FROM Account", fence=CountingFence(2))
    assert len(org.asked) == 2


# the budget


async def test_every_answer_updates_the_budget(client: SalesforceClient, org: Org) -> None:
    await client.composite(ONE, "composite_query")
    assert client.budget.usage == Usage(10, 15000)
    org.answers(
        lambda: web.json_response(
            [{"message": "no", "errorCode": "INVALID_TYPE"}],
            status=400,
            headers={"Sforce-Limit-Info": "api-usage=11/15000; api-bursts=1/750"},
        )
    )
    with pytest.raises(RequestRejected):
        await client.get("/sobjects/Nothing")
    assert client.budget.usage == Usage(11, 15000)


async def test_the_reserve_is_kept_and_work_resumes_by_itself(org: Org) -> None:
    used = 14_000

    async def handler(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        return web.json_response(
            composite_answer(body), headers={"Sforce-Limit-Info": f"api-usage={used}/15000"}
        )

    org.handler = handler
    async with connect(org, budget=Budget(0.1, clock=lambda: org.now)) as client:
        await client.composite(ONE, "composite_query")
        for _ in range(3):
            with pytest.raises(OrgUnavailable, match="budget") as raised:
                await client.composite(ONE, "composite_query")
            assert raised.value.retry_after
        assert len(org.asked) == 1
        used = 9_000
        org.now += PROBE_SECONDS + 1
        await client.composite(ONE, "composite_query")
        await client.composite(ONE, "composite_query")


async def test_the_further_pages_of_a_query_keep_the_reserve_too(org: Org) -> None:
    first = {
        "totalSize": 6,
        "done": False,
        "records": [{"Id": 0}],
        "nextRecordsUrl": "/services/data/v62.0/query/01g-2",
    }
    part = {"referenceId": "a", "httpStatusCode": 200, "httpHeaders": {}, "body": first}
    org.answers(
        lambda: web.json_response(
            {"compositeResponse": [part]}, headers={"Sforce-Limit-Info": "api-usage=14000/15000"}
        )
    )
    async with connect(org, budget=Budget(0.1, clock=lambda: org.now)) as client:
        (answer,) = await client.composite(ONE, "composite_query")
        with pytest.raises(OrgUnavailable, match="budget"):
            await client.rest_of(answer)
    assert len(org.asked) == 1


async def test_limits_update_the_budget(client: SalesforceClient, org: Org) -> None:
    org.answers(lambda: web.json_response({"DailyApiRequests": {"Max": 15000, "Remaining": 100}}))
    assert (await client.limits())["DailyApiRequests"] == Usage(14900, 15000)
    assert client.budget.exhausted


# odd values


@pytest.mark.parametrize("value", ["\ud800", 2**70])
def test_a_value_that_is_not_json_is_sent_for_salesforce_to_refuse(value: object) -> None:
    assert json.loads(encode({"a": value})) == {"a": value}


async def test_the_user_is_known_from_the_login(client: SalesforceClient) -> None:
    assert await client.user_id() is None  # this server names none
