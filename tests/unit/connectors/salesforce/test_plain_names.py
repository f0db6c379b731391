"""A plain name is parsed as every other one, only faster."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce import names
from connectors.salesforce.names import PersonName

WORDS = st.sampled_from(
    [
        "Ada",
        "LOVELACE",
        "jr",
        "III",
        "Dr",
        "phd",
        "none",
        "de",
        "a1",
        "2nd",
        "Zoë",
        "O'Hara",
        "",
        " ",
    ]
)


@given(st.one_of(WORDS, st.text(max_size=6)), st.one_of(WORDS, st.text(max_size=6)))
def test_the_shortcut_for_plain_names_changes_nothing(first: str, last: str) -> None:
    name = PersonName(first, last)
    plain = names._parsed_plain(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "_parsed_plain", lambda _name: None)
        parsed = names._parsed.__wrapped__(name)
    assert plain in (None, parsed)


def test_the_usual_name_takes_the_shortcut() -> None:
    assert names._parsed_plain(PersonName("Ada", "Lovelace")) is not None
