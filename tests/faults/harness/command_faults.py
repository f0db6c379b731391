"""Commands that an operator types while everything fails; some are killed on their way."""

import asyncio
import contextlib
import sys
from collections.abc import Sequence

from tests.faults.harness.environment import Environment
from tests.faults.harness.process_faults import BackgroundTasks
from tests.faults.harness.schedule import Fault, Step
from tests.support.children import child_command
from tests.support.paths import ROOT

COMMANDS: dict[Fault, Sequence[str]] = {
    Fault.REDRIVE: ("dead-letters", "redrive", "--yes", "--execute", "--actor", "storm"),
    Fault.DISCARD: (
        *("dead-letters", "discard", "--superseded"),
        *("--yes", "--execute", "--actor", "storm"),
    ),
}

# The longest that a command waits for a broker that is away, and its work.
COMMAND_SECONDS = 90.0

# Of the commands, this share is killed while it works.
KILLED_SHARE = 0.4


class CommandFailed(RuntimeError):
    """A command ended as none should, whatever was wrong around it."""


async def run_command(environment: Environment, background: BackgroundTasks, step: Step) -> bool:
    """Starts the command of a step, which works beside the schedule."""
    background.start(_run(environment, step))
    return True


async def _run(environment: Environment, step: Step) -> None:
    words = COMMANDS[step.fault]
    log = environment.log.file.parent / f"command-{step.at:.1f}.log"
    with log.open("wb") as output:
        child = await asyncio.create_subprocess_exec(
            *child_command([sys.executable, "-m", "streams.cli", *words]),
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env=environment.stages.env,
            cwd=ROOT,
        )
        # It takes a second to start, and reads the topics for about another.
        killed = step.draw < KILLED_SHARE
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), step.seconds if killed else COMMAND_SECONDS)
        if child.returncode is None:
            child.kill()
            await child.wait()
            if not killed:
                raise CommandFailed(f"{' '.join(words)}: not within {COMMAND_SECONDS:.0f} s")
    text = log.read_text(errors="replace")
    if "Traceback" in text or child.returncode not in (0, 1, -9):
        raise CommandFailed(f"{' '.join(words)} ended with {child.returncode}: {text[-500:]}")
