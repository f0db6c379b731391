"""A scripted scenario: real stages on a real broker with a simulated org, held at a moment, and
judged by the storm's verifier.
"""

import hashlib
import hmac
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from deploy.local.broker import free_ports
from tests.faults.harness.load import BASE, GRANT, SECRET, contact, envelope
from tests.faults.harness.variants import FOLDER
from tests.faults.harness.verifier import Evidence, Sample, Stored, Verdict, Write, verify
from tests.support.kafka import Found, GroupObserver, Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import POLL_SECONDS, wait_until

# seconds, the default of the stages: one that is starved for half of it ends itself, and nobody
# starts it again
SESSION = 10.0
# Of a stage that a test puts to sleep for longer than that: its successor has to wait for the end
# of it.
SLEEPER_SESSION = 6.0
# a start, a group join, and a session that has to expire first, on a machine that others use too
REACH_SECONDS = 90.0
# what a broken stage does at once; a whole one never does it, and so waits in vain each time
WHOLE_SECONDS = 1.5
BROKEN_SECONDS = 30.0  # the same on a busy machine: if it does not come, the test has shown nothing

Event = tuple[bytes, bytes]


def event(
    number: int, version: int, title: str, *, identity: str = "", kind: str = "contact.updated"
) -> Event:
    """Key and value of a record of contacts.events."""
    subject: object = contact(number, title)
    if kind == "contact.deleted":
        subject = {"id": f"c{number}", "grant_id": GRANT, "object": "contact"}
    name = identity or f"n{number}-{version}-{title}"
    return f"{GRANT}/c{number}".encode(), envelope(name, BASE + version, subject, kind)


def change(
    number: int, version: int, title: str
) -> tuple[Event, list[tuple[str, str | bytes | None]]]:
    """A record of contacts.changes and its headers, as dedupe would have written it."""
    headers: list[tuple[str, str | bytes | None]] = [
        ("kind", b"updated"),
        ("version", b"%d" % (BASE + version)),
        ("origin", b"webhook"),
        ("received_ms", b"1700000000000"),
    ]
    return (f"{GRANT}/c{number}".encode(), json.dumps(contact(number, title)).encode()), headers


def soon(happened: Callable[[], object], variant: str) -> None:
    """A broken stage's chance to break its promise: returns when that has happened, or has not in
    time.
    """
    until = time.monotonic() + (WHOLE_SECONDS if variant == "whole" else BROKEN_SECONDS)
    while time.monotonic() < until and not happened():
        time.sleep(POLL_SECONDS)


