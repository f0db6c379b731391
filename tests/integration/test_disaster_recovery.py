"""Each loss of the runbook of disaster recovery, on a real Kafka, with the commands of the page."""

from pathlib import Path

import pytest

from deploy.local.broker import Broker
from streams.kafka.admin import create
from streams.runtime.exit_codes import ExitCode
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.product import GRANT, updated
from tests.support.recovery import (
    BASE,
    DAY,
    SECONDS,
    Deployment,
    contact,
    deployment,
    last_outcome,
    lose_offsets,
    mirror,
    remember_deletion,
    titles_of,
)
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.system, pytest.mark.timeout(600)]

CHANGELOG = "contactstream-dedupe-seen-changelog"
LEAST = ("contacts.changes", "sink.deleted-records")
MORE = (*LEAST, "contacts.events", "grants.events")


def test_lost_offsets_lose_nothing_and_bring_back_nothing_old(kafka: Kafka, tmp_path: Path) -> None:
    with deployment(kafka, tmp_path) as own:
        before, writes = own.org(), own.writes()
        forwarded = len(kafka.read("contacts.changes"))
        own.stop("reader", "dedupe", "sink")
        own.running.notify([updated(contact(0, 5), BASE + 5, "while stopped")])
        lose_offsets(kafka, "reader", "reader-work", "dedupe", "sink")
        own.roll_out("sink", "dedupe", "reader")
        own.running.outcome("c0", BASE + 5)
        own.wait_idle()
        assert own.titles() == titles_of(DAY | {0: 5})
        assert len(own.org()) == len(before)
        assert own.writes() == writes + 1, "the sink writes only what is new"
        changes = kafka.read("contacts.changes")
        assert len(changes) == forwarded + 1, "dedupe forwards nothing twice"
        assert not own.running.dead_letters()


def test_a_lost_table_and_then_the_lost_offsets_of_its_successor(
    kafka: Kafka, tmp_path: Path
) -> None:
    with deployment(kafka, tmp_path) as own:
        before = own.org()
        lose_topic(kafka, CHANGELOG)
        worker = own.cluster.pods["contactstream-dedupe"][-1]
        assert worker.popen.wait(SECONDS) == ExitCode.TOPIC_REPLACED
        own.change_book(upsert=[contact(1, 6)])
        for command in own.follow("The table of dedupe is lost"):
            if "switch" in command:
                own.settings["KAFKA_DEDUPE_GENERATION"] = "2"
            if "rollout" in command:
                own.running.notify([updated(contact(2, 2), BASE + 2, "late")])
                own.wait_idle()
                assert own.org() == before, "what the lost table knew for old is old"
        own.wait_idle()
        assert own.titles() == titles_of(DAY | {1: 6})

        forwarded = len(kafka.read("contacts.changes"))
        own.stop("dedupe")
        lose_offsets(kafka, "dedupe-2")
        own.scale("dedupe", 1)
        worker = own.cluster.pods["contactstream-dedupe"][-1]
        wait_until(
            lambda: "generation 2 has no offsets yet" in worker.ask("/readyz")[1],
            "the worker waits",
            SECONDS,
        )
        for command in own.follow("Committed offsets are lost"):
            if command.startswith("kafka-consumer-groups.sh"):
                worker.wait_ready(SECONDS)
                own.wait_idle()
        assert len(kafka.read("contacts.changes")) == forwarded, "nothing is forwarded twice"
        assert own.titles() == titles_of(DAY | {1: 6})


def test_a_changelog_that_is_only_created_again_lets_old_events_pass_and_the_org_refuses_them(
    kafka: Kafka, tmp_path: Path
) -> None:
    with deployment(kafka, tmp_path) as own:
        before, forwarded = own.org(), len(kafka.read("contacts.changes"))
        own.stop("dedupe")
        lose_topic(kafka, CHANGELOG)
        every = topics(load(KafkaSettings, kafka.environ)).all()
        create(kafka.admin(), [each for each in every if each.name.endswith(CHANGELOG)])
        own.roll_out("dedupe")
        own.running.notify([updated(contact(2, 2), BASE + 2, "late")])
        own.wait_idle()
        assert len(kafka.read("contacts.changes")) == forwarded + 1
        assert own.org() == before


def lose_topic(kafka: Kafka, topic: str) -> None:
    admin = kafka.admin()  # kept: a client that is garbage-collected drops its requests
    name = kafka.name(topic)
    admin.delete_topics([name])[name].result(REQUEST_SECONDS)


