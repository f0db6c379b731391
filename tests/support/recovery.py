"""A deployment whose operator follows the runbook of disaster recovery, and what it is tried on."""

import itertools
import json
import time
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.salesforce.deleted_records import DeletedRecord, DeletedRecords
from connectors.salesforce.simulator.schema import make_id
from streams.settings import KafkaSettings, load
from streams.sink.deleted_topic import entry_record
from streams.topics import topics
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.product import GRANT, Product, deleted, person, product, updated
from tests.support.runbook import Cluster, Operator, steps
from tests.support.waiting import wait_until

RUNBOOK = "deploy/runbooks/disaster-recovery.md"

# The order of deploy/kubernetes/rollout.sh.
ROLLOUT = ("sink", "dedupe", "reader", "bridge")

# What one part of a test waits for: a session that runs out, a switch, or everything read again.
SECONDS = 120.0

# The notifications are older than every page that is read: pages count as ten minutes older.
BASE = int(time.time()) - 86_400
PEOPLE = 12
LEAVER = 11
DAY = {number: 3 for number in range(PEOPLE) if number != LEAVER}
"""Who is in the address book after the first day, and at which version."""
FIELDS = ("LastName", "Email", "Title", "Nylas_Version__c", "Nylas_Contact_Id__c")


def contact(number: int, version: int) -> dict[str, Any]:
    """A contact of the address book; its title names its version."""
    return person(
        f"c{number}",
        f"p{number}@firm{number}.example",
        surname=f"Person{number}",
        job_title=f"Title {version}",
    )


class Deployment:
    """The stages as the manifests run them, and their operator."""

    def __init__(self, running: Product, folder: Path) -> None:
        self.running = running
        self.kafka = running.kafka
        self.settings: dict[str, str] = {}
        """What was put into settings.env: for pods that start, and for the operator's commands."""
        workloads = {f"contactstream-{stage}": self.settings for stage in ROLLOUT}
        self.cluster = Cluster(running.processes, workloads)
        self.operator = Operator(
            self.cluster,
            ChainMap(self.settings, running.processes.environ),
            running.kafka.prefix,
            folder,
            {
                "deploy/kubernetes/rollout.sh": lambda _: self.roll_out(),
                "kafka-consumer-groups.sh": self._reset_offsets,
            },
        )

    def follow(self, section: str, key: str = "") -> Iterator[str]:
        """Carries out the commands of a section, and yields each once it is done.

        `key` is what the operator types where the page says KEY.
        """
        typed = [
            replace(step, command=step.command.replace("--key KEY", f"--key {key}"))
            for step in steps(RUNBOOK, section)
        ]
        for step in self.operator.follow(typed):
            yield step.command

    def stop(self, *stages: str) -> None:
        """Stops the pods of these stages."""
        for stage in stages:
            self.scale(stage, 0)

    def roll_out(self, *stages: str) -> None:
        """Replaces the pods of these stages, or of all, as rollout.sh does."""
        for stage in stages or ROLLOUT:
            self.scale(stage, 0)
            self.scale(stage, 1)
            workload = f"deployment/contactstream-{stage}"
            self.cluster.kubectl("rollout", "status", workload, f"--timeout={SECONDS:.0f}s")
            self.running.stages[stage] = self.cluster.pods[f"contactstream-{stage}"][-1]

    def scale(self, stage: str, replicas: int) -> None:
        """Starts or stops pods of a stage; returns once those that stop have ended."""
        name = f"contactstream-{stage}"
        self.cluster.kubectl("scale", f"deployment/{name}", f"--replicas={replicas}")
        if not replicas:
            selector = f"--selector=app.kubernetes.io/component={stage}"
            timeout = f"--timeout={SECONDS:.0f}s"
            self.cluster.kubectl("wait", "pod", "--for=delete", selector, timeout)

    def _reset_offsets(self, words: Sequence[str]) -> None:
        """Kafka's tool, as far as the runbook uses it: --reset-offsets --to-earliest."""
        given = dict(itertools.pairwise(words))
        assert words[-3:] == ["--reset-offsets", "--to-earliest", "--execute"]
        commit_start(self.kafka, given["--group"], given["--topic"])

    def change_book(self, **changes: Any) -> None:
        """Changes the address book without a notification."""
        body = {"grant_id": GRANT, "notify": False, **changes}
        answer = self.running.http.post(f"{self.running.nylas}/_sim/contacts", json=body)
        answer.raise_for_status()

    def live_through_a_day(self) -> None:
        """Three versions of everybody arrive, some of them late; one contact is deleted."""
        everybody = range(PEOPLE)
        self.running.notify(
            [updated(contact(number, 1), BASE + 1, f"n1-{number}") for number in everybody]
        )
        self.wait_outcomes(1)
        self.running.notify(
            [
                updated(contact(number, version), BASE + version, f"n{version}-{number}")
                for number in everybody
                for version in (3, 2)
            ]
            + [deleted(f"c{LEAVER}", BASE + 4, "leaver")]
        )
        self.wait_outcomes(3)
        self.change_book(upsert=[contact(number, version) for number, version in DAY.items()])

    def wait_outcomes(self, version: int) -> None:
        """Waits until everybody's newest state is in the org."""
        for number in range(PEOPLE):
            self.running.outcome(f"c{number}", BASE + version)
        self.wait_idle()

    def wait_idle(self) -> None:
        """Waits until dedupe and the sink have taken everything."""
        generation = self.settings.get("KAFKA_DEDUPE_GENERATION", "1")
        dedupe = "dedupe" if generation == "1" else f"dedupe-{generation}"
        for stage, topic in ((dedupe, "contacts.events"), ("sink", "contacts.changes")):
            wait_until(
                lambda stage=stage, topic=topic: taken(self.kafka, stage, topic),  # type: ignore[misc]
                f"{stage} has taken all of {topic}",
                SECONDS,
            )

    def org(self) -> list[tuple[Any, ...]]:
        """Every person of the org: the fields that contactstream writes."""
        found = [*self.running.records("Contact"), *self.running.records("Lead")]
        return sorted(tuple(str(each.get(name)) for name in FIELDS) for each in found)

    def titles(self) -> dict[str, str]:
        """The title of each person who is in an address book, by address.

        Raises AssertionError when an address is in the org twice.
        """
        rows = self.org()
        addresses = [address for _, address, *_ in rows]
        assert len(addresses) == len(set(addresses)), rows
        return {address: title for _, address, title, _, key in rows if key != "None"}

    def writes(self) -> int:
        """How many rows the org has written."""
        answer = self.running.http.get(f"{self.running.salesforce}/_sim/writes")
        answer.raise_for_status()
        return len(answer.json())


