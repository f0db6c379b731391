"""The webhook protocol of Nylas: challenge, signature, and bounded inflation."""

import hmac
import zlib
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from connectors.nylas.errors import UnreadableBody, UnsupportedEncoding

LONGEST_CHALLENGE = 512
"""Bytes. Anybody may ask for an echo, so it is short; Nylas' own values have a few dozen."""

MOCK_SECRET = b"mock-webhook-secret"
"""Public: what `POST /v3/webhooks/send-test-event` signs with (Nylas' OpenAPI description)."""

LARGEST_NOTIFICATION = 1_100_000
"""Bytes. Nylas documents 1 MB for a notification, which may be one character repeated; more has to
look like text.
"""

LARGEST_RATIO = 100
"""Of the inflated size to the compressed, beyond `LARGEST_NOTIFICATION`: JSON reaches 20, gzip
itself 1,032.
"""


def challenge(query: str) -> bytes | None:
    """The bytes to echo for a query string with a challenge, percent-decoded.

    None where there is no challenge, or one that is empty or too long.

    Needs no secret: Nylas asks before it tells the secret.
    """
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name == "challenge":
            decoded = unquote_to_bytes(value.replace("+", " ").encode(errors="replace"))
            return decoded if 0 < len(decoded) <= LONGEST_CHALLENGE else None
    return None


def usable_secrets(secrets: Sequence[str], *, accept_test_events: bool) -> tuple[bytes, ...]:
    """The secrets to verify with.

    The public mock secret is among them only when test events are to be accepted.
    """
    configured = [secret.strip().encode() for secret in secrets]
    usable = [secret for secret in configured if secret and secret != MOCK_SECRET]
    return (*usable, MOCK_SECRET) if accept_test_events else tuple(usable)


def signature_matches(secrets: Sequence[bytes], raw: bytes, header: str | None) -> bool:
    """Whether X-Nylas-Signature is the HMAC-SHA256 of the raw body with any of the secrets.

    The raw body is the one on the wire, still compressed.

    As Nylas' own verifiers: surrounding blanks, upper-case digits and a `sha256=` prefix are
    accepted. Constant time for each secret, and every secret is tried.
    """
    if header is None:
        return False
    given = header.strip().lower().removeprefix("sha256=")
    if (
        not given.isascii()
    ):  # compare_digest raises TypeError for it, which would be anybody's way to a 503
        return False
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(hmac.digest(secret, raw, "sha256").hex(), given)
    return found


def inflate(raw: bytes, encoding: str | None, limit: int) -> bytes:
    """The body without its Content-Encoding, of at most `limit` bytes. Verify the signature first.

    Raises UnsupportedEncoding, and UnreadableBody for gzip that is broken, cut short, of several
    members, or inflates too large.
    """
    name = (encoding or "").strip().lower()
    if name in ("", "identity"):
        return raw
    if name not in ("gzip", "x-gzip"):
        raise UnsupportedEncoding(name)
    allowed = min(limit, max(LARGEST_NOTIFICATION, LARGEST_RATIO * len(raw)))
    stream = zlib.decompressobj(wbits=31)
    try:
        body = stream.decompress(raw, allowed + 1)
    except zlib.error as error:
        raise UnreadableBody("bad_gzip", str(error)) from None
    if len(body) > allowed:
        raise UnreadableBody("inflates_too_large")
    if not stream.eof:
        raise UnreadableBody("bad_gzip", "cut short")
    if stream.unused_data:
        raise UnreadableBody("bad_gzip", "more than one member")
    return body
