"""Which address a grant belongs to: what events name stays known beyond the next event."""

from typing import Any

import orjson
import pytest

from connectors.nylas.grants import Grant
from streams.grant_addresses import GrantAddress, GrantAddresses, address_record
from streams.kafka.records import KafkaRecord
from streams.reader.grant_events import GrantTable, deleted_record, listed_record, parse_grant_event
from streams.settings import KafkaSettings, load
from streams.topics import topics

TOPICS = topics(load(KafkaSettings, {}))
ADA = GrantAddress("g", "Ada@acme.example", "google")


def webhook(kind: str, grant: str = "g", **fields: Any) -> KafkaRecord:
    value = {"type": kind, "id": "n", "time": 9, "data": {"object": {"grant_id": grant, **fields}}}
    return KafkaRecord("grants.events", grant.encode(), orjson.dumps(value), [])


def compacted(*records: KafkaRecord) -> list[KafkaRecord]:
    """The newest record of each key, in the order of the log."""
    newest = {record.key: number for number, record in enumerate(records)}
    return [record for number, record in enumerate(records) if newest[record.key] == number]


def after(*records: KafkaRecord) -> GrantAddresses:
    table = GrantAddresses()
    for record in records:
        table.apply(record)
    return table


def test_an_address_outlives_a_later_webhook_without_one_in_the_compacted_topic() -> None:
    log = [
        webhook("grant.created", email=ADA.address, provider="google"),
        address_record(TOPICS, ADA, 9),
        webhook("grant.expired"),
    ]
    table = after(*compacted(*log))
    assert table.by_grant == {"g": ADA}
    assert table.address("g") == "ada@acme.example"
    assert table.not_kept() == []


def test_an_address_that_only_an_event_names_is_not_kept_yet() -> None:
    table = after(webhook("grant.expired", email=ADA.address, provider="google"))
    assert table.not_kept() == [ADA]
    table.apply(address_record(TOPICS, ADA, 9))
    assert table.not_kept() == []


@pytest.mark.parametrize("provider", ["google", None])
def test_a_grant_that_changes_its_address_has_the_new_one(provider: str | None) -> None:
    table = after(
        address_record(TOPICS, ADA, 9),
        webhook("grant.updated", email="new@acme.example", provider=provider),
    )
    assert table.address("g") == "new@acme.example"
    assert table.not_kept() == [GrantAddress("g", "new@acme.example", "google")]


def test_a_listing_gives_what_no_record_keeps() -> None:
    table = after(address_record(TOPICS, ADA, 9))
    listed = [Grant("g", "google", "Ada@acme.example"), Grant("h", "ews", ""), Grant("i")]
    new = table.new_in(listed)
    assert new == [GrantAddress("h", "", "ews"), GrantAddress("i", "", "")]
    for one in new:
        table.apply(address_record(TOPICS, one, 9))
    assert table.new_in(listed) == []
    assert table.address("h") == "", "it is known that the grant has none"


def test_an_address_is_unknown_until_something_names_it() -> None:
    table = after(webhook("grant.created"), deleted_record(TOPICS, "g", 7))
    assert table.address("g") is None
    assert table.not_kept() == []


def test_grants_are_found_by_their_address_without_regard_to_case() -> None:
    table = after(
        listed_record(TOPICS, Grant("b", "google", "ada@acme.example"), 7),
        listed_record(TOPICS, Grant("a", "ews", "ADA@acme.example"), 7),
        listed_record(TOPICS, Grant("c", "ews", "bob@acme.example"), 7),
    )
    assert table.grants_of("Ada@acme.example") == ["a", "b"]


def test_a_tombstone_makes_an_address_unknown() -> None:
    kept = address_record(TOPICS, ADA, 9)
    table = after(kept, KafkaRecord(kept.topic, kept.key, None, []))
    assert table.address("g") is None
    assert table.not_kept() == []


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"7", b'{"data": {"object": []}}'])
def test_other_values_of_the_topic_say_nothing(value: bytes | None) -> None:
    assert after(KafkaRecord("grants.events", b"g", value, [])).by_grant == {}


def test_a_kept_address_is_no_event_of_its_grant() -> None:
    record = address_record(TOPICS, ADA, 9)
    assert parse_grant_event(record) is None


def test_a_version_that_does_not_know_the_type_takes_it_for_an_event_without_a_status() -> None:
    """As before the type existed: the key of the record alone tells them apart."""
    record = address_record(TOPICS, ADA, 9)
    event = parse_grant_event(KafkaRecord(record.topic, b"g", record.value, [], 0, 0, 5_000))
    assert event is not None
    assert (event.grant, event.type, event.status, event.action.value) == (
        "g",
        "other",
        None,
        "nothing",
    )
    table = GrantTable()
    table.apply(event)
    assert table.status == {}
