"""What Compose is given agrees with the code: commands, settings, ports, bounds, versions."""

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import click
import pytest
import yaml

from deploy.local.broker import KAFKA
from streams.cli import PROCESSES, STAGES, main
from streams.settings import ConsoleSettings, ProcessSettings, load, unknown_variables
from tests.support.paths import ROOT
from tests.support.stop_bounds import STOP_SECONDS, grace_seconds

FOLDER = ROOT / "deploy" / "compose"
COMPOSE: Mapping[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: Mapping[str, Mapping[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "contactstream" in service["image"])
# What Compose itself reads out of .env.
OF_COMPOSE = {"ENV_FILE", "IMAGE", "PEOPLE", "SECRETS"}
OPS_PORT = load(ProcessSettings, {}).listen.rpartition(":")[2]


def env_example() -> dict[str, str]:
    """The variables of .env.example."""
    lines = (FOLDER / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_every_process_is_a_service() -> None:
    assert {tuple(SERVICES[name]["command"]) for name in PROCESSES} == {
        (name,) for name in PROCESSES
    }


@pytest.mark.parametrize("name", [name for name in OURS if "command" in SERVICES[name]])
def test_the_command_of_a_service_exists(name: str) -> None:
    command: click.Command = main
    words = SERVICES[name]["command"]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"contactstream {' '.join(SERVICES[name]['command'])}"
        command, words = found, words[1:]
    options = {option for each in command.params for option in each.opts}
    assert {word.partition("=")[0] for word in words} <= options


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_given_settings_only(name: str) -> None:
    assert unknown_variables(SERVICES[name]["environment"]) == []


def test_the_example_of_env_has_settings_only() -> None:
    assert unknown_variables(env_example()) == []
    # `unknown_variables` knows only our prefixes.
    foreign = {name for name in env_example() if not re.match("NYLAS_|SALESFORCE_", name)}
    assert foreign <= OF_COMPOSE


@pytest.mark.parametrize("name", OURS)
def test_a_service_can_do_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"] or any(":/tmp" in each for each in service["volumes"])


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_has_the_time_that_its_orderly_stop_may_take(name: str) -> None:
    assert SERVICES[name]["stop_grace_period"] == f"{grace_seconds(name)}s"


def test_the_bounds_of_a_stop_are_known_for_every_process() -> None:
    assert set(STOP_SECONDS) == set(PROCESSES)


@pytest.mark.parametrize("name", OURS)
def test_secrets_are_files_that_the_service_is_given(name: str) -> None:
    named = {
        value.removeprefix("/run/secrets/")
        for variable, value in SERVICES[name]["environment"].items()
        if variable.endswith("_FILE")
    }
    words = " ".join(SERVICES[name].get("command", ()))
    named |= set(re.findall(r"/run/secrets/(\S+)", words))
    assert named == set(SERVICES[name].get("secrets", ()))


def test_the_simulators_have_every_secret() -> None:
    folder = FOLDER / env_example()["SECRETS"]
    assert {file.name for file in folder.iterdir()} == set(COMPOSE["secrets"])
    assert all(file.read_text().strip() for file in folder.iterdir())


def test_prometheus_and_the_console_read_every_process() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (read,) = config["scrape_configs"][0]["dns_sd_configs"]
    assert (set(read["names"]), str(read["port"])) == (set(PROCESSES), OPS_PORT)
    stages = SERVICES["console"]["environment"]["CONSOLE_STAGES"]
    console = load(ConsoleSettings, {"CONSOLE_STAGES": stages})
    assert set(console.stages) == {f"{stage}:{OPS_PORT}" for stage in STAGES}


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_is_healthy_when_it_is_ready(name: str) -> None:
    assert f"http://127.0.0.1:{OPS_PORT}/readyz" in SERVICES[name]["healthcheck"]["test"][-1]


def test_nothing_listens_beyond_this_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA}"
    assert {SERVICES[name]["image"] for name in OURS} == {
        f"${{IMAGE:-contactstream:{project['version']}}}"
    }


def test_every_mounted_file_is_there() -> None:
    mounted = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume.startswith(".")
    ]
    assert mounted
    assert [path for path in mounted if not (FOLDER / path).exists()] == []
