"""The reader as a process, on a real Kafka, reading a simulated Nylas."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.kafka import Found, Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

KEY = "sim-api-key"


def people(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"id": f"c{number}", "given_name": f"N{number}", "emails": [{"email": f"p{number}@acme.example", "type": "work"}]}
        for number in range(first, first + count)
    ]


def grant(name: str, contacts: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"id": name, "email": f"{name}@reps.example", "provider": "google", "contacts": contacts, **more}


class Nylas:
    """The simulated Nylas, a process of its own."""

    def __init__(self, processes: Processes, directory: Path, world: Mapping[str, Any]) -> None:
        file = directory / "world.json"
        file.write_text(json.dumps(world))
        self.process = processes.start("simulate", "nylas", "--world", str(file))
        found = wait_until(lambda: re.search(r"listening on (http://\S+)", self.process.log), "the simulator listens")
        self.url = found.group(1)

    def call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def state(self) -> Any:
        return self.call("GET", "/_sim/state")

    def change(self, **what: Any) -> None:
        self.call("POST", "/_sim/contacts", {"notify": False, **what})

    def faults(self, *rules: Mapping[str, Any], **more: Any) -> None:
        self.call("POST", "/_sim/faults", {"rules": list(rules), **more})


class Desk:
    """A test's topics, Nylas and reader."""

    def __init__(self, kafka: Kafka, processes: Processes, directory: Path, world: Mapping[str, Any]) -> None:
        self.kafka, self.processes = kafka, processes
        self.nylas = Nylas(processes, directory, world)
        processes.environ |= kafka.environ | {"NYLAS_API_URL": self.nylas.url, "NYLAS_API_KEY": KEY}
        self.command("topics", "create")

    def reader(self, **environ: str) -> Process:
        return self.processes.start("reader", environ=environ)

    def command(self, *arguments: str, expect: int | None = 0, seconds: float = 90) -> str:
        """Runs a command to its end; returns what it printed."""
        process = self.processes.start(*arguments)
        code = process.popen.wait(seconds)
        assert expect is None or code == expect, process.log
        return process.log

    def events(self) -> list[Found]:
        return self.kafka.read("contacts.events")

    def runs(self) -> dict[str, Any]:
        latest: dict[str, Any] = {}
        for found in self.kafka.read("reader.runs"):
            latest[(found.key or b"").decode()] = None if found.value is None else json.loads(found.value)
        return latest


@pytest.fixture
def desk(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Any]:
    def make(world: Mapping[str, Any]) -> Desk:
        return Desk(kafka, processes, tmp_path, world)

    return make


def keys(found: list[Found]) -> set[str]:
    return {(each.key or b"").decode() for each in found}


def test_a_backfill_publishes_every_contact_of_every_grant_once_and_in_pages(desk: Any) -> None:
    mine = desk({"grants": [grant("g1", people(450)), grant("g2", people(3)), grant("g3", [])]})
    mine.reader()
    said = mine.command("backfill", "--all")
    events = mine.events()
    assert keys(events) == {f"g1/c{n}" for n in range(450)} | {f"g2/c{n}" for n in range(3)}
    assert len(events) == 453
    assert "453 contacts" in said
    calls = mine.nylas.state()["calls"]
    assert (calls["contacts"], calls["grants"]) == (5, 1)
