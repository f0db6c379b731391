"""Runs a stage whose wall clock is wrong.

    python -m tests.faults.harness.shifted_clock FILE STAGE

FILE holds the seconds by which the clock is ahead, and may change at any time: then the clock
jumps. Only what Python reads as `time.time` and `time.time_ns` jumps. The monotonic clocks do not,
as on a machine whose clock is set.
"""

import contextlib
import sys
import threading
import time
from pathlib import Path

FILE_CHECK_SECONDS = 0.1

seconds_ahead = 0.0
real_time, real_time_ns = time.time, time.time_ns


def read_shift(file: Path) -> None:
    """Takes over the shift in the file; keeps the last one while the file is being written."""
    global seconds_ahead
    with contextlib.suppress(OSError, ValueError):
        seconds_ahead = float(file.read_text())


def watch(file: Path) -> None:
    """Reads the shift again and again, for ever."""
    while True:
        read_shift(file)
        time.sleep(FILE_CHECK_SECONDS)


def main() -> None:
    file = Path(sys.argv[1])
    read_shift(file)
    time.time = lambda: real_time() + seconds_ahead
    time.time_ns = lambda: real_time_ns() + int(seconds_ahead * 1e9)
    threading.Thread(target=watch, args=(file,), name="clock", daemon=True).start()
    sys.argv = ["contactstream", *sys.argv[2:]]
    # After the clock is replaced: other modules may keep a reference to `time.time`.
    from streams.cli import main as contactstream

    contactstream()


if __name__ == "__main__":
    main()