def titles_of(versions: Mapping[int, int]) -> dict[str, str]:
    """What `Deployment.titles` has of contacts, given by their numbers with their versions."""
    return {
        f"p{number}@firm{number}.example": f"Title {version}"
        for number, version in versions.items()
    }


@contextmanager
def deployment(kafka: Kafka, folder: Path) -> Iterator[Deployment]:
    """A deployment of all stages that has lived through a day, with an empty org before."""
    environ = {"READER_RECONCILE_EVERY": "0"}
    grants = [{"id": GRANT, "email": "rep@our-team.example", "provider": "google"}]
    without = ("bridge", "reader", "dedupe", "sink")
    with product(kafka, folder, org={}, grants=grants, environ=environ, without=without) as running:
        own = Deployment(running, folder)
        own.roll_out()
        own.live_through_a_day()
        yield own


def taken(kafka: Kafka, stage: str, topic: str) -> bool:
    """Whether the group of a stage has committed the end of each partition that has records."""
    ends: dict[int, int] = {}
    for found in kafka.read(topic):
        ends[found.partition] = found.offset + 1
    committed = kafka.committed(kafka.name(f"contactstream-{stage}"), topic)
    return all(committed[partition] >= end for partition, end in ends.items())


def lose_offsets(kafka: Kafka, *stages: str) -> None:
    """Deletes the groups of stages that have stopped."""
    admin = kafka.admin()  # kept: a client that is garbage-collected drops its requests
    for stage in stages:
        name = kafka.name(f"contactstream-{stage}")

        def deleted_group(name: str = name) -> bool:
            try:
                admin.delete_consumer_groups([name])[name].result(REQUEST_SECONDS)
            except KafkaException as error:
                if error.args[0].name() != "NON_EMPTY_GROUP":  # a member's session runs out
                    raise
                return False
            return True

        wait_until(deleted_group, f"{name} is deleted", SECONDS)


def commit_start(kafka: Kafka, group: str, topic: str) -> None:
    """Commits the start of each partition of a topic for a group without members."""
    own = {"bootstrap.servers": kafka.bootstrap, "group.id": kafka.name(group)}
    consumer = Consumer(own)
    try:
        name = kafka.name(topic)
        found = consumer.list_topics(name, timeout=REQUEST_SECONDS).topics[name].partitions
        partitions = [TopicPartition(name, number) for number in found]
        starts = [
            TopicPartition(name, each.partition, consumer.get_watermark_offsets(each)[0])
            for each in partitions
        ]
        consumer.commit(offsets=starts, asynchronous=False)
    finally:
        consumer.close()


def mirror(source: Kafka, target: Kafka, topic: str) -> None:
    """Copies the records of a topic to the same partitions of the topic in another cluster.

    As a mirror that was started twice: it repeats its first records, so that offsets differ.
    """
    found = source.read(topic)
    by_partition: dict[int, list[Any]] = {}
    for each in found:
        by_partition.setdefault(each.partition, []).append(each)
    for records in by_partition.values():
        for each in (*records[:3], *records):
            target.produce(topic, [(each.key, each.value)], list(each.headers.items()))


def remember_deletion(kafka: Kafka, number: int) -> None:
    """Writes what the sink's daily sweep writes for a record that people deleted."""
    names, known = topics(load(KafkaSettings, kafka.environ)), DeletedRecords()
    record_id = make_id("00Q", 900 + number)
    gone = DeletedRecord(f"{GRANT}/c{number}", record_id, None, BASE + 10, ())
    written = [entry_record(names, entry) for entry in (known.salt, gone)]
    kafka.produce("sink.deleted-records", [(record.key, record.value) for record in written])


def last_outcome(kafka: Kafka, contact_id: str) -> tuple[str, str]:
    """The last outcome of a contact, and its reason."""
    last: dict[str, Any] = {}
    for found in kafka.read("contacts.outcomes"):
        if found.key == f"{GRANT}/{contact_id}".encode():
            last = json.loads(found.value or b"{}")
    return last.get("outcome", ""), last.get("reason") or ""