@pytest.mark.parametrize("mirrored", [LEAST, MORE], ids=["least", "more"])
def test_a_lost_cluster_goes_on_in_the_mirror(
    own_broker: Broker, kafka: Kafka, tmp_path: Path, mirrored: tuple[str, ...]
) -> None:
    old = Kafka(own_broker.bootstrap, kafka.prefix)
    with deployment(old, tmp_path) as own:
        remove(own, 5)  # so long ago that only the topic remembers it
        empty_recycle_bin(own)
        remember_deletion(old, 5)
        every = topics(load(KafkaSettings, kafka.environ)).all()
        create(kafka.admin(), [each for each in every if each.name.endswith(mirrored)])
        for topic in mirrored:
            mirror(old, kafka, topic)
        # The mirror gets nothing of what comes from now on.
        newest = [contact(0, 5), contact(20, 1)]
        own.change_book(upsert=newest)
        own.running.notify([updated(each, BASE + 5, f"gap-{each['id']}") for each in newest])
        for each in newest:
            own.running.outcome(each["id"], BASE + 5)
        lose_cluster(own, own_broker)
        own.change_book(upsert=[contact(2, 7), contact(21, 1)], delete=["c3"])

        own.kafka = own.running.kafka = kafka
        own.settings["KAFKA_BOOTSTRAP_SERVERS"] = kafka.bootstrap
        for command in own.follow("The Kafka cluster is lost"):
            if "switch" in command:
                own.settings["KAFKA_DEDUPE_GENERATION"] = "2"
            if "rollout" in command:
                own.wait_idle()
                kept = {number: 3 for number in DAY if number != 5} | {0: 5, 20: 1}
                assert own.titles() == titles_of(kept), "nothing older is written"
        own.wait_idle()
        book = {number: version for number, version in kept.items() if number != 3}
        wait_until(
            lambda: own.titles() == titles_of(book | {2: 7, 21: 1}),
            "the org equals the address book, but for who was deleted in the org on purpose",
            SECONDS,
        )
        assert last_outcome(kafka, "c5") == ("skipped", "deleted_in_salesforce")


def lose_cluster(own: Deployment, broker: Broker) -> None:
    """The only broker is gone, and so are the pods, which would wait for it for ever."""
    broker.kill()
    for pods in own.cluster.pods.values():
        for pod in pods:
            pod.kill()


def test_an_org_that_lost_data_gets_it_back(kafka: Kafka, tmp_path: Path) -> None:
    with deployment(kafka, tmp_path) as own:
        remove(own, 0, 1)
        empty_recycle_bin(own)
        remove(own, 2)  # on purpose
        change(own, 3, Title="Somebody's")
        change(own, 4, Title="Title 1", Nylas_Version__c=BASE + 1)
        followed = own.follow("The org lost data", key=f"{GRANT}/c2")
        assert "--execute" not in next(followed)
        assert len(own.titles()) == len(DAY) - 3, "the first command only counts"
        assert "--execute" in next(followed)
        own.wait_idle()
        assert "--restore Title" in next(followed)
        own.wait_idle()
        without = {number: version for number, version in DAY.items() if number != 2}
        wait_until(
            lambda: own.titles() == titles_of(without),
            "everybody is back but the one who was deleted on purpose",
            SECONDS,
        )
        assert last_outcome(kafka, "c2") == ("skipped", "deleted_in_salesforce")
        assert "deletions lift" in next(followed)
        own.roll_out("sink")  # in place of the minute until the running one has read the lift
        list(followed)
        own.wait_idle()
        wait_until(lambda: own.titles() == titles_of(DAY), "the last one is back", SECONDS)


def record_of(own: Deployment, number: int) -> str:
    (address,) = titles_of({number: 0})
    (record,) = own.running.records("Lead", Email=address)
    return f"{own.running.salesforce}/_sim/records/Lead/{record['Id']}"


def remove(own: Deployment, *numbers: int) -> None:
    for number in numbers:
        own.running.http.delete(record_of(own, number)).raise_for_status()


def empty_recycle_bin(own: Deployment) -> None:
    own.running.http.post(f"{own.running.salesforce}/_sim/recycle-bin/empty").raise_for_status()


def change(own: Deployment, number: int, **values: object) -> None:
    own.running.http.patch(record_of(own, number), json=values).raise_for_status()
