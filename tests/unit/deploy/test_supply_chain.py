"""What may be installed and what stays out of the image, decided over plain data."""

from pathlib import Path

import pytest

from deploy.image.trim import remove, unused_files
from deploy.supply_chain.licences import is_allowed, problems

ALLOWED = ["MIT", "Apache-2.0"]
RULES = {"allowed": ALLOWED, "exceptions": {"odd": {"found": "MPL-2.0", "reason": "unchanged"}}}


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", True),
        ("MIT AND Apache-2.0", True),
        ("MIT AND GPL-3.0", False),
        ("GPL-3.0 OR MIT", True),
        ("GPL-3.0 OR MIT AND LGPL-3.0", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False),  # a person reads it
        ("", False),
    ],
)
def test_a_licence_is_allowed_by_what_it_binds_to(licence: str, expected: bool) -> None:
    assert is_allowed(licence, ALLOWED) is expected


def test_nothing_is_said_of_agreed_licences() -> None:
    assert problems({"good": "MIT", "odd": "MPL-2.0"}, RULES) == []


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ({"new": "GPL-3.0", "odd": "MPL-2.0"}, "new: GPL-3.0 is not in licences.toml"),
        ({"new": "", "odd": "MPL-2.0"}, "new: no licence stated is not in licences.toml"),
        ({"odd": "GPL-3.0"}, "odd: its exception is for MPL-2.0, and it is GPL-3.0 now"),
        ({"odd": "MIT"}, "odd: MIT is allowed; remove its exception"),
        ({}, "odd: not installed any more; remove its exception"),
    ],
)
def test_a_licence_that_nobody_agreed_to_is_named(found: dict[str, str], line: str) -> None:
    assert problems(found, RULES) == [line]


def test_the_image_is_rid_of_what_no_process_reads(tmp_path: Path) -> None:
    kept = ["package/module.py", "package/fast.so", "package/data.json", "package/testing.py"]
    gone = ["package/fast.c", "package/fast.pyx", "package/module.pyi", "package/tests/test_it.py"]
    for name in kept + gone:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    remove(unused_files(tmp_path))
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)
