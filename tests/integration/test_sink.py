"""The sink on a real Kafka and a strict org: every change ends on a topic, even under faults."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from streams.events import Kind, change_headers
from streams.journal import parse_journal
from streams.kafka.records import KafkaRecord
from tests.support.kafka import Kafka
from tests.support.product import GRANT, Product, person, product
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def running(kafka: Kafka, tmp_path: Path) -> Iterator[Product]:
    """The sink and the org; the test writes to contacts.changes itself."""
    with product(kafka, tmp_path, org={}, without=("bridge", "reader", "dedupe")) as one:
        yield one


def change(
    running: Product, contact_id: str, version: int, *, kind: Kind = Kind.UPDATED, **fields: Any
) -> None:
    contact = person(contact_id, f"{contact_id}@{contact_id}.example", **fields)
    headers = change_headers(kind, version, "f" * 32, "m", b"webhook", b"1700000000000")
    running.kafka.produce(
        "contacts.changes",
        [(f"{GRANT}/{contact_id}".encode(), json.dumps(contact).encode())],
        headers,
    )


def changes(running: Product, count: int, version: int = 1) -> None:
    records: list[tuple[bytes | None, bytes | None]] = [
        (
            f"{GRANT}/p{n}".encode(),
            json.dumps(person(f"p{n}", f"p{n}@p{n}.example", surname=f"P{n}")).encode(),
        )
        for n in range(count)
    ]
    running.kafka.produce(
        "contacts.changes",
        records,
        change_headers(Kind.UPDATED, version, "f" * 32, "m", b"webhook", b"0"),
    )


def committed(running: Product) -> int:
    """The sink's committed offset; -1001 before the first."""
    consumer = Consumer(
        {
            "bootstrap.servers": running.kafka.bootstrap,
            "group.id": f"{running.kafka.prefix}contactstream-sink",
        }
    )
    try:
        where = TopicPartition(running.kafka.name("contacts.changes"), 0)
        return int(consumer.committed([where], timeout=10)[0].offset)
    finally:
        consumer.close()


def faults(running: Product, *listed: dict[str, Any]) -> None:
    running.http.post(
        f"{running.salesforce}/_sim/faults", json={"faults": list(listed)}
    ).raise_for_status()


def test_of_several_changes_in_a_batch_the_highest_version_wins_even_if_it_came_first(
    running: Product,
) -> None:
    for version, title in ((5, "five"), (9, "nine"), (7, "seven")):
        change(running, "one", version, job_title=title)
    outcome = running.outcome("one", 9)
    assert outcome["version"] == 9
    (lead,) = running.records("Lead", Email="one@one.example")
    assert (lead["Title"], lead["Nylas_Version__c"]) == ("nine", 9)
    wait_until(lambda: committed(running) == 3, "all three changes are committed")


def test_each_replaced_value_is_journalled_before_it_is_replaced_and_then_as_done(
    running: Product,
) -> None:
    change(running, "one", 1, job_title="Engineer")
    running.outcome("one", 1)
    change(running, "one", 2, job_title="Analyst")
    running.outcome("one", 2)
    change(running, "one", 3, job_title="Analyst")
    running.outcome("one", 3)
    read = running.kafka.read("contacts.journal")
    entries = [parse_journal(KafkaRecord("", found.key, found.value, [])) for found in read]
    (lead,) = running.records("Lead", Email="one@one.example")
    assert len({found.key for found in read}) == 2, "it is one entry, written again"
    assert [
        (one.kind.value, one.record_id, one.field, one.old, one.new, one.contact_key, one.version)
        for one in entries
        if one
    ] == [
        ("created", lead["Id"], "", None, None, f"{GRANT}/one", 1),
        ("intended", lead["Id"], "Title", "Engineer", "Analyst", f"{GRANT}/one", 2),
        ("replaced", lead["Id"], "Title", "Engineer", "Analyst", f"{GRANT}/one", 2),
    ]


