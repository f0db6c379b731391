"""What a person sees of a run: the estimate, the lines, the bars, the list; and how a run is
watched again and ended.
"""

import io
from collections.abc import Mapping
from dataclasses import replace

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from streams.commands.follow import LINE_EVERY, GrantBars, Lines, Pace, lasts, line, totals
from streams.commands.runs import row
from streams.runs import Progress, Run, RunKind, RunState

RUN = Run(RunKind.BACKFILL, None, 100, "command", state=RunState.RUNNING)
KNOWN = {
    "a": Progress(RunState.DONE, contacts=300, pages=2, expected=280),
    "b": Progress(RunState.RUNNING, contacts=100, pages=1, expected=500),
    "c": Progress(RunState.SKIPPED),
}


def first(*grants: tuple[RunState, int]) -> dict[str, Progress]:
    """Grants that were never read before."""
    return {
        f"g{number}": Progress(state, contacts=contacts, pages=-(-contacts // 200))
        for number, (state, contacts) in enumerate(grants)
    }


def test_a_line_says_how_far_the_run_is_and_how_long_it_takes() -> None:
    assert (
        line(RUN, totals(KNOWN), 10.4)
        == "backfill running, 2 of 3 grants, 400 contacts of about 800, 3 pages, 1 skipped, about 10 s left"
    )
    assert (
        line(replace(RUN, state=RunState.DONE), totals(KNOWN), 10)
        == "backfill done, 2 of 3 grants, 400 contacts, 3 pages, 1 skipped"
    )
    assert (
        line(replace(RUN, state=RunState.WAITING), totals({}), None)
        == "backfill waiting, 0 of 0 grants, 0 contacts, 0 pages"
    )


def test_a_first_reading_is_judged_by_the_address_books_that_are_done_and_says_so() -> None:
    nothing_done = totals(first((RunState.RUNNING, 400), (RunState.WAITING, 0)))
    assert nothing_done.expected is None
    assert line(RUN, nothing_done, None).endswith(
        "400 contacts, 2 pages, time left not known before an address book is done"
    )
    sums = totals(
        first(
            (RunState.DONE, 200),
            (RunState.DONE, 400),
            (RunState.RUNNING, 100),
            (RunState.WAITING, 0),
        )
    )
    assert (sums.expected, sums.guessed) == (200 + 400 + 300 + 300, 2)
    assert line(RUN, sums, 500).endswith(
        "about 8 min left, judging 2 of them by those that are done"
    )
    larger = totals(first((RunState.DONE, 200), (RunState.RUNNING, 900)))
    assert larger.expected == 1100, "what it has shown is more than the others had"
    mixed = totals(
        first((RunState.FAILED, 7), (RunState.RUNNING, 100))
        | {"k": Progress(RunState.RUNNING, expected=50)}
    )
    assert mixed.expected is None, "a reading that failed says nothing of an address book's size"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7000, "117 min"), (9000, "2.5 h")],
)
def test_a_time_is_told_no_finer_than_it_is_known(seconds: float, said: str) -> None:
    assert lasts(seconds) == said


def test_the_pace_is_that_since_one_watches() -> None:
    pace = Pace()
    sums = replace(totals(KNOWN), contacts=600, expected=1000)
    assert pace.left(sums, 5.0) is None, "what was read before may have taken hours"
    assert pace.left(replace(sums, contacts=700), 15.0) == pytest.approx(30.0)
    assert pace.left(replace(sums, contacts=1200), 25.0) == 0.0
    assert pace.left(replace(sums, contacts=100), 30.0) is None, "a lost cursor: it starts anew"
    assert pace.left(replace(sums, contacts=200), 40.0) == pytest.approx(80.0)
    assert pace.left(replace(sums, expected=None), 50.0) is None


