"""The records of pages and deletions that the reader publishes."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events import Origin
from streams.kafka.clients import MAX_MESSAGE_BYTES
from streams.kafka.records import header
from streams.reader.records import contact_hash, deletion_record, page_records
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.letters import failed_record

TOPICS = topics(load(KafkaSettings, {}))


def test_a_page_becomes_events_of_its_grant_versioned_by_its_date_less_the_margin() -> None:
    contacts = [
        {"id": "a/b#c", "grant_id": "g"},
        {"id": "A/B#C"},
        {"id": "d", "grant_id": "an address, say"},
    ]
    records = page_records(TOPICS, "g", Origin.BACKFILL, "req", 10_000, contacts)
    assert [record.key for record in records] == [b"g/a/b#c", b"g/A/B#C", b"g/d"]
    assert {record.topic for record in records} == {TOPICS.events.name}
    assert all(
        b'"time":9400' in (record.value or b"") and b'"grant_id":"g"' in (record.value or b"")
        for record in records
    )
    assert all(header(record.headers, "origin") == b"backfill" for record in records)
    assert len({(record.value or b"").split(b'"id":"')[1] for record in records}) == 3


@pytest.mark.parametrize(
    ("address", "carried"),
    [("Ada@acme.example", b"Ada@acme.example"), ("", None), ("x" * 321, None)],
)
def test_each_event_of_a_page_names_the_address_of_its_grant_where_it_is_known(
    address: str, carried: bytes | None
) -> None:
    records = page_records(
        TOPICS, "g", Origin.BACKFILL, "req", 1, [{"id": "a"}, {"id": "b"}], grant_address=address
    )
    assert [header(record.headers, "grant.address") for record in records] == [carried] * 2


@pytest.mark.parametrize("identity", [None, "", 7, "x" * 3000, "a\x00b", "a\ufffdb"])
def test_a_contact_without_a_usable_id_is_dead_lettered_and_the_others_are_published(
    identity: object,
) -> None:
    records = page_records(
        TOPICS, "g", Origin.BACKFILL, "req", 10_000, [{"id": identity}, {"id": "fine"}]
    )
    assert [record.topic for record in records] == [TOPICS.dead_letter.name, TOPICS.events.name]
    assert header(records[0].headers, "dlq.reason") == b"no_contact_id"
    assert header(records[0].headers, "dlq.stage") == b"reader"


def test_a_contact_larger_than_a_record_is_dead_lettered_with_its_ids_only() -> None:
    large = {"id": "large", "notes": "x" * MAX_MESSAGE_BYTES}
    (record,) = page_records(TOPICS, "g", Origin.BACKFILL, "req", 10_000, [large])
    assert record.topic == TOPICS.dead_letter.name
    assert record.key == b"contacts.events/-/-/g/large", "one letter, however often it is read"
    assert len(record.value or b"") < 1000
    assert header(record.headers, "dlq.reason") == b"too_large"


def nested(levels: int) -> dict[str, Any]:
    return json.loads(b'{"a":' * levels + b"1" + b"}" * levels)  # type: ignore[no-any-return]


def test_a_contact_nested_too_deeply_is_dead_lettered_and_the_others_are_published() -> None:
    deep = {"id": "deep", "more": nested(252)}
    records = page_records(
        TOPICS, "g", Origin.BACKFILL, "req", 10_000, [deep, {"id": "fine", "more": nested(240)}]
    )
    assert [record.topic for record in records] == [TOPICS.dead_letter.name, TOPICS.events.name]
    failed = failed_record(records[0])
    assert failed.key == b"g/deep"
    assert header(records[0].headers, "dlq.reason") == b"too_deep"
    assert orjson.loads(failed.value or b"")["data"]["object"]["id"] == "deep"


def test_a_deletion_carries_its_version() -> None:
    record = deletion_record(TOPICS, "g", "a/b", Origin.RECONCILE, "event", 77)
    assert record.key == b"g/a/b"
    assert b'"type":"contact.deleted"' in (record.value or b"")
    assert b'"time":77' in (record.value or b"")


@given(st.text(), st.text())
def test_different_ids_have_different_hashes(one: str, other: str) -> None:
    assert (contact_hash(one) == contact_hash(other)) == (one == other)
