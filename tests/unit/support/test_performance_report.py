"""What is made of a run of the benchmarks: ratios, regressions, the page and the plots."""

import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmarks.comparison import Comparison, Figures
from tests.benchmarks.conftest import record
from tests.benchmarks.flows import Flow, Side
from tests.benchmarks.rendering import page, plots, table
from tests.benchmarks.runs import Run, from_data, regressions, to_data
from tests.benchmarks.wrk import write_requests


def comparison(
    name: str = "bridge", stage_us: Sequence[float] = (80.0, 70.0, 75.0), goal: float = 0.75
) -> Comparison:
    return Comparison(
        name,
        "notifications",
        "3 rounds of 8 s each, " + "and a condition that takes more than a line of a page " * 3,
        Figures(name, (7000, 8000, 9000), stage_us, (5.0, 6.0, 7.0), (20.0, 25.0, 30.0)),
        [Figures("bare <handler>", (10000, 11000, 12000), (60.0, 55.0, 50.0))],
        goal,
    )


def run(*comparisons: Comparison) -> Run:
    machine = {"processor": "a processor, 2 cores for everything"}
    return Run("2026-01-31", machine, {"Python": "3.11"}, list(comparisons))


def flow(name: str = "first sync", calls: Sequence[int] = (20, 16, 18)) -> Flow:
    return Flow(
        name,
        "3 rounds of 8,000 contacts, " + "and a condition that takes more than a line " * 3,
        [
            Side("contactstream", 8000, (4, 5, 3), calls, {"reader": (1, 2, 3), "sink": (4, 4, 4)}),
            Side("GET and <PATCH>", 800, (9.6, 9.6, 9.6), (1600,) * 3, {"program": (0.4,) * 3}),
        ],
    )


def run_of_flows(*flows: Flow) -> Run:
    return Run("2026-01-31", {"processor": "one"}, {"Python": "3.11"}, flows=list(flows))


def test_ratios_are_those_of_the_medians_and_more_is_better() -> None:
    found = comparison()
    assert found.rate_ratio == pytest.approx(8000 / 11000)
    assert found.processor_ratio == pytest.approx(55 / 75)


def test_the_figures_of_a_run_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    made = run(comparison(), comparison("dedupe"))
    record(made, tmp_path)
    again = from_data(json.loads((tmp_path / "performance.json").read_text()))
    assert to_data(again) == json.loads(json.dumps(to_data(made)))
    assert page(again) == (tmp_path / "performance.md").read_text()


def test_a_page_is_made_of_a_whole_run_only(tmp_path: Path) -> None:
    record(run(comparison(), comparison("dedupe")), tmp_path)
    with pytest.raises(AssertionError, match=r"not measured: \['dedupe'\]"):
        record(run(comparison()), tmp_path)


@pytest.mark.parametrize(
    ("stage_us", "worse"), [((75.0,), False), ((60.0,), False), ((99.0,), False), ((101.0,), True)]
)
def test_a_ratio_may_be_a_quarter_lower_than_the_committed_one(
    stage_us: Sequence[float], worse: bool
) -> None:
    found = regressions(run(comparison()), run(comparison(stage_us=stage_us)))
    assert bool(found) == worse
    if worse:
        assert "bridge: 0.54 of its baseline, where 0.73 is committed (2026-01-31)" in found[0]


def test_a_benchmark_that_nothing_is_committed_of_is_no_regression() -> None:
    assert regressions(run(comparison("dedupe")), run(comparison())) == []


@pytest.mark.parametrize(("goal", "verdict"), [(0.73, "is reached"), (0.74, "is not reached")])
def test_the_page_names_machine_versions_date_ratios_and_whether_the_goal_is_reached(
    goal: float, verdict: str
) -> None:
    text = page(run(comparison(goal=goal)))
    for part in ("2026-01-31", "| Python | 3.11 |", "a processor, 2 cores", verdict, "0.73 by"):
        assert part in text
    assert "| bridge | 8,000 | 7,000 to 9,000 | 75.0 | 70.0 to 80.0 | 6.0 ms | 25.0 ms |" in text
    prose = [line for line in text.splitlines() if not line.startswith(("|", "!"))]
    assert max(map(len, prose)) <= 100


def test_the_table_shows_every_side_and_the_goal() -> None:
    lines = table(run(comparison())).splitlines()
    assert [line.split("  ")[1] for line in lines[-3:-1]] == ["bridge", "bare <handler>"]
    assert "0.73 of bare <handler> by processor time (goal 0.75)" in lines[-1]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("plot", ["rate", "processor"])
def test_a_plot_is_an_svg_whose_bars_are_as_long_as_the_medians(plot: str) -> None:
    drawn = plots(run(comparison()))
    root = ElementTree.fromstring(drawn[f"performance-bridge-{plot}.svg"])
    _, stage, baseline = (each for each in root if each.tag.endswith("rect"))
    expected = 8000 / 11000 if plot == "rate" else 75 / 55
    ratio = float(stage.attrib["width"]) / float(baseline.attrib["width"])
    assert ratio == pytest.approx(expected, rel=0.01)
    texts = [each.text for each in root if each.tag.endswith("text")]
    assert "bare <handler>" in texts


def test_requests_are_written_each_after_its_length(tmp_path: Path) -> None:
    write_requests(tmp_path / "requests", [b"POST / 1", b"GET"])
    assert (tmp_path / "requests").read_bytes() == b"0000000008POST / 10000000003GET"


def test_a_flow_says_what_the_daily_calls_carry_and_what_each_process_took() -> None:
    own, recipe = flow().sides
    assert own.contacts_a_day == pytest.approx(8000 / 18 * 100_000)
    assert recipe.contacts_a_day == 50_000
    assert own.processor_us == pytest.approx(6 / 8000 * 1e6)
    text = page(run_of_flows(flow()))
    assert "| contactstream | 8,000 | 18 | 4.0 | 3.0 to 5.0 | 2,000 | 44,444,444 |" in text
    assert "- contactstream: reader 2.00 s, sink 4.00 s; 750 µs a contact" in text
    assert max(len(line) for line in text.splitlines() if not line.startswith(("|", "!"))) <= 100


def test_a_flow_of_a_run_is_read_back_and_its_table_fits_a_terminal(tmp_path: Path) -> None:
    made = run_of_flows(flow("webhooks"), flow())
    record(made, tmp_path)
    again = from_data(json.loads((tmp_path / "performance.json").read_text()))
    assert page(again) == (tmp_path / "performance.md").read_text()
    lines = table(made).splitlines()
    assert max(map(len, lines)) <= 80
    assert "  contactstream       8,000 contacts      18 calls    4.0 s    2,000/s" in lines


@pytest.mark.parametrize(("calls", "worse"), [((23,), False), ((25,), True)])
def test_a_flow_that_takes_more_calls_is_a_regression(calls: Sequence[int], worse: bool) -> None:
    found = regressions(run_of_flows(flow()), run_of_flows(flow(calls=calls)))
    assert bool(found) == worse
    if worse:
        assert found[0].startswith("first sync: contacts for each call: 640.00 of its baseline")


def test_every_plot_of_the_page_is_drawn() -> None:
    made = Run("2026-01-31", {}, {}, [comparison()], [flow()])
    drawn = plots(made)
    linked = [
        line.partition("](")[2].rstrip(")")
        for line in page(made).splitlines()
        if line.startswith("![")
    ]
    assert sorted(drawn) == sorted(linked)
    for each in drawn.values():
        ElementTree.fromstring(each)
