"""A storm with every fault, short enough for every test run; `make faults` goes through long ones with the same verdict."""

from pathlib import Path

import pytest

from tests.faults.storm import Storm, run

pytestmark = pytest.mark.kafka


@pytest.mark.timeout(600)
async def test_a_storm_loses_and_reverses_nothing(tmp_path: Path) -> None:
    report = await run(Storm(seed=10, contacts=500, versions=60, rate=500.0, every=2.5), tmp_path)
    print(report.text())
    assert report.good, report.text()
