"""Logs in to Salesforce by OAuth 2.0, and shares one token among all calls.

The flows are JWT bearer, client credentials and refresh token.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx
import jwt
import orjson

from connectors.salesforce.api.classification import raise_for
from connectors.salesforce.api.error_parsing import parse_errors, retry_after
from connectors.salesforce.api.errors import PAUSE_SECONDS, OrgUnavailable, UnexpectedAnswer
from connectors.salesforce.api.refresh_token_file import RefreshTokenFile

OnCall = Callable[[str, int | None, float], None]
"""Called after each HTTP call with its kind, the status (None: no answer) and its seconds."""

# How far this clock and Salesforce's may differ: what an assertion's validity leaves for it.
CLOCK_TOLERANCE_SECONDS = 60.0

PRODUCTION = "https://login.salesforce.com"
SANDBOXES = "https://test.salesforce.com"
# Hosts of sandboxes and scratch orgs: the partition of a My Domain; `--` before the sandbox's name,
# which no My Domain may contain; instances, in Salesforce's own data centres and on Hyperforce.
# [Help: My Domain URL Formats, Partitioned Domains; forcedotcom/sfdx-core: src/util/sfdcUrl.ts]
_SANDBOX_HOST = re.compile(
    r"test\.salesforce\.com"
    r"|[^.]+\.(?:sandbox|scratch)\.(?:my|lightning)\..+"
    r"|[^.]+--[^.]+(?:\.[^.]+)?\.my\.salesforce\.com"
    r"|(?:[^.]+\.)?cs\d+(?:\.my)?\.salesforce\.com"
    r"|[a-z]{3}\d+s\.sfdc-.+\.salesforce\.com"
)

# validity of an assertion: Salesforce allows three minutes, one is left for clocks that differ
JWT_SECONDS = 120
# a login takes about a second; after this the connection to Salesforce is stuck
LOGIN_SECONDS = 30.0
# between looks at whether another process has ended its login, which takes about a second
LOCK_RETRY_SECONDS = 0.2


def jwt_audience(login_url: str) -> str:
    """The `aud` of an assertion for the org that this URL logs in to.

    SANDBOXES for sandboxes and scratch orgs; PRODUCTION for all others: Developer Edition, demo,
    patch and free orgs, Trailhead Playgrounds, and hosts that are not of Salesforce.
    """
    url = login_url.strip().lower()
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        host = ""
    return SANDBOXES if _SANDBOX_HOST.fullmatch(host) else PRODUCTION


AcceptOrg = Callable[[str | None], None]
"""Called after each login with the org's ID, before the token is used; raises to refuse the org."""


def any_org(org_id: str | None) -> None:
    """An AcceptOrg that takes every org, for callers that ask which one it is."""


def no_hook(kind: str, status: int | None, seconds: float) -> None:
    """An OnCall that does nothing, for callers without metrics."""


@dataclass(frozen=True, slots=True)
class JwtBearer:
    """Login by a signed assertion, for a user whom the connected app has pre-authorised.

    `private_key` is a PEM. `audience` is what `jwt_audience` says, or the setting.
    """

    client_id: str
    username: str
    private_key: str = field(repr=False)
    login_url: str = PRODUCTION
    audience: str = PRODUCTION


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """Login by the app's secret, as the run-as user that the connected app names.

    `login_url` must be the org's My Domain.
    """

    client_id: str
    client_secret: str = field(repr=False)
    login_url: str


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """Login by a refresh token that a person granted in the browser.

    `store` keeps the tokens of an app that rotates them. Without it such an app is refused.
    """

    client_id: str
    refresh_token: str = field(repr=False)
    client_secret: str | None = field(default=None, repr=False)
    login_url: str = PRODUCTION
    store: RefreshTokenFile | None = None


