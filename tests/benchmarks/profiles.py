"""Where the processor's time goes in a process that runs: shares of the parts of the project.

py-spy looks at the process from outside, many times a second, and takes the stack of the thread
that holds the interpreter's lock then. It does not make the process's calls longer. What runs
without the lock is not seen: librdkafka's threads, and the kernel's work for sockets.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.benchmarks.sheets import Sheet

OTHERS = "everything else"

SAMPLES_A_SECOND = 250
# For py-spy to read the process's symbols, and to write what it found.
START_SECONDS = 30.0


class ProfileRefused(Exception):
    """py-spy may not look at the process, or it has ended; the text says what helps."""


def sample(pid: int, seconds: int, into: Path) -> str:
    """The stacks of a process of this user for so many seconds, as `shares` takes them. Blocks.

    It returns sooner when the process ends. Raises ProfileRefused when the kernel does not let
    py-spy look, and when the process has ended before.
    """
    file = into / f"stacks-{pid}"
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("py-spy"), "record", "--pid", str(pid)),
            *("--format", "raw", "--gil", "--full-filenames", "--rate", str(SAMPLES_A_SECOND)),
            *("--duration", str(seconds), "--output", file),
        ],
        capture_output=True,
        text=True,
        timeout=seconds + START_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise ProfileRefused(
            f"py-spy could not look at process {pid}: {done.stderr.strip()}; run as root, or let "
            "processes be traced: sysctl kernel.yama.ptrace_scope=0"
        )
    return file.read_text(encoding="utf-8")


def shares(
    stacks: str, parts: Mapping[str, Sequence[str]], left_out: Sequence[str] = ()
) -> dict[str, float]:
    """The percent of the time that each part takes, the largest first, OTHERS last.

    `stacks`: lines of `outermost (file:line);innermost (file:line) samples`. A stack belongs to
    the part of its innermost function that is of one: a library's time is that of its caller,
    unless the library is a part. `parts`: the paths of its modules, or their folders; the first
    part that fits counts. A stack that belongs to one of the `left_out` paths is nobody's.
    """
    of_path = [(path, part) for part, paths in parts.items() for path in paths]
    of_path += [(path, "") for path in left_out]
    samples: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        samples[_part(stack.split(";"), of_path)] += int(count)
    del samples[""]
    whole = samples.total()
    ordered = sorted(samples, key=lambda part: (part == OTHERS, -samples[part]))
    return {part: round(100 * samples[part] / whole, 1) for part in ordered}


def profile_sheet(stage: str, work: str, found: Mapping[str, float], next_change: str) -> Sheet:
    """The shares of a stage's profile, as they are printed and recorded.

    `next_change` is what would make the stage faster with the least change: a sentence.
    """
    return Sheet(
        f"what the {stage} works on",
        f"A profile of {work}: {SAMPLES_A_SECOND} samples a second of the thread that holds "
        "Python's lock. The time of a library is its caller's, unless it has a row of its own. The "
        f"threads of librdkafka and the work of the kernel are not in it. {next_change}",
        ["% of the time in Python"],
        {part: [share] for part, share in found.items()},
    )


def _part(frames: Sequence[str], of_path: Sequence[tuple[str, str]]) -> str:
    for frame in reversed(frames):
        for path, part in of_path:
            if f"/{path}" in frame:
                return part
    return OTHERS
