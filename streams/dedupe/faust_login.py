"""The credentials that Faust hands to aiokafka; what they are made of is in `streams.kafka`."""

import asyncio
from typing import Any

import faust
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from streams.kafka.oauth import TokenCache, TokenUnavailable, request_token
from streams.kafka.security import tls_context
from streams.settings import KafkaSettings


class FaustTokens(AbstractTokenProvider):  # type: ignore[misc]
    """Gives aiokafka a valid token for each connection that it opens.

    Faust's consumer and its producer ask in event loops of their own.
    """

    def __init__(self, cache: TokenCache) -> None:
        self._cache = cache

    async def token(self) -> str:
        """Raises KafkaConnectionError without a token: aiokafka repeats the connection."""
        try:
            return await asyncio.to_thread(self._cache.token)
        except TokenUnavailable as error:
            raise KafkaConnectionError(str(error)) from error


def credentials(kafka: KafkaSettings) -> Any:
    """Faust's credentials for the brokers; None for PLAINTEXT. Reads the certificates."""
    context = tls_context(kafka)
    if kafka.uses_oauth:
        tokens = FaustTokens(TokenCache(lambda: request_token(kafka)))
        return faust.OAuthCredentials(oauth_cb=tokens, ssl_context=context)
    if kafka.uses_sasl:
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password.get_secret_value(),
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)
