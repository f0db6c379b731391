"""A client always has a valid token, and an endpoint that is away shows only when none is left."""

from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from aiokafka.errors import KafkaConnectionError
from structlog.testing import capture_logs

from streams.dedupe.faust_login import FaustTokens
from streams.kafka.oauth import RETRY_SECONDS, TokenCache, TokenUnavailable, request_token
from streams.settings import KafkaSettings, load
from tests.support.certificates import Authority
from tests.support.token_server import SECRET, TokenServer

KEY = "a key that the client does not know, and need not"
LIFETIME = 100.0


class Issuer:
    """Issues tokens of LIFETIME seconds, on a clock that the test turns."""

    def __init__(self) -> None:
        self.now, self.issued, self.away = 1_000.0, 0, False

    def __call__(self) -> str:
        if self.away:
            raise TokenUnavailable("the endpoint is away")
        self.issued += 1
        return jwt.encode({"exp": self.now + LIFETIME, "jti": str(self.issued)}, KEY)

    def cache(self) -> TokenCache:
        return TokenCache(self, lambda: self.now)


def test_a_token_is_used_again_until_four_fifths_of_its_lifetime_are_over() -> None:
    issuer = Issuer()
    cache = issuer.cache()
    first = cache.token()
    issuer.now += 0.79 * LIFETIME
    assert cache.token() == first
    issuer.now += 0.02 * LIFETIME
    assert cache.token() != first
    assert issuer.issued == 2


def test_while_the_endpoint_is_away_the_last_token_is_used_until_it_expires() -> None:
    issuer = Issuer()
    cache = issuer.cache()
    first = cache.token()
    issuer.now += 0.9 * LIFETIME
    issuer.away = True
    with capture_logs() as logged:
        assert cache.token() == first
        assert cache.token() == first
    assert [line["error"] for line in logged] == ["the endpoint is away"], "asked again later"
    issuer.now += 0.2 * LIFETIME
    with pytest.raises(TokenUnavailable, match="the endpoint is away"):
        cache.token()
    issuer.away = False
    assert cache.token() != first


def test_the_endpoint_is_asked_again_soon_after_a_failure() -> None:
    issuer = Issuer()
    cache = issuer.cache()
    first = cache.token()
    issuer.now += 0.81 * LIFETIME
    issuer.away = True
    cache.token()
    issuer.away = False
    assert cache.token() == first
    issuer.now += RETRY_SECONDS
    assert cache.token() != first


@pytest.mark.parametrize("text", ["opaque", jwt.encode({"sub": "ada"}, KEY)])
def test_a_token_without_an_expiry_is_refused(text: str) -> None:
    with pytest.raises(TokenUnavailable, match="no JWT with the claim exp"):
        TokenCache(lambda: text).token()


async def test_aiokafka_takes_a_missing_token_for_a_failed_connection() -> None:
    issuer = Issuer()
    tokens = FaustTokens(issuer.cache())
    assert await tokens.token()
    issuer.away, issuer.now = True, issuer.now + 2 * LIFETIME
    with pytest.raises(KafkaConnectionError, match="the endpoint is away"):
        await tokens.token()


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with TokenServer() as running:
        yield running


def settings(url: str, **environ: str) -> KafkaSettings:
    return load(
        KafkaSettings,
        {
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
            "KAFKA_OAUTH_TOKEN_ENDPOINT_URL": url,
            "KAFKA_OAUTH_CLIENT_ID": "ada",
            "KAFKA_OAUTH_CLIENT_SECRET": SECRET,
            "KAFKA_OAUTH_SCOPE": "kafka",
        }
        | environ,
    )


def test_the_endpoint_gets_the_client_and_the_scope(server: TokenServer) -> None:
    token = request_token(settings(server.url))
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["sub"] == "ada"
    assert (server.issued, server.scopes) == (["ada"], {"kafka"})


def test_a_wrong_secret_is_named_by_its_setting(server: TokenServer) -> None:
    kafka = settings(server.url, KAFKA_OAUTH_CLIENT_SECRET="wrong")
    with pytest.raises(TokenUnavailable, match=r"answered 401: check .*KAFKA_OAUTH_CLIENT_SECRET"):
        request_token(kafka)


def test_the_endpoint_is_checked_by_its_own_ca(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with TokenServer(authority.issue("issuer")) as server:
        known = settings(server.url, KAFKA_OAUTH_CA_LOCATION=str(authority.file))
        assert request_token(known)
        with pytest.raises(TokenUnavailable, match=r"does not answer.*KAFKA_OAUTH_CA_LOCATION"):
            request_token(settings(server.url))


def test_an_endpoint_that_does_not_answer_is_named() -> None:
    with pytest.raises(TokenUnavailable, match=r"127\.0\.0\.1:1/token does not answer"):
        request_token(settings("http://127.0.0.1:1/token"))
