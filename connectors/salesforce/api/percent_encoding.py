"""Percent-encodes long texts for URLs, much faster than urllib's `quote`, with the same result."""

from string import ascii_letters, digits

# RFC 3986, section 2.3: what stands for itself in every part of a URL.
_UNRESERVED = f"{ascii_letters}{digits}-._~".encode()
_PERCENT = ord("%")


def percent_encoded(text: str) -> str:
    """The text as a URL holds it: as UTF-8, with only unreserved characters as they are.

    A lone surrogate becomes a question mark. The text is gone through once for each sign that is in
    it, which is faster than a step for each character: a statement of 95,000 has a dozen signs.
    """
    encoded = text.encode(errors="replace")
    signs = set(encoded.translate(None, _UNRESERVED))
    # That of the codes comes first: it must not be encoded twice.
    for sign in sorted(signs, key=lambda byte: byte != _PERCENT):
        encoded = encoded.replace(bytes((sign,)), b"%%%02X" % sign)
    return encoded.decode("ascii")
