"""The preview of a replay, what it costs, and why a replay is refused."""

import json
from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.api.budget import Usage
from connectors.salesforce.mapping_rules import FieldMapping
from streams.commands.replay import preview as preview_module
from streams.commands.replay.command import Cost, ReplayOptions, print_json, print_text
from streams.commands.replay.estimates import (
    ASSUMED_PER_SECOND,
    Pace,
    calls_left,
    measured_pace,
)
from streams.commands.replay.preview import (
    Preview,
    losses,
    objections,
    preview,
    ranges_to_read,
)
from streams.commands.replay.restore import parse_restore
from streams.commands.replay.target import check_target, target_objection
from streams.events import Kind, change_headers
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import LogRange
from streams.reader.replay_page import SelectedContacts
from streams.runs import ReplaySource, ReplayTarget
from streams.selection import Candidate, OffsetRange, Selection, UnusableSelection
from streams.settings import KafkaSettings, load

BASE = 1_760_000_000
DAY = 86_400
KAFKA = load(KafkaSettings, {})
OPTIONS = ReplayOptions(ReplaySource.CHANGES)


def change(offset: int, key: str, day: int = 0, mapping: str = "m") -> KafkaRecord:
    received = b"%d" % ((BASE + day * DAY) * 1000)
    headers = change_headers(Kind.UPDATED, BASE, "f", mapping, b"webhook", received)
    return KafkaRecord("contacts.changes", key.encode(), b"{}", headers, 0, offset)


RECORDS = [
    change(0, "g/1"),
    change(1, "g/2", 1),
    change(2, "h/1", 1),
    change(3, "g/1", 2),
]


def found(selection: Selection | None = None, mapping: str = "m") -> Preview:
    return preview(
        ReplaySource.CHANGES,
        selection or Selection(),
        SelectedContacts(),
        iter(RECORDS),
        {0: (0, 4)},
        mapping,
    )


def test_the_preview_counts_records_and_contacts_by_grant_and_day() -> None:
    counted = found()
    assert (counted.records, counted.contacts, counted.calls) == (4, 3, 2)
    assert counted.by_grant == {"g": 3, "h": 1}
    assert counted.by_day == {"2025-10-09": 1, "2025-10-10": 2, "2025-10-11": 1}


def test_more_contacts_than_can_be_told_apart_are_said_to_be_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preview_module, "MAX_COUNTED_CONTACTS", 3)
    assert found().all_counted, "as many as can be told apart"
    monkeypatch.setattr(preview_module, "MAX_COUNTED_CONTACTS", 2)
    counted = found()
    assert (counted.contacts, counted.all_counted, counted.records) == (2, False, 4)
    print_text(counted, Selection(), OPTIONS, Cost(Pace()))
    assert "records of over" in capsys.readouterr().out


def test_the_selection_limits_what_is_counted() -> None:
    assert found(Selection(grants=("h",))).records == 1
    assert found(Selection(offsets=(OffsetRange(0, 1, 3),))).records == 2


@pytest.mark.parametrize(
    ("selection", "mapping", "expected", "growth", "agreed", "reason"),
    [
        (Selection(), "m", None, 0.05, False, "add --yes"),
        (Selection(), "m", None, 0.05, True, None),
        (Selection(grants=("g",)), "m", None, 0.05, False, None),
        (Selection(grants=("x",)), "m", None, 0.05, False, "the selection is empty"),
        (Selection(grants=("g",)), "other", None, 0.05, False, "backfill --all"),
        (Selection(grants=("g",)), "m", 3, 0.0, False, None),
        (Selection(grants=("g",)), "m", 2, 0.4, False, "has grown from 2 to 3"),
        (Selection(grants=("g",)), "m", 2, 0.5, False, None),
    ],
)
def test_a_replay_is_refused_with_the_reason(
    selection: Selection,
    mapping: str,
    expected: int | None,
    growth: float,
    agreed: bool,
    reason: str | None,
) -> None:
    counted = found(selection, mapping)
    reasons = objections(counted, selection, expected=expected, growth=growth, agreed=agreed)
    assert (reason is None) is (not reasons)
    assert reason is None or reason in reasons[0]


