"""confluent-kafka and Faust get the same login and the same certificates from the same settings."""

from pathlib import Path
from typing import Any

import faust
import pytest
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from streams.dedupe.faust_login import credentials
from streams.kafka.security import librdkafka_security
from streams.settings import KafkaSettings, load
from tests.support.certificates import Authority

SASL = {"KAFKA_SASL_USERNAME": "ada", "KAFKA_SASL_PASSWORD": "secret"}
OAUTH = {
    "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
    "KAFKA_OAUTH_TOKEN_ENDPOINT_URL": "https://issuer.example/token",
    "KAFKA_OAUTH_CLIENT_ID": "ada",
    "KAFKA_OAUTH_CLIENT_SECRET": "secret",
}


def settings(protocol: str, **environ: str) -> KafkaSettings:
    return load(KafkaSettings, {"KAFKA_SECURITY_PROTOCOL": protocol} | environ)


def of_aiokafka(kafka: KafkaSettings) -> dict[str, Any]:
    return dict(credentials_to_aiokafka_auth(credentials(kafka)))


@pytest.mark.parametrize(
    ("protocol", "environ"),
    [
        ("PLAINTEXT", {}),
        ("SSL", {}),
        ("SASL_SSL", SASL),
        ("SASL_PLAINTEXT", SASL | {"KAFKA_SASL_MECHANISM": "PLAIN"}),
        ("SASL_SSL", OAUTH),
        ("SASL_PLAINTEXT", OAUTH),
    ],
)
def test_both_clients_have_the_same_protocol_mechanism_and_user(
    protocol: str, environ: dict[str, str]
) -> None:
    kafka = settings(protocol, **environ)
    ours, theirs = librdkafka_security(kafka), of_aiokafka(kafka)
    assert ours["security.protocol"] == theirs["security_protocol"] == protocol
    assert ours.get("sasl.mechanism") == theirs.get("sasl_mechanism")
    assert ours.get("sasl.username") == theirs.get("sasl_plain_username")
    assert ours.get("sasl.password") == theirs.get("sasl_plain_password")
    assert (theirs.get("ssl_context") is not None) == protocol.endswith("SSL")
    assert ("sasl_oauth_token_provider" in theirs) == ("KAFKA_OAUTH_CLIENT_ID" in environ)


def test_both_clients_present_the_certificate_and_check_the_brokers_by_the_ca(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("ada", key_password="of the key")
    kafka = settings(
        "SSL",
        KAFKA_SSL_CA_LOCATION=str(authority.file),
        KAFKA_SSL_CERTIFICATE_LOCATION=str(own.certificate),
        KAFKA_SSL_KEY_LOCATION=str(own.key),
        KAFKA_SSL_KEY_PASSWORD="of the key",
    )
    assert librdkafka_security(kafka) == {
        "security.protocol": "SSL",
        "ssl.ca.location": str(authority.file),
        "ssl.certificate.location": str(own.certificate),
        "ssl.key.location": str(own.key),
        "ssl.key.password": "of the key",
    }
    context = of_aiokafka(kafka)["ssl_context"]
    assert context.check_hostname
    (ca,) = context.get_ca_certs()
    assert ca["subject"] == ((("commonName", "CA of a test"),),)


def test_librdkafka_asks_for_tokens_by_itself() -> None:
    config = librdkafka_security(settings("SASL_SSL", **OAUTH, KAFKA_OAUTH_SCOPE="kafka"))
    assert config["sasl.oauthbearer.method"] == "oidc"
    assert config["sasl.oauthbearer.token.endpoint.url"] == "https://issuer.example/token"
    assert config["sasl.oauthbearer.scope"] == "kafka"
    assert "sasl.username" not in config


def test_faust_gets_no_credentials_for_a_broker_without_security() -> None:
    assert credentials(settings("PLAINTEXT")) is None
    assert isinstance(credentials(settings("SSL")), faust.SSLCredentials)
