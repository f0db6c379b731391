"""The files of others that the console serves are what their authors published."""

import hashlib
from collections.abc import Mapping

import pytest

from streams.console.server import static_files

# Of the package htmx.org 2.0.10, unchanged. A new version gets a new name.
VENDORED = {
    "htmx-2.0.10.min.js": "71ea67185bfa8c98c39d31717c6fce5d852370fcdfd129db4543774d3145c0de",
}
LICENSES = {
    "htmx-2.0.10.LICENSE.txt": "Zero-Clause BSD",
}

FILES: Mapping[str, bytes] = static_files()


@pytest.mark.parametrize(("name", "digest"), VENDORED.items())
def test_a_vendored_file_is_unchanged(name: str, digest: str) -> None:
    assert hashlib.sha256(FILES[name]).hexdigest() == digest


@pytest.mark.parametrize(("name", "title"), LICENSES.items())
def test_its_licence_lies_beside_it(name: str, title: str) -> None:
    assert title in FILES[name].decode()


def test_no_file_of_others_is_without_a_hash() -> None:
    own = {name for name in FILES if "-" not in name}
    assert set(FILES) - own == {*VENDORED, *LICENSES}
