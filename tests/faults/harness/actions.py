"""Carries out a schedule of faults, one step after the other, and counts what was done."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from tests.faults.harness import (
    broker_faults,
    cluster_faults,
    command_faults,
    compound_faults,
    nylas_faults,
    replays,
    salesforce_faults,
    topic_faults,
)
from tests.faults.harness.environment import Environment
from tests.faults.harness.evidence import StoredRecord
from tests.faults.harness.process_faults import BackgroundTasks, ProcessFaults
from tests.faults.harness.schedule import Fault, Step, fault_name

# A fault that cannot be done now, because no process is there or no worker has left yet, is tried
# again after this.
RETRY_SECONDS = 0.5
# For so long: a sink whose login was refused sends nothing for a minute, and perhaps another one.
RETRIES_SECONDS = 180.0

Action = Callable[[Step], Awaitable[bool]]
"""Carries out a step; returns whether it could be done."""


class FaultActions:
    """Carries out the steps of a schedule on a running system.

    `load_share` returns how much of the load has been sent, from 0 to 1.
    """

    def __init__(self, environment: Environment, load_share: Callable[[], float]) -> None:
        self.background = BackgroundTasks()
        self.processes = ProcessFaults(environment.settings, environment.stages, self.background)
        self.done: Counter[str] = Counter()
        """How often each fault was carried out, by the step's name."""
        self.kinds: set[Fault] = set()
        """The faults that were carried out."""
        self.lost_outcomes: list[StoredRecord] = []
        """Records of contacts.outcomes that were acknowledged, and that a fault has removed."""
        self._environment = environment
        self._actions: dict[Fault, Action] = {
            **_actions(environment, self.processes),
            Fault.LOST_END: partial(
                topic_faults.lose_end, environment, self.lost_outcomes, load_share
            ),
            **dict.fromkeys(
                command_faults.COMMANDS,
                partial(command_faults.run_command, environment, self.background),
            ),
            Fault.TOPIC_ANEW: partial(topic_faults.make_anew, environment, self.background),
        }

    async def run(self, steps: Sequence[Step], loaded: asyncio.Event) -> None:
        """Goes through the steps until the load has ended, and then ends every fault.

        The first pass is gone through to its end where the storm's settings say so.
        """
        began, late = time.monotonic(), 0.0
        for step in steps:
            mandatory = step.in_first_pass and self._environment.settings.complete_first_pass
            await _wait_until_due(began + step.at + late, None if mandatory else loaded)
            if loaded.is_set() and not mandatory:
                break
            # A fault that took long must not make the next ones come all at once.
            late = max(late, time.monotonic() - began - step.at)
            await self._carry_out_or_retry(step)
        await self.background.wait()
        await self._end_faults()

    async def run_last(self) -> list[str]:
        """Carries out the faults that stop stages for good; returns what did not follow.

        Only where the first pass was to be complete.
        """
        settings = self._environment.settings
        wanted = not settings.only_faults or Fault.GROW in settings.only_faults
        if not (settings.complete_first_pass and settings.fault_interval and wanted):
            return []
        problems = await topic_faults.grow(self._environment)
        self.kinds.add(Fault.GROW)
        self.done.update(fault_name(Fault.GROW, topic) for topic in topic_faults.GROWN)
        self._environment.log.note(Fault.GROW.value)
        return problems

    async def _carry_out_or_retry(self, step: Step) -> None:
        """Steps of the first pass are tried again until they can be done; others are skipped."""
        ends = time.monotonic() + RETRIES_SECONDS
        while not await self._carry_out(step) and step.in_first_pass and time.monotonic() < ends:
            await asyncio.sleep(RETRY_SECONDS)

    async def _carry_out(self, step: Step) -> bool:
        """Whether the step could be done. What cannot be done is not counted."""
        began = time.time()
        done = await self._actions[step.fault](step)
        if done:
            self.done[step.name] += 1
            self.kinds.add(step.fault)
            self._environment.log.note(f"{step.name}, {time.time() - began:.1f} s", began)
        return done

    async def _end_faults(self) -> None:
        for broker in self._environment.brokers:
            broker.resume()
        await asyncio.to_thread(self._environment.proxy.heal)
        for replica in self._environment.stages.replicas:
            replica.thaw()


def _actions(environment: Environment, processes: ProcessFaults) -> Mapping[Fault, Action]:
    inject_salesforce = partial(
        salesforce_faults.inject, environment.salesforce, environment.settings.seed
    )
    return {
        Fault.KILL: processes.kill,
        Fault.TERM: processes.terminate,
        Fault.FREEZE: processes.freeze,
        Fault.ROLLING: processes.restart_all,
        Fault.JOIN: processes.join,
        Fault.LEAVE: processes.leave,
        Fault.BURST: processes.burst,
        Fault.CLOCK: processes.jump_clock,
        Fault.BROKER_KILL: partial(broker_faults.kill_and_start, environment),
        Fault.BROKER_STOP: partial(broker_faults.stop_and_start, environment),
        Fault.BROKER_FREEZE: partial(broker_faults.freeze, environment),
        Fault.BLACK_HOLE: partial(broker_faults.black_hole, environment),
        Fault.DELAY: partial(broker_faults.delay, environment),
        Fault.RESET: partial(broker_faults.reset, environment),
        Fault.LIMIT: partial(topic_faults.limit, environment),
        Fault.REASSIGN: partial(cluster_faults.reassign, environment),
        Fault.LOST_DISK: partial(cluster_faults.lose_disk, environment),
        Fault.LATE_CALLS: partial(compound_faults.kill_with_late_calls, environment, processes),
        Fault.TERM_AWAY: partial(compound_faults.terminate_without_broker, environment, processes),
        Fault.TERM_ORG: partial(compound_faults.terminate_without_org, environment, processes),
        Fault.POISON: partial(broker_faults.poison, environment),
        Fault.ORG: inject_salesforce,
        Fault.NYLAS: partial(nylas_faults.inject, environment.nylas),
        Fault.REPLAY: partial(replays.ask, environment),
    }


async def _wait_until_due(at: float, loaded: asyncio.Event | None) -> None:
    """Waits until `at`, a monotonic time; no longer than until the load has ended, if given."""
    wait = at - time.monotonic()
    if wait <= 0:
        return
    if loaded is None:
        await asyncio.sleep(wait)
        return
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(loaded.wait(), wait)