def test_a_replaced_value_is_known_although_the_answer_of_the_org_was_lost(
    running: Product,
) -> None:
    change(running, "one", 1, job_title="Engineer")
    running.outcome("one", 1)
    faults(running, {"effect": "status_after", "status": 500, "kind": "composite_write"})
    change(running, "one", 2, job_title="Analyst")
    assert running.outcome("one", 2)["outcome"] == "unchanged", "the org had written it"
    entries = [
        parse_journal(KafkaRecord("", found.key, found.value, []))
        for found in running.kafka.read("contacts.journal")
    ]
    assert [(one.kind.value, one.old, one.new) for one in entries[1:] if one] == [
        ("intended", "Engineer", "Analyst")
    ]


def test_an_older_change_that_comes_later_is_stale_in_the_org(running: Product) -> None:
    change(running, "one", 9, job_title="nine")
    running.outcome("one", 9)
    change(running, "one", 5, job_title="five")
    wait_until(lambda: committed(running) == 2, "both changes are committed")
    last = json.loads(running.kafka.read("contacts.outcomes")[-1].value or b"")
    assert (last["outcome"], last["version"]) == ("stale", 5)
    assert running.records("Lead", Email="one@one.example")[0]["Title"] == "nine"


def test_a_row_that_can_never_succeed_is_dead_lettered_unchanged_and_others_go_on(
    running: Product,
) -> None:
    faults(
        running,
        {
            "effect": "rows",
            "kind": "composite_write",
            "code": "FIELD_CUSTOM_VALIDATION_EXCEPTION",
            "contains": "bad@bad",
        },
    )
    change(running, "bad", 1)
    (letter,) = wait_until(running.dead_letters, "a dead letter")
    (original,) = running.kafka.read("contacts.changes")
    assert (letter.key, letter.value) == (original.key, original.value)
    assert letter.headers["dlq.stage"] == b"sink"
    assert b"FIELD_CUSTOM_VALIDATION_EXCEPTION" in letter.headers["dlq.detail"]
    assert letter.headers["version"] == b"1"
    change(running, "good", 1)
    assert running.outcome("good", 1)["outcome"] == "created"
    wait_until(lambda: committed(running) == 2, "both changes are committed")


def test_a_record_that_is_no_change_is_dead_lettered_and_a_tombstone_is_skipped(
    running: Product,
) -> None:
    running.kafka.produce(
        "contacts.changes", [(b"\xff", b"\xff\xfe"), (f"{GRANT}/erased".encode(), None)]
    )
    change(running, "after", 1)
    running.outcome("after", 1)
    (letter,) = running.dead_letters()
    assert (letter.value, letter.headers["dlq.reason"]) == (b"\xff\xfe", b"not_a_change")
    wait_until(lambda: committed(running) == 3, "all three are committed")


def fault_id(fault: dict[str, Any]) -> str:
    named = ("effect", "status", "body", "code")
    return "-".join(str(value) for name, value in fault.items() if name in named)


@pytest.mark.parametrize(
    "fault",
    [
        {"effect": "status", "status": 503, "retry_after": 1},
        {"effect": "status", "status": 503, "body": "html", "retry_after": 1},
        {
            "effect": "status",
            "status": 403,
            "code": "REQUEST_LIMIT_EXCEEDED",
            "message": "TotalRequests Limit exceeded.",
            "retry_after": 1,
        },
        {"effect": "reset"},
        {"effect": "cut_after", "kind": "composite_write"},
        {"effect": "short", "kind": "composite_write"},
        {"effect": "expire"},
    ],
    ids=fault_id,
)
def test_a_fault_of_the_whole_org_pauses_and_never_dead_letters(
    running: Product, fault: dict[str, Any]
) -> None:
    change(running, "first", 1)
    running.outcome("first", 1)
    faults(running, {**fault, "times": 2})
    changes(running, 300)
    wait_until(lambda: committed(running) == 301, "everything is committed after the fault", 60)
    assert running.dead_letters() == []
    assert len(running.records("Lead")) == 301
    assert len({record.key for record in running.kafka.read("contacts.outcomes")}) == 301


