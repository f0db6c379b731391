"""Logging in: the three flows, one login for many callers, and no secret in any text."""

import asyncio
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.salesforce.api.auth import (
    ClientCredentials,
    Credentials,
    JwtBearer,
    RefreshToken,
    Session,
    jwt_audience,
    parse_token,
    token_request,
)
from connectors.salesforce.api.errors import OrgUnavailable, UnexpectedAnswer
from connectors.salesforce.api.refresh_token_file import RefreshTokenFile

NOW = 1_700_000_000.0
ANSWER = {
    "access_token": "00D5e!secret",
    "scope": "api",
    "instance_url": "https://acme.my.salesforce.com",
    "id": "https://login.salesforce.com/id/00D5e000000AbCdEAK/0055e000000XyZzAAK",
    "token_type": "Bearer",
}


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_a_jwt_login_names_client_user_and_audience_and_ends_within_three_minutes(
    key: rsa.RSAPrivateKey,
) -> None:
    request = token_request(
        JwtBearer("client", "me@acme.com", pem(key), "https://acme.my.salesforce.com/"), NOW
    )
    assert request.url == "https://acme.my.salesforce.com/services/oauth2/token"
    assert request.form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assertion = request.form["assertion"]
    assert jwt.get_unverified_header(assertion)["alg"] == "RS256"
    claims = jwt.decode(
        assertion,
        key.public_key(),
        algorithms=["RS256"],
        audience="https://login.salesforce.com",
        options={"verify_exp": False},
    )
    assert (claims["iss"], claims["sub"]) == ("client", "me@acme.com")
    assert NOW < claims["exp"] <= NOW + 180


def test_a_sandbox_has_its_own_audience(key: rsa.RSAPrivateKey) -> None:
    sandbox = JwtBearer(
        "client", "me", pem(key), "https://test.salesforce.com", "https://test.salesforce.com"
    )
    claims = jwt.decode(
        token_request(sandbox, NOW).form["assertion"], options={"verify_signature": False}
    )
    assert claims["aud"] == "https://test.salesforce.com"


PRODUCTION_AUDIENCE, TEST_AUDIENCE = "https://login.salesforce.com", "https://test.salesforce.com"


@pytest.mark.parametrize(
    ("url", "audience"),
    [
        ("https://login.salesforce.com", PRODUCTION_AUDIENCE),
        ("https://test.salesforce.com", TEST_AUDIENCE),
        (" HTTPS://Test.Salesforce.com/ ", TEST_AUDIENCE),
        ("https://test.salesforce.com:443/services/oauth2/token", TEST_AUDIENCE),
        # My Domain: production
        ("https://acme.my.salesforce.com", PRODUCTION_AUDIENCE),
        ("https://acme.my.salesforce.com/", PRODUCTION_AUDIENCE),
        ("https://sandbox.my.salesforce.com", PRODUCTION_AUDIENCE),
        ("https://scratch.my.salesforce.com", PRODUCTION_AUDIENCE),
        ("https://sandboxes.my.salesforce.com", PRODUCTION_AUDIENCE),
        ("https://acme-cs.my.salesforce.com", PRODUCTION_AUDIENCE),
        # My Domain: sandboxes and scratch orgs
        ("https://acme--uat.sandbox.my.salesforce.com", TEST_AUDIENCE),
        ("https://acme-dev-ed.scratch.my.salesforce.com", TEST_AUDIENCE),
        ("https://ability-dream-4376-dev-ed.scratch.my.salesforce.com/", TEST_AUDIENCE),
        # sandboxes before enhanced domains, with and without their instance, and instances
        ("https://acme--uat.my.salesforce.com", TEST_AUDIENCE),
        ("https://acme--uat.cs17.my.salesforce.com", TEST_AUDIENCE),
        ("https://energy-velocity-1234.cs17.my.salesforce.com", TEST_AUDIENCE),
        ("https://cs17.salesforce.com", TEST_AUDIENCE),
        ("https://usa2s.sfdc-y37hzm.salesforce.com", TEST_AUDIENCE),
        ("https://na17.salesforce.com", PRODUCTION_AUDIENCE),
        ("https://usa2.sfdc-y37hzm.salesforce.com", PRODUCTION_AUDIENCE),
        # the other partitions log in as production does
        ("https://acme-dev-ed.develop.my.salesforce.com", PRODUCTION_AUDIENCE),
        ("https://acme.demo.my.salesforce.com", PRODUCTION_AUDIENCE),
        ("https://acme.trailblaze.my.salesforce.com", PRODUCTION_AUDIENCE),
        ("https://acme.patch.my.salesforce.com", PRODUCTION_AUDIENCE),
        ("https://acme.free.my.salesforce.com", PRODUCTION_AUDIENCE),
        # no URL of Salesforce
        ("http://127.0.0.1:8080", PRODUCTION_AUDIENCE),
        ("acme--uat.sandbox.my.salesforce.com", TEST_AUDIENCE),
        ("https://gateway.sandbox.example", PRODUCTION_AUDIENCE),
        ("", PRODUCTION_AUDIENCE),
        ("https://[", PRODUCTION_AUDIENCE),
    ],
)
def test_the_audience_of_a_jwt_follows_from_the_kind_of_org(url: str, audience: str) -> None:
    assert jwt_audience(url) == audience


