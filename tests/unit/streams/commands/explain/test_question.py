"""What the text behind `contactstream explain` names."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from connectors.salesforce.emails import addresses, normalise
from streams.commands.explain.question import (
    Question,
    Subject,
    UnusableQuestion,
    parse_question,
)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("grant-1/contact-1", Question(Subject.CONTACT, "grant-1/contact-1")),
        ("grant-1/a@b.example", Question(Subject.CONTACT, "grant-1/a@b.example")),
        (" Ada@Acme.example ", Question(Subject.ADDRESS, "ada@acme.example")),
        ("00Q5g00000ABCDEFGH", Question(Subject.RECORD, "00Q5g00000ABCDE")),
        ("00Q5g00000ABCDE", Question(Subject.RECORD, "00Q5g00000ABCDE")),
    ],
)
def test_a_text_names_a_contact_an_address_or_a_record(text: str, question: Question) -> None:
    assert parse_question(text) == question


@pytest.mark.parametrize("text", ["", "ada", "grant/", "/contact", "@acme.example", "00Q5g"])
def test_another_text_is_refused_with_what_it_may_be(text: str) -> None:
    with pytest.raises(UnusableQuestion, match=r"is (no|neither)"):
        parse_question(text)


def test_an_address_is_found_in_any_spelling() -> None:
    values = [
        b'{"emails":[{"email":"ADA@Acme.example"}]}',
        b'{"emails":[{"email":"bob@acme.example"}]}',
        None,
        b'{"emails":[{"email":"\\u0061da@acme.example"}]}',
    ]
    mention = parse_question("ada@acme.example").mention()
    assert list(mention.places(values)) == [0, 3]
    assert list(mention.places(values[1:3])) == []
    assert list(mention.places([])) == []


LETTERS = "ak/`.+Z0"


@given(
    st.text(LETTERS + "\u212a\u1fef", min_size=1, max_size=6),
    st.sampled_from(["acme.example", "ACME.example", "b\u00fccher.example"]),
    st.sampled_from(["raw", "ascii", "slash"]),
)
def test_the_quick_look_never_misses_an_address_that_is_equal_when_normalised(
    local: str, domain: str, way: str
) -> None:
    typed = f"{local}@{domain}"
    address = normalise(typed)
    assume(address is not None)
    text = json.dumps({"emails": [{"email": typed}]}, ensure_ascii=way == "ascii")
    value = (text.replace("/", "\\/") if way == "slash" else text).encode()
    assert address in addresses(json.loads(value))
    assert 1 in Question(Subject.ADDRESS, address or "").mention().places([b"{}", value])
