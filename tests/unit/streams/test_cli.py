"""Unusable settings at the command line: one line with the value and the remedy, exit code 2."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from streams.cli import main
from tests.support.paths import ROOT
from tests.support.processes import MACHINE_VARIABLES

pytestmark = pytest.mark.slow

# Imports on a busy machine.
START_SECONDS = 60.0
LOGIN = {"SALESFORCE_CLIENT_ID": "id", "SALESFORCE_CLIENT_SECRET": "secret"}


def run(stage: str, environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if name in MACHINE_VARIABLES}
    return subprocess.run(
        [sys.executable, "-m", "streams.cli", stage],
        env=kept | environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that another server listens on already."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield f"127.0.0.1:{other.getsockname()[1]}"


@pytest.mark.parametrize("stage", ["bridge", "reader", "dedupe", "sink"])
def test_an_ops_port_that_is_taken_is_named(stage: str, taken: str) -> None:
    ended = run(stage, LOGIN | {"NYLAS_API_KEY": "key", "OPS_LISTEN": taken})
    assert ended.returncode == 2, ended.stderr
    assert f"OPS_LISTEN={taken} cannot be used" in ended.stderr
    assert "set OPS_LISTEN to a free port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_webhook_port_that_is_taken_is_named(taken: str) -> None:
    ended = run("bridge", {"OPS_LISTEN": "127.0.0.1:0", "BRIDGE_LISTEN": taken})
    assert ended.returncode == 2, ended.stderr
    assert f"BRIDGE_LISTEN={taken} cannot be used" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_console_never_listens_on_the_port_of_the_bridge() -> None:
    listen = {"CONSOLE_LISTEN": "127.0.0.1:8080", "OPS_LISTEN": "127.0.0.1:0"}
    ended = run("console", LOGIN | listen)
    assert ended.returncode == 2, ended.stderr
    assert "CONSOLE_LISTEN=127.0.0.1:8080" in ended.stderr
    assert "BRIDGE_LISTEN=0.0.0.0:8080" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("stage", ["dedupe", "sink"])
@pytest.mark.parametrize("text", [None, "[contact", "[contact]\nTitle = 5\n"])
def test_a_mapping_that_cannot_be_used_is_named(
    stage: str, text: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "mapping.toml"
    if text is not None:
        file.write_text(text)
    ended = run(stage, LOGIN | {"OPS_LISTEN": "127.0.0.1:0", "SALESFORCE_MAPPING_FILE": str(file)})
    assert ended.returncode == 2, ended.stderr
    assert f"SALESFORCE_MAPPING_FILE={file} cannot be used" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_every_command_reports_a_misspelt_variable(taken: str) -> None:
    ended = run("dedupe", {"OPS_LISTEN": taken, "DEDUPE_SESSION_TIMOUT": "30"})
    assert "did you mean DEDUPE_SESSION_TIMEOUT?" in ended.stderr
    result = CliRunner().invoke(
        main, ["topics", "create", "--help"], env={"KAFKA_TOPC_PREFIX": "x."}
    )
    assert result.exit_code == 0
    assert (
        "warning: KAFKA_TOPC_PREFIX is not a setting; did you mean KAFKA_TOPIC_PREFIX?"
        in result.output
    )


def test_a_setting_that_cannot_be_used_has_the_exit_code_of_wrong_usage() -> None:
    ended = CliRunner().invoke(main, ["topics", "check"], env={"KAFKA_REPLICATION_FACTOR": "none"})
    assert ended.exit_code == 2
    assert "KAFKA_REPLICATION_FACTOR" in ended.output


@pytest.mark.parametrize(
    "command",
    [
        ["grants", "list"],
        ["webhooks", "list"],
        ["webhooks", "check"],
        ["webhooks", "create", "https://webhooks.example/nylas"],
        ["webhooks", "rotate", "d1", "--dry-run"],
    ],
)
def test_every_command_that_calls_nylas_finds_a_missing_key_before_it_does(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NYLAS_API_KEY", raising=False)
    # Would fail the test: nothing answers there.
    ended = CliRunner().invoke(main, command, env={"NYLAS_API_URL": "http://127.0.0.1:1"})
    assert ended.exit_code == 2
    assert "NYLAS_API_KEY is not set" in ended.output


def test_the_reader_finds_a_missing_key_at_its_start() -> None:
    ended = run("reader", {"OPS_LISTEN": "127.0.0.1:0"})
    assert ended.returncode == 2
    assert "NYLAS_API_KEY is not set" in ended.stderr