Credentials = JwtBearer | ClientCredentials | RefreshToken


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The form of a login and where to post it."""

    url: str
    form: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """An access token and what the login said about it.

    Tokens are compared by identity, because Salesforce may issue the same string again.
    """

    access_token: str = field(repr=False)
    instance_url: str
    user_id: str | None = None  # 18 characters, from the answer's identity URL
    org_id: str | None = None
    # a new one, if the app rotates them
    refresh_token: str | None = field(default=None, repr=False)


def token_request(credentials: Credentials, now: float) -> TokenRequest:
    """The form to post for a token at `now` (seconds since the epoch).

    Raises OrgUnavailable("login") if the private key cannot be read.
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
                # without the cause, because its text may quote the key
                raise _login_refused("the private key is not an RSA key in PEM") from None
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
    """The token in the answer to a login; `wait` are the seconds that its headers ask for.

    Raises OrgUnavailable("login") if the login was refused, OrgUnavailable with another reason for
    a temporary fault, and UnexpectedAnswer.
    """
    errors = parse_errors(body)
    if isinstance(body, Mapping) and "error" in body and 400 <= status < 429 and errors:
        raise _login_refused(f"HTTP {status} {errors[0].code}: {errors[0].message}")
    if 400 <= status < 500 and status not in {408, 420, 429}:
        raise _login_refused(f"HTTP {status}")
    raise_for(status, body, retry_after=wait)
    fields = body if isinstance(body, Mapping) else {}
    access, instance = fields.get("access_token"), fields.get("instance_url")
    if (
        not isinstance(access, str)
        or not isinstance(instance, str)
        or not access
        or not urlsplit(instance).netloc
    ):
        raise UnexpectedAnswer("the answer to a login has no access_token or no instance_url")
    org_id, user_id = _identity(fields.get("id"))
    refresh = fields.get("refresh_token")
    new_refresh = refresh if isinstance(refresh, str) and refresh else None
    return Token(access, instance.rstrip("/"), user_id, org_id, new_refresh)


def _identity(url: object) -> tuple[str | None, str | None]:
    """The org ID and the user ID in an identity URL (`https://.../id/<org>/<user>`)."""
    parts = urlsplit(url).path.strip("/").split("/") if isinstance(url, str) else []
    return (parts[1], parts[2]) if len(parts) == 3 and parts[0] == "id" else (None, None)


def clock_fault(date: str | None, now: float) -> str:
    """Says that this machine's clock is wrong, judged by an answer's Date; empty if it is not.

    An assertion that ended already, or that begins later, is refused with a text that names no
    clock.
    """
    try:
        off = now - parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return ""
    if abs(off) <= CLOCK_TOLERANCE_SECONDS:
        return ""
    return (
        f"the clock of this machine is {abs(off):.0f} s {'ahead' if off > 0 else 'behind'}, "
        "which alone makes a JWT login fail: set it by NTP"
    )


def _login_refused(detail: str) -> OrgUnavailable:
    return OrgUnavailable("login", PAUSE_SECONDS["login"], detail)


def _token_not_kept(store: RefreshTokenFile, error: Exception) -> OrgUnavailable:
    why = (error.strerror if isinstance(error, OSError) else None) or "it holds something else"
    return _login_refused(
        f"the file of SALESFORCE_REFRESH_TOKEN_STORE, {store.path}, cannot be used: {why}"
    )


