"""Settings for a secured Kafka that cannot work are refused at the start, with the remedy."""

from pathlib import Path

import pytest

from streams.settings import KafkaSettings, SettingsError, load
from tests.support.certificates import Authority, Certificate

SASL = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_USERNAME": "ada",
    "KAFKA_SASL_PASSWORD": "very-secret",
}
OAUTH = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
    "KAFKA_OAUTH_TOKEN_ENDPOINT_URL": "https://issuer.example/token",
    "KAFKA_OAUTH_CLIENT_ID": "ada",
    "KAFKA_OAUTH_CLIENT_SECRET": "very-secret",
}


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as raised:
        load(KafkaSettings, environ)
    assert "very-secret" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("environ", [{}, SASL, OAUTH, {"KAFKA_SECURITY_PROTOCOL": "SSL"}])
def test_complete_settings_are_taken(environ: dict[str, str]) -> None:
    load(KafkaSettings, environ)


@pytest.mark.parametrize("missing", ["KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"])
def test_a_login_needs_a_user_and_a_password(missing: str) -> None:
    said = refusal({name: value for name, value in SASL.items() if name != missing})
    assert said.startswith(f"{missing} is not set: KAFKA_SASL_MECHANISM=SCRAM-SHA-512 needs it")
    assert f"set {missing} or {missing}_FILE" in said


@pytest.mark.parametrize(
    "missing",
    ["KAFKA_OAUTH_TOKEN_ENDPOINT_URL", "KAFKA_OAUTH_CLIENT_ID", "KAFKA_OAUTH_CLIENT_SECRET"],
)
def test_a_token_needs_an_endpoint_and_a_client(missing: str) -> None:
    said = refusal({name: value for name, value in OAUTH.items() if name != missing})
    assert said.startswith(f"{missing} is not set: KAFKA_SASL_MECHANISM=OAUTHBEARER needs it")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        (SASL | {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}, "KAFKA_SASL_USERNAME"),
        (SASL | {"KAFKA_SECURITY_PROTOCOL": "SSL"}, "KAFKA_SASL_USERNAME"),
        (OAUTH | {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}, "KAFKA_SASL_MECHANISM=OAUTHBEARER"),
        (OAUTH | SASL | {"KAFKA_SASL_MECHANISM": "PLAIN"}, "KAFKA_OAUTH_TOKEN_ENDPOINT_URL"),
    ],
)
def test_a_login_that_the_protocol_would_not_use_is_refused(
    environ: dict[str, str], named: str
) -> None:
    said = refusal(environ)
    assert said.startswith(named)
    assert f"KAFKA_SECURITY_PROTOCOL={environ['KAFKA_SECURITY_PROTOCOL']}" in said


def test_an_endpoint_that_is_no_url_is_refused() -> None:
    said = refusal(OAUTH | {"KAFKA_OAUTH_TOKEN_ENDPOINT_URL": "issuer.example"})
    assert said.startswith("KAFKA_OAUTH_TOKEN_ENDPOINT_URL")


def of_certificate(certificate: Path, key: Path, password: str = "") -> dict[str, str]:
    return {
        "KAFKA_SECURITY_PROTOCOL": "SSL",
        "KAFKA_SSL_CERTIFICATE_LOCATION": str(certificate),
        "KAFKA_SSL_KEY_LOCATION": str(key),
        "KAFKA_SSL_KEY_PASSWORD": password,
    }


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Certificate:
    return authority.issue("ada", key_password="very-secret")


def test_a_certificate_with_its_key_is_taken(own: Certificate) -> None:
    kafka = load(KafkaSettings, of_certificate(own.certificate, own.key, "very-secret"))
    assert kafka.ssl_certificate_location == str(own.certificate)


@pytest.mark.parametrize("password", ["", "another"])
def test_the_wrong_password_of_a_key_is_named_and_never_asked_for(
    own: Certificate, password: str
) -> None:
    assert "KAFKA_SSL_KEY_PASSWORD" in refusal(of_certificate(own.certificate, own.key, password))


def test_the_key_of_another_certificate_is_named(authority: Authority) -> None:
    one, other = authority.issue("one"), authority.issue("other")
    said = refusal(of_certificate(one.certificate, other.key))
    assert f"the key {other.key} is not the one of the certificate {one.certificate}" in said


@pytest.mark.parametrize("left", ["KAFKA_SSL_CERTIFICATE_LOCATION", "KAFKA_SSL_KEY_LOCATION"])
def test_a_certificate_and_a_key_go_together(own: Certificate, left: str) -> None:
    both = of_certificate(own.certificate, own.key, "very-secret")
    said = refusal({"KAFKA_SECURITY_PROTOCOL": "SSL", left: both[left]})
    assert said.startswith(f"{left} is set without KAFKA_SSL_")


def test_a_certificate_without_encryption_is_refused(own: Certificate) -> None:
    environ = of_certificate(own.certificate, own.key, "very-secret")
    said = refusal(environ | {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"})
    assert "set KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL" in said


@pytest.mark.parametrize("variable", ["KAFKA_SSL_CA_LOCATION", "KAFKA_OAUTH_CA_LOCATION"])
def test_a_ca_file_must_be_there_and_hold_certificates(variable: str, tmp_path: Path) -> None:
    gone, empty = tmp_path / "gone.pem", tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    assert refusal({variable: str(gone)}).startswith(f"{variable}={gone} cannot be used: it cannot")
    assert "no certificates in PEM format" in refusal({variable: str(empty)})


def test_a_certificate_file_that_is_gone_is_named(own: Certificate, tmp_path: Path) -> None:
    gone = tmp_path / "gone.pem"
    assert f"{gone} cannot be read: No such file" in refusal(of_certificate(gone, own.key))
