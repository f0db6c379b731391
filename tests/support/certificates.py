"""Certificates for a test: a CA, and certificates that it signs for servers and clients."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Longer than any test takes.
VALID = datetime.timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Certificate:
    """The PEM files of a certificate and of its key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority whose files are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA of a test")])
        certificate = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.file = folder / "ca.pem"
        """The PEM file of its own certificate."""
        self.file.write_bytes(_pem(certificate.sign(self._key, hashes.SHA256())))

    def issue(
        self, name: str, *, stem: str = "", key_password: str = "", hosts: Sequence[str] = ()
    ) -> Certificate:
        """A certificate for both ends of a connection, with 127.0.0.1 and localhost in it.

        `stem` is that of the files; the name's own when it is empty. `hosts` are further names.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [
            *(x509.DNSName(host) for host in ("localhost", *hosts)),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        signed = (
            self._builder(subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = Certificate(
            self._folder / f"{stem or name}.crt.pem", self._folder / f"{stem or name}.key.pem"
        )
        files.certificate.write_bytes(_pem(signed))
        files.key.write_bytes(_key_pem(key, key_password))
        return files

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            # The clock of a container may be a little behind.
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + VALID)
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey, password: str) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
