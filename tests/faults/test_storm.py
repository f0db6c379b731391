"""A storm short enough for every test run.

`make faults` goes through long ones, which are checked in the same way.
"""

from pathlib import Path

import pytest

from tests.faults.harness.settings import StormSettings
from tests.faults.harness.storm import run

pytestmark = pytest.mark.kafka

SEED = 96762
"""Among its first eighteen faults are a kill of a dedupe worker and of a sink, freezes of both,
late calls of a killed sink, a topic made anew, a kill of the broker that loses outcomes, and a
redrive of dead letters.
"""


@pytest.mark.timeout(1200)
async def test_a_storm_loses_and_reverses_nothing(tmp_path: Path) -> None:
    settings = StormSettings(
        SEED,
        contacts=500,
        versions=60,
        rate=500.0,
        fault_interval=2.5,
        complete_first_pass=False,
        idle_seconds=600.0,  # idle within a minute, on a busy machine within minutes
    )
    report = await run(settings, tmp_path)
    print(report.text())
    assert report.good, report.text()
    assert report.faults["kill -9: dedupe"], "while the load flows"
    assert report.faults["kill -9: sink"], "while the load flows"
    assert report.faults["contacts.outcomes loses its end"], "while the load flows"
    assert report.runs["done"], "contacts have come through the reader"