def test_client_credentials_go_to_the_orgs_own_host() -> None:
    request = token_request(
        ClientCredentials("client", "secret", "https://acme.my.salesforce.com"), NOW
    )
    assert request.url == "https://acme.my.salesforce.com/services/oauth2/token"
    assert request.form == {
        "grant_type": "client_credentials",
        "client_id": "client",
        "client_secret": "secret",
    }


@pytest.mark.parametrize("secret", ["secret", None])
def test_a_refresh_token_goes_with_or_without_a_client_secret(secret: str | None) -> None:
    form = dict(token_request(RefreshToken("client", "refresh", secret), NOW).form)
    assert form.pop("client_secret", None) == secret
    assert form == {
        "grant_type": "refresh_token",
        "client_id": "client",
        "refresh_token": "refresh",
    }


@pytest.mark.parametrize(
    "broken", ["", "not a key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_an_unreadable_key_is_a_login_fault_that_does_not_quote_the_key(broken: str) -> None:
    with pytest.raises(OrgUnavailable) as raised:
        token_request(JwtBearer("client", "me", broken), NOW)
    assert raised.value.reason == "login"
    assert "AAAA" not in f"{raised.value}{raised.value.__cause__}"


def test_no_secret_is_printed(key: rsa.RSAPrivateKey) -> None:
    credentials: list[Credentials] = [
        JwtBearer("client", "me", pem(key)),
        ClientCredentials("client", "hush-secret", "https://acme.my.salesforce.com"),
        RefreshToken("client", "hush-refresh", "hush-secret"),
    ]
    printed = "".join(f"{one!r}{one}{token_request(one, NOW)!r}" for one in credentials) + repr(
        parse_token(200, ANSWER)
    )
    for secret in ("hush", "PRIVATE KEY", "assertion", "00D5e!secret"):
        assert secret not in printed


def test_a_token_answer_names_instance_user_and_org() -> None:
    token = parse_token(200, ANSWER)
    assert token.access_token == "00D5e!secret"
    assert token.instance_url == "https://acme.my.salesforce.com"
    assert (token.org_id, token.user_id) == ("00D5e000000AbCdEAK", "0055e000000XyZzAAK")
    assert parse_token(200, {**ANSWER, "id": None}).user_id is None


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (
            400,
            {"error": "invalid_grant", "error_description": "expired access/refresh token"},
            "login",
        ),
        (
            400,
            {
                "error": "invalid_grant",
                "error_description": "authentication failure - Invalid Password",
            },
            "login",
        ),
        (
            400,
            {"error": "invalid_grant", "error_description": "user hasn't approved this consumer"},
            "login",
        ),
        (
            400,
            {"error": "invalid_grant", "error_description": "expired authorization code"},
            "login",
        ),
        (
            400,
            {"error": "invalid_grant", "error_description": "no client credentials user enabled"},
            "login",
        ),
        (
            400,
            {"error": "invalid_client_id", "error_description": "client identifier invalid"},
            "login",
        ),
        (400, {"error": "inactive_user", "error_description": "user is inactive"}, "login"),
        (
            401,
            {"error": "invalid_client", "error_description": "invalid client credentials"},
            "login",
        ),
        (403, b"<html>restricted</html>", "login"),
        (404, b"<html>URL No Longer Exists</html>", "login"),
        (429, b"", "throttled"),
        (503, b"<html>Down for maintenance</html>", "maintenance"),
        (200, b"<html>Log in</html>", "not_json"),
    ],
)
def test_a_refused_login_is_a_fault_of_the_org_and_never_of_a_row(
    status: int, body: Any, reason: str
) -> None:
    with pytest.raises(OrgUnavailable) as raised:
        parse_token(status, body)
    assert raised.value.reason == reason
    assert raised.value.retry_after


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"access_token": "x"},
        {"instance_url": "https://x"},
        {"access_token": "x", "instance_url": "x"},
    ],
)
def test_an_odd_token_answer_is_an_error(body: Any) -> None:
    with pytest.raises(UnexpectedAnswer):
        parse_token(200, body)


Answer = Callable[[int, httpx.Request], httpx.Response]


class Logins:
    """A token endpoint that counts, and answers when the test lets it."""

    def __init__(self) -> None:
        self.forms: list[dict[str, list[str]]] = []
        self.calls: list[tuple[str, int | None]] = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.answer: Answer = lambda count, _: httpx.Response(
            200, json={**ANSWER, "access_token": f"token{count}"}
        )

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.forms.append(parse_qs(request.content.decode()))
        count = len(self.forms)
        self.asked.set()
        await self.may_answer.wait()
        return self.answer(count, request)

    def on_call(self, kind: str, status: int | None, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((kind, status))


@pytest.fixture
def logins() -> Logins:
    return Logins()


@pytest.fixture
async def session(logins: Logins) -> AsyncIterator[Session]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(logins)) as http:
        yield Session(
            ClientCredentials("client", "secret", "https://acme.my.salesforce.com"),
            http,
            logins.on_call,
        )


