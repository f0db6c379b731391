"""Gathers what the benchmarks measured, prints it, compares it, and writes it down with --record.

make bench                            # a table, and the comparison with the committed ratios
make bench ARGS=--record              # also deploy/docs/performance.md, .json and the plots
make bench ARGS="--growth --record"   # also with a million contacts
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from tests.benchmarks.comparison import Comparison
from tests.benchmarks.flows import Flow
from tests.benchmarks.growth import Growth
from tests.benchmarks.latencies import Latency
from tests.benchmarks.machine import machine, versions
from tests.benchmarks.rendering import page, plots, table
from tests.benchmarks.runs import Run, completed, from_data, regressions, to_data
from tests.benchmarks.sheets import Sheet
from tests.support.paths import ROOT

DOCUMENTS = ROOT / "deploy" / "docs"
COMMITTED = DOCUMENTS / "performance.json"
LATEST = ROOT / ".local" / "performance.json"
"""The figures of the last run, whether or not it was recorded."""

MeasuredT = TypeVar("MeasuredT")
Measured = Callable[[Comparison], None]
MeasuredFlow = Callable[[Flow], None]
MeasuredLatency = Callable[[Latency], None]
MeasuredGrowth = Callable[[Growth], None]
MeasuredSheet = Callable[[Sheet], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--record` and `--growth`."""
    parser.addoption(
        "--record",
        action="store_true",
        help="write deploy/docs/performance.md, its JSON and its plots; on a quiet machine",
    )
    parser.addoption(
        "--growth",
        action="store_true",
        help="also measure the growth to a million contacts, for about a quarter of an hour",
    )


@pytest.fixture(scope="session")
def this_run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """This run; at its end its figures are printed and written."""
    run = Run(f"{datetime.now(UTC):%Y-%m-%d}", machine(), versions())
    yield run
    if not run.names:
        return
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n\n{table(run)}")
    write(run, LATEST.parent, LATEST.name)
    if request.config.getoption("--record"):
        record(run)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what takes longer than a usual run has time for, without --growth."""
    if config.getoption("--growth", default=False):
        return
    left_out = [item for item in items if item.get_closest_marker("on_demand")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def _take(run: Run, into: list[MeasuredT], measured: MeasuredT) -> None:
    into.append(measured)
    check(run)


@pytest.fixture
def measured(this_run: Run) -> Measured:
    """Takes a stage beside its baselines. Fails when it is far below a committed ratio."""
    return partial(_take, this_run, this_run.comparisons)


@pytest.fixture
def measured_flow(this_run: Run) -> MeasuredFlow:
    """Takes a flow beside the recipes. Fails when it is far below a committed ratio."""
    return partial(_take, this_run, this_run.flows)


@pytest.fixture
def measured_latency(this_run: Run) -> MeasuredLatency:
    """Takes latencies beside the recipes. Fails when they are far above the committed ones."""
    return partial(_take, this_run, this_run.latencies)


@pytest.fixture
def measured_growth(this_run: Run) -> MeasuredGrowth:
    """Takes how stages grow. Fails when memory grows far more than in the committed run."""
    return partial(_take, this_run, this_run.growths)


@pytest.fixture
def measured_sheet(this_run: Run) -> MeasuredSheet:
    """Takes a sheet of figures. Fails when one is far below the committed one."""
    return partial(_take, this_run, this_run.sheets)


def check(run: Run) -> None:
    """Fails when a ratio of the run is far below the committed one."""
    if COMMITTED.exists():
        found = regressions(from_data(json.loads(COMMITTED.read_bytes())), run)
        assert not found, "\n".join(found)


def write(run: Run, folder: Path, name: str) -> None:
    """Writes the figures as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(to_data(run), indent=2, ensure_ascii=False)
    (folder / name).write_text(f"{text}\n", encoding="utf-8")


def record(run: Run, folder: Path = DOCUMENTS) -> None:
    """Writes the page, its figures and its plots."""
    committed = folder / COMMITTED.name
    if committed.exists():
        run = completed(run, from_data(json.loads(committed.read_bytes())))
    write(run, folder, COMMITTED.name)
    (folder / "performance.md").write_text(page(run), encoding="utf-8")
    for name, plot in plots(run).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(plot, encoding="utf-8")
