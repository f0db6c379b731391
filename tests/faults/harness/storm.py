"""A storm: every stage under load and faults on a real Apache Kafka, and a verdict on the result.

    python -m tests.faults.harness.storm --seed 1 --contacts 1000 --versions 40

prints a report for people, and ends with 1 when a promise was broken. Which fault comes when is
decided by the seed. Contacts come in both ways: as signed notifications through the bridge, and
page by page through the reader, from an address book that changes during the whole storm.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.harness.actions import FaultActions
from tests.faults.harness.address_book import AddressBookDriver, run_states
from tests.faults.harness.collect import collect, keep_details, read_topics
from tests.faults.harness.environment import Environment, start_environment
from tests.faults.harness.evidence import Evidence, Sample
from tests.faults.harness.idle import wait_until_idle
from tests.faults.harness.load import Load, Sender, notifications
from tests.faults.harness.nylas_faults import clear
from tests.faults.harness.offsets_sampler import sample_until_cancelled
from tests.faults.harness.operator import Operator
from tests.faults.harness.report import (
    Report,
    exits_by_stage,
    peaks_by_stage,
    record_counts,
    unexpected_exits,
    unexpected_statuses,
)
from tests.faults.harness.schedule import Fault, Step, impossible, schedule
from tests.faults.harness.settings import StormSettings
from tests.faults.harness.supervisor import Replica
from tests.faults.harness.verifier import verify

LEAD_SECONDS = 15
"""How far the notifications' versions are ahead of the machine's clock.

Then the versions of pages lie between them and not behind them.
"""

MAX_SAMPLE_INTERVAL_SECONDS = 20.0  # from one sample to the next while the broker does not answer


@dataclass
class _Recorded:
    """What a storm left behind when its stages have ended."""

    actions: FaultActions
    sender: Sender
    evidence: Evidence
    replicas: Sequence[Replica]
    runs: Counter[str]
    left_to_do: str
    unmoved: Sequence[str]
    """Processes that went on although a fault should have stopped them."""
    released: Sequence[str]
    """The reasons of the failure breakers that the operator released."""


async def run(settings: StormSettings, folder: Path) -> Report:
    """A storm from its first process to its verdict. Logs and details are left in `folder`."""
    began = time.monotonic()
    seconds_per_version = settings.contacts / settings.rate
    first_version = int(time.time()) + LEAD_SECONDS
    load = notifications(
        settings.seed, settings.contacts, settings.versions, first_version, seconds_per_version
    )
    async with start_environment(settings, folder, load) as environment:
        recorded = await _record(environment, load, _steps(settings, load), began)
    verdict = await asyncio.to_thread(verify, recorded.evidence)
    keep_details(verdict, recorded.evidence, folder)
    exits = exits_by_stage(recorded.replicas)
    return Report(
        settings=settings,
        verdict=verdict,
        faults=recorded.actions.done,
        kills=recorded.actions.processes.kills,
        exits=exits,
        sent=len(load.queue),
        distinct=len({one.id for one in load.queue}),
        acknowledged=len(recorded.sender.acknowledged),
        refused=recorded.sender.refused,
        runs=recorded.runs,
        releases=Counter(recorded.released),
        counts=record_counts(recorded.evidence),
        peaks=peaks_by_stage(recorded.replicas),
        seconds=time.monotonic() - began,
        overdue=sum(replica.overdue for replica in recorded.replicas),
        left_to_do=recorded.left_to_do,
        unexpected=[
            *unexpected_statuses(recorded.sender.unexpected_statuses),
            *recorded.actions.background.failures,
            *recorded.unmoved,
            *unexpected_exits(exits, recorded.actions.kinds),
        ],
    )


def _steps(settings: StormSettings, load: Load) -> Sequence[Step]:
    if not settings.fault_interval:
        return ()
    seconds = len(load.queue) / settings.rate * 5 + 300  # more than the load can take
    return schedule(
        settings.seed,
        seconds,
        settings.fault_interval,
        settings.only_faults,
        nodes=settings.nodes,
    )


async def _record(
    environment: Environment, load: Load, steps: Sequence[Step], began: float
) -> _Recorded:
    """Load and faults together, then the faults alone, then nothing until every stage is idle."""
    driver, sender = AddressBookDriver(environment), Sender(environment.bridge_urls)
    actions = FaultActions(environment, lambda: len(sender.acknowledged) / len(load.queue))
    samples: list[Sample] = []
    loaded = asyncio.Event()
    sampling = asyncio.create_task(sample_until_cancelled(environment, samples))
    changing = asyncio.create_task(driver.run())
    operator = Operator(environment)
    operating = asyncio.create_task(operator.run())
    faults = asyncio.create_task(actions.run(steps, loaded))
    sending = asyncio.create_task(sender.send(load.queue, environment.settings.rate))
    await _wait_for(sending, faults, changing, sampling, operating)
    loaded.set()
    await _wait_for(faults, changing, sampling, operating)
    await _cancel(changing)
    await clear(environment.nylas)
    left_to_do = await wait_until_idle(environment, driver)
    least_samples = int((time.monotonic() - began) / MAX_SAMPLE_INTERVAL_SECONDS)
    await _cancel(sampling)
    runs = Counter((await asyncio.to_thread(run_states, environment.kafka)).values())
    await _cancel(operating)
    unmoved = await actions.run_last()
    await environment.stages.end()
    evidence = await collect(
        environment,
        await asyncio.to_thread(read_topics, environment.kafka),
        acknowledged=sender.acknowledged,
        samples=samples,
        least_samples=least_samples,
        lost_outcomes=actions.lost_outcomes,
    )
    replicas = [*environment.stages.replicas, *environment.stages.retired]
    return _Recorded(
        actions, sender, evidence, replicas, runs, left_to_do, unmoved, operator.released
    )


async def _wait_for(task: asyncio.Task[None], *others: asyncio.Task[None]) -> None:
    """Waits for a task; raises at once what ends one of the others, so that none fails unseen."""
    pending = {task, *others}
    while not task.done():
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    task.result()


async def _cancel(task: asyncio.Task[None]) -> None:
    """Ends a task that runs until it is cancelled; raises the error that has ended it before."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main() -> int:
    """The command line. Exit code 1: a promise was broken, or a fault could not be carried out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--contacts", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=40)
    parser.add_argument("--rate", type=float, default=600.0, help="notifications a second at most")
    parser.add_argument(
        "--every", type=float, default=3.0, help="seconds between faults; 0 for none"
    )
    parser.add_argument("--only", nargs="*", choices=[fault.name for fault in Fault], default=[])
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    parser.add_argument("--folder", type=Path, help="for logs; default: a new temporary folder")
    options = parser.parse_args()
    only = [Fault[name] for name in options.only]
    refused = [fault.name for fault in only if fault in impossible(options.nodes)]
    if refused:
        parser.error(f"not with --nodes {options.nodes}: {', '.join(refused)}")
    good = True
    for seed in options.seed:
        top = options.folder or Path(tempfile.mkdtemp(prefix="contactstream-storm-"))
        folder = top / str(seed)
        folder.mkdir(parents=True)
        settings = StormSettings(
            seed=seed,
            contacts=options.contacts,
            versions=options.versions,
            rate=options.rate,
            fault_interval=options.every,
            nodes=options.nodes,
            only_faults=only,
        )
        report = asyncio.run(run(settings, folder))
        print(report.text(), f"\n  logs        {folder}", flush=True)
        good = good and report.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