async def test_one_login_serves_all_who_ask(session: Session, logins: Logins) -> None:
    tokens = await asyncio.gather(*(session.token() for _ in range(20)))
    assert {token.access_token for token in tokens} == {"token1"}
    assert logins.calls == [("token", 200)]


async def test_one_new_login_serves_all_whose_token_expired(
    session: Session, logins: Logins
) -> None:
    stale = await session.token()
    fresh = await asyncio.gather(*(session.refresh(stale) for _ in range(20)))
    late = await session.refresh(stale)
    assert {token.access_token for token in [*fresh, late, await session.token()]} == {"token2"}
    assert len(logins.forms) == 2


async def test_a_session_that_salesforce_names_again_still_counts_as_new(
    session: Session, logins: Logins
) -> None:
    logins.answer = lambda _, __: httpx.Response(200, json=ANSWER)
    stale = await session.token()
    await asyncio.gather(*(session.refresh(stale) for _ in range(20)))
    await session.refresh(stale)
    assert len(logins.forms) == 2


async def test_a_failed_login_fails_all_who_wait_at_once_and_the_next_tries_again(
    session: Session, logins: Logins
) -> None:
    logins.answer = lambda _, __: httpx.Response(
        400, json={"error": "invalid_grant", "error_description": "no"}
    )
    logins.may_answer.clear()
    waiting = [asyncio.create_task(session.token()) for _ in range(20)]
    async with asyncio.timeout(5):
        await logins.asked.wait()
    logins.may_answer.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(
        isinstance(result, OrgUnavailable) and result.reason == "login" for result in results
    )
    assert len(logins.forms) == 1
    logins.answer = lambda _, __: httpx.Response(200, json=ANSWER)
    assert (await session.token()).access_token == "00D5e!secret"


async def test_a_caller_that_gives_up_does_not_take_the_login_with_it(
    session: Session, logins: Logins
) -> None:
    logins.may_answer.clear()
    impatient, patient = asyncio.create_task(session.token()), asyncio.create_task(session.token())
    async with asyncio.timeout(5):
        await logins.asked.wait()
    impatient.cancel()
    logins.may_answer.set()
    assert (await patient).access_token == "token1"
    assert impatient.cancelled()
    assert len(logins.forms) == 1


async def test_a_login_that_cannot_connect_is_a_network_fault(logins: Logins) -> None:
    def unreachable(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(unreachable)) as http:
        session = Session(
            ClientCredentials("client", "secret", "https://acme.my.salesforce.com"),
            http,
            logins.on_call,
        )
        with pytest.raises(OrgUnavailable) as raised:
            await session.token()
    assert raised.value.reason == "network"
    assert logins.calls == [("token", None)]


async def test_a_login_waits_as_long_as_salesforce_asks(session: Session, logins: Logins) -> None:
    logins.answer = lambda _, __: httpx.Response(
        503, headers={"Retry-After": "7"}, text="<html>down</html>"
    )
    with pytest.raises(OrgUnavailable) as raised:
        await session.token()
    assert (raised.value.reason, raised.value.retry_after) == ("maintenance", 7.0)


async def test_a_refresh_token_that_was_rotated_is_the_one_of_the_next_login(
    logins: Logins, tmp_path: Path
) -> None:
    logins.answer = lambda count, _: httpx.Response(
        200, json={**ANSWER, "refresh_token": f"rotated{count}"}
    )
    login = RefreshToken("client", "first", store=RefreshTokenFile(tmp_path / "token"))
    async with httpx.AsyncClient(transport=httpx.MockTransport(logins)) as http:
        session = Session(login, http, logins.on_call)
        token = await session.token()
        assert "rotated" not in repr(token)
        token = await session.refresh(token)
        logins.answer = lambda _, __: httpx.Response(200, json=ANSWER)
        token = await session.refresh(token)
        await session.refresh(token)
    assert [form["refresh_token"] for form in logins.forms] == [
        ["first"],
        ["rotated1"],
        ["rotated2"],
        ["rotated2"],
    ]


@pytest.mark.parametrize(
    ("off", "said"),
    [(3600, "3600 s ahead"), (-3600, "3600 s behind"), (30, ""), (-30, "")],
)
async def test_a_clock_that_is_wrong_is_named_as_the_cause_of_a_refused_login(
    key: rsa.RSAPrivateKey, off: int, said: str
) -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        return httpx.Response(
            400,
            json={"error": "invalid_grant", "error_description": "expired authorization code"},
            headers={"Date": formatdate(NOW, usegmt=True)},
        )

    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as http:
        login = Session(
            JwtBearer("client", "me@acme.com", pem(key), "https://acme.my.salesforce.com"),
            http,
            clock=lambda: NOW + off,
        )
        with pytest.raises(OrgUnavailable) as refused:
            await login.token()
    assert "invalid_grant" in str(refused.value)
    assert said in str(refused.value)
    assert ("clock" in str(refused.value)) is bool(said)
