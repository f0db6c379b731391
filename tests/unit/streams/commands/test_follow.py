"""How a run is shown: the estimate of the time left, the lines, the bars, and the list of runs."""

import io
from collections.abc import Mapping
from dataclasses import replace

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from streams.commands.follow import LINE_SECONDS, BarDisplay, LineDisplay
from streams.commands.run_progress import Pace, format_seconds, run_line, totals
from streams.commands.runs import run_row
from streams.runs import Progress, Run, RunKind, RunState

RUN = Run(RunKind.BACKFILL, None, 100, "command", state=RunState.RUNNING)
KNOWN = {
    "a": Progress(RunState.DONE, contacts=300, pages=2, expected=280),
    "b": Progress(RunState.RUNNING, contacts=100, pages=1, expected=500),
    "c": Progress(RunState.SKIPPED),
}


def never_read(*grants: tuple[RunState, int]) -> dict[str, Progress]:
    """Grants that were never read before."""
    return {
        f"g{number}": Progress(state, contacts=contacts, pages=-(-contacts // 200))
        for number, (state, contacts) in enumerate(grants)
    }


def test_a_line_says_how_far_the_run_is_and_how_long_it_takes() -> None:
    assert run_line(RUN, totals(KNOWN), 10.4) == (
        "backfill running, 2 of 3 grants, 400 contacts of about 800, 3 pages, 1 skipped, "
        "about 10 s left"
    )
    assert (
        run_line(replace(RUN, state=RunState.DONE), totals(KNOWN), 10)
        == "backfill done, 2 of 3 grants, 400 contacts, 3 pages, 1 skipped"
    )
    assert (
        run_line(replace(RUN, state=RunState.WAITING), totals({}), None)
        == "backfill waiting, 0 of 0 grants, 0 contacts, 0 pages"
    )


def test_the_size_of_a_new_address_book_is_estimated_from_the_finished_ones() -> None:
    nothing_done = totals(never_read((RunState.RUNNING, 400), (RunState.WAITING, 0)))
    assert nothing_done.expected is None
    assert run_line(RUN, nothing_done, None).endswith(
        "400 contacts, 2 pages, time left unknown until one address book is finished"
    )
    sums = totals(
        never_read(
            (RunState.DONE, 200),
            (RunState.DONE, 400),
            (RunState.RUNNING, 100),
            (RunState.WAITING, 0),
        )
    )
    assert (sums.expected, sums.estimated) == (200 + 400 + 300 + 300, 2)
    assert run_line(RUN, sums, 500).endswith("about 8 min left (size of 2 grants estimated)")
    larger = totals(never_read((RunState.DONE, 200), (RunState.RUNNING, 900)))
    assert larger.expected == 1100, "more was already read of it than the others hold"
    mixed = totals(
        never_read((RunState.FAILED, 7), (RunState.RUNNING, 100))
        | {"k": Progress(RunState.RUNNING, expected=50)}
    )
    assert mixed.expected is None, "a failed grant says nothing about an address book's size"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7000, "117 min"), (9000, "2.5 h")],
)
def test_a_duration_is_shown_in_the_unit_of_an_estimate(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_the_pace_counts_only_what_was_read_while_watching() -> None:
    pace = Pace()
    sums = replace(totals(KNOWN), contacts=600, expected=1000)
    assert pace.seconds_left(sums, 5.0) is None, "what was read before may have taken hours"
    assert pace.seconds_left(replace(sums, contacts=700), 15.0) == pytest.approx(30.0)
    assert pace.seconds_left(replace(sums, contacts=1200), 25.0) == 0.0
    assert pace.seconds_left(replace(sums, contacts=100), 30.0) is None, (
        "a lost cursor: it starts anew"
    )
    assert pace.seconds_left(replace(sums, contacts=200), 40.0) == pytest.approx(80.0)
    assert pace.seconds_left(replace(sums, expected=None), 50.0) is None


def test_a_line_is_printed_for_each_new_state_and_else_every_few_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show = LineDisplay()

    def at(elapsed: float, run: Run, grants: Mapping[str, Progress]) -> list[str]:
        show(run, grants, elapsed)
        return capsys.readouterr().out.splitlines()

    waiting = replace(RUN, state=RunState.WAITING)
    assert at(0.0, waiting, {}) == ["backfill waiting, 0 of 0 grants, 0 contacts, 0 pages"]
    assert at(1.0, waiting, {}) == []
    assert len(at(1.2, RUN, never_read((RunState.WAITING, 0)))) == 1, "a new state is shown at once"
    assert at(1.2 + LINE_SECONDS - 0.1, RUN, never_read((RunState.RUNNING, 200))) == []
    (second,) = at(1.2 + LINE_SECONDS, RUN, never_read((RunState.RUNNING, 200)))
    assert "200 contacts" in second
    assert at(1.3 + LINE_SECONDS, RUN, never_read((RunState.RUNNING, 400))) == []
    assert at(9 + 2 * LINE_SECONDS, RUN, never_read((RunState.RUNNING, 200))) == [], "nothing new"
    (third,) = at(
        10 + 3 * LINE_SECONDS, RUN, never_read((RunState.DONE, 600), (RunState.RUNNING, 100))
    )
    assert "s left (size of 1 grant estimated)" in third
    done = at(
        10.1 + 3 * LINE_SECONDS,
        replace(RUN, state=RunState.DONE),
        never_read((RunState.DONE, 600), (RunState.DONE, 500)),
    )
    assert done == ["backfill done, 2 of 2 grants, 1100 contacts, 6 pages"]


def drawn(*steps: tuple[float, Mapping[str, Progress]]) -> str:
    """What the terminal shows after the last of the steps."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    bars = Bars(*BarDisplay.COLUMNS, console=console, auto_refresh=False)
    show = BarDisplay(bars)
    for elapsed, grants in steps:
        show(RUN, grants, elapsed)
    console.print(bars.get_renderable())
    return out.getvalue()


def test_the_run_bar_counts_grants_until_their_sizes_are_known_then_contacts() -> None:
    nothing_done = never_read((RunState.RUNNING, 200), (RunState.WAITING, 0))
    text = drawn((0.0, nothing_done))
    assert "all grants" in text
    assert "0/2" in text
    assert "unknown" in text
    assert "200/?" in text
    one_done = never_read((RunState.DONE, 400), (RunState.RUNNING, 200))
    text = drawn((0.0, nothing_done), (10.0, one_done))
    assert "all contacts" in text
    assert "600/800" in text
    assert "about 5 s left (size of 1 grant estimated)" in text
    assert "g0 " not in text, "what is done has no bar"
    assert "g1 " in text


def test_a_grant_whose_id_looks_like_markup_is_shown_as_it_is() -> None:
    assert "[/red]x" in drawn(
        (0.0, {"[/red]x": Progress(RunState.RUNNING, contacts=5, pages=1, expected=9)})
    )


def test_the_list_shows_what_a_run_reads_who_asked_and_its_progress() -> None:
    some = replace(RUN, grants=("g1",), dry_run=True)
    assert run_row("r1", some, KNOWN, cancel_requested=False, now=0) == (
        "r1",
        "backfill of 1 grant, dry run",
        "command",
        "running",
        "2 of 3 grants, 400 contacts of about 800",
        "-",
    )
    assert run_row("r1", RUN, {}, cancel_requested=True, now=0)[3] == "running, being cancelled"
    later = replace(RUN, state=RunState.WAITING, not_before=1000)
    assert run_row("r1", later, {}, cancel_requested=False, now=900)[3].startswith("waiting until ")
    assert run_row("r1", later, {}, cancel_requested=False, now=1000)[1:5] == (
        "backfill of everything",
        "command",
        "waiting",
        "-",
    )
    over = replace(
        RUN, state=RunState.CANCELLED, error="cancelled; 1 of 3 grants were not finished"
    )
    assert run_row("r1", over, KNOWN, cancel_requested=True, now=0)[3:] == (
        "cancelled",
        "2 of 3 grants, 400 contacts",
        "cancelled; 1 of 3 grants were not finished",
    )


def test_a_run_that_a_breaker_pauses_is_shown_as_paused() -> None:
    def state(run: Run) -> str:
        return run_row("r1", run, {}, cancel_requested=False, now=0, paused_by="too_long")[3]

    assert state(RUN) == "running, paused: too_long"
    assert state(replace(RUN, dry_run=True)) == "running", "a dry run publishes nothing"
    assert state(replace(RUN, state=RunState.DONE)) == "done"
