"""What is wrong with the PEM files of certificates and keys that settings name."""

import ssl


def ca_fault(path: str) -> str:
    """Why a file of CA certificates cannot be used; empty if it can. Reads the file."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return "it holds no certificates in PEM format"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return ""


def certificate_fault(certificate: str, key: str, key_password: str) -> str:
    """Why a certificate cannot be used with its key; empty if it can. Reads both files."""
    for path in (certificate, key):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
    try:
        # The password is always given. Without one, OpenSSL would ask for it on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            certificate, key, lambda: key_password
        )
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"the key {key} is not the one of the certificate {certificate}"
        return (
            f"{certificate} and {key} are not a certificate and its key in PEM format, or "
            "KAFKA_SSL_KEY_PASSWORD is not the password of the key"
        )
    return ""
