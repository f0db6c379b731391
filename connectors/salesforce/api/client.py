"""The HTTP client of one org: authorised, compressed and bounded calls.

A refusal is raised as the exception that says what it means (`connectors.salesforce.api.errors`).
"""

import asyncio
import gzip
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import quote

import httpx
import orjson

from connectors.salesforce.api.auth import OnCall, Session, Token, no_hook
from connectors.salesforce.api.budget import PROBE_SECONDS, Budget, Usage, parse_limits
from connectors.salesforce.api.classification import classify_request, raise_for
from connectors.salesforce.api.composite import (
    QueryPage,
    SubAnswer,
    Subrequest,
    composite_body,
    match_answers,
    parse_query,
    query_page,
)
from connectors.salesforce.api.error_parsing import retry_after
from connectors.salesforce.api.errors import (
    PAUSE_SECONDS,
    Action,
    OrgUnavailable,
    UnexpectedAnswer,
)
from connectors.tls import trusted_authorities

API_VERSION = "62.0"

# Bounds a whole call. A Composite has five collections, each a transaction with 10 s of Apex CPU
# and as long again in the database. Salesforce itself ends a call after 600 s; one that is
# repeated before that is safe, because upserts and updates are idempotent.
CALL_SECONDS = 120.0
# name, TCP and TLS across an ocean take under two seconds; ten allow for lost packets
CONNECT_SECONDS = 10.0
# a request is a few hundred kilobytes when compressed
WRITE_SECONDS = 30.0
# an org runs 25 long requests at once and refuses the next
MAX_POOLED_CONNECTIONS = 25
# shorter than the idle time-outs of load balancers, so that a call seldom meets a connection that
# is already closed
KEEPALIVE_SECONDS = 30.0
# below, the header of a gzip stream costs as much as it saves
GZIP_FROM = 1024
# rows repeat their field names: this level saves nearly as much as the highest, in a fraction of
# its time
GZIP_LEVEL = 3
# 2,000 records each; a statement of ours that goes on for longer is wrong
MAX_PAGES = 5_000
_CLOSED_CONNECTION = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


OnDate = Callable[[str | None], None]
"""Called with the Date header of each answer, of logins too, when it has just come."""


def http_client(on_date: OnDate = lambda _date: None) -> httpx.AsyncClient:
    """An httpx client with timeouts and connection limits that fit Salesforce.

    The SalesforceClient that gets it closes it.
    """

    async def tell_date(response: httpx.Response) -> None:
        on_date(response.headers.get("date"))

    return httpx.AsyncClient(
        # the read time-out covers one gap; the whole call is bounded by CALL_SECONDS
        timeout=httpx.Timeout(CALL_SECONDS, connect=CONNECT_SECONDS, write=WRITE_SECONDS),
        limits=httpx.Limits(
            max_connections=MAX_POOLED_CONNECTIONS,
            max_keepalive_connections=MAX_POOLED_CONNECTIONS,
            keepalive_expiry=KEEPALIVE_SECONDS,
        ),
        headers={
            "User-Agent": "contactstream",
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
        },
        follow_redirects=False,  # another host must not be handed the token
        verify=trusted_authorities(),
        event_hooks={"response": [tell_date]},
    )


Fence = Callable[[], None]
"""Called right before each request is sent, repetitions and further pages included.

Raises WriterFenced when this process may no longer write, because another may have replaced it.
"""


def no_fence() -> None:
    """The fence of a caller that is the only writer."""


class CompositeClient(Protocol):
    """What a sync needs of a client. SalesforceClient is one; tests have others around it."""

    async def org_id(self) -> str | None:
        """As SalesforceClient.org_id."""
        ...

    async def user_id(self) -> str | None:
        """See `SalesforceClient.user_id`."""
        ...

    async def composite(
        self, subrequests: Sequence[Subrequest], kind: str, fence: Fence = no_fence
    ) -> list[SubAnswer]:
        """As SalesforceClient.composite."""
        ...

    async def limits(self, fence: Fence = no_fence) -> dict[str, Usage]:
        """As SalesforceClient.limits."""
        ...

    async def rest_of(
        self, answer: SubAnswer, kind: str = "query", fence: Fence = no_fence
    ) -> list[Mapping[str, Any]]:
        """As SalesforceClient.rest_of."""
        ...

    async def query_more(
        self, next_url: str, kind: str = "query", fence: Fence = no_fence
    ) -> QueryPage:
        """As SalesforceClient.query_more."""
        ...

    async def post(
        self, path: str, body: Mapping[str, Any], kind: str, fence: Fence = no_fence
    ) -> Any:
        """As SalesforceClient.post."""
        ...

    async def download(
        self, path: str, kind: str, fence: Fence = no_fence, accept: str = "application/json"
    ) -> "Download":
        """As SalesforceClient.download."""
        ...


