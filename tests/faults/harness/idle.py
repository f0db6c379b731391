"""Waits after the faults until no stage has anything left to do."""

import asyncio
import time

from confluent_kafka import KafkaException

from tests.faults.harness.address_book import AddressBookDriver, run_states
from tests.faults.harness.environment import Environment
from tests.faults.harness.offsets_sampler import OffsetsReader

CHECK_SECONDS = 1.0
# Versions are whole seconds: after this the last reading is newer than the last change.
NEXT_VERSION_SECONDS = 2.0

NOTHING_TO_DO = ("done", "failed", "skipped", "merged", "scheduled")


async def wait_until_idle(environment: Environment, driver: AddressBookDriver) -> str:
    """Has the address book read a last time and waits until nothing is left to do.

    Returns what is left when the time is over; empty when nothing is.
    """
    await asyncio.sleep(NEXT_VERSION_SECONDS)
    last_run = await driver.request_run("reconcile")
    seconds = environment.settings.idle_seconds
    offsets = OffsetsReader(environment.kafka.bootstrap)
    deadline = time.monotonic() + seconds
    left, records_before = "the broker has not answered yet", -1
    try:
        while time.monotonic() < deadline:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                runs = await asyncio.to_thread(run_states, environment.kafka)
                lags, records = await asyncio.to_thread(offsets.lag)
            except (KafkaException, AssertionError) as error:
                left = f"the broker does not answer: {error}"
                continue
            if runs.get(last_run) == "failed":
                last_run = await driver.request_run("reconcile")
            left = _left(lags, runs, last_run)
            environment.log.note(f"left to do: {left or 'nothing'}")
            # A released record is offered to the next contact that matches, which makes new events:
            # no record may have come since the last check.
            if not left and records == records_before:
                return ""
            records_before = records
    finally:
        offsets.close()
    return f"{left}, {seconds:.0f} s after the last fault"


def _left(lags: dict[str, int], runs: dict[str, str], last_run: str) -> str:
    lines = [f"{lag} records of {topic}" for topic, lag in lags.items()]
    open_runs = sorted(name for name in {last_run, *runs} if runs.get(name) not in NOTHING_TO_DO)
    return ", ".join([*lines, *open_runs[:3]])
