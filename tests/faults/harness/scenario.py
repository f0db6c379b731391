"""A scripted scenario: real stages on a real broker with a simulated org, checked by the verifier.

A scenario can hold a stage at a moment that is otherwise too short to hit.
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
from streams.kafka.clients import MAX_MESSAGE_BYTES
from tests.faults.harness.collect import read_topics, writes_from
from tests.faults.harness.evidence import Evidence, Sample, Verdict
from tests.faults.harness.load import (
    BASE,
    GRANT,
    OWN_DOMAIN,
    SECRET,
    contact,
    envelope,
    grant_addresses,
)
from tests.faults.harness.variants import FOLDER
from tests.faults.harness.verifier import verify
from tests.support.kafka import GroupObserver, Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import POLL_SECONDS, wait_until

# The default of the stages. A stage that gets no processor for half of it ends itself, and nothing
# starts it again.
SESSION_SECONDS = 10.0
# Of a stage that a test pauses for longer than its session: the successor has to wait for the end
# of the session.
PAUSED_SESSION_SECONDS = 6.0
# A start, a group join, and a session that has to expire first, on a machine that others use too.
REACH_SECONDS = 90.0
# For what a broken stage does at once. A whole stage never does it, so that every test of a whole
# stage waits this long.
WHOLE_SECONDS = 1.5
# The same for a broken stage on a busy machine. If it does not happen, the test has shown nothing.
BROKEN_SECONDS = 30.0

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


def wait_for_violation(happened: Callable[[], object], variant: str) -> None:
    """Gives a broken stage time to break its promise.

    Returns when that has happened, or when the time is over.
    """
    until = time.monotonic() + (WHOLE_SECONDS if variant == "whole" else BROKEN_SECONDS)
    while time.monotonic() < until and not happened():
        time.sleep(POLL_SECONDS)


@dataclass
class Scenario:
    """The stages and the org of one test. contacts.events has one partition by default."""

    kafka: Kafka
    processes: Processes
    folder: Path
    partitions: int = 1
    version_rule: bool = True
    acknowledged: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    org: str = ""
    _observers: dict[tuple[str, str], GroupObserver] = field(default_factory=dict)
    """By stage and topic. Made once: a new client for each of many requests would cost a core."""

    def __enter__(self) -> "Scenario":
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._observers.values():
            each.close()

    def set_up(self, *, org: bool = True, settings: Mapping[str, Any] | None = None) -> "Scenario":
        """Creates the topics, and starts an org unless `org` is False."""
        self.kafka.create("contacts.events", self.partitions)
        self.kafka.create(
            "contactstream-dedupe-seen-changelog", self.partitions, {"cleanup.policy": "compact"}
        )
        self.kafka.create("contacts.changes", 1, {"max.message.bytes": str(MAX_MESSAGE_BYTES)})
        for name in ("refetch", "outcomes", "dead-letter", "journal"):
            self.kafka.create(f"contacts.{name}")
        self.kafka.create("grants.events")
        self.kafka.create("reader.runs")
        self.kafka.create("sink.accounts")
        self.kafka.create("sink.deleted-records")
        for name in ("control", "suppression"):
            self.kafka.create(f"contactstream.{name}", 1, {"cleanup.policy": "compact"})
        self.kafka.produce("grants.events", grant_addresses())
        # as the reader writes it, which most scenarios lack
        own = {"schema": 1, "since_ms": {OWN_DOMAIN: BASE * 1000}}
        self.kafka.produce("contactstream.control", [(b"own-domains", json.dumps(own).encode())])
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
            wait_until(lambda: self._get("/_sim/state"), "the org answers")
        return self

    def start(
        self,
        stage: str,
        variant: str = "whole",
        environ: Mapping[str, str] | None = None,
        *,
        session: float = SESSION_SECONDS,
    ) -> Process:
        """Starts a stage as a variant of variants.py; does not wait until it is ready."""
        given = self.kafka.environ | {
            "KAFKA_EVENTS_PARTITIONS": str(self.partitions),
            "DEDUPE_SESSION_TIMEOUT": str(session),
            "SINK_SESSION_TIMEOUT": str(session),
            # longer than any call of the simulated org takes
            "SALESFORCE_LONGEST_CALL": "10",
            "SALESFORCE_MODE": "mirror",
            # what is lost is counted here, and held people would look like it
            "SINK_CREATIONS_PER_DAY": "0",
            "SINK_CREATIONS_PER_GRANT": "0",
            "SINK_REPLACED_VALUES_PER_HOUR": "0",
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
        """From now on a stage that reaches the moment waits there until `release`."""
        (self.folder / moment).touch()

    def wait_reached(self, moment: str) -> None:
        """Waits until a stage has reached the moment. Raises AssertionError."""
        wait_until(
            lambda: self.has_reached(moment), f"the moment {moment} is reached", REACH_SECONDS
        )

    def has_reached(self, moment: str) -> bool:
        """Whether a stage has reached the moment."""
        return (self.folder / f"{moment}.reached").exists()

    def release(self, moment: str) -> None:
        """Lets stages pass the moment."""
        (self.folder / moment).unlink()

    def send(self, events: Sequence[Event]) -> None:
        """Writes events to contacts.events, around the bridge."""
        self.kafka.produce("contacts.events", list(events), [("origin", b"webhook")])

    def notify(self, port: int, body: bytes, identity: str) -> int:
        """Sends a signed notification to the bridge on this port.

        Returns the answer's status, 0 when the connection broke.
        """
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
        """By partition, the offset that a stage has committed of a topic, where it has."""
        found = self._observer(stage, topic).committed()
        return {partition: offset for partition, offset in found.items() if offset >= 0}

    def _observer(self, stage: str, topic: str) -> GroupObserver:
        if (stage, topic) not in self._observers:
            group = f"{self.kafka.prefix}contactstream-{stage}"
            self._observers[stage, topic] = GroupObserver(self.kafka, group, topic)
        return self._observers[stage, topic]

    def end(self, topic: str, partition: int = 0) -> int:
        """The end offset of a partition."""
        return self._observer("observer", topic).end(partition)

    def end_of_all(self, topic: str) -> int:
        """The sum of the end offsets of a topic with as many partitions as contacts.events."""
        return sum(self.end(topic, partition) for partition in range(self.partitions))

    def records(self, topic: str) -> int:
        """How many records a topic holds; markers of transactions, which take offsets, are none."""
        return len(self.kafka.read(topic))

    def wait_committed(
        self, stage: str, topic: str, records: int, seconds: float = REACH_SECONDS
    ) -> None:
        """Waits until a stage has committed so many records of a topic. Raises AssertionError."""

        def done() -> bool:
            try:
                return sum(self.committed(stage, topic).values()) >= records
            except KafkaException:
                return False

        wait_until(done, f"{stage} has committed {records} of {topic}", seconds)

    def wait_until_idle(self, seconds: float = REACH_SECONDS) -> None:
        """Waits until dedupe has committed every event, and the sink every change."""
        for stage, topic in (("dedupe", "contacts.events"), ("sink", "contacts.changes")):
            count = self.partitions if stage == "dedupe" else 1
            self.wait_committed(
                stage, topic, sum(self.end(topic, number) for number in range(count)), seconds
            )

    def sample(self) -> None:
        """Records what is committed, and then where the result topics end."""
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
        """The verifier's verdict on everything so far."""
        found = read_topics(self.kafka)
        records = [
            record for name in ("Contact", "Lead") for record in self._get(f"/_sim/records/{name}")
        ]
        return verify(
            Evidence(
                acknowledged=self.acknowledged,
                events=found["events"],
                changes=found["changes"],
                outcomes=found["outcomes"],
                refetch=found["refetch"],
                dead_letters=found["dead-letter"],
                writes=writes_from(self._get("/_sim/writes")),
                org=records,
                samples=self.samples,
            )
        )

    def control_org(self, path: str, body: object) -> None:
        """POST to the control plane of the org's simulator."""
        request = urllib.request.Request(self.org + path, json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()

    def org_state(self) -> Any:
        """The counters of the org's simulator."""
        return self._get("/_sim/state")

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(self.org + path, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            return None
