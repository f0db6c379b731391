"""What arrives at the webhook's URL: the challenge, the signature over the raw bytes, and the bounded inflation of a body."""

import hashlib
import hmac
import re
import zlib
from collections.abc import Sequence

from connectors.nylas.errors import NylasError

MOCK_SECRET = "mock-webhook-secret"  # noqa: S105  public: `POST /v3/webhooks/send-test-event` signs with it
LONGEST_CHALLENGE = 512  # characters; Nylas sends some thirty, and what is echoed is anybody's
BIGGEST_RATIO = 200  # JSON of contacts inflates tenfold; gzip's own limit is about 1,000


class UnsupportedEncoding(NylasError):
    """A Content-Encoding that Nylas does not use."""


class BodyTooLarge(NylasError):
    """A body that is longer than the bound, or becomes so when inflated."""


class BadCompression(NylasError):
    """A gzip body that is damaged, cut off, or followed by something."""


def challenge_answer(challenge: str | None) -> str | None:
    """The text to answer with, or None if there is no challenge worth answering."""
    return challenge if challenge and len(challenge) <= LONGEST_CHALLENGE else None


_SIGNATURE = re.compile(r"\s*(?:sha256=)?([0-9a-fA-F]{64})\s*", re.ASCII)


def signature_matches(secrets: Sequence[str], raw: bytes, header: str | None) -> bool:
    """Whether one of the secrets signed exactly these bytes (HMAC-SHA256, hex), compressed as they came.

    Accepts what Nylas' own tools accept: spaces around, capitals, a `sha256=` before (nylas/cli, signature.go). Never raises.
    """
    found = _SIGNATURE.fullmatch(header or "")
    if found is None:
        return False
    given = found[1].lower().encode()
    matches = [
        hmac.compare_digest(hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest().encode(), given)
        for secret in secrets
        if secret
    ]
    return any(matches)


def inflate(raw: bytes, encoding: str | None, limit: int) -> bytes:
    """The body itself. Call it after the signature was verified: only what Nylas signed is inflated.

    Raises UnsupportedEncoding, BodyTooLarge (more than `limit` bytes, or a ratio that no contact has), BadCompression.
    """
    name = (encoding or "").strip().lower()
    if name in ("", "identity"):
        if len(raw) > limit:
            raise BodyTooLarge(f"more than {limit} bytes")
        return raw
    if name not in ("gzip", "x-gzip"):
        raise UnsupportedEncoding("the Content-Encoding is not gzip")
    most = min(limit, max(4096, len(raw) * BIGGEST_RATIO))
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        body = inflater.decompress(raw, most + 1)
    except zlib.error:
        raise BadCompression("the gzip stream is damaged") from None
    if len(body) > most:
        raise BodyTooLarge(f"inflates to more than {most} bytes")
    if not inflater.eof:
        raise BadCompression("the gzip stream is cut off")
    if inflater.unused_data:
        raise BadCompression("something follows the gzip stream")
    return body
