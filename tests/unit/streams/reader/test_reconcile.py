"""What a complete listing says: who is gone, who is offered again, and what is too much to be
believed.
"""

import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from connectors.nylas.grants import Grant
from connectors.salesforce.outcome import Outcome, OutcomeStatus
from streams.events import PAGE_MARGIN, ContactChange, Kind
from streams.kafka.records import Headers, KafkaRecord, header
from streams.kafka.snapshot import Snapshots
from streams.metrics import ReaderMetrics
from streams.reader.comparison import (
    Listing,
    compare,
    filled_keys,
    guarded,
    listing_of,
    living_keys,
    read_outcome,
)
from streams.reader.gate import Gate
from streams.reader.grant_events import (
    GrantAction,
    GrantTable,
    deleted_record,
    listed_record,
    parse_grant_event,
    plausible,
)
from streams.reader.records import contact_hash
from streams.reader.stage import run_id_of
from streams.reader.takeover import (
    CHUNK,
    Reoffer,
    living_offsets,
    offer_records,
    released_in,
    successors,
)
from streams.runs import RunKind
from streams.settings import KafkaSettings, load
from streams.sink.outcomes import outcome_value
from streams.topics import topics

TOPICS = topics(load(KafkaSettings, {}))
START = 1_700_000_000


def listing(grant: str, *ids: str, sources: tuple[str, ...] = ("address_book",)) -> Listing:
    return listing_of(
        grant, START, sources, array("Q", [contact_hash(one) for one in (*ids, *ids)])
    )


def change(
    key: str,
    version: int,
    offset: int,
    kind: Kind | None = Kind.UPDATED,
    source: str | None = "address_book",
) -> KafkaRecord:
    headers: Headers = [
        ("version", b"%d" % version),
        ("kind", kind.value.encode() if kind else b""),
    ]
    value = {"source": source} if source else {}
    return KafkaRecord(
        "contacts.changes", key.encode(), orjson.dumps(value) if kind else None, headers, 0, offset
    )


OLD = START - PAGE_MARGIN - 1


def test_a_listing_knows_what_it_held_and_counts_each_once() -> None:
    found = listing("g", "a", "b/c", "A")
    assert len(found.seen) == 3
    assert all(found.holds(one) for one in ("a", "b/c", "A"))
    assert not found.holds("b")


def test_only_what_is_older_than_the_scan_less_the_margin_is_missing() -> None:
    changes = [
        change("g/old", OLD, 0),
        change("g/edge", OLD + 1, 1),
        change("g/new", START, 2),
        change("g/here", OLD, 3),
    ]
    assert compare(changes, {"g": listing("g", "here")}, set()).missing == {"g": {"g/old": 0}}


def test_the_last_word_on_a_contact_decides() -> None:
    changes = [
        change("g/deleted", OLD, 0),
        change("g/deleted", OLD, 1, Kind.DELETED),
        change("g/back", OLD - 1, 2, Kind.DELETED),
        change("g/back", OLD, 3),
        change("g/erased", OLD, 4),
        change("g/erased", OLD, 5, None),
        change("g/renewed", OLD, 6),
        change("g/renewed", START + 5, 7),
    ]
    assert compare(changes, {"g": listing("g")}, set()).missing["g"] == {"g/back": 3}


def test_a_source_that_was_not_listed_is_not_missing() -> None:
    changes = [change("g/mail", OLD, 0, source="inbox"), change("g/plain", OLD, 1, source=None)]
    assert compare(changes, {"g": listing("g")}, set()).missing["g"] == {"g/plain": 1}
    both = listing("g", sources=("address_book", "inbox"))
    assert compare(changes, {"g": both}, set()).missing["g"].keys() == {"g/mail", "g/plain"}


def test_a_source_that_was_refused_says_nothing_of_its_contacts() -> None:
    changes = [change("g/mail", OLD, 0, source="inbox"), change("g/plain", OLD, 1, source=None)]
    seen = array("Q", [contact_hash("x")])
    both = ("address_book", "inbox")
    found = {
        refused: set(
            compare(changes, {"g": listing_of("g", START, both, seen, {refused})}, set()).missing[
                "g"
            ]
        )
        for refused in both
    }
    assert found == {"inbox": {"g/plain"}, "address_book": {"g/mail"}}


