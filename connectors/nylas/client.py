"""Calls to the Nylas v3 API: one HTTP client that keeps the rate limits and retries."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx

from connectors.nylas.errors import NotFound, Passing, RateLimited, Refused, UnreadableBody
from connectors.nylas.model import parse_json
from connectors.tls import trusted_authorities

FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
"""Seconds. The facts' back-off: full jitter from 1 s to 60 s; a provider's throttle lasts minutes,
so trying faster only prolongs it.
"""

LONGEST_RETRY_AFTER = 1200.0
"""Seconds. A Microsoft throttle is documented to last about 20 minutes; a header that asks for more
is tried then all the same.
"""

LONGEST_HELD = 10.0
"""Seconds that a call of a grant sleeps because Nylas asks it to. A longer wait is the caller's,
who meanwhile reads other grants.
"""

TRIES = 8
"""Before a call is handed back as `Passing`: by then it has waited some minutes, and its grant is
better put aside than waited for.
"""

TIMEOUT = httpx.Timeout(10.0, read=95.0, pool=120.0)
"""Nylas itself answers 504 after 90 s; the pool's wait spans one such call and the next connect."""

BODY_SHOWN = 300  # characters of an error's body that an exception carries

OnCall = Callable[[str, int | None, float], None]
"""Told of each call: its kind, the status (None where no answer came) and its seconds."""

OnDate = Callable[[str | None], None]
"""Told the Date header of each answer, when it has just come."""

OnWait = Callable[[str], None]
"""Told of each wait: `rate_limited` or `transient_error`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Calls a second.

    Nylas documents 200 for the contacts of one grant and 50 an application for the grants. For an
    application's contacts it documents none; its Google project may ask 10,000 times a minute,
    which 100 a second leaves room in.
    """

    grant: float = 200.0
    application: float = 100.0
    administration: float = 50.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with status 200.

    `served_at` is the `Date` header (the clock of Nylas, epoch seconds). `request_id` is what the
    support of Nylas asks for.
    """

    body: dict[str, Any]
    served_at: int
    request_id: str


class Bucket:
    """A token bucket that hands out the time to wait instead of tokens. Holds no clock."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, 0.0

    def reserve(self, now: float) -> float:
        """Takes one token and returns the seconds until it exists; 0 when it exists now."""
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)


def delay(attempt: int, retry_after: float | None, chance: float) -> float:
    """Seconds before the next try, after `attempt` tries (from 1) have failed.

    What Nylas asks for is kept, and spread by up to a tenth so that grants throttled together do
    not return together; without it, full jitter over 1, 2, 4 ... 60 s. `chance` is a random number
    from 0 to 1.
    """
    if retry_after is not None:
        return min(max(retry_after, chance) * (1 + chance / 10), LONGEST_RETRY_AFTER)
    return max(FIRST_DELAY, chance * min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(attempt, 10)))


