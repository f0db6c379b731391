"""The suppression list is written and read without revealing whom it names."""

from pathlib import Path

import pytest

from connectors.salesforce.suppression import Suppression, SuppressionError, load_suppression


def test_the_suppression_list_names_nobody_and_survives_being_written(tmp_path: Path) -> None:
    listed = Suppression().adding(["ada@acme.com"]).adding(["grant/1"])
    path = tmp_path / "suppressed.json"
    path.write_text(listed.dump())
    read = load_suppression(path)
    assert "ada@" not in path.read_text()
    assert read.holds(["bob@acme.com", "ada@acme.com"])
    assert read.holds(["grant/1"])
    assert not read.holds(["bob@acme.com"])
    assert Suppression(b"another salt", read.hashes).holds(["ada@acme.com"]) is False


def test_a_suppression_list_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SuppressionError):
        load_suppression(tmp_path / "missing.json")
