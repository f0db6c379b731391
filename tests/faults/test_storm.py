"""Storms beside the other tests; `make faults` runs the long ones and prints their reports."""

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
