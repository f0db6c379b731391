"""Tokens for SASL/OAUTHBEARER in clients other than librdkafka, which asks for its own.

As librdkafka does: the client credentials grant of RFC 6749, and a new token when four fifths of
the lifetime of the last one are over.
"""

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import jwt
import structlog

from streams.settings import KafkaSettings

log = structlog.get_logger()

# One request. aiokafka gives a connection and its login 40 s.
TOKEN_REQUEST_SECONDS = 10.0

# The share of a token's lifetime after which the next one is asked for. librdkafka has the same.
REFRESH_SHARE = 0.8

# Until the endpoint is asked again after a failure, while the last token is still valid.
RETRY_SECONDS = 5.0


class TokenUnavailable(RuntimeError):
    """The token endpoint issued no token. The text names the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and the moments of the wall clock (epoch seconds) that matter to it."""

    text: str
    refresh_at: float
    expires_at: float


def parse_token(text: str, now: float) -> Token:
    """A token that was received `now`. Raises ValueError for one that is no JWT with an expiry.

    The signature is the broker's to check.
    """
    try:
        expires_at = float(jwt.decode(text, options={"verify_signature": False})["exp"])
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError) as error:
        raise ValueError("it is no JWT with the claim exp") from error
    return Token(text, now + REFRESH_SHARE * (expires_at - now), expires_at)


def request_token(kafka: KafkaSettings) -> str:
    """Asks the endpoint of the settings for a token. Blocks. Raises TokenUnavailable."""
    url = kafka.oauth_token_endpoint_url
    form = {"grant_type": "client_credentials"}
    if kafka.oauth_scope:
        form["scope"] = kafka.oauth_scope
    try:
        answer = httpx.post(
            url,
            data=form,
            auth=(kafka.oauth_client_id, kafka.oauth_client_secret.get_secret_value()),
            timeout=TOKEN_REQUEST_SECONDS,
            verify=_verification(kafka),
        )
        answer.raise_for_status()
        return str(answer.json()["access_token"])
    except httpx.HTTPStatusError as error:
        raise TokenUnavailable(
            f"KAFKA_OAUTH_TOKEN_ENDPOINT_URL={url} answered {error.response.status_code}: check "
            "KAFKA_OAUTH_CLIENT_ID, KAFKA_OAUTH_CLIENT_SECRET and KAFKA_OAUTH_SCOPE"
        ) from error
    except httpx.HTTPError as error:
        raise TokenUnavailable(
            f"KAFKA_OAUTH_TOKEN_ENDPOINT_URL={url} does not answer: {error}; check the URL, and "
            "KAFKA_OAUTH_CA_LOCATION"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise TokenUnavailable(
            f"KAFKA_OAUTH_TOKEN_ENDPOINT_URL={url} answered without an access_token: check the URL"
        ) from error


def _verification(kafka: KafkaSettings) -> ssl.SSLContext | bool:
    if not kafka.oauth_ca_location:
        return True
    return ssl.create_default_context(cafile=kafka.oauth_ca_location)


class TokenCache:
    """The current token, for several threads. `request` blocks, and returns a new one."""

    def __init__(self, request: Callable[[], str], clock: Callable[[], float] = time.time) -> None:
        self._request = request
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._retry_at = 0.0

    def token(self) -> str:
        """A token that is valid now. Blocks for a request when a new one is due.

        While the last one is valid, a failure of the endpoint is logged and changes nothing. Raises
        TokenUnavailable afterwards.
        """
        with self._lock:
            now, token = self._clock(), self._token
            if token is not None and now < min(
                max(token.refresh_at, self._retry_at), token.expires_at
            ):
                return token.text
            try:
                self._token = parse_token(self._request(), self._clock())
            except (TokenUnavailable, ValueError) as error:
                if token is None or self._clock() >= token.expires_at:
                    raise TokenUnavailable(str(error)) from error
                self._retry_at = now + RETRY_SECONDS
                log.warning("no new token for Kafka; the last one is used", error=str(error))
                return token.text
            return self._token.text
