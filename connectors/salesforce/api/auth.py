"""Logging in to Salesforce by OAuth 2.0: JWT bearer, client credentials or refresh token, one token
shared by all calls.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import httpx
import jwt
import orjson

from connectors.salesforce.api.errors import (
    PAUSE_REASONS,
    OrgUnavailable,
    UnexpectedAnswer,
    parse_errors,
    raise_for,
    retry_after,
)

OnCall = Callable[[str, int | None, float], None]  # kind, HTTP status (None: no answer), seconds

PRODUCTION = "https://login.salesforce.com"

# Salesforce takes at most three minutes; the third is left to clocks that differ
JWT_SECONDS = 120
# a login takes about a second; past this something between us and Salesforce is stuck
LOGIN_SECONDS = 30.0


def no_hook(kind: str, status: int | None, seconds: float) -> None:
    """The OnCall of those who do not count."""


@dataclass(frozen=True, slots=True)
class JwtBearer:
    """`private_key` is a PEM. `audience` is login.salesforce.com, or test.salesforce.com for a
    sandbox.
    """

    client_id: str
    username: str
    private_key: str = field(repr=False)
    login_url: str = PRODUCTION
    audience: str = PRODUCTION


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """`login_url` must be the org's My Domain; the connected app names the run-as user."""

    client_id: str
    client_secret: str = field(repr=False)
    login_url: str


@dataclass(frozen=True, slots=True)
class RefreshToken:
    client_id: str
    refresh_token: str = field(repr=False)
    client_secret: str | None = field(default=None, repr=False)
    login_url: str = PRODUCTION


Credentials = JwtBearer | ClientCredentials | RefreshToken


@dataclass(frozen=True, slots=True)
class TokenRequest:
    url: str
    form: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """Compared by identity: Salesforce may hand out the same string again."""

    access_token: str = field(repr=False)
    instance_url: str
    user_id: str | None = None  # 18 characters, from the answer's identity URL
    org_id: str | None = None
    refresh_token: str | None = field(
        default=None, repr=False
    )  # a new one, where the app rotates them


def token_request(credentials: Credentials, now: float) -> TokenRequest:
    """The form to post for a token at `now` (epoch seconds). OrgUnavailable("login") if the private
    key is unreadable.
    """
    form: dict[str, str]
    match credentials:
        case JwtBearer():
            claims = {
                "iss": credentials.client_id,
                "sub": credentials.username,
                "aud": credentials.audience,
                "exp": int(now) + JWT_SECONDS,
            }
            try:
                assertion = jwt.encode(claims, credentials.private_key, algorithm="RS256")
            except (jwt.PyJWTError, ValueError, TypeError):
                # without the cause: its text may quote the key
                raise OrgUnavailable(
                    "login", PAUSE_REASONS["login"], "the private key is not an RSA key in PEM"
                ) from None
            form = {
                "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
                "assertion": assertion,
            }
        case ClientCredentials():
            form = {
                "grant_type": "client_credentials",
                "client_id": credentials.client_id,
                "client_secret": credentials.client_secret,
            }
        case RefreshToken():
            form = {
                "grant_type": "refresh_token",
                "client_id": credentials.client_id,
                "refresh_token": credentials.refresh_token,
            }
            if credentials.client_secret:
                form["client_secret"] = credentials.client_secret
    return TokenRequest(f"{credentials.login_url.rstrip('/')}/services/oauth2/token", form)


def parse_token(status: int, body: object, wait: float | None = None) -> Token:
    """The token of an answer. OrgUnavailable("login") if refused, OrgUnavailable otherwise where
    passing, UnexpectedAnswer.

    `wait` is what the answer asked for, in seconds.
    """
    errors = parse_errors(body)
    if isinstance(body, Mapping) and "error" in body and 400 <= status < 429 and errors:
        raise OrgUnavailable(
            "login", PAUSE_REASONS["login"], f"HTTP {status} {errors[0].code}: {errors[0].message}"
        )
    if 400 <= status < 500 and status not in {408, 420, 429}:
        raise OrgUnavailable("login", PAUSE_REASONS["login"], f"HTTP {status}")
    raise_for(status, body, retry_after=wait)
    access = body.get("access_token") if isinstance(body, Mapping) else None
    instance = body.get("instance_url") if isinstance(body, Mapping) else None
    if (
        not isinstance(access, str)
        or not isinstance(instance, str)
        or not access
        or not urlsplit(instance).netloc
    ):
        raise UnexpectedAnswer("a token answer without access_token or instance_url")
    identity = body.get("id") if isinstance(body, Mapping) else None
    parts = urlsplit(identity).path.strip("/").split("/") if isinstance(identity, str) else []
    org, user = (parts[1], parts[2]) if len(parts) == 3 and parts[0] == "id" else (None, None)
    refresh = body.get("refresh_token") if isinstance(body, Mapping) else None
    return Token(
        access,
        instance.rstrip("/"),
        user,
        org,
        refresh if isinstance(refresh, str) and refresh else None,
    )


class Session:
    """One token for everybody; it has no known end (no `expires_in`), so it is renewed when a call
    answers 401.
    """

    def __init__(
        self,
        credentials: Credentials,
        http: httpx.AsyncClient,
        on_call: OnCall = no_hook,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._credentials = credentials
        self._http = http
        self._on_call = on_call
        self._clock = clock
        self._token: Token | None = None
        self._login: asyncio.Task[Token] | None = None

    async def token(self) -> Token:
        """The cached token, or the first one. Raises OrgUnavailable, UnexpectedAnswer."""
        return self._token or await self._shared_login()

    async def refresh(self, stale: Token) -> Token:
        """A token other than `stale`; callers that arrive together share one login, and its
        failure.
        """
        if self._token is not None and self._token is not stale:
            return self._token
        return await self._shared_login()

    async def _shared_login(self) -> Token:
        if self._login is None:
            self._login = asyncio.create_task(self._log_in(), name="salesforce login")
            self._login.add_done_callback(self._logged_in)
        # shielded: one caller that gives up must not take the others' login with it
        return await asyncio.shield(self._login)

    def _logged_in(self, login: asyncio.Task[Token]) -> None:
        self._login = None
        if not login.cancelled() and login.exception() is None:
            self._token = token = login.result()
            if token.refresh_token and isinstance(self._credentials, RefreshToken):
                # the old one may be void from now on
                self._credentials = replace(self._credentials, refresh_token=token.refresh_token)

    async def _log_in(self) -> Token:
        request = token_request(self._credentials, self._clock())
        started = time.monotonic()
        status: int | None = None
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                answer = await self._http.post(request.url, data=dict(request.form))
            status = answer.status_code
        except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL, TimeoutError) as error:
            raise OrgUnavailable(
                "network", PAUSE_REASONS["network"], type(error).__name__
            ) from error
        finally:
            self._on_call("token", status, time.monotonic() - started)
        try:
            body = orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            body = answer.content
        return parse_token(status, body, retry_after(answer.headers))
