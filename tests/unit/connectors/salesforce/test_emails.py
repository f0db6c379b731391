"""Addresses in the form in which Salesforce stores them."""

import pytest

from connectors.salesforce.emails import addresses, normalise


def test_addresses_are_never_cut() -> None:
    assert normalise(f"{'x' * 60}@{'y' * 40}.example") is None


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        (" Ada@Acme.Example ", "ada@acme.example"),
        ("a+b@example.com", "a+b@example.com"),
        ("o'neil@example.com", "o'neil@example.com"),
        ("ada@mail.test", "ada@mail.test"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@localhost", None),
        ("ada", None),
        ("a", None),
        ("ädä@example.com", None),
        ("a..b@example.com", None),
        ("ada@example.com, bob@example.com", None),
        ("Ada <ada@example.com>", None),
        (f"{'x' * 65}@example.com", None),
        ("ada@exa mple.com", None),
    ],
)
def test_an_address_is_kept_as_salesforce_stores_it_or_not_sent(
    typed: str, stored: str | None
) -> None:
    assert normalise(typed) == stored


def test_addresses_keep_the_contacts_order_without_repeats() -> None:
    contact = {
        "emails": [
            {"email": "B@x.example"},
            {"email": None},
            "a@x.example",
            {"email": "b@X.example"},
            7,
        ]
    }
    assert addresses(contact) == ("b@x.example", "a@x.example")