def test_lines_are_printed_for_each_state_and_between_them_no_oftener_than_a_person_reads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show = Lines()

    def at(elapsed: float, run: Run, grants: Mapping[str, Progress]) -> list[str]:
        show(run, grants, elapsed)
        return capsys.readouterr().out.splitlines()

    waiting = replace(RUN, state=RunState.WAITING)
    assert at(0.0, waiting, {}) == ["backfill waiting, 0 of 0 grants, 0 contacts, 0 pages"]
    assert at(1.0, waiting, {}) == []
    assert len(at(1.2, RUN, first((RunState.WAITING, 0)))) == 1, "a new state is told at once"
    assert at(1.2 + LINE_EVERY - 0.1, RUN, first((RunState.RUNNING, 200))) == []
    (second,) = at(1.2 + LINE_EVERY, RUN, first((RunState.RUNNING, 200)))
    assert "200 contacts" in second
    assert at(1.3 + LINE_EVERY, RUN, first((RunState.RUNNING, 400))) == []
    assert at(9 + 2 * LINE_EVERY, RUN, first((RunState.RUNNING, 200))) == [], "nothing new"
    (third,) = at(10 + 3 * LINE_EVERY, RUN, first((RunState.DONE, 600), (RunState.RUNNING, 100)))
    assert "s left, judging 1 of them by those that are done" in third
    done = at(
        10.1 + 3 * LINE_EVERY,
        replace(RUN, state=RunState.DONE),
        first((RunState.DONE, 600), (RunState.DONE, 500)),
    )
    assert done == ["backfill done, 2 of 2 grants, 1100 contacts, 6 pages"]


def drawn(*steps: tuple[float, Mapping[str, Progress]]) -> str:
    """What the terminal shows after the last of the steps."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    bars = Bars(*GrantBars.COLUMNS, console=console, auto_refresh=False)
    show = GrantBars(bars)
    for elapsed, grants in steps:
        show(RUN, grants, elapsed)
    console.print(bars.get_renderable())
    return out.getvalue()


def test_bars_count_grants_until_their_size_is_known_and_contacts_then() -> None:
    nothing_done = first((RunState.RUNNING, 200), (RunState.WAITING, 0))
    said = drawn((0.0, nothing_done))
    assert "all grants" in said
    assert "0/2" in said
    assert "not known" in said
    assert "200/?" in said
    one_done = first((RunState.DONE, 400), (RunState.RUNNING, 200))
    said = drawn((0.0, nothing_done), (10.0, one_done))
    assert "all contacts" in said
    assert "600/800" in said
    assert "about 5 s left, judging 1 of them" in said
    assert "g0 " not in said, "what is done has no bar"
    assert "g1 " in said


def test_a_grant_whose_id_looks_like_markup_is_shown_as_it_is() -> None:
    assert "[/red]x" in drawn(
        (0.0, {"[/red]x": Progress(RunState.RUNNING, contacts=5, pages=1, expected=9)})
    )


def test_a_run_is_listed_with_what_it_is_who_asked_and_how_far_it_is() -> None:
    some = replace(RUN, grants=("g1",), dry_run=True)
    assert row("r1", some, KNOWN, ending=False, now=0) == (
        "r1",
        "backfill of 1 grant, dry run",
        "command",
        "running",
        "2 of 3 grants, 400 contacts of about 800",
        "-",
    )
    assert row("r1", RUN, {}, ending=True, now=0)[3] == "running, being cancelled"
    later = replace(RUN, state=RunState.WAITING, not_before=1000)
    assert row("r1", later, {}, ending=False, now=900)[3].startswith("waiting until ")
    assert row("r1", later, {}, ending=False, now=1000)[1:5] == (
        "backfill of everything",
        "command",
        "waiting",
        "-",
    )
    over = replace(
        RUN, state=RunState.CANCELLED, error="cancelled; 1 of 3 grants were not finished"
    )
    assert row("r1", over, KNOWN, ending=True, now=0)[3:] == (
        "cancelled",
        "2 of 3 grants, 400 contacts",
        "cancelled; 1 of 3 grants were not finished",
    )