LOG = {0: LogRange(oldest=100, start=150, end=200), 1: LogRange(oldest=0, start=0, end=50)}


@pytest.mark.parametrize(
    ("asked", "ranges", "gone"),
    [
        ((), {0: (150, 200), 1: (0, 50)}, 0),
        ((OffsetRange(1, 10, 20),), {0: (200, 200), 1: (10, 20)}, 0),
        ((OffsetRange(0, 160, 170), OffsetRange(0, 190, 200)), {0: (160, 200), 1: (50, 50)}, 0),
        ((OffsetRange(0, 40, 160),), {0: (150, 160), 1: (50, 50)}, 60),
    ],
)
def test_only_the_part_of_the_log_is_read_that_may_hold_something(
    asked: tuple[OffsetRange, ...], ranges: dict[int, tuple[int, int]], gone: int
) -> None:
    assert ranges_to_read(Selection(offsets=asked), LOG) == (ranges, gone)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (OffsetRange(2, 0, 1), "there is no partition 2; the topic has 2"),
        (OffsetRange(1, 0, 51), "partition 1 ends before offset 50"),
        (OffsetRange(0, 0, 100), "all of it has expired; partition 0 begins at offset 100"),
    ],
)
def test_a_range_outside_of_the_log_is_refused(asked: OffsetRange, message: str) -> None:
    with pytest.raises(UnusableSelection, match=message):
        ranges_to_read(Selection(offsets=(asked,)), LOG)


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 199), st.integers(1, 40)),
        min_size=1,
        max_size=4,
    ),
)
def test_what_is_read_holds_every_offset_that_is_selected(
    asked: list[tuple[int, int, int]],
) -> None:
    offsets = tuple(OffsetRange(partition, start, start + size) for partition, start, size in asked)
    selection = Selection(offsets=offsets)
    try:
        ranges, _ = ranges_to_read(selection, LOG)
    except UnusableSelection:
        return
    for partition, log in LOG.items():
        start, end = ranges[partition]
        for offset in range(log.start, log.end):
            taken = selection.takes(Candidate("g/1", 0, Kind.UPDATED, (), partition, offset))
            assert not taken or start <= offset < end


def test_the_preview_says_how_much_has_expired(capsys: pytest.CaptureFixture[str]) -> None:
    counted = found()
    selection = Selection(since_ms=(BASE - DAY) * 1000)
    assert not [*losses(counted, selection)], "a young topic has lost nothing"
    counted.has_expired, counted.gone = True, 60
    print_text(counted, selection, OPTIONS, Cost(Pace()))
    printed = capsys.readouterr().out
    assert "nothing from before 2025-10-09: the first 24.0 hours" in printed
    assert "60 of the offsets that were asked for have expired" in printed
    assert "4 records of 3 contacts" in printed
    assert max(map(len, printed.splitlines())) <= 100


def test_the_preview_is_json_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    cost = Cost(Pace(), calls_left(Usage(100, 1_000), 0.1), Counter({"Lead.Title": 2}))
    options = ReplayOptions(ReplaySource.CHANGES, restore=("Title",))
    print_json(found(), Selection(), options, cost)
    body = json.loads(capsys.readouterr().out)
    assert (body["records"], body["by_grant"], body["ends"]) == (4, {"g": 3, "h": 1}, [4])
    assert (body["salesforce_calls_left"], body["replaced_values"]) == (800, {"Lead.Title": 2})


def outcome(at_ms: int) -> KafkaRecord:
    return KafkaRecord("contacts.outcomes", b"g/1", orjson.dumps({"at_ms": at_ms}), [])