def test_records_that_are_no_changes_are_passed_over() -> None:
    broken = KafkaRecord("contacts.changes", b"g/x", b"{", [], 0, 0)
    assert compare([broken, change("g/old", OLD, 1)], {"g": listing("g")}, set()).missing["g"] == {
        "g/old": 1
    }


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["g/a", "g/b", "g/c", "h/a"]),
            st.integers(OLD - 3, OLD + 3),
            st.sampled_from([Kind.UPDATED, Kind.UPDATED, Kind.DELETED, None]),
        ),
        max_size=30,
    ),
    st.sets(st.sampled_from("abc")),
    st.sets(st.sampled_from(["g/a", "g/b", "g/c"])),
)
def test_the_comparison_equals_a_plain_model(
    told: list[tuple[str, int, Kind | None]], listed: set[str], filled: set[str]
) -> None:
    changes = [
        change(key, version, offset, kind) for offset, (key, version, kind) in enumerate(told)
    ]
    found = compare(changes, {"g": listing("g", *listed)}, filled)
    last = {key: (version, kind, offset) for offset, (key, version, kind) in enumerate(told)}
    living = {
        key: one for key, one in last.items() if one[1] is Kind.UPDATED and key.startswith("g/")
    }
    assert found.missing.get("g", {}) == {
        key: offset
        for key, (version, _, offset) in living.items()
        if key[2:] not in listed and version <= OLD
    }
    assert found.offered == {
        key: offset for key, (_, _, offset) in living.items() if key[2:] in listed and key in filled
    }


def test_what_is_offered_again_is_the_last_change_at_its_own_version() -> None:
    changes = [change("g/a", 5, 0), change("g/a", 7, 1), change("g/b", 6, 2)]
    (offered,) = offer_records(changes, TOPICS, {"g/a": 1})
    assert offered.topic == TOPICS.events.name
    assert header(offered.headers, "origin") == b"replay"
    assert orjson.loads(offered.value or b"")["time"] == 7


def test_what_cannot_be_offered_again_is_a_dead_letter_or_passed_over_and_stops_nobody() -> None:
    deep = orjson.dumps({"id": "a", "more": json.loads(b'{"a":' * 252 + b"1" + b"}" * 252)})
    changes = [
        replace(change("g/a", 5, 0), value=deep),
        replace(change("g/b", 5, 1), value=b"{"),
        change("g/c", 6, 2),
    ]
    found = list(offer_records(changes, TOPICS, {"g/a": 0, "g/b": 1, "g/c": 2}))
    assert [(record.topic, record.key) for record in found] == [
        (TOPICS.dead_letter.name, b"g/a"),
        (TOPICS.events.name, b"g/c"),
    ]
    assert header(found[0].headers, "dlq.reason") == b"too_deep"


class Readings:
    """contacts.changes in the place of the broker's: where each reading began, and how much of it
    was taken.
    """

    def __init__(self, changes: list[KafkaRecord]) -> None:
        self.changes = changes
        self.begun: list[int] = []
        self.left: list[int] = []

    async def read(
        self, _topic: str, function: Callable[[Iterator[KafkaRecord]], Any], since: int = 0
    ) -> Any:
        self.begun.append(since)
        records = iter(self.changes[since:])
        made = function(records)
        self.left.append(len(list(records)))
        return made


