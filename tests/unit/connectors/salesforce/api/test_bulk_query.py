"""What bulk queries send, and how their answers are read."""

from collections.abc import Callable

import httpx
import pytest

from connectors.salesforce.api.auth import ClientCredentials, Session
from connectors.salesforce.api.budget import Budget, Usage
from connectors.salesforce.api.bulk_query import (
    JobState,
    create_job,
    job_state,
    records,
    result_page,
)
from connectors.salesforce.api.client import SalesforceClient, no_fence
from connectors.salesforce.api.errors import OrgUnavailable, RequestRejected, UnexpectedAnswer

TOKEN = {"access_token": "t", "instance_url": "https://org.example"}
Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer, budget: Budget | None = None) -> SalesforceClient:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/token"):
            return httpx.Response(200, json=TOKEN)
        return answer(request)

    http = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    session = Session(ClientCredentials("id", "secret", "https://org.example"), http)
    return SalesforceClient(session, http, budget=budget)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("UploadComplete", JobState.RUNNING),
        ("InProgress", JobState.RUNNING),
        ("JobComplete", JobState.COMPLETE),
        ("Aborted", JobState.FAILED),
        ("Failed", JobState.FAILED),
    ],
)
async def test_the_states_of_a_job(state: str, expected: JobState) -> None:
    org = client(lambda _request: httpx.Response(200, json={"state": state}))
    assert await job_state(org, "750", no_fence) is expected


@pytest.mark.parametrize("body", [b"{}", b"[]", b"<html>", b'{"state": "New"}'])
async def test_an_answer_without_a_known_state_says_nothing(body: bytes) -> None:
    with pytest.raises(UnexpectedAnswer):
        await job_state(client(lambda _: httpx.Response(200, content=body)), "750", no_fence)


async def test_a_page_is_asked_for_as_csv_and_names_the_next() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        headers = {"Sforce-Locator": "null" if "locator" in request.url.params else "MTA/0="}
        return httpx.Response(200, content=b'"Id"\n"1"\n', headers=headers)

    org = client(answer)
    first = await result_page(org, "750", None, no_fence)
    last = await result_page(org, "750", first.locator, no_fence)
    assert (first.locator, last.locator) == ("MTA/0=", None)
    assert asked[1].url.params["locator"] == "MTA/0="
    assert {request.headers["Accept"] for request in asked} == {"text/csv"}


async def test_a_page_of_something_else_is_no_result() -> None:
    with pytest.raises(UnexpectedAnswer, match="Sforce-Locator"):
        await result_page(client(lambda _: httpx.Response(200, html="hi")), "750", None, no_fence)


async def test_refusals_are_classified_as_everywhere() -> None:
    body = [{"errorCode": "FEATURENOTENABLED", "message": "Async API not enabled"}]
    with pytest.raises(RequestRejected, match="FEATURENOTENABLED"):
        await create_job(
            client(lambda _: httpx.Response(400, json=body)), "SELECT", no_fence, deleted=True
        )
    with pytest.raises(UnexpectedAnswer):
        await create_job(
            client(lambda _: httpx.Response(200, json={})), "SELECT", no_fence, deleted=True
        )
    with pytest.raises(OrgUnavailable, match="maintenance"):
        await job_state(client(lambda _: httpx.Response(503, text="later")), "750", no_fence)


async def test_the_reserve_of_the_daily_calls_is_not_used() -> None:
    budget = Budget(0.1)
    budget.observe_usage(Usage(95, 100))
    with pytest.raises(OrgUnavailable, match="budget"):
        await job_state(client(lambda _: httpx.Response(200), budget), "750", no_fence)


def test_records_are_read_with_or_without_a_line_of_names() -> None:
    lines = b'"1","a, b",""\n"2","c ""d""\nnext line","x"\n'
    expected = [
        {"Id": "1", "Name": "a, b", "Parent": ""},
        {"Id": "2", "Name": 'c "d"\nnext line', "Parent": "x"},
    ]
    for content in (lines, b'"Id","NAME","Parent"\n' + lines):
        assert list(records(content, ("Id", "Name", "Parent"))) == expected
    assert list(records(b"", ("Id",))) == []


@pytest.mark.parametrize("content", [b'"1"\n', b'"1","2","3"\n', b"\xff\xfe"])
def test_records_of_another_width_are_refused(content: bytes) -> None:
    with pytest.raises(UnexpectedAnswer):
        list(records(content, ("Id", "Name")))
