"""The authorities that the clients of both services trust."""

import ssl

from connectors.tls import trusted_authorities


def test_a_certificate_and_its_host_name_are_checked() -> None:
    trusted = trusted_authorities()
    assert (trusted.verify_mode, trusted.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert trusted.cert_store_stats()["x509_ca"] > 0


def test_the_authorities_are_read_once_for_all_clients() -> None:
    assert trusted_authorities() is trusted_authorities()