@dataclass(frozen=True, slots=True)
class Download:
    """The content of an answer as it came, without its compression. Header names match any case."""

    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Request:
    """`kind` is the metric label of the call. A token or a connection that failed repeats it."""

    method: str
    path: str
    kind: str
    fence: Fence
    body: bytes | None = None
    accept: str = "application/json"


class SalesforceClient:
    """Calls of one org. `async with` closes the httpx client at the end.

    Every call raises OrgUnavailable (pause), RequestRejected (see its verdict) or UnexpectedAnswer,
    and WriterFenced where its fence does. Paths are relative to `/services/data/vNN.N`, or absolute
    as Salesforce gives them (`nextRecordsUrl`). `answer_seconds` bounds each request from its start
    to the whole answer.
    """

    def __init__(
        self,
        session: Session,
        http: httpx.AsyncClient,
        api_version: str = API_VERSION,
        on_call: OnCall = no_hook,
        budget: Budget | None = None,
        answer_seconds: float = CALL_SECONDS,
    ) -> None:
        self._session = session
        self._http = http
        self.api_version = api_version
        self._on_call = on_call
        self.budget = budget or Budget()
        self._answer_seconds = answer_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def user_id(self) -> str | None:
        """The 18-character ID of the user we are logged in as, from the token's identity URL."""
        return (await self._session.token()).user_id

    async def org_id(self) -> str | None:
        """The 18-character ID of the org that we are logged in to; logs in if need be."""
        return (await self._session.token()).org_id

    async def get(self, path: str, kind: str = "get", fence: Fence = no_fence) -> Any:
        """The parsed JSON of a GET.

        Not subject to the budget, so that the limits can always be read.
        """
        return await self._call(_Request("GET", path, kind, fence))

    async def composite(
        self, subrequests: Sequence[Subrequest], kind: str, fence: Fence = no_fence
    ) -> list[SubAnswer]:
        """One Composite; the answers in the order of the subrequests, with statuses unchecked.

        OrgUnavailable("budget") without a call when only the reserve is left. UnexpectedAnswer if
        the answer does not name each subrequest once: some of the rows may have been written, so
        the same rows are simply sent again.
        """
        body = encode(composite_body(subrequests, self.api_version))
        self._admit()
        answer = await self._call(_Request("POST", "/composite", kind, fence, body))
        return match_answers(subrequests, answer)

    def _admit(self) -> None:
        if self.budget.own.exhausted:
            detail = f"{self.budget.own.today} calls today; see SALESFORCE_MAX_CALLS_PER_DAY"
            raise OrgUnavailable("own_limit", PROBE_SECONDS, detail)
        if not self.budget.admit():
            raise OrgUnavailable("budget", PROBE_SECONDS)

    async def limits(self, fence: Fence = no_fence) -> dict[str, Usage]:
        """`GET /limits`; the budget observes the daily calls.

        RequestRejected without the permission "View Setup".
        """
        limits = parse_limits(await self.get("/limits", "limits", fence))
        if daily := limits.get("DailyApiRequests"):
            self.budget.observe_usage(daily)
        return limits

    async def query_all(
        self, soql: str, kind: str = "query", fence: Fence = no_fence
    ) -> list[Mapping[str, Any]]:
        """Every record of a short statement (a URL holds 16,384 bytes), page after page.

        The budget counts from the second page on.
        """
        page = parse_query(await self.get(f"/query?q={quote(soql, safe='')}", kind, fence))
        return [*page.records, *await self._further_pages(page.next_url, kind, fence)]

    async def rest_of(
        self, answer: SubAnswer, kind: str = "query", fence: Fence = no_fence
    ) -> list[Mapping[str, Any]]:
        """Every record of a query's subanswer: its own, and those of the further pages.

        OrgUnavailable("budget") without a call when only the reserve is left.
        """
        page = query_page(answer)
        return [*page.records, *await self._further_pages(page.next_url, kind, fence)]

    async def _further_pages(
        self, next_url: str | None, kind: str, fence: Fence
    ) -> list[Mapping[str, Any]]:
        records: list[Mapping[str, Any]] = []
        for _ in range(MAX_PAGES):
            if next_url is None:
                return records
            page = await self.query_more(next_url, kind, fence)
            records += page.records
            next_url = page.next_url
        raise UnexpectedAnswer(f"a query with more than {MAX_PAGES} pages")

    async def query_more(
        self, next_url: str, kind: str = "query", fence: Fence = no_fence
    ) -> QueryPage:
        """A further page of a query, by the `next_url` of the page before.

        OrgUnavailable("budget") without a call when only the reserve is left.
        """
        self._admit()
        return parse_query(await self.get(next_url, kind, fence))

    async def post(
        self, path: str, body: Mapping[str, Any], kind: str, fence: Fence = no_fence
    ) -> Any:
        """The parsed JSON that answers a POST of JSON.

        OrgUnavailable("budget") without a call when only the reserve is left.
        """
        self._admit()
        return await self._call(_Request("POST", path, kind, fence, encode(body)))

    async def download(
        self, path: str, kind: str, fence: Fence = no_fence, accept: str = "application/json"
    ) -> Download:
        """The answer to a GET, whatever its format.

        OrgUnavailable("budget") without a call when only the reserve is left.
        """
        self._admit()
        answer = await self._answer(_Request("GET", path, kind, fence, accept=accept))
        return Download(answer.content, answer.headers)

    async def _call(self, request: _Request) -> Any:
        answer = await self._answer(request)
        parsed = _parsed(answer)
        # Not only for statuses: a page of HTML may come with 200.
        raise_for(answer.status_code, parsed, retry_after=retry_after(answer.headers))
        return parsed

    async def _answer(self, request: _Request) -> httpx.Response:
        """The answer of the org; raises for a status that refuses the request."""
        token = await self._session.token()
        answer = await self._send(token, request)
        if answer.is_success:
            return answer
        verdict = classify_request(answer.status_code, _parsed(answer))
        if verdict.action is Action.REFRESH_TOKEN or verdict.reason == "moved":
            # an org that moved has another instance_url, which only a login's answer names
            token = await self._session.refresh(token)
            answer = await self._send(token, request)
        if not answer.is_success:
            raise_for(answer.status_code, _parsed(answer), retry_after=retry_after(answer.headers))
        return answer

    async def _send(self, token: Token, request: _Request) -> httpx.Response:
        path = request.path
        if not path.startswith("/services/"):
            path = f"/services/data/v{self.api_version}{path}"
        headers = {"Authorization": f"Bearer {token.access_token}", "Accept": request.accept}
        body = request.body
        if body is not None:
            headers["Content-Type"] = "application/json; charset=UTF-8"
            if len(body) >= GZIP_FROM:
                headers["Content-Encoding"] = "gzip"
                body = gzip.compress(body, GZIP_LEVEL, mtime=0)
        made = self._http.build_request(
            request.method, token.instance_url + path, headers=headers, content=body
        )
        try:
            return await self._send_once(made, request)
        except _CLOSED_CONNECTION:
            # most often a connection that Salesforce closed while it was idle: worth one more
            # attempt before a pause
            pass
        try:
            return await self._send_once(made, request)
        except _CLOSED_CONNECTION as error:
            raise _network(error) from error

    async def _send_once(self, made: httpx.Request, request: _Request) -> httpx.Response:
        """Raises OrgUnavailable, or _CLOSED_CONNECTION as it is."""
        request.fence()
        started = time.monotonic()
        status: int | None = None
        try:
            async with asyncio.timeout(self._answer_seconds):
                answer = await self._http.send(made)
            status = answer.status_code
        except _CLOSED_CONNECTION:
            raise
        except (httpx.TransportError, httpx.DecodingError, TimeoutError) as error:
            raise _network(error) from error
        finally:
            self._on_call(request.kind, status, time.monotonic() - started)
        # An answer and its stream refer to each other. Without this it would take its memory, which
        # may be megabytes, until the collector of cycles runs.
        answer.stream = httpx.ByteStream(b"")
        self.budget.observe(answer.headers)
        return answer


def encode(body: object) -> bytes:
    """JSON; a value that orjson refuses (a lone surrogate, a huge number) as Python writes it.

    Salesforce then refuses only the row with that value.
    """
    try:
        return orjson.dumps(body)
    except TypeError:
        return json.dumps(body).encode()


def _network(error: Exception) -> OrgUnavailable:
    return OrgUnavailable("network", PAUSE_SECONDS["network"], type(error).__name__)


def _parsed(answer: httpx.Response) -> Any:
    try:
        return orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return answer.content
