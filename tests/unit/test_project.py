"""Rules for the whole repository: its layout, its lock, its import rules, and its wheel."""

import os
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

pytestmark = pytest.mark.slow

FOLDERS = {"connectors", "streams", "tests", "deploy"}
FILES = {"pyproject.toml", "README.md", "Makefile"}

# Written in parts, so that this file does not contain them. Each machine has a setting for where
# packages come from.
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
            "not a clone: without git, the project's files cannot be told from others in the folder"
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


def test_the_top_level_has_only_the_known_files_and_folders() -> None:
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


def test_no_file_names_a_folder_of_a_developers_machine() -> None:
    assert {
        name: found[0]
        for name, text in text_files().items()
        if (found := DEVELOPERS_FOLDER.search(text))
    } == {}


def test_no_code_reads_offsets_by_the_calls_that_crash() -> None:
    # AdminClient ends the process: with SIGSEGV while the group's coordinator moves or starts
    # (librdkafka issue 5040), with SIGABRT when a broker dies under the request for a partition's
    # offsets.
    call = re.compile(r"\.list_(consumer_group_)?offsets\(")
    assert [name for name, text in text_files().items() if call.search(text)] == []


MAX_COLUMNS = 100
# ruff checks the lines of Python (E501).
PLAIN_TEXT = (".md", ".toml", ".yaml", ".yml", ".sh")
PLAIN_FILES = ("Makefile", ".ci/run")


def test_no_line_is_longer_than_a_hundred_columns() -> None:
    long = [
        f"{name}:{number}"
        for name, text in text_files().items()
        if name.endswith(PLAIN_TEXT) or name in PLAIN_FILES
        for number, line in enumerate(text.splitlines(), 1)
        # A row of a Markdown table cannot be wrapped.
        if len(line.expandtabs(4)) > MAX_COLUMNS and not line.startswith("|")
    ]
    assert long == []


def test_the_unit_tests_mirror_the_source_tree() -> None:
    sources = {str(Path(name).parent) for name in tracked() if not name.startswith("tests/")}
    # The helpers of the tests have unit tests too.
    sources |= {"", "support"}
    folders = {
        str(Path(name).parent.relative_to("tests/unit")).removeprefix(".")
        for name in tracked()
        if name.startswith("tests/unit/") and name.endswith(".py")
    }
    # A folder of deploy has one test file for each of its parts.
    packages = {folder for folder in folders if folder != "deploy"}
    assert packages - sources == set()


def test_a_function_that_branches_too_often_is_refused_outside_of_the_simulators() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "C90" in settings["select"]
    assert settings["mccabe"]["max-complexity"] == 15
    spared = [path for path, rules in settings["per-file-ignores"].items() if "C901" in rules]
    assert spared == ["connectors/*/simulator/*.py"]


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


def import_check(folder: Path, *options: str | Path) -> "subprocess.CompletedProcess[str]":
    """The result of the import check of the project in this folder."""
    return subprocess.run(
        [Path(sysconfig.get_path("scripts"), "lint-imports"), *options],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},  # else it wraps the names of the contracts
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_import_rules_hold(tmp_path: Path) -> None:
    checked = import_check(ROOT, "--cache-dir", tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


BREACHES = {
    "connectors never import streams": ("connectors", "streams.events"),
    "Nylas and Salesforce do not know each other": (
        "connectors.nylas.model",
        "connectors.salesforce.emails",
    ),
    "the Nylas simulator does not import the client that it tests": (
        "connectors.nylas.simulator.people",
        "connectors.nylas.errors",
    ),
    "the Nylas client does not import the simulator": (
        "connectors.nylas.errors",
        "connectors.nylas.simulator.providers",
    ),
    "the Salesforce simulator does not import the client that it tests": (
        "connectors.salesforce.simulator.settings",
        "connectors.salesforce.api.errors",
    ),
    "the Salesforce client does not import the simulator": (
        "connectors.salesforce.emails",
        "connectors.salesforce.simulator.settings",
    ),
    "no stage and no other command imports a simulator": (
        "streams.org",
        "connectors.salesforce.simulator.settings",
    ),
    "Salesforce's REST API knows nothing of contacts": (
        "connectors.salesforce.api.budget",
        "connectors.salesforce.outcome",
    ),
    "only Salesforce's REST API sends requests to Salesforce": (
        "connectors.salesforce.writer",
        "httpx",
    ),
    "decisions about records of Salesforce need no network": (
        "connectors.salesforce.merge",
        "asyncio",
    ),
    "only the Nylas client and its SDK send requests to Nylas": (
        "connectors.nylas.webhook",
        "httpx",
    ),
    "decisions of the stages need no network": ("streams.bridge.decision", "aiohttp"),
    "only the demo needs what is not in the wheel": ("streams.topics", "deploy"),
    "the layers of streams": ("streams.runtime.logs", "streams.bridge.decision"),
}
"""By contract, a module and what it must not import."""


@pytest.fixture(scope="module")
def breached(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The output of the import check of a copy of the project that breaks every contract once."""
    copy = tmp_path_factory.mktemp("breached")
    for package in ("connectors", "streams"):
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", copy)
    for module, imported in BREACHES.values():
        path = copy / module.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        with file.open("a") as source:
            source.write(f"\nimport {imported}\n")
    checked = import_check(copy, "--no-cache")
    assert checked.returncode != 0
    return checked.stdout


def test_every_import_rule_has_a_breach() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    assert [each["name"] for each in contracts] == list(BREACHES)


@pytest.mark.parametrize("contract", BREACHES)
def test_the_import_check_sees_a_breach(breached: str, contract: str) -> None:
    module, imported = BREACHES[contract]
    assert f"{contract} BROKEN" in breached
    # After the summary comes a section for each broken contract, under its underlined name.
    _, _, section = breached.partition(f"\n{contract}\n---")
    assert f"{module} -> {imported}" in section, section[:2000]


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
    console = site / "streams" / "console"
    for kind in ("templates", "static"):  # no module, and needed all the same
        ours = ROOT / "streams" / "console" / kind
        assert {each.name for each in (console / kind).iterdir()} == {
            each.name for each in ours.iterdir()
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
