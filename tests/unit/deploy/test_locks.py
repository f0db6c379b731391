"""The image gets what was tested: its locks are parts of the lock of everything."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

EVERYTHING = ROOT / "deploy" / "requirements.lock"
RUNTIME = ROOT / "deploy" / "runtime.lock"
BUILD = ROOT / "deploy" / "image" / "build.lock"


def locked(lock: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """By package, its version with the condition for it, and its hashes."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for block in re.split(r"\n(?=\w)", lock.read_text()):
        requirement = Requirement(block.partition("\\")[0].strip())
        hashes = frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", block))
        assert hashes, f"{lock.name}: {requirement.name} has no hash"
        version = f"{requirement.specifier}; {requirement.marker}"
        found[canonicalize_name(requirement.name)] = (version, hashes)
    return found


@pytest.mark.parametrize("lock", [RUNTIME, BUILD], ids=lambda lock: lock.name)
def test_what_the_image_installs_is_what_was_tested(lock: Path) -> None:
    tested = locked(EVERYTHING)
    assert {
        name: (pin[0], tested.get(name, ("nothing",))[0])
        for name, pin in locked(lock).items()
        if tested.get(name) != pin
    } == {}, "run: make lock"


def test_the_image_has_every_dependency_and_the_packages_of_traces() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["traces"]
    missing = {canonicalize_name(Requirement(text).name) for text in asked} - set(locked(RUNTIME))
    assert missing == set(), "run: make lock"


def test_the_image_has_no_tool_of_developers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    used = {
        Requirement(text).name
        for text in project["project"]["dependencies"]
        + project["project"]["optional-dependencies"]["traces"]
    }
    tools = {Requirement(text).name for text in project["dependency-groups"]["dev"]} - used
    assert tools & set(locked(RUNTIME)) <= {"packaging"}  # a dependency of marshmallow, under nylas


def test_the_image_builds_the_package_with_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["dependency-groups"]["build"] == project["build-system"]["requires"]
