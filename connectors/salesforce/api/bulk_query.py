"""Bulk API 2.0 queries: a job that Salesforce runs by itself, and its results as CSV.

A page of a result holds far more records than one of the REST API, so a large query costs fewer
calls. Source: Bulk API 2.0 Developer Guide, "Query Jobs". Every function raises as the client does.
"""

import csv
import io
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import orjson

from connectors.salesforce.api.client import CompositeClient, Fence
from connectors.salesforce.api.errors import UnexpectedAnswer

KIND = "bulk_query"
"""The metric label of all calls."""
# Records of one page. Some 5 MB of CSV where each has a website: a page is in memory at once.
RECORDS_IN_PAGE = 50_000
# Salesforce writes the word where there is no further page.
_NO_LOCATOR = "null"
# Between questions about a job. Short at first, because a small job takes seconds; together some
# ten minutes, after which the REST API is the surer way.
POLL_SECONDS = (2.0, 4.0, 8.0, 15.0, 30.0, *(60.0,) * 9)


class JobState(StrEnum):
    """What a query job has come to."""

    RUNNING = "running"
    COMPLETE = "complete"
    # Failed or aborted; its results will never come.
    FAILED = "failed"


_STATES: Mapping[str, JobState] = {
    "UploadComplete": JobState.RUNNING,
    "InProgress": JobState.RUNNING,
    "JobComplete": JobState.COMPLETE,
    "Aborted": JobState.FAILED,
    "Failed": JobState.FAILED,
}


@dataclass(frozen=True, slots=True)
class ResultPage:
    """A page of a job's results. `content` is CSV; `locator` names the next page, None if last."""

    content: bytes
    locator: str | None


async def create_job(client: CompositeClient, soql: str, fence: Fence, *, deleted: bool) -> str:
    """Creates a query job and returns its ID. `deleted` also finds records in the recycle bin."""
    body = {"operation": "queryAll" if deleted else "query", "query": soql}
    answer = await client.post("/jobs/query", body, KIND, fence)
    job = answer.get("id") if isinstance(answer, Mapping) else None
    if not isinstance(job, str) or not job:
        raise UnexpectedAnswer("a query job was created without an ID")
    return job


async def job_state(client: CompositeClient, job: str, fence: Fence) -> JobState:
    """What a job has come to; one call."""
    answer = await client.download(f"/jobs/query/{quote(job, safe='')}", KIND, fence)
    try:
        body: Any = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        body = None
    state = _STATES.get(body.get("state", "")) if isinstance(body, Mapping) else None
    if state is None:
        raise UnexpectedAnswer("the answer about a query job names no known state")
    return state


async def wait_until_complete(
    client: CompositeClient, job: str, fence: Fence, sleep: Callable[[float], Awaitable[None]]
) -> None:
    """Returns once a job is complete. Raises UnexpectedAnswer if it fails or takes too long."""
    for seconds in POLL_SECONDS:
        await sleep(seconds)
        state = await job_state(client, job, fence)
        if state is JobState.COMPLETE:
            return
        if state is JobState.FAILED:
            raise UnexpectedAnswer("the job failed")
    raise UnexpectedAnswer("the job takes too long")


async def result_page(
    client: CompositeClient, job: str, locator: str | None, fence: Fence
) -> ResultPage:
    """A page of the results of a complete job, the first one without a locator; one call."""
    path = f"/jobs/query/{quote(job, safe='')}/results?maxRecords={RECORDS_IN_PAGE}"
    if locator is not None:
        path += f"&locator={quote(locator, safe='')}"
    answer = await client.download(path, KIND, fence, "text/csv")
    following = answer.headers.get("Sforce-Locator")
    if following is None:  # anything else than a result has none, such as a login page
        raise UnexpectedAnswer("a page of a query job's results has no Sforce-Locator")
    return ResultPage(answer.content, None if following == _NO_LOCATOR else following)


def records(content: bytes, fields: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The records of a page with these fields, in the order in which the query names them.

    A line of field names is skipped, because not every page has to repeat it. Null is an empty
    text; booleans are true and false. Raises UnexpectedAnswer for a record of another width.
    """
    try:
        text = io.StringIO(content.decode(), newline="")
    except UnicodeDecodeError as error:
        raise UnexpectedAnswer("a page of a query job's results is not UTF-8") from error
    names = [name.lower() for name in fields]
    for number, values in enumerate(csv.reader(text)):
        if len(values) != len(fields):
            raise UnexpectedAnswer("a record in a query job's results has the wrong fields")
        if number == 0 and [value.lower() for value in values] == names:
            continue
        yield dict(zip(fields, values, strict=True))
