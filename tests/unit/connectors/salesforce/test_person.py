"""The record key of a contact."""

import pytest

from connectors.salesforce.person import record_key


@pytest.mark.parametrize(
    "key", ["g/" + "x" * 300, "g/ends with a blank ", "g/tab\t", "g/" + "😀" * 200, "g/\ud800"]
)
def test_a_key_that_salesforce_would_change_is_hashed_and_keeps_its_grant(key: str) -> None:
    held = record_key(key)
    assert len(held) <= 255
    assert held.startswith("g/sha256:")
    assert held == record_key(key) != record_key(key + "y")
