"""The suppression list: nothing is written about a person from the moment of being listed."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.policy import Policy
from connectors.salesforce.skip_reasons import SkipReason
from connectors.salesforce.suppression import (
    FILE_CHECK_SECONDS,
    Suppression,
    SuppressionError,
    SuppressionFile,
)
from streams.cli import main
from streams.commands.suppress import NotAPerson, add, read, split
from tests.support.salesforce_org import simulated_org


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def ada(key: str = "g/ada", version: int = 100, **fields: Any) -> ContactVersion:
    return ContactVersion(
        key, version, {"surname": "Lovelace", "emails": [{"email": "Ada@Acme.example"}], **fields}
    )


def test_the_file_is_checked_once_a_second_and_read_again_when_it_changed(tmp_path: Path) -> None:
    path, clock = tmp_path / "list.json", Clock()
    add(path, ["bob@acme.example"])
    listed = SuppressionFile(path, clock)
    assert (listed.holds(["bob@acme.example"]), listed.holds(["ada@acme.example"])) == (True, False)
    first = listed.current()
    clock.now += FILE_CHECK_SECONDS
    assert listed.current() is first, "an unchanged file is not read again"
    add(path, ["ada@acme.example"])
    clock.now += FILE_CHECK_SECONDS / 2
    assert not listed.holds(["ada@acme.example"])
    clock.now += FILE_CHECK_SECONDS
    assert listed.holds(["ada@acme.example"])
    assert listed.holds(["bob@acme.example"])


def test_a_list_that_cannot_be_read_lets_nothing_through(tmp_path: Path) -> None:
    path, clock = tmp_path / "list.json", Clock()
    add(path, ["ada@acme.example"])
    listed = SuppressionFile(path, clock)
    assert listed.hashes
    text = path.read_text()
    for broken in ("{", None):
        path.write_text(broken) if broken else path.unlink()
        clock.now += FILE_CHECK_SECONDS
        for _ in range(2):
            with pytest.raises(SuppressionError):
                listed.holds(["somebody@else.example"])
    path.write_text(text)
    assert listed.holds(["ada@acme.example"])


async def test_a_suppressed_person_is_never_written_again(
    tmp_path: Path,
) -> None:
    path, clock = tmp_path / "list.json", Clock()
    path.write_text(Suppression().dump())
    async with simulated_org(policy=Policy(suppression=SuppressionFile(path, clock))) as org:
        assert (await org.all(ada()))["g/ada"].status is OutcomeStatus.CREATED
        (record,) = org.people()
        before = dict(record)
        plan = await org.sync.resolve([ada(version=200, job_title="Countess")])
        assert plan.rows
        add(path, ["ada@acme.example"])
        clock.now += FILE_CHECK_SECONDS
        (outcome,) = await org.sync.write(plan)  # listed between the query and the write
        assert (outcome.status, outcome.reason) == (
            OutcomeStatus.SKIPPED,
            SkipReason.SUPPRESSED.value,
        )
        for number, again in enumerate(
            (ada(version=300), ada("h/other", 400), ada("g/new", 500, job_title="Boss"))
        ):
            (outcome,) = await org.sync.sync([again])
            assert outcome.reason == SkipReason.SUPPRESSED.value, number
        assert [dict(record) for record in org.people()] == [before]
    async with simulated_org(
        policy=Policy(suppression=SuppressionFile(path))
    ) as org:  # another process, an empty org
        assert (await org.all(ada(version=600)))["g/ada"].reason == SkipReason.SUPPRESSED.value
        assert org.people() == []


def suppress(path: Path, text: str, *options: str) -> Any:
    environ = {"PEOPLE_SUPPRESSION_LIST": str(path)}
    return CliRunner().invoke(
        main, ["suppress", "--without-dead-letters", *options, "-"], input=text, env=environ
    )


def test_the_command_adds_addresses_and_keys_and_prints_neither(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    text = " Ada@ACME.example \n\ngrant-1/Contact#7\n"
    ended = suppress(path, text, "--dry-run")
    assert (ended.exit_code, ended.output) == (0, f"{path}: 2 would be added, 2 in all\n")
    assert not path.exists()
    ended = suppress(path, text)
    assert (ended.exit_code, ended.output) == (0, f"{path}: 2 added, 2 in all\n")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    ended = suppress(path, "ada@acme.example\nbob@acme.example\n")
    assert ended.output == f"{path}: 1 added, 3 in all\n"
    assert path.stat().st_mode & 0o777 == 0o640
    listed = SuppressionFile(path)
    assert all(
        listed.holds([value])
        for value in ("ada@acme.example", "bob@acme.example", "grant-1/Contact#7")
    )
    assert not any(
        name in path.read_text().lower() for name in ("ada@", "acme", "grant", "contact")
    )
    assert [file.name for file in tmp_path.iterdir()] == ["list.json"]


def test_an_unreadable_line_is_reported_by_its_number_and_nothing_is_added(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    ended = suppress(path, "ada@acme.example\nnot an address\n")
    assert ended.exit_code == 1
    assert "line 2" in ended.output
    assert "not an address" not in ended.output
    assert not path.exists()
    for line in ("/contact", "grant/", "x"):
        with pytest.raises(NotAPerson, match="line 1"):
            read([line])


def test_a_missing_or_unusable_list_is_reported(tmp_path: Path) -> None:
    ended = CliRunner().invoke(
        main,
        ["suppress", "--without-dead-letters", "-"],
        input="ada@acme.example\n",
        env={"PEOPLE_SUPPRESSION_LIST": ""},
    )
    assert ended.exit_code == 1
    assert "PEOPLE_SUPPRESSION_LIST is not set" in ended.output
    ended = suppress(tmp_path / "no folder" / "list.json", "ada@acme.example\n")
    assert ended.exit_code == 1
    assert "cannot be written" in ended.output
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"salt": "x"}))
    ended = suppress(path, "ada@acme.example\n")
    assert ended.exit_code == 1
    assert path.read_text() == json.dumps({"salt": "x"}), (
        "a list that cannot be read is not written over"
    )


def test_addresses_and_contact_keys_are_told_apart() -> None:
    people = read(["Ada@Acme.example", "g/ada@acme.example", "g/c"])
    both = "g/ada@acme.example"
    assert split(people) == (["ada@acme.example", both], [both, "g/c"])