MINUTE = BASE * 1000 // 60_000


def outcomes(minute: int, count: int, *, first: int = 0, last: int = 60_000) -> list[KafkaRecord]:
    start = (MINUTE + minute) * 60_000
    return [outcome(start + first + (last - first) * each // count) for each in range(count)]


def test_the_pace_is_that_of_the_last_busy_minutes() -> None:
    busy = [*outcomes(0, 9000), *outcomes(3, 6000), *outcomes(4, 6000), *outcomes(5, 20)]
    pace = measured_pace([KafkaRecord("contacts.outcomes", b"k", b"{", []), *busy])
    assert pace.per_second == pytest.approx(100, rel=0.01)
    assert "measured over the last 120 s" in str(pace)
    burst = measured_pace(outcomes(0, 2000, last=1))
    assert burst.per_second == 400, "a short burst shows no more than its batches"


def test_a_trickle_measures_nothing() -> None:
    trickle = [each for minute in range(60) for each in outcomes(minute, 60)]
    for records in (trickle, [], [KafkaRecord("contacts.outcomes", b"k", None, [])]):
        pace = measured_pace(records)
        assert (pace.per_second, pace.seconds) == (ASSUMED_PER_SECOND, None)
        assert "assumed" in str(pace)


def test_the_minutes_follow_the_pace_and_the_rate() -> None:
    counted = Preview("changes", by_partition=Counter({0: 60_000}))
    assert counted.minutes(Pace()) == 1
    assert counted.minutes(Pace(100.0, 60.0)) == 10
    assert counted.minutes(Pace(), rate=50.0) == 20


def test_the_calls_are_shown_as_a_share_of_what_is_left_without_the_reserve() -> None:
    assert calls_left(Usage(400, 1_000), 0.1).share(50) == (
        "10.0% of the 500 daily calls that are left"
    )
    assert "none of the org's 1,000 daily calls are left" in calls_left(
        Usage(950, 1_000), 0.1
    ).share(50)


def test_the_fields_of_a_restore_are_mapped_fields_in_any_case() -> None:
    assert parse_restore(("title, Phone", "title"), FieldMapping()) == ("Phone", "Title")
    assert parse_restore((), FieldMapping()) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Titel", "--restore Titel: no mapped field; did you mean Title?"),
        ("OwnerId", "no mapped field; the mapping has Company, Email"),
        (" , ", "--restore names no field"),
    ],
)
def test_an_unknown_field_of_a_restore_is_refused(text: str, message: str) -> None:
    with pytest.raises(UnusableSelection, match=message.replace("?", r"\?")):
        parse_restore((text,), FieldMapping())


THEIRS = {
    f"sandbox.{name}": 3
    for name in (
        "contacts.events",
        "contacts.changes",
        "contacts.outcomes",
        "contacts.dead-letter",
        "contactstream.control",
    )
}


def test_the_target_is_another_deployment_that_exists() -> None:
    assert check_target(KAFKA, "sandbox.", THEIRS) == ReplayTarget("sandbox.", 3)
    with pytest.raises(UnusableSelection, match="this deployment itself"):
        check_target(KAFKA, "", THEIRS)
    missing = {name: 1 for name in THEIRS if not name.endswith("changes")}
    with pytest.raises(UnusableSelection, match=r"sandbox\.contacts\.changes does not exist"):
        check_target(KAFKA, "sandbox.", missing)
    older = {name: 1 for name in THEIRS if not name.endswith("control")}
    with pytest.raises(UnusableSelection, match=r"sandbox\.contactstream\.control does not exist"):
        check_target(KAFKA, "sandbox.", older)


def test_a_person_says_whether_the_target_is_a_sandbox() -> None:
    target = ReplayTarget("sandbox.", 3)
    assert "--production" in (target_objection(target, None) or "")
    assert target_objection(target, True) is None
    assert target_objection(target, False) is None
    assert target_objection(None, None) is None
