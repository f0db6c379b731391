"""The record key of a contact, and the name by which it is compared."""

from typing import Any

import pytest

from connectors.salesforce.names import NameComparison, PersonName, compare_names
from connectors.salesforce.person import person, record_key
from connectors.salesforce.routing import Addresses, Route


@pytest.mark.parametrize(
    "key", ["g/" + "x" * 300, "g/ends with a blank ", "g/tab\t", "g/" + "😀" * 200, "g/\ud800"]
)
def test_a_key_that_salesforce_would_change_is_hashed_and_keeps_its_grant(key: str) -> None:
    held = record_key(key)
    assert len(held) <= 255
    assert held.startswith("g/sha256:")
    assert held == record_key(key) != record_key(key + "y")


def name_of(*addresses: str, **contact: Any) -> PersonName:
    found_by = Addresses(addresses, None, present=True)
    return person("g/1", 1, contact, found_by, Route("Lead")).name


def test_a_nickname_is_another_first_name_and_a_suffix_a_part_of_the_last_one() -> None:
    john = name_of(given_name="Francisco", surname="Smith", nickname="Paco", suffix="Jr.")
    for first, last, expected in [
        ("Francisco", "Smith Jr", NameComparison.SAME),
        ("Paco", "Smith", NameComparison.COMPATIBLE),
        ("Paco", "Smith Sr.", NameComparison.CONTRADICTS),
        ("Pepe", "Smith", NameComparison.CONTRADICTS),
    ]:
        assert compare_names(john, PersonName(first, last)) is expected


def test_a_last_name_that_was_made_of_the_address_is_no_name() -> None:
    assert name_of("ada@acme.example", surname="ada").last is None
    assert name_of("ada@acme.example", surname="Ada").last == "Ada"
    assert name_of("ada@acme.example", given_name="Zoe", surname="ada").last == "ada"


@pytest.mark.parametrize("odd", [None, 7, [], {}, " ", "\x00", "\ud800"])
def test_odd_values_are_no_name(odd: object) -> None:
    name = name_of(given_name=odd, surname=odd, nickname=odd, suffix=odd, company_name=odd)
    assert compare_names(name, PersonName("Ada", "Lovelace")) in {
        NameComparison.UNKNOWN,
        NameComparison.CONTRADICTS,
    }