class Session:
    """One token for all callers, renewed when a call is answered with 401.

    Salesforce does not say when a token ends (there is no `expires_in`).
    """

    def __init__(
        self,
        credentials: Credentials,
        http: httpx.AsyncClient,
        on_call: OnCall = no_hook,
        clock: Callable[[], float] = time.time,
        accept_org: AcceptOrg = any_org,
    ) -> None:
        self._credentials = credentials
        self._http = http
        self._on_call = on_call
        self._clock = clock
        self._accept_org = accept_org
        self._token: Token | None = None
        self._login: asyncio.Task[Token] | None = None
        # a rotated refresh token that could not be kept: the only one that is not void
        self._unkept: str | None = None

    async def token(self) -> Token:
        """The current token; logs in if there is none.

        Raises OrgUnavailable, UnexpectedAnswer, and what `accept_org` raises.
        """
        return self._token or await self._shared_login()

    async def refresh(self, stale: Token) -> Token:
        """A token other than `stale`; callers that arrive together share one login.

        Raises OrgUnavailable, UnexpectedAnswer.
        """
        if self._token is not None and self._token is not stale:
            return self._token
        return await self._shared_login()

    async def _shared_login(self) -> Token:
        if self._login is None:
            self._login = asyncio.create_task(self._log_in(), name="salesforce login")
            self._login.add_done_callback(self._logged_in)
        # shielded: the cancellation of one caller must not cancel the login of the others
        return await asyncio.shield(self._login)

    def _logged_in(self, login: asyncio.Task[Token]) -> None:
        self._login = None
        if not login.cancelled() and login.exception() is None:
            self._token = login.result()

    async def _log_in(self) -> Token:
        login = self._credentials
        if not isinstance(login, RefreshToken) or login.store is None:
            return await self._log_in_alone()
        attempts = int(LOGIN_SECONDS / LOCK_RETRY_SECONDS)
        for _ in range(attempts):
            try:
                with login.store.try_lock() as alone:
                    if alone:
                        return await self._log_in_alone()
            except OSError as error:
                raise _token_not_kept(login.store, error) from error
            await asyncio.sleep(LOCK_RETRY_SECONDS)
        raise _login_refused("another process with this refresh token is still logging in")

    async def _log_in_alone(self) -> Token:
        """A login while no other process logs in with the same refresh token."""
        used = await self._newest_credentials()
        token = await self._request_token(used)
        if isinstance(used, RefreshToken) and token.refresh_token not in (None, used.refresh_token):
            self._unkept = token.refresh_token
        if self._unkept is not None and isinstance(self._credentials, RefreshToken):
            await self._keep(self._credentials, self._unkept)
        self._accept_org(token.org_id)
        return token

    async def _newest_credentials(self) -> Credentials:
        """The credentials with the newest refresh token, which another process may have got."""
        login = self._credentials
        if not isinstance(login, RefreshToken):
            return login
        newest = self._unkept
        if newest is None and login.store is not None:
            try:
                newest = await asyncio.to_thread(login.store.load, login.refresh_token)
            except (OSError, ValueError) as error:
                # the cause of a ValueError may quote the file
                raise _token_not_kept(login.store, error) from None
        return replace(login, refresh_token=newest or login.refresh_token)

    async def _keep(self, login: RefreshToken, rotated: str) -> None:
        """Keeps a rotated token for the next start. Raises OrgUnavailable("login") if it cannot."""
        if login.store is None:
            raise _login_refused(
                "the app rotates refresh tokens, and the new one would be lost at the next start: "
                "name a file for it in SALESFORCE_REFRESH_TOKEN_STORE and set a new "
                "SALESFORCE_REFRESH_TOKEN, because this one is void now; or turn rotation off in "
                "the app"
            )
        try:
            await asyncio.to_thread(login.store.keep, login.refresh_token, rotated)
        except OSError as error:
            raise _token_not_kept(login.store, error) from error
        self._unkept = None

    async def _request_token(self, credentials: Credentials) -> Token:
        request = token_request(credentials, self._clock())
        started = time.monotonic()
        status: int | None = None
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                answer = await self._http.post(request.url, data=dict(request.form))
            status = answer.status_code
        except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL, TimeoutError) as error:
            raise OrgUnavailable(
                "network", PAUSE_SECONDS["network"], type(error).__name__
            ) from error
        finally:
            self._on_call("token", status, time.monotonic() - started)
        try:
            body = orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            body = answer.content
        try:
            return parse_token(status, body, retry_after(answer.headers))
        except OrgUnavailable as error:
            cause = clock_fault(answer.headers.get("date"), self._clock())
            if error.reason != "login" or not cause:
                raise
            raise _login_refused(f"{error.detail}; {cause}") from error
