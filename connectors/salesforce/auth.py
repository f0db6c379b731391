"""Logging in to Salesforce by OAuth 2.0: JWT bearer, client credentials or refresh token, one token shared by all calls."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

OnCall = Callable[[str, int | None, float], None]  # kind, HTTP status (None: no answer), seconds

PRODUCTION = "https://login.salesforce.com"


def no_hook(kind: str, status: int | None, seconds: float) -> None:
    """The OnCall of those who do not count."""


@dataclass(frozen=True, slots=True)
class JwtBearer:
    """`private_key` is a PEM. `audience` is login.salesforce.com, or test.salesforce.com for a sandbox."""

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


def token_request(credentials: Credentials, now: float) -> TokenRequest:
    """The form to post for a token at `now` (epoch seconds)."""
    raise NotImplementedError


def parse_token(status: int, body: object) -> Token:
    """The token of an answer. OrgUnavailable("login") if refused, OrgUnavailable otherwise where passing, UnexpectedAnswer."""
    raise NotImplementedError


class Session:
    """One token for everybody; it has no known end (no `expires_in`), so it is renewed when a call answers 401."""

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

    async def token(self) -> Token:
        """The cached token, or the first one. Raises OrgUnavailable, UnexpectedAnswer."""
        raise NotImplementedError

    async def refresh(self, stale: Token) -> Token:
        """A token other than `stale`; callers that arrive together share one login, and its failure."""
        raise NotImplementedError
