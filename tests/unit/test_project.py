"""What holds for the repository as a whole: its shape, its lock, who imports whom, and the package
built from it.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.paths import ROOT

FOLDERS = {"connectors", "streams", "tests", "deploy"}
FILES = {"pyproject.toml", "README.md", "Makefile"}

# Written in parts, so that this file does not hold them either. Where packages come from is every
# reader's own setting.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("python" + "hosted", "org"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
        ("npmjs", "org"),
        ("repo", "maven", "apache", "org"),
        ("repo1", "maven", "org"),
        ("deb", "debian", "org"),
        ("archive", "ubuntu", "com"),
    )
]
DEVELOPERS_FOLDER = re.compile(r"(?<![\w.])/(?:root|home/\w+|Users/\w+|work)/\w")


def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip(
            "an unpacked copy, not a clone: git alone tells the project's files from what lies beside them"
        )
    git = shutil.which("git")
    assert git, "this is a clone, and git is not installed"
    listed = subprocess.run(
        [git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def text_files() -> dict[str, str]:
    found = {}
    for name in tracked():
        try:
            found[name] = (ROOT / name).read_text()
        except UnicodeDecodeError:  # a picture
            continue
    return found


def test_the_top_level_holds_only_what_was_agreed() -> None:
    names = [Path(name).parts for name in tracked()]
    folders = {parts[0] for parts in names if len(parts) > 1 and not parts[0].startswith(".")}
    files = {parts[0] for parts in names if len(parts) == 1 and not parts[0].startswith(".")}
    assert folders <= FOLDERS
    assert files <= FILES


def test_no_file_names_a_package_registry() -> None:
    pattern = re.compile("|".join(map(re.escape, REGISTRIES)))
    assert {
        name: found[0] for name, text in text_files().items() if (found := pattern.search(text))
    } == {}


def test_no_file_names_a_folder_of_the_machine_that_it_was_written_on() -> None:
    assert {
        name: found[0]
        for name, text in text_files().items()
        if (found := DEVELOPERS_FOLDER.search(text))
    } == {}


def test_nobody_asks_for_offsets_by_the_calls_that_crash() -> None:
    # AdminClient ends the process: with SIGSEGV while the group's coordinator moves or starts
    # (librdkafka issue 5040), with SIGABRT when a broker dies under the request for a partition's
    # offsets.
    call = re.compile(r"\.list_(consumer_group_)?offsets\(")
    assert [name for name, text in text_files().items() if call.search(text)] == []


def test_the_lock_pins_and_hashes_everything_that_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [
        Requirement(text)
        for text in project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    ]
    blocks = re.split(
        r"\n(?=[a-z0-9])", (ROOT / "deploy" / "requirements.lock").read_text(), flags=re.IGNORECASE
    )
    locked: dict[str, list[Version]] = {}
    for block in blocks:
        name, _, version = re.split(r"[\s;\\]", block, maxsplit=1)[0].partition("==")
        locked.setdefault(canonicalize_name(name.partition("[")[0]), []).append(Version(version))
        assert "--hash=sha256:" in block, f"{name} has no hash"
    for requirement in asked:
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement.name} is not in deploy/requirements.lock: make lock"
        assert all(each in requirement.specifier for each in versions), f"{requirement}: make lock"


def test_connectors_never_import_streams_and_the_other_import_rules_hold(tmp_path: Path) -> None:
    checked = subprocess.run(
        [Path(sysconfig.get_path("scripts"), "lint-imports"), "--cache-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_import_check_would_see_a_breach(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "connectors", tmp_path / "connectors", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(
        ROOT / "streams", tmp_path / "streams", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "connectors" / "__init__.py").open("a") as file:
        file.write("import streams.events\n")
    checked = subprocess.run(
        [Path(sysconfig.get_path("scripts"), "lint-imports"), "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert checked.returncode != 0
    assert "connectors never import streams BROKEN" in checked.stdout


def test_the_wheel_installs_in_a_clean_environment_and_its_command_answers(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (wheel,) = tmp_path.glob("*.whl")
    clean = tmp_path / "clean"
    venv.create(clean, symlinks=True)
    python = clean / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True, timeout=60)
    (site,) = clean.glob("lib/python*/site-packages")
    assert {
        each.name for each in site.iterdir() if each.is_dir() and "dist-info" not in each.name
    } == {
        "streams",
        "connectors",
    }
    # The dependencies are borrowed, not installed again. A path file is not read for path files in
    # turn: the checkout stays out.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    asked = subprocess.run(
        [clean / "bin" / "contactstream", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert asked.returncode == 0, asked.stderr
    assert "Usage: contactstream" in asked.stdout
    where = subprocess.run(
        [python, "-c", "import streams; print(streams.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(site)