@dataclass
class Scenario:
    """One test's stages. A contact has one partition of events unless `partitions` says otherwise."""

    kafka: Kafka
    processes: Processes
    folder: Path
    partitions: int = 1
    version_rule: bool = True
    acknowledged: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    org: str = ""
    _onlookers: dict[tuple[str, str], GroupObserver] = field(
        default_factory=dict
    )  # made once: many looks a second cost a core else

    def __enter__(self) -> "Scenario":
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._onlookers.values():
            each.close()

    def set_up(self, *, org: bool = True, settings: Mapping[str, Any] | None = None) -> "Scenario":
        """Topics, and an org."""
        self.kafka.create("contacts.events", self.partitions)
        self.kafka.create(
            "contactstream-dedupe-seen-changelog", self.partitions, {"cleanup.policy": "compact"}
        )
        for name in ("changes", "refetch", "outcomes", "dead-letter"):
            self.kafka.create(f"contacts.{name}")
        self.kafka.create("grants.events")
        self.kafka.create("reader.runs")
        if org:
            (port,) = free_ports(1)
            self.org = f"http://127.0.0.1:{port}"
            world = self.folder / "org.json"
            world.write_text(
                json.dumps({"settings": {"version_rule": self.version_rule, **(settings or {})}})
            )
            self.processes.start(
                "simulate", "salesforce", "--listen", f"127.0.0.1:{port}", "--world", str(world)
            )
            wait_until(lambda: self._ask("/_sim/state"), "the org answers")
        return self

    def start(
        self,
        stage: str,
        variant: str = "whole",
        environ: Mapping[str, str] | None = None,
        *,
        session: float = SESSION,
    ) -> Process:
        """A stage, broken as `variant` says."""
        given = self.kafka.environ | {
            "KAFKA_EVENTS_PARTITIONS": str(self.partitions),
            "DEDUPE_SESSION_TIMEOUT": str(session),
            "SINK_SESSION_TIMEOUT": str(session),
            "SINK_LINGER": "0.1",
            "NYLAS_WEBHOOK_SECRETS": SECRET,
            "SALESFORCE_LOGIN_URL": self.org or "http://127.0.0.1:1",
            "SALESFORCE_CLIENT_ID": "test",
            "SALESFORCE_CLIENT_SECRET": "test",
            FOLDER: str(self.folder),
        }
        command = (sys.executable, "-m", "tests.faults.harness.variants", variant)
        return self.processes.start(stage, command=command, environ=given | dict(environ or {}))

    def hold(self, moment: str) -> None:
        """Whoever reaches that moment from now on stays in it."""
        (self.folder / moment).touch()

    def wait_reached(self, moment: str) -> None:
        """Returns when a stage is held there."""
        wait_until(
            lambda: self.has_reached(moment), f"the moment {moment} is reached", REACH_SECONDS
        )

    def has_reached(self, moment: str) -> bool:
        """Whether a stage has been there."""
        return (self.folder / f"{moment}.reached").exists()

    def release(self, moment: str) -> None:
        """Lets go."""
        (self.folder / moment).unlink()

    def send(self, events: Sequence[Event]) -> None:
        """Straight to contacts.events."""
        self.kafka.produce("contacts.events", list(events), [("origin", b"webhook")])

    def notify(self, port: int, body: bytes, identity: str) -> int:
        """A signed notification through the bridge; its status, 0 when the connection broke."""
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/",
            body,
            {"X-Nylas-Signature": signature, "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                status = int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0
        if status == 200:
            self.acknowledged.append(identity)
        return status

    def committed(self, stage: str, topic: str) -> dict[int, int]:
        """Committed offsets of a stage."""
        found = self._onlooker(stage, topic).committed()
        return {partition: offset for partition, offset in found.items() if offset >= 0}

    def _onlooker(self, stage: str, topic: str) -> GroupObserver:
        if (stage, topic) not in self._onlookers:
            group = f"{self.kafka.prefix}contactstream-{stage}"
            self._onlookers[stage, topic] = GroupObserver(self.kafka, group, topic)
        return self._onlookers[stage, topic]

    def end(self, topic: str, partition: int = 0) -> int:
        """The end of a topic."""
        return self._onlooker("nobody", topic).end(partition)

    def wait_committed(
        self, stage: str, topic: str, records: int, seconds: float = REACH_SECONDS
    ) -> None:
        """Until a stage has committed so many records of a topic."""

        def done() -> bool:
            try:
                return sum(self.committed(stage, topic).values()) >= records
            except KafkaException:
                return False

        wait_until(done, f"{stage} has committed {records} of {topic}", seconds)

    def settle(self, seconds: float = REACH_SECONDS) -> None:
        """Until dedupe has committed every event, and the sink every change."""
        for stage, topic in (("dedupe", "contacts.events"), ("sink", "contacts.changes")):
            count = self.partitions if stage == "dedupe" else 1
            self.wait_committed(
                stage, topic, sum(self.end(topic, number) for number in range(count)), seconds
            )

    def sample(self) -> None:
        """Notes what is committed, and then where the result topics end."""
        dedupe, sink = (
            self.committed("dedupe", "contacts.events"),
            self.committed("sink", "contacts.changes"),
        )
        changes, outcomes, refetch, dead = (
            self.end(f"contacts.{name}")
            for name in ("changes", "outcomes", "refetch", "dead-letter")
        )
        self.samples.append(Sample(dedupe, sink.get(0, 0), changes, outcomes, refetch, dead))

    def verdict(self) -> Verdict:
        """What the verifier says of everything so far."""
        found = {
            name: _stored(self.kafka.read(f"contacts.{name}"))
            for name in ("events", "changes", "outcomes", "refetch", "dead-letter")
        }
        records = [
            record for name in ("Contact", "Lead") for record in self._ask(f"/_sim/records/{name}")
        ]
        return verify(
            Evidence(
                acknowledged=self.acknowledged,
                events=found["events"],
                changes=found["changes"],
                outcomes=found["outcomes"],
                refetch=found["refetch"],
                dead_letters=found["dead-letter"],
                writes=[
                    Write(one["seq"], one["id"], one["key"], one["version"])
                    for one in self._ask("/_sim/writes")
                ],
                org=records,
                samples=self.samples,
            )
        )

    def tell_org(self, path: str, body: object) -> None:
        """POST to the org's control plane."""
        request = urllib.request.Request(self.org + path, json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()

    def org_state(self) -> Any:
        """What the org counts."""
        return self._ask("/_sim/state")

    def _ask(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(self.org + path, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            return None


def _stored(found: Sequence[Found]) -> list[Stored]:
    return [
        Stored(
            one.partition,
            one.offset,
            (one.key or b"").decode(errors="replace"),
            one.value,
            {name: value.decode(errors="replace") for name, value in one.headers.items()},
        )
        for one in found
    ]
