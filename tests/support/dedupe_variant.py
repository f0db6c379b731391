"""The dedupe stage with something left out, as a process: to show that a test would notice.

    python -m tests.support.dedupe_variant <variant>

`slow` takes a while between deciding and publishing, so that a test can stop the process there; `unfenced` is slow too and has no fence;
`table_first` remembers before the outputs are acknowledged; `acknowledge_first` counts a batch as done before it is.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Any

from streams import dedupe, fences, settings
from streams.logs import configure
from streams.news import Consumed, Planner

PAUSE_SECONDS = 1.0


def slow(seconds: float = PAUSE_SECONDS) -> None:
    """Once it has decided upon a batch, it says so in a file and waits, in the middle of its work."""
    plan = Planner.plan

    def slowly(self: Planner, *arguments: Any) -> Any:
        made = plan(self, *arguments)
        Path(sys.argv[2]).touch()
        time.sleep(seconds)
        return made

    Planner.plan = slowly  # type: ignore[method-assign, assignment]


def unfenced() -> None:
    """No watchdog, no lease, and a producer that keeps what it has for minutes."""
    slow()
    dedupe.Lease.check = lambda self: None  # type: ignore[method-assign]
    fences.Watchdog.start = lambda self: None  # type: ignore[method-assign]
    make = dedupe.Writer.__init__

    def patient(self: dedupe.Writer, config: dict[str, Any], *arguments: Any) -> None:
        make(self, config | {"delivery.timeout.ms": 120_000}, *arguments)

    dedupe.Writer.__init__ = patient  # type: ignore[method-assign, assignment]


def table_first() -> None:
    """The entries' changelog is acknowledged before the outputs are handed over."""

    def work(self: dedupe.Dedupe, records: list[Consumed]) -> None:
        partition = records[0].partition
        plan = self._planner.plan(records, self._table.entries(partition), int(time.time()))
        self._writer.publish_to(self._changelog, partition, plan.entries)
        self._table.remember(partition, plan.entries)
        Path(sys.argv[2]).touch()
        time.sleep(PAUSE_SECONDS)
        self._writer.publish(plan.outputs)

    dedupe.Dedupe.work = work  # type: ignore[method-assign]


def acknowledge_first() -> None:
    """The batch is handed to a task, and the next one is asked for at once."""

    async def agent(self: dedupe.Dedupe, batches: AsyncIterable[list[Consumed]]) -> None:
        loop = asyncio.get_running_loop()
        async for records in batches:
            loop.run_in_executor(self._thread, self.work, records)

    slow(60.0)
    dedupe.Dedupe.agent = agent  # type: ignore[method-assign]


VARIANTS = {
    "slow": slow,
    "unfenced": unfenced,
    "table_first": table_first,
    "acknowledge_first": acknowledge_first,
}


def main() -> int:
    """The stage's own `run`, after the change."""
    VARIANTS[sys.argv[1]]()
    process = settings.load(settings.ProcessSettings)
    configure(process, "dedupe")
    return dedupe.run(
        settings.load(settings.KafkaSettings),
        process,
        settings.load(settings.DedupeSettings),
        settings.load(settings.SalesforceSettings),
    )


if __name__ == "__main__":
    sys.exit(main())
