"""The files of `contactstream simulate worlds` are what the two simulators start from."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from connectors.nylas.simulator.world import World as Nylas
from connectors.salesforce.simulator.world import World as Salesforce
from streams.cli import main


def worlds(folder: Path, *options: str) -> tuple[Nylas, Any]:
    """The simulated Nylas that starts from the file, and the file of the org."""
    ran = CliRunner().invoke(main, ["simulate", "worlds", str(folder), *options])
    assert ran.exit_code == 0, ran.output
    assert ran.output.split() == [str(folder / "nylas.json"), str(folder / "salesforce.json")]
    books = Nylas.from_json(json.loads((folder / "nylas.json").read_bytes()))
    org = json.loads((folder / "salesforce.json").read_bytes())
    Salesforce(org)  # raises for what it cannot play
    return books, org


def test_the_simulators_take_the_files(tmp_path: Path) -> None:
    books, org = worlds(tmp_path / "new", "--people", "60")
    assert sum(len(grant.contacts) for grant in books.grants.values()) == 60
    assert org["accounts"]
    assert org["leads"]
    assert books.destinations == {}


def test_the_webhook_is_signed_with_the_secret_of_the_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a-secret-of-20-chars  # of the demo\n")
    url = "http://bridge.example/"
    options = ("--webhook-url", url, "--webhook-secret-file", str(secret))
    books, _ = worlds(tmp_path, "--people", "60", *options)
    (destination,) = books.destinations.values()
    assert (destination.url, destination.secret) == (url, "a-secret-of-20-chars")


def test_a_secret_needs_the_url_that_it_is_for(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a-secret-of-20-chars")
    command = ["simulate", "worlds", str(tmp_path), "--webhook-secret-file", str(secret)]
    ran = CliRunner().invoke(main, command)
    assert ran.exit_code == 2
    assert "--webhook-url" in ran.output


def test_a_file_without_a_secret_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("\n")
    options = ("--webhook-url", "http://bridge.example/", "--webhook-secret-file", str(secret))
    ran = CliRunner().invoke(main, ["simulate", "worlds", str(tmp_path), *options])
    assert ran.exit_code == 2
    assert str(secret) in ran.output
