"""Faults that meet: a stage is stopped or killed while the broker or Salesforce does not answer."""

import asyncio

from tests.faults.harness.environment import Environment
from tests.faults.harness.process_faults import ProcessFaults
from tests.faults.harness.salesforce_faults import CALLS
from tests.faults.harness.schedule import Step
from tests.faults.harness.settings import LATE_SECONDS
from tests.support.waiting import until

# The broker is away no longer: other stages wait for it too. The process may take the rest of its
# grace period afterwards.
AWAY_SECONDS = 12.0

# Longer than the grace period of the sink: it must not wait for the answer.
HANG_SECONDS = 40.0

# For the sink to send a call while the load flows.
CALL_SECONDS = 10.0


async def terminate_without_broker(
    environment: Environment, processes: ProcessFaults, step: Step
) -> bool:
    """SIGTERM while no broker answers; the broker comes back when the process has ended."""
    (broker,) = environment.brokers
    await asyncio.to_thread(broker.kill)
    ended = processes.terminate_one(step)
    if ended is not None:
        try:
            await asyncio.wait_for(ended.wait(), AWAY_SECONDS)
        except TimeoutError:
            environment.log.note(f"{step.target} has not ended after {AWAY_SECONDS:.0f} s")
    await asyncio.to_thread(broker.start)
    return ended is not None


async def terminate_without_org(
    environment: Environment, processes: ProcessFaults, step: Step
) -> bool:
    """SIGTERM of every sink while calls of Salesforce hang."""
    hang = {"effect": "hang", "kinds": CALLS, "seconds": HANG_SECONDS, "times": 2}
    if not await _call_meets(environment, hang):
        return False
    return processes.terminate_all("sink") > 0


async def kill_with_late_calls(
    environment: Environment, processes: ProcessFaults, step: Step
) -> bool:
    """SIGKILL of every sink while a call is open, which Salesforce applies seconds later.

    By then another sink has taken over.
    """
    late = {"effect": "delay", "kind": "composite_write", "seconds": LATE_SECONDS, "times": 2}
    if not await _call_meets(environment, late):
        return False
    return processes.kill_all("sink") > 0


async def _call_meets(environment: Environment, rule: dict[str, object]) -> bool:
    """Whether a call of the sink has met the rule. Rules that wait for calls stay."""
    org, effect = environment.salesforce, str(rule["effect"])

    async def met() -> int:
        return int((await org.get("/_sim/state"))["faults"].get(effect, 0))

    before = await met()
    await org.send("/_sim/faults", {"faults": [rule]})

    async def has_met() -> bool:
        return await met() > before

    try:
        await until(has_met, f"a call of the sink meets {effect}", CALL_SECONDS)
    except AssertionError:
        return False
    return True
