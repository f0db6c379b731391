import gzip
import hashlib
import hmac
import zlib
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.nylas.errors import UnreadableBody, UnsupportedEncoding
from connectors.nylas.webhook import (
    LARGEST_NOTIFICATION,
    LARGEST_RATIO,
    LONGEST_CHALLENGE,
    challenge,
    inflate,
    signature_matches,
    usable_secrets,
)

LIMIT = 2 * 1024 * 1024
SECRET = b"41dD3-nXTUfebYuk81Gr"


def signed(body: bytes, secret: bytes = SECRET) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100))
def test_the_challenge_is_echoed_exactly_however_it_was_encoded(value: str) -> None:
    for encode in (quote_plus, lambda text: quote(text, safe="")):
        assert challenge(f"challenge={encode(value)}") == value.encode()
        assert challenge(f"other=1&challenge={encode(value)}&more=2") == value.encode()


@pytest.mark.parametrize(
    "query",
    ["", "challenge", "challenge=", "Challenge=a", "other=challenge", "challenge=" + "a" * 513],
)
def test_no_challenge_and_a_long_one_are_not_echoed(query: str) -> None:
    assert challenge(query) is None


def test_the_longest_challenge_is_echoed() -> None:
    assert challenge("challenge=" + "%61" * LONGEST_CHALLENGE) == b"a" * LONGEST_CHALLENGE


@given(st.text(st.characters()))
def test_any_query_is_answered_or_not(query: str) -> None:
    challenge(query)
    challenge("challenge=" + query)


@given(
    st.binary(max_size=300),
    st.sampled_from(["{}", " {}\t", "sha256={}", " sha256={} "]),
    st.booleans(),
)
def test_a_true_signature_matches_in_every_form_that_nylas_tools_accept(
    body: bytes, form: str, upper: bool
) -> None:
    header = form.format(signed(body))
    assert signature_matches([SECRET], body, header.upper() if upper else header)


@given(st.binary(max_size=300), st.text(st.characters()) | st.binary(max_size=40).map(bytes.hex))
def test_no_other_header_matches(body: bytes, header: str) -> None:
    if header.strip().lower().removeprefix("sha256=") != signed(body):
        assert not signature_matches([SECRET], body, header)


@pytest.mark.parametrize(
    "header",
    [None, "", "sha256=", "ü" * 64, "0" * 63, "0" * 65, "sha256=sha256=" + "0" * 64, "٠" * 64],
)
def test_odd_headers_are_refused_without_an_exception(header: str | None) -> None:
    assert not signature_matches([SECRET], b"body", header)


@given(st.binary(min_size=1, max_size=100), st.integers(0, 99), st.integers(1, 255))
def test_one_changed_byte_breaks_the_signature(body: bytes, position: int, change: int) -> None:
    changed = bytearray(body)
    changed[position % len(body)] ^= change
    assert not signature_matches([SECRET], bytes(changed), signed(body))


def test_old_and_new_secret_match_while_a_secret_is_rotated() -> None:
    for secret in (b"new", b"old"):
        assert signature_matches([b"new", b"old"], b"body", signed(b"body", secret))
    assert not signature_matches([b"new", b"old"], b"body", signed(b"body", b"another"))
    assert not signature_matches([], b"body", signed(b"body", b""))


def test_the_public_mock_secret_is_refused_unless_test_events_are_accepted() -> None:
    given_secrets = ["real", "mock-webhook-secret", "", " "]
    assert usable_secrets(given_secrets, accept_test_events=False) == (b"real",)
    assert usable_secrets(given_secrets, accept_test_events=True) == (
        b"real",
        b"mock-webhook-secret",
    )
    assert usable_secrets([], accept_test_events=False) == ()


def test_the_signature_covers_the_compressed_bytes() -> None:
    body = b'{"type":"contact.updated"}'
    raw = gzip.compress(body, mtime=0)
    assert signature_matches([SECRET], raw, signed(raw))
    assert not signature_matches([SECRET], body, signed(raw))
    assert inflate(raw, "gzip", LIMIT) == body


@given(st.binary(max_size=5000), st.sampled_from(["gzip", "GZIP", " x-gzip "]), st.integers(0, 9))
def test_gzip_is_inflated(body: bytes, encoding: str, level: int) -> None:
    assert inflate(gzip.compress(body, level, mtime=0), encoding, LIMIT) == body


@pytest.mark.parametrize("encoding", [None, "", "identity", "Identity"])
def test_a_body_without_an_encoding_is_left_alone(encoding: str | None) -> None:
    assert inflate(b"body", encoding, LIMIT) == b"body"


@pytest.mark.parametrize(
    "encoding", ["br", "deflate", "zstd", "gzip, gzip", "gzip,identity", "ü", "*"]
)
def test_other_encodings_are_unsupported(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding):
        inflate(gzip.compress(b"body", mtime=0), encoding, LIMIT)


@given(st.binary(max_size=500), st.data())
def test_gzip_cut_short_is_unreadable(body: bytes, data: st.DataObject) -> None:
    raw = gzip.compress(body, mtime=0)
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(UnreadableBody, match="bad_gzip"):
        inflate(raw[:cut], "gzip", LIMIT)


@pytest.mark.parametrize(
    "raw",
    [
        gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0),
        gzip.compress(b"a", mtime=0) + b"trailing",
        zlib.compress(b"a"),
        b"plain",
        gzip.compress(b"a" * 50, mtime=0)[:-8] + bytes(8),
    ],
)
def test_gzip_that_is_not_one_whole_member_is_unreadable(raw: bytes) -> None:
    with pytest.raises(UnreadableBody, match="bad_gzip"):
        inflate(raw, "gzip", LIMIT)


def test_inflation_stops_at_the_limit() -> None:
    assert inflate(gzip.compress(bytes(1000), mtime=0), "gzip", 1000) == bytes(1000)
    with pytest.raises(UnreadableBody, match="inflates_too_large"):
        inflate(gzip.compress(bytes(1001), mtime=0), "gzip", 1000)


def test_a_megabyte_of_one_character_is_a_notification_and_more_of_it_is_not() -> None:
    assert (
        len(inflate(gzip.compress(bytes(LARGEST_NOTIFICATION), mtime=0), "gzip", LIMIT))
        == LARGEST_NOTIFICATION
    )
    with pytest.raises(UnreadableBody, match="inflates_too_large"):
        inflate(gzip.compress(bytes(LARGEST_NOTIFICATION + 1), mtime=0), "gzip", LIMIT)
    assert (
        LARGEST_NOTIFICATION / len(gzip.compress(bytes(LARGEST_NOTIFICATION), mtime=0))
        > LARGEST_RATIO
    )


@given(
    st.binary(max_size=300), st.sampled_from([None, "gzip", "identity", "br"]), st.integers(0, 400)
)
def test_any_bytes_are_inflated_within_the_limit_or_refused(
    raw: bytes, encoding: str | None, limit: int
) -> None:
    try:
        body = inflate(raw, encoding, limit)
    except (UnreadableBody, UnsupportedEncoding):
        return
    assert len(body) <= max(limit, len(raw))
