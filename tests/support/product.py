"""Runs the whole product for a test: both simulators and every stage, on a real Kafka."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from deploy.local.broker import free_ports
from streams.kafka.admin import create
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.kafka import Found, Kafka
from tests.support.letters import failed_found
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until

API_KEY = "nyk_test"
SECRET = "a-secret-of-the-test"
GRANT = "11111111-aaaa-4bbb-8ccc-000000000001"
OTHER_GRANT = "11111111-aaaa-4bbb-8ccc-000000000002"
# From a notification to its outcome, on two cores that other tests may share.
SECONDS = 60.0
CONTACT_TRIGGERS = ("contact.updated", "contact.deleted")
GRANT_TRIGGERS = (*CONTACT_TRIGGERS, "grant.created", "grant.updated", "grant.deleted")


# The longest command of a test, on two cores that other tests may share.
COMMAND_SECONDS = 240.0


@dataclass
class Product:
    """The running product, and what a test does with it."""

    kafka: Kafka
    processes: Processes
    http: httpx.Client
    nylas: str
    salesforce: str
    stages: dict[str, Process]

    def notify(self, notifications: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Has Nylas deliver notifications one after the other; returns its summary."""
        body = {"notifications": list(notifications), "sequential": True, "wait": True}
        answer = self.http.post(f"{self.nylas}/_sim/notify", json=body)
        answer.raise_for_status()
        return dict(answer.json())

    def command(self, *arguments: str, status: int = 0, seconds: float = COMMAND_SECONDS) -> str:
        """Runs a command of contactstream to its end; returns what it printed."""
        process = self.processes.start(*arguments)
        assert process.popen.wait(seconds) == status, process.log
        return process.log

    def records(self, sobject: str, **equal: Any) -> list[dict[str, Any]]:
        """Records of the org that have all of these values."""
        answer = self.http.get(f"{self.salesforce}/_sim/records/{sobject}")
        answer.raise_for_status()
        return [
            record
            for record in answer.json()
            if all(record.get(name) == value for name, value in equal.items())
        ]

    def outcome(self, contact_id: str, version: int, grant: str = GRANT) -> dict[str, Any]:
        """The outcome of a contact at a version, once it is on its topic."""

        def found() -> dict[str, Any] | None:
            for record in reversed(self.kafka.read("contacts.outcomes")):
                if record.key == f"{grant}/{contact_id}".encode() and record.value:
                    outcome: dict[str, Any] = json.loads(record.value)
                    if outcome["version"] >= version:
                        return outcome
            return None

        return wait_until(found, f"an outcome of {contact_id} at {version}", SECONDS) or {}

    def dead_letters(self) -> list[Found]:
        """The records that could not be processed, as they were."""
        return [failed_found(found) for found in self.kafka.read("contacts.dead-letter")]

    def count(self, stage: str, sample: str, **labels: str) -> float:
        """A counter of a stage."""
        return self.stages[stage].metric(sample, **labels)

    def asked(self, kind: str) -> int:
        """How many calls of a kind Nylas has counted."""
        answer = self.http.get(f"{self.nylas}/_sim/state", params={"ids": "false"})
        return int(answer.json()["calls"].get(kind, 0))

    def nylas_clock(self, **setting: Any) -> None:
        """Sets the clock of Nylas: `at` in epoch seconds, `frozen`, or an `offset` in seconds."""
        self.http.post(f"{self.nylas}/_sim/clock", json=setting).raise_for_status()

    def calls(self) -> int:
        """How many calls the org has counted."""
        answer = self.http.get(f"{self.salesforce}/_sim/state")
        return int(answer.json()["calls_total"])


def person(contact_id: str, *addresses: str, grant: str = GRANT, **fields: Any) -> dict[str, Any]:
    """A contact as Nylas writes it."""
    emails = [{"email": address, "type": "work"} for address in addresses] or None
    known = {
        "given_name": "Ada",
        "surname": "Lovelace",
        "company_name": "Engines",
        "job_title": "Analyst",
    }
    return (
        {"id": contact_id, "grant_id": grant, "object": "contact", "emails": emails}
        | known
        | fields
    )


def updated(contact: Mapping[str, Any], time: int, identity: str, **how: Any) -> dict[str, Any]:
    """A notification of a changed contact, for `Product.notify`."""
    return {"object": dict(contact), "type": "contact.updated", "time": time, "id": identity, **how}


def deleted(contact_id: str, time: int, identity: str, grant: str = GRANT) -> dict[str, Any]:
    """A notification of a deleted contact, for `Product.notify`."""
    identity_only = {"id": contact_id, "grant_id": grant, "object": "contact"}
    return {"object": identity_only, "type": "contact.deleted", "time": time, "id": identity}


@contextmanager
def product(
    kafka: Kafka,
    folder: Path,
    *,
    org: Mapping[str, Any],
    grants: Sequence[Mapping[str, Any]] = (),
    environ: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
    stage_environ: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    triggers: Sequence[str] = CONTACT_TRIGGERS,
) -> Iterator[Product]:
    """Starts everything and waits until it is ready, except for the stages in `without`.

    `environ` is for every process, `stage_environ` for the stages by their names. `triggers` are
    those of the webhook.
    """
    (port,) = free_ports(1)
    settings = load(KafkaSettings, kafka.environ)
    create(kafka.admin(), topics(settings).all())
    own = Processes(
        folder,
        kafka.environ
        | {"SINK_LINGER": "0.2", "SINK_BULK_LINGER": "1", "SALESFORCE_MODE": "mirror"}
        | dict(environ or {}),
    )
    try:
        webhook = {
            "url": f"http://127.0.0.1:{port}/",
            "secret": SECRET,
            "trigger_types": list(triggers),
        }
        books = {
            "api_key": API_KEY,
            "grants": list(grants),
            "webhook": webhook,
            "settings": {"retry_delay": 0.2},
        }
        nylas = start_simulator(own, folder, "nylas", books)
        salesforce = start_simulator(own, folder, "salesforce", org)
        own.environ |= {
            "NYLAS_API_URL": nylas,
            "NYLAS_API_KEY": API_KEY,
            # Tests notify of contacts that no simulated address book holds, and these must not be
            # read again because the address of their grant is not known yet.
            "PEOPLE_OWN_DOMAINS": "none",
            "NYLAS_WEBHOOK_SECRETS": SECRET,
            "SALESFORCE_LOGIN_URL": salesforce,
            # longer than any call of the simulated org takes
            "SALESFORCE_LONGEST_CALL": "10",
            "SALESFORCE_CLIENT_ID": "test",
            "SALESFORCE_CLIENT_SECRET": "test",
            "BRIDGE_LISTEN": f"127.0.0.1:{port}",
        }
        stages = {
            name: own.start(name, environ=stage_environ.get(name))
            for name in ("bridge", "reader", "dedupe", "sink")
            if name not in without
        }
        for stage in stages.values():
            stage.wait_ready()
        with httpx.Client(timeout=60) as http:
            yield Product(kafka, own, http, nylas, salesforce, stages)
    finally:
        own.end()
        print(own.logs())


def start_simulator(processes: Processes, folder: Path, name: str, world: Mapping[str, Any]) -> str:
    """Starts the simulator `name` with its initial state; returns its URL once it listens."""
    file = folder / f"{name}-world.json"
    file.write_text(json.dumps(world))
    process = processes.start("simulate", name, "--listen", "127.0.0.1:0", "--world", str(file))
    line = wait_until(
        lambda: next((line for line in process.log.splitlines() if " listening on " in line), ""),
        name,
    )
    return line.rpartition(" ")[2]
