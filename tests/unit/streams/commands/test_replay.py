"""The preview of a replay, and why a replay is refused."""

import json

import pytest

from streams.commands.replay import Preview, objections, preview, print_json, print_text
from streams.events import Kind, change_headers
from streams.kafka.records import KafkaRecord
from streams.reader.replay_page import SelectedContacts
from streams.runs import ReplaySource
from streams.selection import Selection

BASE = 1_760_000_000
DAY = 86_400


def change(offset: int, key: str, day: int = 0, mapping: str = "m") -> KafkaRecord:
    received = b"%d" % ((BASE + day * DAY) * 1000)
    headers = change_headers(Kind.UPDATED, BASE, "f", mapping, b"webhook", received)
    return KafkaRecord("contacts.changes", key.encode(), b"{}", headers, 0, offset)


RECORDS = [
    change(0, "g/1"),
    change(1, "g/2", 1),
    change(2, "h/1", 1),
    change(3, "g/1", 2),
    change(4, "g/9", 2),
]


def found(selection: Selection | None = None, mapping: str = "m") -> Preview:
    return preview(
        ReplaySource.CHANGES,
        selection or Selection(),
        SelectedContacts(),
        iter(RECORDS),
        (4,),
        mapping,
    )


def test_the_preview_counts_records_and_contacts_by_grant_and_day() -> None:
    counted = found()
    assert (counted.records, counted.contacts, counted.calls) == (4, 3, 2)
    assert counted.by_grant == {"g": 3, "h": 1}
    assert counted.by_day == {"2025-10-09": 1, "2025-10-10": 2, "2025-10-11": 1}


def test_the_selection_limits_what_is_counted() -> None:
    assert found(Selection(grants=("h",))).records == 1


@pytest.mark.parametrize(
    ("selection", "mapping", "expected", "agreed", "reason"),
    [
        (Selection(), "m", None, False, "add --yes"),
        (Selection(), "m", None, True, None),
        (Selection(grants=("g",)), "m", None, False, None),
        (Selection(grants=("x",)), "m", None, False, "the selection is empty"),
        (Selection(grants=("g",)), "other", None, False, "backfill --all"),
        (Selection(grants=("g",)), "m", 3, False, None),
        (Selection(grants=("g",)), "m", 2, False, "has grown from 2 to 3"),
    ],
)
def test_a_replay_is_refused_with_the_reason(
    selection: Selection, mapping: str, expected: int | None, agreed: bool, reason: str | None
) -> None:
    reasons = objections(found(selection, mapping), selection, expected=expected, agreed=agreed)
    assert (reason is None) is (not reasons)
    assert reason is None or reason in reasons[0]


def test_the_preview_says_what_has_expired(capsys: pytest.CaptureFixture[str]) -> None:
    print_text(found(), Selection(since_ms=(BASE - DAY) * 1000))
    printed = capsys.readouterr().out
    assert "nothing from before 2025-10-09" in printed
    assert "4 records of 3 contacts" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_the_preview_is_json_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(found())
    body = json.loads(capsys.readouterr().out)
    assert (body["records"], body["by_grant"], body["ends"]) == (4, {"g": 3, "h": 1}, [4])
