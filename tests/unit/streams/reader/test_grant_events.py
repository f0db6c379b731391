"""Events of grants: what each asks for, and the table of grants that they make."""

import orjson
import pytest

from connectors.nylas.grants import Grant
from streams.kafka.records import Headers, KafkaRecord
from streams.reader.grant_events import (
    GrantAction,
    GrantTable,
    deleted_record,
    listed_record,
    parse_grant_event,
    plausibly_deleted,
)
from streams.reader.grant_follower import run_id_for
from streams.runs import RunKind
from streams.settings import KafkaSettings, load
from streams.topics import topics

TOPICS = topics(load(KafkaSettings, {}))


def notification(kind: str, **fields: object) -> KafkaRecord:
    envelope = {"type": kind, "id": "n", "time": 9, "data": {"object": {"grant_id": "g", **fields}}}
    return KafkaRecord("grants.events", b"g", orjson.dumps(envelope), [], 0, 0, 5000)


@pytest.mark.parametrize(
    ("record", "action", "status"),
    [
        (notification("grant.created", code=25012), GrantAction.BACKFILL, "valid"),
        (notification("grant.expired", code=25009), GrantAction.NOTHING, "expired"),
        (notification("grant.deleted", code=25013), GrantAction.REMOVE, "deleted"),
        (
            notification("grant.updated", code=25014, reauthentication_flag=False),
            GrantAction.NOTHING,
            None,
        ),
        (
            notification("grant.updated", code=25014, reauthentication_flag=True),
            GrantAction.RECONCILE,
            "valid",
        ),
        (notification("grant.updated", code=25027), GrantAction.RECONCILE, "valid"),
        (notification("grant.updated", code="25027"), GrantAction.RECONCILE, "valid"),
        (notification("grant.imap_sync_completed"), GrantAction.NOTHING, None),
        (listed_record(TOPICS, Grant("g", valid=False), 7), GrantAction.NOTHING, "expired"),
        (listed_record(TOPICS, Grant("g"), 7), GrantAction.NOTHING, "valid"),
        (deleted_record(TOPICS, "g", 7), GrantAction.REMOVE, "deleted"),
    ],
)
def test_each_event_of_a_grant_has_its_action_and_status(
    record: KafkaRecord, action: GrantAction, status: str | None
) -> None:
    event = parse_grant_event(record)
    assert event is not None
    assert (event.grant, event.action, event.status) == ("g", action, status)


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"7"])
def test_a_record_that_is_no_grant_event_is_none(value: bytes | None) -> None:
    assert parse_grant_event(KafkaRecord("grants.events", b"g", value, [])) is None


def test_a_grant_event_without_id_or_time_takes_both_from_its_record() -> None:
    bare = KafkaRecord("grants.events", b"g", b'{"type": "grant.deleted"}', [], 0, 0, 5000)
    event = parse_grant_event(bare)
    again = parse_grant_event(bare)
    assert event is not None
    assert again is not None
    assert (event.grant, event.time) == ("g", 5)
    assert event.id == again.id


def test_the_time_of_a_grant_event_is_when_it_was_received_not_when_the_broker_got_it() -> None:
    headers: Headers = [("received_ms", b"7000")]
    late = KafkaRecord("grants.events", b"g", b'{"type": "grant.deleted"}', headers, 0, 0, 90_000)
    event = parse_grant_event(late)
    assert event is not None
    assert event.time == 7


def test_a_listing_shows_changed_and_missing_grants() -> None:
    table = GrantTable()
    for record in (
        notification("grant.created"),
        listed_record(TOPICS, Grant("h"), 1),
        listed_record(TOPICS, Grant("gone"), 1),
    ):
        event = parse_grant_event(record)
        assert event is not None
        table.apply(event)
    listed = [Grant("g"), Grant("h", valid=False), Grant("new")]
    assert [grant.id for grant in table.changed_in(listed)] == ["h", "new"]
    assert table.missing_from(listed) == ["gone"]
    assert table.count() == {"valid": 3, "expired": 0, "deleted": 0}


@pytest.mark.parametrize(
    ("envelope", "moment"),
    [
        (
            b'{"type": "grant.created", "time": %d, "data": {"object": {"grant_id": "g"}}}'
            % 10**18,
            5,
        ),
        (
            b'{"type": "grant.created", "time": %d, "data": {"object": {"grant_id": "g"}}}'
            % -(10**18),
            5,
        ),
        (b'{"type": "grant.created", "time": true, "data": {"object": {"grant_id": "g"}}}', 5),
        (
            b'{"type": "grant.created", "time": 9, '
            b'"data": {"object": {"grant_id": "g", "name": "x\\ud800y"}}}',
            9,
        ),
        (
            b'\xef\xbb\xbf{"type": "grant.created", "time": 9, '
            b'"data": {"object": {"grant_id": "g"}}}',
            9,
        ),
    ],
)
def test_an_odd_event_of_a_new_grant_still_asks_for_a_backfill(
    envelope: bytes, moment: int
) -> None:
    event = parse_grant_event(KafkaRecord("grants.events", b"g", envelope, [], 0, 0, 5000))
    assert event is not None
    assert (event.grant, event.action, event.time) == ("g", GrantAction.BACKFILL, moment)
    assert "-backfill-" in run_id_for(RunKind.BACKFILL, event)


def status_after(table: GrantTable, *events: tuple[str, int]) -> str | None:
    for kind, moment in events:
        record = notification(kind, code=25027)
        event = parse_grant_event(
            record._replace(value=(record.value or b"").replace(b'"time":9', b'"time":%d' % moment))
        )
        assert event is not None
        table.apply(event)
    return table.status.get("g")


def test_the_status_of_a_grant_comes_from_the_event_that_happened_last() -> None:
    assert status_after(GrantTable(), ("grant.updated", 20), ("grant.expired", 10)) == "valid"
    assert status_after(GrantTable(), ("grant.expired", 10), ("grant.updated", 20)) == "valid"
    assert (
        status_after(
            GrantTable(), ("grant.deleted", 30), ("grant.updated", 20), ("grant.expired", 10)
        )
        == "deleted"
    )
    assert status_after(GrantTable(), ("grant.expired", 10), ("grant.updated", 10)) == "valid", (
        "within one second the order of the topic decides"
    )
    table = GrantTable()
    status_after(table, ("grant.deleted", 30))
    assert table.deleted() == {"g"}


def test_one_missing_grant_may_be_deleted_but_not_all_of_them() -> None:
    assert plausibly_deleted(1, 3, 0.2)
    assert plausibly_deleted(2, 10, 0.2)
    assert not plausibly_deleted(3, 10, 0.2)
    assert not plausibly_deleted(1, 0, 1.0)


def test_a_grant_event_ahead_of_the_clock_hides_nothing_that_happens_a_minute_later() -> None:
    table = GrantTable()
    for time, received, kind in (
        (10**9, 1_000, "grant.expired"),
        (1_100, 1_101, "grant.created"),
    ):
        envelope = {"type": kind, "id": "n", "time": time, "data": {"object": {"grant_id": "g"}}}
        headers: Headers = [("received_ms", b"%d" % (received * 1000))]
        event = parse_grant_event(
            KafkaRecord("grants.events", b"g", orjson.dumps(envelope), headers)
        )
        assert event is not None
        table.apply(event)
    assert table.status == {"g": "valid"}
