"""The command settings: values with their origin, no secret, and the mode on top."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from connectors.salesforce.write_mode import WriteMode
from streams.cli import main
from streams.commands import settings as command
from streams.control_mode import ModeInForce
from streams.settings import shown_settings


@pytest.fixture(autouse=True)
def mode(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ModeInForce(WriteMode.FILL_BLANKS, "set by ada at 2026-01-31 09:00Z, the first week")
    monkeypatch.setattr(command, "current_mode", lambda *_: found)


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, ["settings", *arguments], env=environ)


def listed(*arguments: str, **environ: str) -> dict[str, tuple[str, str]]:
    body = json.loads(run(*arguments, "--json", **environ).stdout)
    return {one["variable"]: (one["value"], one["origin"]) for one in body["settings"]}


def test_every_setting_is_listed_with_its_origin_and_the_mode_on_top(tmp_path: Path) -> None:
    config = tmp_path / "contactstream.toml"
    config.write_text("[sink]\nlinger = 3.0\n")
    environ = {"CONTACTSTREAM_CONFIG": str(config), "SINK_BATCH_SIZE": "200"}
    found = listed(**environ)
    assert found["SINK_LINGER"] == ("3.0", f"file {config}")
    assert found["SINK_BATCH_SIZE"] == ("200", "environment")
    assert found["SINK_IN_FLIGHT"] == ("8", "default")
    assert found.keys() == {one.variable for one in shown_settings()}
    lines = run(**environ).stdout.splitlines()
    assert lines[0].startswith("mode: fill-blanks (set by ada")
    assert any("SINK_BATCH_SIZE" in line and "(environment)" in line for line in lines)


def test_the_table_fits_into_80_columns_even_with_a_long_value() -> None:
    domains = ",".join(f"company-{number}.example" for number in range(20))
    lines = run(PEOPLE_OWN_DOMAINS=domains).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "company-19.example" in " ".join(lines)


def test_no_secret_is_printed(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("s3cr3t-of-a-file")
    environ = {"SALESFORCE_CLIENT_SECRET": "s3cr3t-of-a-variable", "NYLAS_API_KEY_FILE": str(file)}
    for found in (run(**environ), run("--json", **environ)):
        assert "s3cr3t" not in found.output
        assert "set (hidden)" in found.output


def test_one_group_and_only_what_was_given() -> None:
    found = listed("sink", "--given", SINK_LINGER="3", NYLAS_API_URL="http://nylas.example")
    assert found == {"SINK_LINGER": ("3.0", "environment")}


@pytest.mark.parametrize(
    ("group", "hint"), [("sinc", "did you mean sink?"), ("x", "it may be kafka, ")]
)
def test_a_group_that_does_not_exist_is_refused_with_the_one_that_was_meant(
    group: str, hint: str
) -> None:
    ended = run(group)
    assert ended.exit_code == 2
    assert repr(group) in ended.output
    assert hint in " ".join(ended.output.split())


def test_a_setting_that_cannot_be_used_is_named_and_the_others_are_listed() -> None:
    ended = run(SINK_LINGER="soon")
    assert ended.exit_code == 2
    assert "SINK_LINGER" in ended.stderr
    assert "READER_MAX_LAG" in ended.stdout
    assert run("reader", SINK_LINGER="soon").exit_code == 0


def test_without_kafka_the_settings_are_listed_and_the_mode_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_: object) -> ModeInForce | None:
        raise click.ClickException("no broker answers")

    monkeypatch.setattr(command, "current_mode", unreachable)
    ended = run("sink")
    assert ended.exit_code == 0
    assert ended.stdout.startswith("mode: not known: no broker answers")
    assert "SINK_LINGER" in ended.stdout