def seconds_until_next(fault: Passing, otherwise: float) -> float:
    """Seconds until a failed call may be repeated by the caller.

    That is what Nylas asks for, or `otherwise` where it asks for less or for nothing.
    """
    asked = fault.retry_after if isinstance(fault, RateLimited) else None
    return max(otherwise, min(asked or 0.0, LONGEST_RETRY_AFTER))


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """The Retry-After header in seconds, from either of its two forms (RFC 9110, 10.2.3).

    None where it is absent or unreadable.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    at = http_date(text)
    return None if at is None else max(0.0, at - now)


def http_date(value: str | None) -> int | None:
    """An HTTP date in epoch seconds; None where it is absent or unreadable."""
    if not value:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


async def _at_once() -> None:
    pass


class NylasClient:
    """The calls to one application of Nylas, at most one at a time for each grant.

    Microsoft allows four at a time for a mailbox, all applications together. So a call that waits
    for a retry holds back its own grant and no other.

    `before_call` is awaited before each request, and may hold it back. `waiting` is entered around
    every wait that Nylas or its limits ask for, so that the caller can tell it from a request that
    hangs.

    Use as an asynchronous context manager. `api_key` goes into the Authorization header and nowhere
    else.
    """

    def __init__(
        self,
        api_url: str,
        api_key: str,
        *,
        limits: Limits | None = None,
        tries: int = TRIES,
        on_call: OnCall = lambda _kind, _status, _seconds: None,
        on_wait: OnWait = lambda _reason: None,
        on_date: OnDate = lambda _date: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
        before_call: Callable[[], Awaitable[None]] = _at_once,
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self._api_key = api_key
        self._limits = limits or Limits()
        self._tries = tries
        self._on_call, self._on_wait, self._sleep, self._chance = on_call, on_wait, sleep, chance
        self._waiting, self._on_date = waiting, on_date
        self._before_call = before_call
        self._application = Bucket(self._limits.application, self._limits.application)
        self._administration = Bucket(self._limits.administration, self._limits.administration)
        self._grants: defaultdict[str, Bucket] = defaultdict(
            lambda: Bucket(self._limits.grant, self._limits.grant)
        )
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> "NylasClient":
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._api_key}", "Accept": "application/json"},
            timeout=TIMEOUT,
            limits=httpx.Limits(
                max_connections=100, max_keepalive_connections=20, keepalive_expiry=60
            ),
            follow_redirects=False,  # a redirect would carry the key elsewhere
            verify=trusted_authorities(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def get(
        self,
        kind: str,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        grant: str | None = None,
    ) -> Answer:
        """GETs `path`, whose parts are percent-encoded already.

        `kind` names the call for the metrics.

        Raises NotFound, Refused, and, after `tries` tries with a wait before each, RateLimited or
        Passing; RateLimited at once where a grant shall not be asked for more than `LONGEST_HELD`.
        """
        if grant is None:
            return await self._get(kind, path, params, grant)
        lock = self._locks[grant]
        with self._waiting():
            await lock.acquire()
        try:
            return await self._get(kind, path, params, grant)
        finally:
            lock.release()

    async def _get(
        self, kind: str, path: str, params: Mapping[str, str | int] | None, grant: str | None
    ) -> Answer:
        attempt = 0
        while True:
            await self._take_turn(grant)
            try:
                return await self._once(kind, path, params)
            except Passing as fault:
                attempt += 1
                if attempt >= self._tries:
                    raise
                limited = isinstance(fault, RateLimited)
                retry_after = fault.retry_after if isinstance(fault, RateLimited) else None
                self._on_wait("rate_limited" if limited else "transient_error")
                if grant is not None and (retry_after or 0.0) > LONGEST_HELD:
                    raise
                with self._waiting():
                    await self._sleep(delay(attempt, retry_after, self._chance()))

    async def _take_turn(self, grant: str | None) -> None:
        """Waits for `before_call`, and for a token of the application and of the grant.

        The rates are those of `Limits`, so the wait is no longer than the queue of callers.
        """
        await self._before_call()
        now = time.monotonic()
        buckets = (
            [self._administration] if grant is None else [self._application, self._grants[grant]]
        )
        wait = max(bucket.reserve(now) for bucket in buckets)
        if wait > 0:
            with self._waiting():
                await self._sleep(wait)

    async def _once(self, kind: str, path: str, params: Mapping[str, str | int] | None) -> Answer:
        if self._http is None:
            raise RuntimeError("use the client as an asynchronous context manager")
        sent_at, started = int(time.time()), time.monotonic()
        try:
            response = await self._http.get(self._api_url + path, params=dict(params or {}))
        except (httpx.TransportError, httpx.DecodingError) as error:
            self._on_call(kind, None, time.monotonic() - started)
            raise Passing(None, f"no answer from Nylas: {type(error).__name__}") from error
        self._on_date(response.headers.get("date"))
        self._on_call(kind, response.status_code, time.monotonic() - started)
        return parse_answer(response, sent_at)


def parse_answer(response: httpx.Response, sent_at: int) -> Answer:
    """The parsed answer, or the error that its status means.

    `sent_at` (epoch seconds) dates an answer without a `Date` header, so that it is never dated too
    late.

    `sent_at` (epoch seconds) dates an answer without a `Date` header: never too new.

    The status alone decides; error types come in two dialects. Raises NotFound, RateLimited,
    Passing, Refused.
    """
    status = response.status_code
    dated = http_date(response.headers.get("date"))
    served_at = sent_at if dated is None else dated
    if status == 200:
        try:
            body = parse_json(response.content)
        except UnreadableBody as error:
            raise Passing(200, "Nylas answered 200 with a body that is not JSON") from error
        if not isinstance(body, dict) or "data" not in body:
            raise Passing(200, "Nylas answered 200 with JSON that is no answer")
        return Answer(body, served_at, str(body.get("request_id") or ""))
    if status == 429:
        raise RateLimited(retry_after_seconds(response.headers.get("retry-after"), time.time()))
    if status >= 500 or status in (408, 425):
        raise Passing(status)
    shown = response.text[:BODY_SHOWN]
    if status == 404:
        of_grant = _error_type(response.content).startswith("grant")
        raise NotFound(f"Nylas answered 404: {shown}", served_at=served_at, of_grant=of_grant)
    raise Refused(status, shown, REMEDIES.get(status, ""))


def _error_type(content: bytes) -> str:
    try:
        error = parse_json(content)["error"]
        return str(error["type"]).removeprefix("api.")
    except (UnreadableBody, KeyError, TypeError):
        return ""


def path_part(text: str) -> str:
    """One part of a path, percent-encoded so that no character of an ID ends it.

    `.` and `..` would otherwise be resolved away.
    """
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


REMEDIES = {
    401: "the API key is not accepted, or this grant has to sign in again. If every grant fails: "
    "check NYLAS_API_KEY, and that "
    "NYLAS_API_URL is the region of the application. If one does: have its user authenticate again",
    403: "the grant lacks a scope for this, or the key may not do it. Add the contacts scopes to "
    "the connector "
    "(and those of `inbox` and `domain` if NYLAS_SOURCES names them), then have the user "
    "authenticate again",
}
