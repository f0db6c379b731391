"""The statements that look up a batch stay within Salesforce's limits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.salesforce.policy import Policy
from connectors.salesforce.queries import MAX_LOOKUP_STATEMENT, lookup, soql_text
from tests.support.plain_org import schemas


@given(
    st.lists(
        st.tuples(
            st.text(min_size=1, max_size=200),
            st.lists(st.text(min_size=1, max_size=60), max_size=6),
        ),
        max_size=200,
    ),
    st.integers(3_000, 20_000),
)
@settings(max_examples=60)
def test_statements_stay_under_the_limit_and_contain_every_contact_that_was_taken(
    people: list[tuple[str, list[str]]], limit: int
) -> None:
    shapes = schemas(Policy())
    found = lookup(people, shapes["Contact"], shapes["Lead"], limit)
    assert len(found.statements) <= 4
    for sobject in shapes:
        text = " ".join(statement for name, statement in found.statements if name == sobject)
        for key, addresses in people[: found.taken]:
            assert all(soql_text(value) in text for value in (key, *addresses))
    assert all(len(statement) <= limit for _, statement in found.statements)
    assert found.taken == len(people) or len(found.statements) == 4


def test_a_batch_of_six_hundred_people_with_long_keys_fits_into_one_lookup() -> None:
    people = [
        (f"{'g' * 36}/{'c' * 140}{number:04d}", (f"person.number{number}@company{number}.example",))
        for number in range(1000)
    ]
    shapes = schemas(Policy())
    found = lookup(people, shapes["Contact"], shapes["Lead"])
    assert found.taken >= 600
    assert max(len(statement) for _, statement in found.statements) <= MAX_LOOKUP_STATEMENT


@pytest.mark.parametrize(
    ("text", "literal"), [("O'Neil\\", r"'O\'Neil\\'"), ("a\nb", r"'a\nb'"), ("50%_", "'50%_'")]
)
def test_text_is_quoted_for_soql(text: str, literal: str) -> None:
    assert soql_text(text) == literal
