"""What the sink holds is bounded in bytes, and a row that waits blocks no reading."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from connectors.salesforce.api.client import Fence
from connectors.salesforce.outcome import UNANSWERED_CALL, ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.unanswered_calls import UnansweredCalls
from streams.events import Kind, change_headers
from streams.kafka.records import KafkaRecord
from streams.sink.catch_up import written_note
from streams.sink.memory_use import ROW_BYTES, unparsed_bytes
from tests.support.sink_harness import NAMES, SinkHarness, running_sink


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


class Org:
    """A stand-in for Sync: writes every contact, but those of `waiting` not before ten minutes."""

    def __init__(self) -> None:
        self.waiting: set[str] = set()
        self.written: list[tuple[str, int, str]] = []
        self.unanswered = UnansweredCalls()
        self.is_started = True
        self.open = asyncio.Event()
        self.open.set()

    def needed(self, contact: Mapping[str, Any]) -> dict[str, Any]:
        return {"title": contact["title"]} if "title" in contact else {}

    def claims(self, change: ContactVersion) -> frozenset[str]:
        return frozenset((change.key,))

    async def restore(self) -> None:
        pass

    async def sync(
        self, changes: Sequence[ContactVersion], fence: Fence, _rules: object
    ) -> list[Outcome]:
        fence()
        await self.open.wait()
        return [self._write(change) for change in changes]

    def _write(self, change: ContactVersion) -> Outcome:
        if change.key in self.waiting:
            return Outcome(
                change.key, OutcomeStatus.RETRY, reason=UNANSWERED_CALL, retry_after=600.0
            )
        self.written.append((change.key, change.version, (change.contact or {}).get("title", "")))
        return Outcome(change.key, OutcomeStatus.CREATED)


async def test_rows_that_wait_for_minutes_do_not_block_the_changes_behind_them() -> None:
    org = Org()
    org.waiting = {f"g/waits{number}" for number in range(30)}
    async with running_sink(org, max_unfinished=20, batch_size=10) as sink:
        for key in sorted(org.waiting):
            sink.offer(key, 1, {})
        for number in range(200):
            sink.offer(f"g/{number}", 1, {})
        await sink.until(lambda: len(org.written) == 200, "the others are written")
        assert sink.committed == 0, "the first row is not finished"
        org.waiting = set()
        sink.skip(600)
        await sink.until_committed()


async def test_reading_ends_when_too_many_records_wait_for_the_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.sink.intake.SPAN_RECORDS", 50)
    org = Org()
    org.waiting = {"g/waits"}
    async with running_sink(org, batch_size=10) as sink:
        sink.offer("g/waits", 1, {})
        for number in range(200):
            sink.offer(f"g/{number}", 1, {})
        await sink.until(lambda: len(org.written) == 49, "as many as may be")
        await sink.until_polled(5)
        assert len(org.written) == 49
        org.waiting = set()
        sink.skip(600)
        await sink.until_committed()


async def test_a_batch_that_memory_cannot_fill_goes_at_once() -> None:
    org = Org()
    async with running_sink(org, max_held_bytes=4 * ROW_BYTES, linger=1e6, bulk_linger=1e6) as sink:
        for number in range(40):
            sink.offer(f"g/{number}", 1, {"notes": "x" * 1000})
        await sink.until(lambda: len(org.written) >= 36, "all but the last batch are written")


async def test_the_group_knows_of_a_batch_before_it_is_written() -> None:
    org = Org()
    notes: list[str] = []
    async with running_sink(org) as sink:
        write = org.sync

        async def noted(
            changes: Sequence[ContactVersion], fence: Fence, _rules: object
        ) -> list[Outcome]:
            notes.append(sink.consumer.commit_note)
            return await write(changes, fence, _rules)

        org.sync = noted  # type: ignore[method-assign]
        for number in range(3):
            sink.offer(f"g/{number}", 1, {})
            await sink.until_committed()
    assert [note.split()[1] for note in notes] == [written_note(offset) for offset in (1, 2, 3)]


async def test_a_change_that_the_predecessor_cannot_have_written_is_read_once() -> None:
    async with running_sink(Org()) as sink:
        for number in range(10):
            sink.offer(f"g/{number}", 1, {})
        await sink.until_committed()
        rewound: list[int] = []
        seek = sink.consumer.seek

        def noted(partition: Any) -> None:
            rewound.append(partition.offset)
            seek(partition)

        sink.consumer.seek = noted  # type: ignore[method-assign]
        sink.consumer.between_polls += [sink.consumer.revoke, sink.consumer.assign]
        sink.offer("g/new", 1, {})
        await sink.until_committed()
        assert rewound == []


async def test_a_contact_is_not_committed_before_its_older_changes_were_read_again() -> None:
    """Otherwise a successor would see only an older change that came later, and write it."""
    org = Org()
    async with running_sink(org, max_held_bytes=1, batch_size=1) as sink:
        sink.offer("g/a", 5, {})
        sink.offer("g/b", 1, {})
        sink.offer("g/waits", 1, {})
        sink.offer("g/a", 4, {})
        org.waiting = {"g/waits"}
        await sink.until(lambda: ("g/b", 1, "") in org.written, "it comes to the one that waits")
        await sink.until_polled(5)
        sink.consumer.between_polls += [sink.consumer.lose, sink.consumer.assign]
        await sink.until_polled(5)
        org.waiting = set()
        await sink.until_committed(skip=60)
    assert {version for key, version, _ in org.written if key == "g/a"} == {5}


@dataclass(frozen=True)
class Arrival:
    """A record of the log: of a contact at a version, unreadable (-1) or a tombstone (-2)."""

    key: str
    version: int
    size: int


arrivals = st.lists(
    st.builds(
        Arrival,
        st.sampled_from(["g/a", "g/b", "g/c", "g/d"]),
        st.integers(-2, 6),
        st.integers(0, 9_000),
    ),
    min_size=1,
    max_size=40,
)


def append(sink: SinkHarness, arrival: Arrival) -> int:
    """Writes the record; returns the most bytes that the sink should count for it."""
    offset = len(sink.consumer.log)
    contact = {"title": f"t{offset}", "notes": "x" * arrival.size}
    value: bytes | None = json.dumps(contact).encode()
    if arrival.version < 0:
        value = b"{" if arrival.version == -1 else None
    headers = change_headers(Kind.UPDATED, max(0, arrival.version), "f", "m", b"webhook", b"0")
    with sink.consumer.lock:
        sink.consumer.log.append(
            KafkaRecord(NAMES.changes.name, arrival.key.encode(), value, headers, 0, offset)
        )
    return unparsed_bytes(value)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    before=arrivals,
    later=st.lists(
        st.builds(Arrival, st.sampled_from(["g/e", "g/f"]), st.just(1), st.integers(0, 9_000)),
        max_size=5,
        unique_by=lambda one: one.key,
    ),
    budget=st.integers(1, 40_000),
    batch=st.integers(1, 5),
    rebalances=st.lists(st.sampled_from(["lose", "revoke"]), max_size=2),
)
def test_whatever_arrives_the_newest_is_written_last_and_the_budget_holds(
    before: list[Arrival],
    later: list[Arrival],
    budget: int,
    batch: int,
    rebalances: list[str],
) -> None:
    org = Org()
    held: list[float] = []

    async def story() -> None:
        async with running_sink(org, max_held_bytes=budget, batch_size=batch) as sink:
            setattr(sink.metrics.held_bytes, "set", held.append)  # noqa: B010 mypy
            sizes = [append(sink, one) for one in before]
            for how in rebalances:
                await sink.until_polled(2)
                sink.consumer.between_polls += [
                    getattr(sink.consumer, how),
                    sink.consumer.assign,
                ]
            sizes += [append(sink, one) for one in later]
            await sink.until_committed(skip=0.1)
            assert max(held, default=0) <= budget + max(sizes)
            unreadable = sum(one.version == -1 for one in before)
            assert len(sink.dead_letters()) >= unreadable
            if not rebalances:
                assert len(sink.dead_letters()) == unreadable

    asyncio.run(story())
    log = [*before, *later]
    for key in {one.key for one in log}:
        versions = [(one.version, at) for at, one in enumerate(log) if one.key == key]
        wanted = max((found for found in versions if found[0] >= 0), default=None)
        written = [(version, title) for each, version, title in org.written if each == key]
        if wanted is None:
            assert written == []
            continue
        version, offset = wanted
        assert written[-1] == (version, f"t{offset}")
        if not rebalances:
            assert len(written) == 1