async def test_what_is_offered_again_is_read_chunk_by_chunk_and_nothing_is_open_while_there_is_no_room() -> (
    None
):
    changes = [change(f"g/{number}", number, number) for number in range(3 * CHUNK)]
    readings, published, begun_at_the_gate = Readings(changes), [], []

    class Watched(Gate):
        async def wait(self, records: int) -> None:
            begun_at_the_gate.append((len(readings.begun), records))

    async def publish(records: Sequence[KafkaRecord]) -> None:
        published.append([record.key for record in records])

    gate = Watched(lambda: 0, 1, lambda: None)
    offerer = Reoffer(
        cast(Snapshots, readings), publish, gate, TOPICS, ReaderMetrics(CollectorRegistry())
    )
    wanted = range(0, 3 * CHUNK, 2)
    await offerer.offer({f"g/{number}": number for number in reversed(wanted)})
    assert [key for chunk in published for key in chunk] == [b"g/%d" % number for number in wanted]
    assert [len(chunk) for chunk in published] == [CHUNK, CHUNK // 2]
    assert readings.begun == [0, 2 * CHUNK]
    assert begun_at_the_gate == [(0, CHUNK), (1, CHUNK // 2)]
    assert readings.left[0] >= CHUNK, "a chunk is not read beyond its last record"


def test_the_last_outcome_decides_who_was_only_filled() -> None:
    outcomes = [
        KafkaRecord("o", key.encode(), value, [])
        for key, value in [
            ("g/a", b'{"outcome": "filled"}'),
            ("g/b", b'{"outcome": "filled"}'),
            ("g/b", b'{"outcome": "updated"}'),
            ("g/c", b'{"outcome": "created"}'),
            ("g/c", b'{"outcome": "filled"}'),
            ("g/d", b'{"outcome": "filled"}'),
            ("g/d", None),
            ("h/e", b'{"outcome": "filled"}'),
            ("g/f", b"{"),
        ]
    ]
    assert filled_keys(outcomes, {"g"}) == {"g/a", "g/c"}


def test_what_the_sink_writes_is_what_is_read() -> None:
    outcome = Outcome("g/a", OutcomeStatus.FILLED, "Contact", "003x", "email")
    written = outcome_value(
        outcome, ContactChange("g/a", Kind.UPDATED, 1, "", "", "webhook", 1, {})
    )
    assert read_outcome(KafkaRecord("o", b"g/a", written, [])) == ("filled", "003x")
    assert read_outcome(KafkaRecord("o", b"g/a", None, [])) == ("", "")


def test_the_heirs_of_a_record_are_those_whose_last_outcome_was_to_fill_it() -> None:
    outcomes = [
        KafkaRecord("o", key.encode(), orjson.dumps({"outcome": fate, "id": record_id}), [])
        for key, fate, record_id in [
            ("g/owner", "released", "1"),
            ("g/heir", "filled", "1"),
            ("h/heir", "filled", "1"),
            ("h/other", "filled", "2"),
            ("h/gone", "filled", "1"),
            ("h/gone", "unchanged", ""),
        ]
    ]
    assert successors(outcomes, {"1"}) == {"g/heir", "h/heir"}
    changes = [
        change("g/heir", 1, 0),
        change("g/heir", 2, 1),
        change("h/heir", 1, 2),
        change("h/heir", 2, 3, Kind.DELETED),
    ]
    assert living_offsets(changes, {"g/heir", "h/heir"}) == {"g/heir": 1}


def test_a_release_that_nobody_heard_of_has_heirs_as_well() -> None:
    def said(
        key: str, fate: OutcomeStatus, record_id: str | None, kind: Kind, reason: str = ""
    ) -> KafkaRecord:
        outcome = Outcome(key, fate, "Lead", record_id, reason=reason)
        return KafkaRecord(
            "o",
            key.encode(),
            outcome_value(outcome, ContactChange(key, kind, 1, "", "", "webhook", 1, {})),
            [],
        )

    outcomes = [
        said("g/owner", OutcomeStatus.CREATED, "1", Kind.UPDATED),
        said("h/heir", OutcomeStatus.FILLED, "1", Kind.UPDATED),
        said("h/other", OutcomeStatus.FILLED, "2", Kind.UPDATED),
        said("g/nobody", OutcomeStatus.FILLED, "2", Kind.UPDATED),
        # the sink that released the record was killed before it said so
        said("g/owner", OutcomeStatus.UNCHANGED, None, Kind.DELETED, "no_record"),
        said("g/nobody", OutcomeStatus.UNCHANGED, None, Kind.DELETED, "no_record"),
        said("g/released", OutcomeStatus.RELEASED, "3", Kind.DELETED),
        said("g/kept", OutcomeStatus.UNCHANGED, "4", Kind.UPDATED),
    ]
    assert released_in(outcomes) == ({"3"}, {"g/owner", "g/nobody"})
    assert successors(outcomes, {"3"}, {"g/owner", "g/nobody"}) == {"h/heir"}


@pytest.mark.parametrize(
    ("missing", "listed", "share", "stops"),
    [
        (0, 0, 0.2, False),
        (10, 0, 0.2, False),
        (11, 44, 0.2, False),
        (11, 43, 0.2, True),
        (11, 0, 1.0, False),
        (11, 99, 0, True),
    ],
)
def test_the_guard_stops_what_is_more_than_the_share_of_what_is_known(
    missing: int, listed: int, share: float, stops: bool
) -> None:
    assert guarded(missing, listed, share) is stops


def test_the_living_contacts_of_a_grant_are_those_whose_last_change_is_no_deletion() -> None:
    changes = [
        change("g/a", 1, 0),
        change("g/a", 3, 1),
        change("g/b", 1, 2),
        change("g/b", 2, 3, Kind.DELETED),
        change("g2/a", 1, 4),
        change("g/c", 1, 5),
        change("g/c", 1, 6, None),
        change("h/a", 2, 7),
    ]
    assert living_keys(changes, {"g", "h"}) == {"g/a": 3, "h/a": 2}


def notice(kind: str, **fields: object) -> KafkaRecord:
    envelope = {"type": kind, "id": "n", "time": 9, "data": {"object": {"grant_id": "g", **fields}}}
    return KafkaRecord("grants.events", b"g", orjson.dumps(envelope), [], 0, 0, 5000)


@pytest.mark.parametrize(
    ("record", "ask", "status"),
    [
        (notice("grant.created", code=25012), GrantAction.BACKFILL, "valid"),
        (notice("grant.expired", code=25009), GrantAction.NOTHING, "expired"),
        (notice("grant.deleted", code=25013), GrantAction.REMOVE, "deleted"),
        (
            notice("grant.updated", code=25014, reauthentication_flag=False),
            GrantAction.NOTHING,
            None,
        ),
        (
            notice("grant.updated", code=25014, reauthentication_flag=True),
            GrantAction.RECONCILE,
            "valid",
        ),
        (notice("grant.updated", code=25027), GrantAction.RECONCILE, "valid"),
        (notice("grant.updated", code="25027"), GrantAction.RECONCILE, "valid"),
        (notice("grant.imap_sync_completed"), GrantAction.NOTHING, None),
        (listed_record(TOPICS, Grant("g", valid=False), 7), GrantAction.NOTHING, "expired"),
        (listed_record(TOPICS, Grant("g"), 7), GrantAction.NOTHING, "valid"),
        (deleted_record(TOPICS, "g", 7), GrantAction.REMOVE, "deleted"),
    ],
)
def test_each_event_in_the_life_of_a_grant_asks_for_what_it_should(
    record: KafkaRecord, ask: GrantAction, status: str | None
) -> None:
    event = parse_grant_event(record)
    assert event is not None
    assert (event.grant, event.ask, event.status) == ("g", ask, status)


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"7"])
def test_what_is_no_grant_event_is_none(value: bytes | None) -> None:
    assert parse_grant_event(KafkaRecord("grants.events", b"g", value, [])) is None


def test_a_grant_event_without_id_or_time_is_dated_by_its_record() -> None:
    bare = KafkaRecord("grants.events", b"g", b'{"type": "grant.deleted"}', [], 0, 0, 5000)
    event = parse_grant_event(bare)
    again = parse_grant_event(bare)
    assert event is not None
    assert again is not None
    assert (event.grant, event.time) == ("g", 5)
    assert event.id == again.id


def test_the_book_tells_what_the_listing_knows_better_and_what_it_lacks() -> None:
    book = GrantTable()
    for record in (
        notice("grant.created"),
        listed_record(TOPICS, Grant("h"), 1),
        listed_record(TOPICS, Grant("gone"), 1),
    ):
        event = parse_grant_event(record)
        assert event is not None
        book.apply(event)
    listed = [Grant("g"), Grant("h", valid=False), Grant("new")]
    assert [grant.id for grant in book.news(listed)] == ["h", "new"]
    assert book.vanished(listed) == ["gone"]
    assert book.count() == {"valid": 3, "expired": 0, "deleted": 0}


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
            b'{"type": "grant.created", "time": 9, "data": {"object": {"grant_id": "g", "name": "x\\ud800y"}}}',
            9,
        ),
        (
            b'\xef\xbb\xbf{"type": "grant.created", "time": 9, "data": {"object": {"grant_id": "g"}}}',
            9,
        ),
    ],
)
def test_a_new_grant_is_read_whatever_else_its_event_says(envelope: bytes, moment: int) -> None:
    event = parse_grant_event(KafkaRecord("grants.events", b"g", envelope, [], 0, 0, 5000))
    assert event is not None
    assert (event.grant, event.ask, event.time) == ("g", GrantAction.BACKFILL, moment)
    assert "-backfill-" in run_id_of(RunKind.BACKFILL, event)


