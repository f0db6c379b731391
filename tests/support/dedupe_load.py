"""Numbered versions of many contacts for the dedupe stage, and what it made of them."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import orjson
from confluent_kafka import KafkaError, Producer

from tests.support.kafka import REQUEST_SECONDS, Found, GroupObserver, Kafka
from tests.support.waiting import wait_until

TOPICS = (
    "contacts.changes",
    "contacts.refetch",
    "contacts.outcomes",
    "contacts.dead-letter",
    "grants.events",
    "contactstream.control",
    "reader.runs",
    "contactstream.suppression",
)


def create_topics(kafka: Kafka, partitions: int) -> None:
    """What the stage needs, in the plain."""
    kafka.create("contacts.events", partitions)
    kafka.create("contactstream-dedupe-seen-changelog", partitions, {"cleanup.policy": "compact"})
    for topic in TOPICS:
        kafka.create(topic)


def environ(kafka: Kafka, partitions: int, session: float = 10.0) -> dict[str, str]:
    """A stage's environment for these topics.

    A worker that is starved for half a `session` (seconds) ends itself.
    """
    return kafka.environ | {
        "KAFKA_EVENTS_PARTITIONS": str(partitions),
        "DEDUPE_SESSION_TIMEOUT": str(session),
    }


def event(contact: int, version: int, *, id_: str = "") -> tuple[bytes, bytes]:
    """Key and value; every version says something else."""
    person = {
        "grant_id": f"g{contact % 3}",
        "id": f"c{contact}",
        "object": "contact",
        "given_name": f"Name {version}",
    }
    envelope = {
        "specversion": "1.0",
        "type": "contact.updated",
        "source": "/google",
        "id": id_ or f"{contact}-{version}",
        "time": 1_700_000_000 + version,
        "data": {"application_id": "a", "object": person},
    }
    return f"g{contact % 3}/c{contact}".encode(), orjson.dumps(envelope)


def versions_of(contacts: int, version: int) -> Iterator[tuple[bytes, bytes]]:
    """One version of every contact, and of every fifth a second time, as a retry."""
    for contact in range(contacts):
        made = event(contact, version)
        yield made
        if contact % 5 == 0:
            yield made


@dataclass
class Account:
    """What stands in contacts.changes."""

    versions: dict[bytes, list[int]] = field(default_factory=lambda: defaultdict(list))

    def missing(self, contacts: int, versions: int) -> list[tuple[int, int]]:
        """Versions that were sent, were news, and are nowhere."""
        return [
            (contact, version)
            for contact in range(contacts)
            for version in range(versions)
            if version not in set(self.versions[f"g{contact % 3}/c{contact}".encode()])
        ]

    def not_last(self, versions: int) -> list[bytes]:
        """Contacts whose last change is not the newest one."""
        return [key for key, found in self.versions.items() if found[-1] != versions - 1]

    @property
    def duplicates(self) -> int:
        """Changes forwarded more than once: what crashes cost."""
        return sum(len(found) - len(set(found)) for found in self.versions.values())

    @property
    def backwards(self) -> int:
        """Times that an older version followed a newer one of the same contact."""
        return sum(
            after < before for found in self.versions.values() for before, after in pairwise(found)
        )


def account(changes: Sequence[Found]) -> Account:
    """The changes, contact by contact in the order of the topic."""
    made = Account()
    for change in changes:
        made.versions[change.key or b""].append(int(change.headers["version"]) - 1_700_000_000)
    return made


def committed(kafka: Kafka) -> dict[int, int]:
    """The stage's committed offsets."""
    return kafka.committed(f"{kafka.prefix}contactstream-dedupe", "contacts.events")


def wait_done(kafka: Kafka, sent: int, seconds: float = 120.0) -> None:
    """Until the stage has committed every event."""
    observer = GroupObserver(kafka, f"{kafka.prefix}contactstream-dedupe", "contacts.events")
    try:
        wait_until(
            lambda: sum(max(0, each) for each in observer.committed().values()) >= sent,
            f"{sent} events committed",
            seconds,
        )
    finally:
        observer.close()


def changes_end(kafka: Kafka) -> int:
    """How many records contacts.changes has taken so far."""
    observer = GroupObserver(kafka, "nobody", "contacts.changes")
    try:
        return observer.end()
    finally:
        observer.close()


def wait_changes(kafka: Kafka, records: int, seconds: float = 90.0) -> None:
    """Until contacts.changes has taken so many records: the stage is in the middle of its work."""
    observer = GroupObserver(kafka, "nobody", "contacts.changes")
    try:
        wait_until(lambda: observer.end() >= records, f"{records} changes", seconds)
    finally:
        observer.close()


class Load:
    """Produces round after round in a thread while a test disturbs the stage.

    It produces at most `rate` events a second.

    A round is the next version of every contact, or what `events_of` makes of the number of
    contacts and that of the round. The one under way at the end of the block is the last; then
    `sent` and `versions` are what there is in all.
    """

    def __init__(
        self,
        kafka: Kafka,
        contacts: int,
        rate: float,
        events_of: Callable[[int, int], Iterator[tuple[bytes, bytes]]] = versions_of,
    ) -> None:
        self._kafka, self._contacts, self._rate = kafka, contacts, rate
        self._events_of = events_of
        self.sent = 0
        """Events so far."""
        self.versions = 0
        """Rounds so far."""
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._produce, name="load", daemon=True)
        self._unsent = 0

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()
        assert self._unsent == 0, "the load itself was not acknowledged"

    def _produce(self) -> None:
        config = {
            "bootstrap.servers": self._kafka.bootstrap,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
        }
        producer = Producer(config)
        began = time.monotonic()
        while not self._enough.is_set():
            for key, value in self._events_of(self._contacts, self.versions):
                if self.sent % 100 == 0:
                    time.sleep(max(0.0, self.sent / self._rate - (time.monotonic() - began)))
                producer.produce(
                    self._kafka.name("contacts.events"),
                    value,
                    key,
                    headers=[("origin", b"webhook")],
                    on_delivery=self._noted,
                )
                producer.poll(0)
                self.sent += 1
            self.versions += 1
        self._unsent += producer.flush(REQUEST_SECONDS)

    def _noted(self, error: KafkaError | None, _: object) -> None:
        self._unsent += error is not None
