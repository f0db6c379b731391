"""`docker compose --profile simulators up`, for real: contacts reach the simulated org.

It needs Docker (or podman's socket in DOCKER_HOST) with Compose, and the image: `make image`. The
default run leaves it out; `make compose-test` runs it. Services whose image cannot be had are left
out with COMPOSE_WITHOUT=grafana,prometheus.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from streams.cli import PROCESSES
from tests.support.paths import ROOT

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

FOLDER = ROOT / "deploy" / "compose"
PEOPLE = 500
# The images may have to be pulled first.
UP_SECONDS = 600.0
# One command of Compose, or of contactstream in a container of its own.
COMMAND_SECONDS = 120.0
# An incomplete batch of a backfill waits for 10 s, and containers share the processors.
SYNC_SECONDS = 120.0


def compose(*words: str, seconds: float = COMMAND_SECONDS) -> str:
    """What Compose prints on standard output. Fails the test when it fails."""
    command = ["docker", "compose", "--project-name", "contactstream-test"]
    command += ["--env-file", ".env.example", "--profile", "simulators"]
    done = subprocess.run(
        [*command, *words],
        cwd=FOLDER,
        env=os.environ | {"PEOPLE": str(PEOPLE), "ENV_FILE": ".env.example"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def running() -> Iterator[None]:
    """Everything is up, and the story of the demo has been played."""
    if shutil.which("docker") is None:
        pytest.fail("docker is missing: install Docker with Compose, or set DOCKER_HOST to podman")
    left_out = set(os.environ.get("COMPOSE_WITHOUT", "").split(","))
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    wanted = [name for name in services if name not in left_out | {"cli"}]
    # What an interrupted run left: a topic of its volumes would make this run's contacts no news.
    compose("down", "--volumes")
    try:
        compose("up", "--detach", "--no-build", *wanted, seconds=UP_SECONDS)
        compose("wait", "live-notifications", seconds=UP_SECONDS)
        yield
    finally:
        compose("down", "--volumes")


def of_simulator(name: str, port: int) -> Any:
    """What a simulator counted."""
    url = f"http://127.0.0.1:{port}/_sim/state"
    code = f"import urllib.request as u; print(u.urlopen('{url}').read().decode())"
    return json.loads(compose("exec", "--no-TTY", name, "python", "-c", code))


def arrived(records: float) -> Any:
    """The org once it has more than so many new records, or as it is after SYNC_SECONDS."""
    ends = time.monotonic() + SYNC_SECONDS
    while True:
        org = of_simulator("salesforce-simulator", 8082)
        if org["rows"]["created"] > records or time.monotonic() > ends:
            return org
        time.sleep(1)


@pytest.mark.usefixtures("running")
def test_the_people_of_the_address_books_are_in_the_org() -> None:
    # A fifth is known before; shared mailboxes and people in two address books are no records.
    org = arrived(0.6 * PEOPLE)
    assert org["rows"]["created"] > 0.6 * PEOPLE
    assert org["rows"]["failed"] == 0
    assert org["refusals"] == {}


@pytest.mark.usefixtures("running")
def test_live_notifications_were_signed_and_accepted() -> None:
    deliveries = of_simulator("nylas-simulator", 8081)["deliveries"]
    # All but those that the scenario signs wrongly.
    assert len(deliveries["acknowledged"]) >= 100


@pytest.mark.usefixtures("running")
def test_the_status_says_that_nothing_needs_a_person() -> None:
    assert "nothing needs a person" in compose("run", "--rm", "--no-deps", "cli", "status")


@pytest.mark.usefixtures("running")
def test_every_process_stops_in_good_order() -> None:
    compose("stop", *PROCESSES)
    listed = compose("ps", "--all", "--format", "json", *PROCESSES).splitlines()
    ended = {each["Service"]: each["ExitCode"] for each in map(json.loads, listed)}
    assert ended == dict.fromkeys(PROCESSES, 0)
