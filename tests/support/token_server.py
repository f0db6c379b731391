"""An OAuth server for a test: it issues signed tokens, and publishes the key that checks them."""

import base64
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.certificates import Certificate

AUDIENCE = "kafka"
ISSUER = "https://issuer.example"
SECRET = "secret-of-every-client"
# Longer than a test.
LONG_TOKEN_SECONDS = 3600.0


class TokenServer:
    """Issues tokens for every client ID with SECRET; the client ID is the token's subject.

    `lifetime` of a token is in seconds. With a certificate it speaks HTTPS. A context manager.
    """

    def __init__(
        self, certificate: Certificate | None = None, lifetime: float = LONG_TOKEN_SECONDS
    ) -> None:
        self.lifetime = lifetime
        self.issued: list[str] = []
        """The client ID of each token, in their order."""
        self.refuses = False
        """Whether requests get 503."""
        self.scopes: set[str] = set()
        """The scopes that were asked for."""
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                status, body = server.answer(
                    self.headers.get("Authorization", ""), self.rfile.read(length).decode()
                )
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.certificate, certificate.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """The token endpoint."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/token"

    def __enter__(self) -> "TokenServer":
        self._thread.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def write_keys(self, file: Path) -> None:
        """Writes the public key as a JWKS, by which a broker checks tokens."""
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        key |= {"kid": "test", "use": "sig", "alg": "RS256"}
        file.write_text(json.dumps({"keys": [key]}))

    def answer(self, authorization: str, form: str) -> tuple[int, dict[str, Any]]:
        """The status and the body for a request."""
        if self.refuses:
            return 503, {"error": "temporarily_unavailable"}
        asked = parse_qs(form)
        if asked.get("grant_type") != ["client_credentials"]:
            return 400, {"error": "unsupported_grant_type"}
        kind, _, encoded = authorization.partition(" ")
        client, _, secret = base64.b64decode(encoded).decode().partition(":")
        if kind != "Basic" or secret != SECRET:
            return 401, {"error": "invalid_client"}
        self.scopes.update(asked.get("scope", []))
        self.issued.append(client)
        return 200, {
            "access_token": self.token(client),
            "token_type": "Bearer",
            "expires_in": int(self.lifetime),
        }

    def token(self, client: str) -> str:
        """A token of a client that is valid from now on."""
        now = time.time()
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": client,
            "scope": "kafka",
            "iat": int(now),
            "exp": int(now + self.lifetime),
            "jti": str(len(self.issued)),
        }
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": "test"})
