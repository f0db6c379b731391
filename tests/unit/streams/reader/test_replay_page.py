"""What a replay publishes for the records of its source."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events import Kind, Origin, change_headers, event_headers, page_envelope
from streams.kafka.records import KafkaRecord, header
from streams.reader import replay_page
from streams.reader.replay import contacts_of_outcomes
from streams.reader.replay_page import SelectedContacts, candidate_of, next_page, replayed
from streams.runs import Replay, ReplaySource
from streams.selection import Selection
from streams.settings import KafkaSettings, load
from streams.topics import topics

TOPICS = topics(load(KafkaSettings, {}))
BASE = 1_760_000_000
REPLAY = Replay(ReplaySource.EVENTS, Selection(), (3,))


def event(
    offset: int, key: str = "g/c", origin: Origin = Origin.WEBHOOK, **more: Any
) -> KafkaRecord:
    grant, _, contact = key.partition("/")
    body = {"grant_id": grant, "id": contact, "emails": [{"email": f"{contact}@x.example"}]}
    value = page_envelope(origin, f"n{offset}", BASE + offset, body, **more)
    headers = event_headers(origin, (BASE + offset) * 1000)
    return KafkaRecord(TOPICS.events.name, key.encode(), value, headers, 0, offset)


def change(offset: int, key: str, kind: Kind = Kind.UPDATED) -> KafkaRecord:
    grant, _, contact = key.partition("/")
    value = orjson.dumps({"grant_id": grant, "id": contact, "given_name": "Ada"})
    headers = change_headers(kind, BASE, "f", "m", b"webhook", b"%d" % (BASE * 1000))
    return KafkaRecord(TOPICS.changes.name, key.encode(), value, headers, 0, offset)


def pages(
    records: Sequence[KafkaRecord],
    end: int,
    source: ReplaySource = ReplaySource.EVENTS,
    selection: Selection | None = None,
    selected: SelectedContacts | None = None,
) -> list[list[KafkaRecord]]:
    """Every page of a replay, read as the reader reads them."""
    replay = Replay(source, selection or Selection(), (end,))
    found, start, done = [], 0, False
    while not done:
        rest = [record for record in records if record.offset >= start]
        page = next_page(TOPICS, "r1", replay, selected or SelectedContacts(), rest, start, end)
        assert page.done or page.next_offset > start, "it goes on"
        found.append(page.records)
        start, done = page.next_offset, page.done
    return found


def test_an_event_keeps_its_value_and_the_time_of_its_receipt() -> None:
    source = event(7)
    source.headers.append(("traceparent", b"t"))
    (again,) = pages([source], 8)[0]
    assert (again.topic, again.key, again.value) == (source.topic, source.key, source.value)
    assert [header(again.headers, name) for name in ("origin", "received_ms", "replay.id")] == [
        b"replay",
        b"%d" % ((BASE + 7) * 1000),
        b"r1",
    ]
    assert header(again.headers, "traceparent") == b"t"


def test_a_change_becomes_an_event_of_its_version() -> None:
    updated, gone = pages(
        [change(3, "g/a"), change(4, "g/b", Kind.DELETED)], 9, ReplaySource.CHANGES
    )[0]
    first, second = orjson.loads(updated.value or b""), orjson.loads(gone.value or b"")
    assert (first["type"], first["time"], first["id"]) == ("contact.updated", BASE, "r1/3")
    assert first["data"]["object"]["given_name"] == "Ada"
    assert (second["type"], second["time"]) == ("contact.deleted", BASE)
    assert header(gone.headers, "replay.id") == b"r1"


@pytest.mark.parametrize(
    "record",
    [
        event(1, origin=Origin.REPLAY),
        event(1, origin=Origin.REDRIVE),
        KafkaRecord(TOPICS.events.name, b"g/c", b"{", [], 0, 1),
    ],
)
def test_a_record_that_was_published_again_or_is_unreadable_is_left_out(
    record: KafkaRecord,
) -> None:
    assert candidate_of(ReplaySource.EVENTS, record) is None
    assert pages([record, event(2)], 3) == [[replayed(TOPICS, "r1", REPLAY, event(2))]]


@pytest.mark.parametrize("source", list(ReplaySource))
def test_a_restore_goes_with_each_event_and_replaces_the_one_of_an_earlier_replay(
    source: ReplaySource,
) -> None:
    replay = Replay(source, Selection(), (9,), restore=("Phone", "Title"))
    record = change(3, "g/a") if source is ReplaySource.CHANGES else event(3)
    record.headers.append(("restore", b"Email"))
    again = replayed(TOPICS, "r1", replay, record)
    assert [value for name, value in again.headers if name == "restore"] == [b"Phone,Title"]
    without = replayed(TOPICS, "r1", replace(replay, restore=()), record)
    assert header(without.headers, "restore") is None


def test_another_deployment_gets_the_events_in_its_own_topic() -> None:
    theirs = topics(load(KafkaSettings, {"KAFKA_TOPIC_PREFIX": "sandbox."}))
    for record, source in ((change(3, "g/a"), ReplaySource.CHANGES), (event(3), REPLAY.source)):
        again = replayed(theirs, "r1", replace(REPLAY, source=source), record)
        assert again.topic == "sandbox.contacts.events"


def test_a_tombstone_of_the_changes_is_left_out() -> None:
    erased = KafkaRecord(TOPICS.changes.name, b"g/c", None, [], 0, 1)
    assert candidate_of(ReplaySource.CHANGES, erased) is None


def test_what_came_after_the_preview_is_not_replayed() -> None:
    (page,) = pages([event(offset) for offset in range(5)], 3)
    assert len(page) == 3


def test_a_replay_by_outcome_takes_the_last_outcome_of_each_contact() -> None:
    def outcome(key: str, status: str, reason: str = "") -> KafkaRecord:
        value = orjson.dumps({"outcome": status, "reason": reason})
        return KafkaRecord(TOPICS.outcomes.name, key.encode(), value, [])

    selected = contacts_of_outcomes(
        Selection(outcomes=("skipped:role_address", "failed")),
        iter(
            [
                outcome("g/role", "skipped", "role_address"),
                outcome("g/mended", "failed"),
                outcome("g/mended", "updated"),
                outcome("g/failed", "created"),
                outcome("g/failed", "failed"),
                KafkaRecord(TOPICS.outcomes.name, b"g/odd", b"{", []),
            ]
        ),
    )
    found = pages(
        [event(1, "g/role"), event(2, "g/mended"), event(3, "g/failed"), event(4, "g/odd")],
        9,
        selected=selected,
    )
    assert [record.key for record in found[0]] == [b"g/role", b"g/failed"]


@given(
    keys=st.lists(st.integers(0, 5), max_size=40),
    wanted=st.integers(0, 5),
    page=st.integers(1, 5),
    scanned=st.integers(1, 5),
)
def test_pages_of_any_size_publish_each_selected_record_once_and_in_order(
    keys: list[int], wanted: int, page: int, scanned: int
) -> None:
    records = [event(offset * 2, f"g/{number}") for offset, number in enumerate(keys)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_page, "PAGE_RECORDS", page)
        patch.setattr(replay_page, "SCANNED_RECORDS", scanned)
        found = pages(records, len(keys) * 2, selection=Selection(keys=(f"g/{wanted}",)))
    assert all(len(each) <= page for each in found)
    published = [record.value for each in found for record in each]
    assert published == [
        record.value for record, number in zip(records, keys, strict=True) if number == wanted
    ]
