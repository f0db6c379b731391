"""What the reader does while a person has paused reading."""

import asyncio

from connectors.nylas.client import NylasClient
from streams.control import (
    ControlTable,
    FailureBreaker,
    FailuresSeen,
    Pause,
    PausedPart,
    Stops,
    breaker_record,
    pause_record,
    resume_record,
)
from streams.reader.gate import Gate
from streams.reader.reading_pause import ReadingPause
from streams.runtime.current_work import doing
from streams.runtime.ops import WorkInFlight
from tests.support.sink_harness import NAMES

NOW = 1_000.0


class Paused:
    """A table with a pause until NOW + 60, the pause, and a clock that a sleep moves."""

    def __init__(self) -> None:
        self.table = ControlTable()
        self.now = NOW
        self.waits: list[str] = []
        self.slept = 0
        self.pause = ReadingPause(self.table, self.waits.append, lambda: self.now, self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += 1
        await asyncio.sleep(0)

    def begin(self, part: PausedPart = PausedPart.READING) -> None:
        asked = Pause(part, "ada", "why", int(NOW * 1000), int((NOW + 60) * 1000))
        self.table.apply(pause_record(NAMES, asked))


async def test_a_call_waits_until_the_pause_is_over() -> None:
    paused = Paused()
    await paused.pause.wait()
    assert paused.waits == [], "nothing is paused"
    paused.begin()
    assert paused.pause.ends_seconds() == NOW + 60
    await paused.pause.wait()
    assert paused.now == NOW + 60
    assert paused.waits == ["paused"]
    assert paused.pause.ends_seconds() == 0


async def test_a_resume_is_obeyed_within_seconds() -> None:
    paused = Paused()
    paused.begin()
    waiting = asyncio.create_task(paused.pause.wait())
    while paused.slept < 3:
        await asyncio.sleep(0)
    resumed_at = paused.now
    paused.table.apply(resume_record(NAMES, PausedPart.READING))
    await waiting
    assert paused.now - resumed_at <= 5


async def test_a_paused_reader_does_not_count_as_hanging() -> None:
    paused = Paused()
    paused.begin()
    work = WorkInFlight("calls", 30.0, lambda: paused.now)
    with doing(work):
        await paused.pause.wait()
        assert work.waiting_seconds == 0
    assert not work.overdue


async def test_a_paused_client_asks_nylas_for_nothing() -> None:
    calls: list[int | None] = []
    released = asyncio.Event()

    async def until_released() -> None:
        await released.wait()

    client = NylasClient(
        "http://127.0.0.1:9",  # nobody listens
        "key",
        tries=1,
        on_call=lambda _kind, status, _seconds: calls.append(status),
        before_call=until_released,
    )
    async with client:
        asking = asyncio.create_task(client.get("list", "/v3/grants"))
        done, _ = await asyncio.wait([asking], timeout=0.1)
        assert not done
        assert calls == []
        released.set()
        await asyncio.wait([asking])
        assert calls == [None], "the call was tried after the pause"
        assert asking.exception() is not None


async def test_a_pause_holds_back_what_is_published_in_bulk() -> None:
    paused = Paused()
    reasons: list[str] = []
    gate = Gate(lambda: 0, 300, reasons.append, paused.pause.stops_bulk)
    await gate.wait(1)
    paused.begin()
    passing = asyncio.create_task(gate.wait(1))
    done, _ = await asyncio.wait([passing], timeout=0.1)
    assert not done
    assert reasons == ["paused"]
    passing.cancel()


def test_a_pause_of_writes_leaves_reading_alone_and_a_breaker_stops_bulk() -> None:
    paused = Paused()
    paused.begin(PausedPart.WRITES)
    assert paused.pause.ends_seconds() == 0
    assert paused.pause.stops_bulk() == ""
    breaker = FailureBreaker("unknown_code", Stops.BULK, 1, FailuresSeen(1, 1))
    paused.table.apply(breaker_record(NAMES, breaker))
    assert paused.pause.stops_bulk() == "breaker"
    paused.begin()
    assert paused.pause.stops_bulk() == "paused"
