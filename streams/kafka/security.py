"""How every client encrypts its connections and logs in: one place for all, so that they agree.

`librdkafka_security` is for confluent-kafka: producers, consumers and admin clients. `tls_context`
is for aiokafka, which Faust uses, and `streams.kafka.oauth` gives it its tokens.
"""

import ssl
from typing import Any

from streams.settings import KafkaSettings

# Where librdkafka and the library that it asks for tokens with look for the system's certificates.
SYSTEM_CERTIFICATES = "probe"


def librdkafka_security(kafka: KafkaSettings) -> dict[str, Any]:
    """The settings of librdkafka for encryption and login. Reads no file."""
    return {"security.protocol": kafka.security_protocol} | _tls(kafka) | _login(kafka)


def _tls(kafka: KafkaSettings) -> dict[str, Any]:
    if not kafka.uses_tls:
        return {}
    given = {
        "ssl.ca.location": kafka.ssl_ca_location,
        "ssl.certificate.location": kafka.ssl_certificate_location,
        "ssl.key.location": kafka.ssl_key_location,
        "ssl.key.password": kafka.ssl_key_password.get_secret_value(),
    }
    return {name: value for name, value in given.items() if value}


def _login(kafka: KafkaSettings) -> dict[str, Any]:
    if not kafka.uses_sasl:
        return {}
    if not kafka.uses_oauth:
        return {
            "sasl.mechanism": kafka.sasl_mechanism,
            "sasl.username": kafka.sasl_username,
            "sasl.password": kafka.sasl_password.get_secret_value(),
        }
    scope = {"sasl.oauthbearer.scope": kafka.oauth_scope} if kafka.oauth_scope else {}
    return scope | {
        "sasl.mechanism": kafka.sasl_mechanism,
        # librdkafka asks for a token, and for the next one before the first expires, in a thread of
        # its own: also for clients that are seldom polled.
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": kafka.oauth_client_id,
        "sasl.oauthbearer.client.secret": kafka.oauth_client_secret.get_secret_value(),
        "sasl.oauthbearer.token.endpoint.url": kafka.oauth_token_endpoint_url,
        "https.ca.location": kafka.oauth_ca_location or SYSTEM_CERTIFICATES,
    }


def tls_context(kafka: KafkaSettings) -> ssl.SSLContext | None:
    """The TLS settings for a Python client; None without encryption. Reads the files.

    The name in a broker's certificate is checked, as librdkafka does by default. Raises OSError or
    ssl.SSLError when a file is not as it was when the settings were loaded.
    """
    if not kafka.uses_tls:
        return None
    context = ssl.create_default_context(cafile=kafka.ssl_ca_location or None)
    if kafka.ssl_certificate_location:
        password = kafka.ssl_key_password.get_secret_value()
        # Always given. Without one, OpenSSL would ask for it on the terminal.
        context.load_cert_chain(
            kafka.ssl_certificate_location, kafka.ssl_key_location, lambda: password
        )
    return context
