"""What the text behind `contactstream explain` names."""

import pytest

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
    asked = parse_question("ada@acme.example")
    assert asked.may_mention(b'{"emails":[{"email":"ADA@Acme.example"}]}')
    assert asked.may_mention(b'{"emails":[{"email":"\\u0061da@acme.example"}]}')
    assert not asked.may_mention(b'{"emails":[{"email":"bob@acme.example"}]}')
    assert not asked.may_mention(None)
