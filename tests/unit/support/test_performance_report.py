"""What is made of a run of the benchmarks: ratios, regressions, the page and the plots."""

import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmarks.comparison import Comparison, Figures
from tests.benchmarks.conftest import record
from tests.benchmarks.flows import Flow, Side
from tests.benchmarks.growth import Growth, GrowthPoint
from tests.benchmarks.latencies import Latency, LatencyPoint, percentile
from tests.benchmarks.rendering import page, plots, table
from tests.benchmarks.runs import Run, from_data, regressions, to_data
from tests.benchmarks.sheets import Sheet
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
        assert "bridge: 0.54, where 0.73 is committed (2026-01-31)" in found[0]


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
    root = ElementTree.fromstring(drawn[f"pictures/performance/bridge-{plot}.svg"])
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
    assert "a crash loses what they hold" in text.replace("\n", " ")
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


@pytest.mark.parametrize(("calls", "worse"), [((35,), False), ((37,), True)])
def test_a_flow_that_takes_twice_the_calls_is_a_regression(
    calls: Sequence[int], worse: bool
) -> None:
    found = regressions(run_of_flows(flow()), run_of_flows(flow(calls=calls)))
    assert bool(found) == worse
    if worse:
        assert found[0].startswith(
            "first sync: contacts for each call: 432.43, where 888.89 is committed"
        )


def sheet(ratio: float = 0.5) -> Sheet:
    rows = {"plain": [40_000.0, 5.25], "transactional": [20_000.0, 9.0]}
    return Sheet("outcomes of Kafka", "3 rounds.", ["records/s", "ms"], rows, {"to plain": ratio})


def test_a_sheet_shows_each_figure_and_is_compared_by_its_ratios(tmp_path: Path) -> None:
    made = Run("2026-01-31", {}, {}, sheets=[sheet()])
    assert "## Outcomes of Kafka" in page(made)
    assert "| plain | 40,000 | 5.2 |" in page(made)
    assert "  transactional: 20,000 records/s, 9 ms" in table(made).splitlines()
    record(made, tmp_path)
    again = from_data(json.loads((tmp_path / "performance.json").read_text()))
    assert page(again) == page(made)
    assert regressions(made, Run("2026-02-01", {}, {}, sheets=[sheet(0.4)])) == []
    assert len(regressions(made, Run("2026-02-01", {}, {}, sheets=[sheet(0.3)]))) == 1


def test_every_plot_of_the_page_is_drawn() -> None:
    made = Run("2026-01-31", {}, {}, [comparison()], [flow()], [latency()], [growth()], [sheet()])
    drawn = plots(made)
    linked = [
        line.partition("](")[2].rstrip(")")
        for line in page(made).splitlines()
        if line.startswith("![")
    ]
    assert sorted(drawn) == sorted(linked)
    for each in drawn.values():
        ElementTree.fromstring(each)


def latency(p50_ms: float = 400.0) -> Latency:
    return Latency(
        "latency",
        "From the moment at which a webhook is due until the org stores the contact.",
        [
            LatencyPoint("contactstream", 1, 20, p50_ms, 900.0, 40),
            LatencyPoint("GET and <PATCH>", 1, 20, 240.0, 250.0, 40),
            LatencyPoint("contactstream", 1000, 8000, 2500.0, 2900.0, 30),
        ],
    )


def growth(name: str = "growth", *, on_demand: bool = False, mb: float = 0.2) -> Growth:
    def point(stage: str, thousands: int, workers: int = 1, partitions: int = 4) -> GrowthPoint:
        seconds = (0.5 + 0.03 * thousands) / workers
        return GrowthPoint(
            stage, thousands * 1000, workers, partitions, seconds, 0.03 * thousands,
            100 + mb * thousands, 2 + 0.01 * thousands, 90 + mb * thousands,
            2 * thousands,
        )  # fmt: skip

    points = [point("dedupe", size) for size in (1, 10, 40)]
    points += [point("dedupe", 40, workers, 12) for workers in (1, 2, 3)]
    points += [point("sink", size) for size in (1, 10)]
    return Growth(name, "New contacts.", "2026-01-31, contactstream abc", on_demand, points)


