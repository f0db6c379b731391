"""A storm short enough for every test run; `make faults` goes through long ones with the same
verdict.
"""

from pathlib import Path

import pytest

from tests.faults.harness.storm import Storm, run

pytestmark = pytest.mark.kafka

SEED = 14983
"""Of its first faults, some twenty, one kills a dedupe worker and one the sink that is at work;
others freeze them, and kill the broker.
"""


@pytest.mark.timeout(900)
async def test_a_storm_loses_and_reverses_nothing(tmp_path: Path) -> None:
    report = await run(
        Storm(SEED, contacts=500, versions=60, rate=500.0, every=2.5, whole=False), tmp_path
    )
    print(report.text())
    assert report.good, report.text()
    assert report.faults["kill -9: dedupe"], "while the load flows"
    assert report.faults["kill -9: sink"], "while the load flows"
    assert report.runs["done"], "contacts have come through the reader"
