"""Statements are encoded as urllib encodes them, whatever is in them."""

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.api.percent_encoding import percent_encoded


@given(st.text())
def test_a_text_is_encoded_as_urllib_does_it(text: str) -> None:
    assert percent_encoded(text) == quote(text, safe="", errors="replace")


def test_a_code_is_not_encoded_twice() -> None:
    assert percent_encoded("100%25 o'hara") == "100%2525%20o%27hara"
