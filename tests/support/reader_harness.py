"""A real reader on a test's own topics, with a simulated Nylas.

The test takes the place of the other stages: it writes their records and commits for them.
"""

import json
import re
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from tests.support.kafka import Found, Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until

API_KEY = "sim-api-key"
Headers = list[tuple[str, str | bytes | None]]


def people(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Contacts `c0`, `c1` and so on, each with an address."""
    return [
        {
            "id": f"c{number}",
            "given_name": f"N{number}",
            "emails": [{"email": f"p{number}@acme.example", "type": "work"}],
        }
        for number in range(first, first + count)
    ]


def grant(name: str, contacts: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A grant of the simulated Nylas with its contacts."""
    return {
        "id": name,
        "email": f"{name}@reps.example",
        "provider": "google",
        "contacts": contacts,
        **more,
    }


class SimulatedNylas:
    """The simulated Nylas in a process of its own."""

    def __init__(self, processes: Processes, directory: Path, world: Mapping[str, Any]) -> None:
        file = directory / "world.json"
        file.write_text(json.dumps(world))
        self.process = processes.start("simulate", "nylas", "--world", str(file))
        wait_until(lambda: "listening on" in self.process.log, "the simulator listens")
        self.url = re.findall(r"listening on (http://\S+)", self.process.log)[0]

    def call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def state(self) -> Any:
        return self.call("GET", "/_sim/state")

    def change(self, **what: Any) -> None:
        """Changes contacts without a notification."""
        self.call("POST", "/_sim/contacts", {"notify": False, **what})

    def faults(self, *rules: Mapping[str, Any], **more: Any) -> None:
        self.call("POST", "/_sim/faults", {"rules": list(rules), **more})


class ReaderHarness:
    """A test's topics, simulated Nylas and readers."""

    def __init__(
        self, kafka: Kafka, processes: Processes, directory: Path, world: Mapping[str, Any]
    ) -> None:
        self.kafka, self.processes = kafka, processes
        self.nylas = SimulatedNylas(processes, directory, world)
        processes.environ |= kafka.environ | {
            "NYLAS_API_URL": self.nylas.url,
            "NYLAS_API_KEY": API_KEY,
        }
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

    def envelopes(self) -> list[tuple[str, dict[str, Any]]]:
        """The origin and the envelope of each record of contacts.events."""
        return [
            (found.headers["origin"].decode(), json.loads(found.value or b""))
            for found in self.events()
        ]

    def refetch(self, not_before: float, *contact_keys: str) -> None:
        """Writes records of contacts.refetch, as the dedupe stage does."""
        headers: Headers = [("reason", b"bodyless"), ("not_before", b"%d" % not_before)]
        headers.append(("received_ms", b"%d" % (time.time() * 1000)))
        self.kafka.produce(
            "contacts.refetch", [(key.encode(), b"") for key in contact_keys], headers
        )

    def write_change(
        self, key: str, version: int, *more: str, deleted: bool = False, **fields: Any
    ) -> None:
        """Writes records of contacts.changes, as the dedupe stage does.

        `more` are further keys with the same content.
        """
        headers: Headers = [
            ("kind", b"deleted" if deleted else b"updated"),
            ("version", b"%d" % version),
        ]
        records = []
        for each in (key, *more):
            grant_id, _, contact_id = each.partition("/")
            value = {"grant_id": grant_id, "id": contact_id, "object": "contact", **fields}
            records.append((each.encode(), json.dumps(value).encode()))
        self.kafka.produce("contacts.changes", records, headers)

    def write_outcome(self, key: str, outcome: str, record_id: str = "003x") -> None:
        """Writes a record of contacts.outcomes, as the sink does."""
        value = json.dumps(
            {"outcome": outcome, "sobject": "Contact", "id": record_id, "matched": "email"}
        ).encode()
        self.kafka.produce("contacts.outcomes", [(key.encode(), value)])

    def write_grant_event(
        self, kind: str, grant_id: str, copies: int = 1, at: float | None = None, **fields: Any
    ) -> None:
        """Writes a record of grants.events, as the bridge does, `copies` times.

        The event happened `at` (epoch seconds), else now.
        """
        envelope = {
            "specversion": "1.0",
            "type": kind,
            "source": "/nylas/system",
            "id": f"{kind}-{grant_id}",
            "time": int(time.time() if at is None else at),
            "data": {"application_id": "a", "object": {"grant_id": grant_id, **fields}},
        }
        self.kafka.produce(
            "grants.events", [(grant_id.encode(), json.dumps(envelope).encode())] * copies
        )

    def commit(self, stage: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Commits offsets, by partition, for a stage that this test does not run."""
        group = f"{self.kafka.prefix}contactstream-{stage}"
        consumer = Consumer(
            {
                "bootstrap.servers": self.kafka.bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
            }
        )
        partitions = [
            TopicPartition(self.kafka.name(topic), number, offset)
            for number, offset in offsets.items()
        ]
        consumer.commit(offsets=partitions, asynchronous=False)
        consumer.close()

    def ends(self, topic: str) -> dict[int, int]:
        """The end offset of each partition that has records."""
        ends: dict[int, int] = {}
        for found in self.kafka.read(topic):
            ends[found.partition] = max(ends.get(found.partition, 0), found.offset + 1)
        return ends

    def last_run(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The latest run, and the progress of its grants by ID."""
        runs = self.runs()
        name = max((key for key in runs if "/" not in key), default="")
        grants = {
            key.partition("/")[2]: value
            for key, value in runs.items()
            if key.startswith(name + "/")
        }
        return runs.get(name) or {}, grants

    def runs(self) -> dict[str, Any]:
        """The last value of each key of reader.runs; None for a tombstone."""
        latest: dict[str, Any] = {}
        for found in self.kafka.read("reader.runs"):
            latest[(found.key or b"").decode()] = (
                None if found.value is None else json.loads(found.value)
            )
        return latest


Start = Callable[[Mapping[str, Any]], ReaderHarness]
"""Starts the simulated Nylas with a world, and creates the topics."""


def keys(found: list[Found]) -> set[str]:
    """The contact keys of records."""
    return {(each.key or b"").decode() for each in found}
