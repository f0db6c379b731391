"""The faults of the stages' processes: signals, restarts, workers that come and go, clock jumps."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence

from tests.faults.harness.schedule import Step
from tests.faults.harness.settings import (
    PARTITIONS,
    READY_SECONDS,
    SESSION_SECONDS,
    StormSettings,
)
from tests.faults.harness.supervisor import Replica, Supervisor
from tests.support.waiting import until

# Workers without a partition stand by. That is one more way to be in the middle of a rebalance.
MAX_WORKERS = PARTITIONS + 2

DAY_SECONDS, HOUR_SECONDS = 86_400.0, 3600.0
CLOCK_JUMPS: dict[str, Sequence[float]] = {
    "bridge": (HOUR_SECONDS, -HOUR_SECONDS, -2 * DAY_SECONDS),
    "dedupe": (-HOUR_SECONDS,),
    "sink": (HOUR_SECONDS, -HOUR_SECONDS, -2 * DAY_SECONDS),
    "reader": (HOUR_SECONDS, -HOUR_SECONDS),
}
"""By stage, the jumps in seconds.

Dedupe's clock never jumps ahead: contacts would be read again so much later. It never jumps two
days back: every event would then lie too far ahead.
"""


class BackgroundTasks:
    """Faults that go on after their step, and the end of those that last for a while."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[object, object, None]) -> None:
        """Runs `work` beside the schedule."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Calls `call` after so many seconds."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            call()

        self.start(wait())

    async def wait(self) -> None:
        """Returns when nothing runs any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.failures.append(f"a fault could not be carried out: {error!r}")


class ProcessFaults:
    """Carries out the faults of processes. Each method returns whether it could be done now."""

    def __init__(
        self, settings: StormSettings, stages: Supervisor, background: BackgroundTasks
    ) -> None:
        self._settings, self._stages, self._background = settings, stages, background
        self.kills = 0
        """Processes that were sent SIGKILL or SIGTERM."""

    async def kill(self, step: Step) -> bool:
        """SIGKILL."""
        replica = self._replica(step)
        return replica is not None and self._count_kill(replica.signal(signal.SIGKILL))

    async def terminate(self, step: Step) -> bool:
        """SIGTERM."""
        replica = self._replica(step)
        return replica is not None and self._count_kill(replica.terminate())

    def terminate_one(self, step: Step) -> asyncio.subprocess.Process | None:
        """SIGTERM; returns the process that it was sent to, None when none could get it."""
        replica = self._replica(step)
        if replica is None or not self._count_kill(replica.terminate()):
            return None
        return replica.process

    def terminate_all(self, stage: str) -> int:
        """SIGTERM of every replica of a stage; returns how many got it."""
        return sum(self._count_kill(replica.terminate()) for replica in self._stages.of(stage))

    def kill_all(self, stage: str) -> int:
        """SIGKILL of every replica of a stage; returns how many got it."""
        return sum(
            self._count_kill(replica.signal(signal.SIGKILL)) for replica in self._stages.of(stage)
        )

    async def freeze(self, step: Step) -> bool:
        """SIGSTOP for longer than the session, so that another process takes over; then SIGCONT."""
        replica = self._replica(step)
        if replica is None or not replica.freeze():
            return False
        self._background.call_later(SESSION_SECONDS * 1.5 + step.seconds, replica.thaw)
        return True

    async def restart_all(self, step: Step) -> bool:
        """A rolling restart of every replica of a stage."""
        self._background.start(self._restart_all(step.target))
        return True

    async def join(self, _: Step) -> bool:
        """One more dedupe worker; not when each partition may have one already."""
        if len(self._workers()) >= PARTITIONS:
            return False
        self._start_worker()
        return True

    async def leave(self, _: Step) -> bool:
        """One dedupe worker less; not one of those that the storm began with."""
        workers = self._workers()
        if len(workers) <= self._settings.dedupes:
            return False
        self._background.start(self._stages.retire(workers[-1]))
        return True

    async def burst(self, _: Step) -> bool:
        """Dedupe workers come and go."""
        if len(self._workers()) + 2 > MAX_WORKERS:
            return False
        self._background.start(self._burst())
        return True

    async def jump_clock(self, step: Step) -> bool:
        """The wall clock of one process jumps, and jumps back after some seconds."""
        replica = self._replica(step)
        if replica is None:
            return False
        usual = self._stages.usual_shift(step.target)
        jumps = CLOCK_JUMPS[step.target]
        replica.set_clock(usual + jumps[int(step.draw * 100) % len(jumps)])
        self._background.call_later(step.seconds * 2, lambda: replica.set_clock(usual))
        return True

    def _replica(self, step: Step) -> Replica | None:
        found = self._stages.of(step.target)
        return found[int(step.draw * len(found))] if found else None

    def _count_kill(self, sent: bool) -> bool:
        self.kills += sent
        return sent

    def _workers(self) -> list[Replica]:
        return self._stages.of("dedupe")

    def _start_worker(self) -> Replica:
        return self._stages.start("dedupe", variant=self._settings.variant_of("dedupe"))

    async def _ready_worker(self) -> Replica:
        worker = self._start_worker()
        await worker.ready(READY_SECONDS)
        return worker

    async def _burst(self) -> None:
        """Makes the group rebalance again and again.

        Two workers join; one leaves as soon as another comes, and so on.
        """
        retire = self._stages.retire
        one, other = self._start_worker(), self._start_worker()
        await other.ready(READY_SECONDS)
        third, _ = await asyncio.gather(self._ready_worker(), retire(one))
        await asyncio.gather(retire(other), retire(third))

    async def _restart_all(self, stage: str) -> None:
        for replica in list(self._stages.of(stage)):
            await restart(replica, self._stages, self._count_kill)


async def restart(replica: Replica, stages: Supervisor, count_kill: Callable[[bool], bool]) -> None:
    """Sends SIGTERM; returns when the replica is ready again, or as soon as it was retired.

    `count_kill` is given whether the signal was sent, and returns the same.
    """

    def retired() -> bool:
        return replica not in stages.replicas

    await until(
        lambda: retired() or count_kill(replica.terminate()),
        f"{replica.stage} can be stopped",
        READY_SECONDS,
    )
    before = replica.process
    await until(
        lambda: retired() or replica.process is not before,
        f"{replica.stage} is started again",
        READY_SECONDS,
    )
    if not retired():
        await replica.ready(READY_SECONDS)
