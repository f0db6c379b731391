"""Storms with every fault: a short one beside the other tests, the long ones with `make faults`."""

from pathlib import Path

import pytest

from tests.faults.schedule import Fault
from tests.faults.storm import Storm, run

pytestmark = pytest.mark.kafka


@pytest.mark.timeout(600)
async def test_a_storm_loses_and_reverses_nothing(tmp_path: Path) -> None:
    report = await run(Storm(seed=1, contacts=500, versions=60, rate=500.0, every=2.5), tmp_path)
    print(report.text())
    assert report.good, report.text()


@pytest.mark.timeout(600)
async def test_a_cluster_that_loses_a_node_loses_nothing_else(tmp_path: Path) -> None:
    storm = Storm(seed=7, contacts=200, versions=40, rate=250.0, every=6.0, only=(Fault.BROKER_KILL,), nodes=3)
    report = await run(storm, tmp_path)
    print(report.text())
    assert report.good, report.text()
    assert report.faults["broker killed and started"]


@pytest.mark.storm
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [2, 3, 4, 5, 6])
async def test_a_long_storm_loses_and_reverses_nothing(tmp_path: Path, seed: int) -> None:
    report = await run(Storm(seed=seed, contacts=2000, versions=50, rate=600.0), tmp_path)
    print(report.text())
    assert report.good, report.text()
