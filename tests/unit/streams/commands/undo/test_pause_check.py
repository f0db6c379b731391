"""An undo and the sink never write at the same time."""

from collections.abc import Callable

import pytest

from streams.commands.undo import pause_check
from streams.commands.undo.pause_check import (
    SETTLED_SECONDS,
    NotPaused,
    paused_fence,
    wait_until_settled,
)
from streams.control import ControlTable, Pause, PausedPart
from streams.settings import KafkaSettings, load

KAFKA = load(KafkaSettings, {})
BEGUN = 1_790_000_000.0

PauseIt = Callable[[float | None], None]


@pytest.fixture
def pause_it(monkeypatch: pytest.MonkeyPatch) -> PauseIt:
    """Pauses writing from BEGUN on for so many seconds; None resumes it."""
    table = ControlTable()
    monkeypatch.setattr(pause_check, "read_control", lambda _kafka: table)

    def pause(seconds: float | None) -> None:
        table.pauses.clear()
        if seconds is not None:
            ends = int((BEGUN + seconds) * 1000)
            part = PausedPart.WRITES
            table.pauses[part] = Pause(part, "ada", "an undo", int(BEGUN * 1000), ends)

    return pause


def test_an_undo_waits_until_no_call_of_the_sink_is_on_its_way(pause_it: PauseIt) -> None:
    slept: list[float] = []
    said: list[str] = []
    with pytest.raises(NotPaused, match="contactstream pause writes") as refused:
        wait_until_settled(KAFKA, lambda: BEGUN, slept.append, said.append)
    assert refused.value.exit_code == 2
    pause_it(3600)
    wait_until_settled(KAFKA, lambda: BEGUN + 25, slept.append, said.append)
    assert slept == [SETTLED_SECONDS - 25]
    assert "waits 100 s" in said[0]
    wait_until_settled(KAFKA, lambda: BEGUN + 600, slept.append, said.append)
    assert len(slept) == 1, "a pause that has lasted needs no wait"


def test_an_undo_stops_before_the_pause_ends_and_when_it_is_ended(pause_it: PauseIt) -> None:
    now = BEGUN + 600
    look, fence = paused_fence(KAFKA, lambda: now)
    with pytest.raises(NotPaused):
        fence()  # before the first look nothing is known
    pause_it(3600)
    look()
    fence()
    now = BEGUN + 3500
    with pytest.raises(NotPaused, match="Extend it"):
        fence()
    pause_it(None)
    now = BEGUN + 700
    with pytest.raises(NotPaused, match="not paused"):
        look()
