"""`contactstream plan --since` plans what was received since, whatever the broker's timestamps."""

from collections.abc import Iterator
from typing import Any

import pytest

from streams.commands import plan_input
from streams.commands.plan_input import read_since
from streams.events import CLOCK_DIFFERENCE_SECONDS, Kind, change_headers
from streams.kafka.records import Headers, KafkaRecord
from streams.settings import KafkaSettings, load

SINCE = 1_700_000_000.0


def change(name: str, received: float | None, appended: float) -> KafkaRecord:
    """A change that was received and appended so many seconds after SINCE."""
    at = b"%d" % (0 if received is None else (SINCE + received) * 1000)
    headers = change_headers(Kind.UPDATED, 1, "f", "m", b"webhook", at)
    key = f"g/{name}".encode()
    appended_ms = int((SINCE + appended) * 1000)
    return KafkaRecord("contacts.changes", key, b"{}", headers, 0, 0, appended_ms)


def tombstone(name: str, appended: float) -> KafkaRecord:
    headers: Headers = []
    appended_ms = int((SINCE + appended) * 1000)
    return KafkaRecord("contacts.changes", f"g/{name}".encode(), None, headers, 0, 0, appended_ms)


def test_a_change_counts_from_its_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def records(*_: Any, since: float, within: float) -> Iterator[KafkaRecord]:
        asked.append(since)
        yield change("before", received=-1, appended=5)  # dedupe was behind
        yield change("behind", received=1, appended=-5)  # the broker's clock is behind
        yield change("since", received=0, appended=0)
        yield change("unknown-before", received=None, appended=-1)
        yield change("unknown-since", received=None, appended=1)
        yield tombstone("erased-before", -1)
        yield tombstone("erased-since", 1)

    monkeypatch.setattr(plan_input, "read_to_end", records)
    found = read_since(load(KafkaSettings, {}), SINCE)
    assert list(found.changes) == ["g/behind", "g/since", "g/unknown-since"]
    assert found.skipped == [("g/erased-since", "erased")]
    # The search by the broker's time begins earlier, because its clock may be behind ours.
    assert asked == [SINCE - CLOCK_DIFFERENCE_SECONDS]