def test_a_latency_shows_both_percentiles_of_every_system_at_every_rate() -> None:
    made = Run("2026-01-31", {}, {}, latencies=[latency()])
    assert "| contactstream | 1,000 | 8,000 | 30 | 2.50 s | 2.90 s |" in page(made)
    lines = table(made).splitlines()
    assert any("1,000/s  8,000 contacts" in line for line in lines)
    assert max(map(len, lines)) <= 80
    assert made.ratios == {"latency: p50 at 1 a second": pytest.approx(0.6)}


@pytest.mark.parametrize(("share", "expected"), [(50, 10), (99, 20), (1, 1), (100, 20)])
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile([float(number) for number in range(20, 0, -1)], share) == expected


def test_growth_says_what_a_thousand_contacts_add() -> None:
    made = Run("2026-01-31", {}, {}, growths=[growth()])
    text = page(made)
    sentence = (
        "- dedupe: 1,000 contacts more add 0.030 s of work, 0.20 MB to the 90 MB of a process that "
        "has restarted, and 10 ms to a restart of 2.0 s."
    )
    assert sentence in text.replace("\n  ", " ")
    assert "| dedupe | 40,000 | 3 | 12 | 0.6 | 70,588 | 30 | 108 | 2.4 | 98 | 80 |" in text
    assert max(map(len, table(made).splitlines())) <= 80
    assert made.ratios == {"growth: contacts for each MB of dedupe": pytest.approx(5000)}
    worse = Run("2026-02-01", {}, {}, growths=[growth(mb=0.5)])
    assert len(regressions(made, worse)) == 1
    flat = Run("2026-02-01", {}, {}, growths=[growth(mb=0.0)])
    assert flat.ratios == {}


def test_a_line_of_growth_is_drawn_from_the_left_to_the_right() -> None:
    drawn = plots(Run("2026-01-31", {}, {}, growths=[growth()]))
    root = ElementTree.fromstring(drawn["pictures/performance/growth-memory.svg"])
    dots = [each.attrib for each in root if each.tag.endswith("circle")]
    dedupe, sink = dots[:3], dots[3:]
    assert [float(dot["cx"]) for dot in dedupe] == sorted(float(dot["cx"]) for dot in dedupe)
    assert [float(dot["cy"]) for dot in dedupe] == sorted(
        (float(dot["cy"]) for dot in dedupe), reverse=True
    )
    assert dedupe[0]["cx"] == sink[0]["cx"]


def test_what_is_measured_on_demand_stays_on_the_page_of_a_usual_run(tmp_path: Path) -> None:
    usual, long = growth(), growth("growth to a million", on_demand=True)
    record(Run("2026-01-31", {}, {}, [comparison()], growths=[usual, long]), tmp_path)
    record(Run("2026-02-01", {}, {}, [comparison()], growths=[usual]), tmp_path)
    text = (tmp_path / "performance.md").read_text()
    assert "## Growth to a million" in text
    assert "Measured on 2026-02-01." in text


def test_a_run_of_nothing_else_replaces_what_is_measured_on_demand(tmp_path: Path) -> None:
    usual = growth()
    record(Run("2026-01-31", {}, {}, [comparison()], growths=[usual]), tmp_path)
    for mb in (0.4, 0.5):
        long = growth("growth to a million", on_demand=True, mb=mb)
        record(Run("2026-02-01", {}, {}, growths=[long]), tmp_path)
    again = from_data(json.loads((tmp_path / "performance.json").read_text()))
    assert again.names == {"bridge", "growth", "growth to a million"}
    assert again.date == "2026-01-31"
    assert again.ratios["growth to a million: contacts for each MB of dedupe"] == pytest.approx(
        2000
    )