def told(book: GrantTable, *events: tuple[str, int]) -> str | None:
    for kind, moment in events:
        record = notice(kind, code=25027)
        event = parse_grant_event(
            replace(record, value=(record.value or b"").replace(b'"time":9', b'"time":%d' % moment))
        )
        assert event is not None
        book.apply(event)
    return book.status.get("g")


def test_the_status_of_a_grant_is_that_of_the_last_event_to_happen_not_to_arrive() -> None:
    assert told(GrantTable(), ("grant.updated", 20), ("grant.expired", 10)) == "valid"
    assert told(GrantTable(), ("grant.expired", 10), ("grant.updated", 20)) == "valid"
    assert (
        told(GrantTable(), ("grant.deleted", 30), ("grant.updated", 20), ("grant.expired", 10))
        == "deleted"
    )
    assert told(GrantTable(), ("grant.expired", 10), ("grant.updated", 10)) == "valid", (
        "in one second the order is all there is"
    )
    book = GrantTable()
    told(book, ("grant.deleted", 30))
    assert book.deleted() == {"g"}


def test_one_missing_grant_is_believed_and_all_of_them_never() -> None:
    assert plausible(1, 3, 0.2)
    assert plausible(2, 10, 0.2)
    assert not plausible(3, 10, 0.2)
    assert not plausible(1, 0, 1.0)