def test_a_sink_that_waits_for_the_org_is_not_ready_and_keeps_its_partition(
    running: Product,
) -> None:
    """The org is probed once a second: eight refusals are four sessions of two seconds."""
    running.stages["sink"].stop()
    short = {"SINK_SESSION_TIMEOUT": "2"}
    running.stages["sink"] = running.processes.start("sink", environ=short).wait_ready()
    change(running, "first", 1)
    running.outcome("first", 1)
    faults(running, {"effect": "status", "status": 503, "retry_after": 1, "times": None})
    change(running, "waits", 1)
    sink = running.stages["sink"]
    wait_until(lambda: sink.ask("/readyz")[0] == 503, "the sink is not ready")
    assert "salesforce: maintenance" in sink.ask("/readyz")[1]
    assert sink.ask("/livez")[0] == 200, "a restart would not help"
    wait_until(lambda: _refused(running) >= 8, "the org was probed for several sessions", 60)
    running.http.delete(f"{running.salesforce}/_sim/faults").raise_for_status()
    assert running.outcome("waits", 1)["outcome"] == "created"
    assert sink.ask("/readyz")[0] == 200
    assert sink.log.count('"assigned"') == 1
    assert '"lost"' not in sink.log
    assert '"revoked"' not in sink.log


def _refused(running: Product) -> int:
    return int(
        running.http.get(f"{running.salesforce}/_sim/state").json()["faults"].get("status", 0)
    )


def test_a_killed_sink_repeats_work_and_creates_no_duplicates(running: Product) -> None:
    running.http.post(
        f"{running.salesforce}/_sim/settings", json={"latency_ms_call": 100, "latency_ms_row": 1}
    ).raise_for_status()
    changes(running, 5000)
    for done in (1000, 3000):
        wait_until(lambda done=done: len(running.records("Lead")) >= done, f"{done} leads")  # type: ignore[misc]
        running.stages["sink"].kill()
        running.stages["sink"] = running.processes.start(
            "sink", environ={"SINK_SESSION_TIMEOUT": "6"}
        )
    wait_until(lambda: committed(running) == 5000, "everything is committed", 90)
    leads = running.records("Lead")
    assert len(leads) == len({lead["Email"] for lead in leads}) == 5000
    assert len({record.key for record in running.kafka.read("contacts.outcomes")}) == 5000
    assert running.dead_letters() == []


def test_a_sink_that_was_paused_when_it_lost_its_partition_goes_on_when_it_has_it_again(
    running: Product,
) -> None:
    running.stages["sink"].stop()
    short = {"SINK_SESSION_TIMEOUT": "2", "SINK_MAX_UNFINISHED": "1000", "SINK_BATCH_SIZE": "200"}
    sink = running.stages["sink"] = running.processes.start("sink", environ=short).wait_ready()
    change(running, "first", 1)
    running.outcome("first", 1)
    faults(running, {"effect": "status", "status": 503, "retry_after": 1, "times": None})
    changes(running, 3000)
    wait_until(lambda: sink.ask("/readyz")[0] == 503, "the sink waits for the org")
    sink.pause()
    wait_until(lambda: not _members(running), "the group has nobody left")
    running.http.delete(f"{running.salesforce}/_sim/faults").raise_for_status()
    sink.resume()
    wait_until(lambda: committed(running) == 3001, "everything is committed", 60)
    assert "lost" in sink.log


def _members(running: Product) -> int:
    name = f"{running.kafka.prefix}contactstream-sink"
    admin = running.kafka.admin()
    return len(admin.describe_consumer_groups([name], request_timeout=10)[name].result().members)
