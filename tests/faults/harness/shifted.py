"""A stage whose wall clock is wrong: `python -m tests.faults.harness.shifted FILE STAGE`.

FILE holds the seconds by which the clock is ahead, and may change at any time: then the clock
jumps. Only what Python reads as `time.time` and `time.time_ns` jumps; the monotonic clocks do not,
as on a machine whose clock is set.
"""

import contextlib
import sys
import threading
import time
from pathlib import Path

LOOK_SECONDS = 0.1

ahead = 0.0
_time, _time_ns = time.time, time.time_ns


def look(file: Path) -> None:
    """Takes over what the file says; keeps what was when it is just being written."""
    global ahead
    with contextlib.suppress(OSError, ValueError):
        ahead = float(file.read_text())


def watch(file: Path) -> None:
    while True:
        look(file)
        time.sleep(LOOK_SECONDS)


def main() -> None:
    file = Path(sys.argv[1])
    look(file)
    time.time = lambda: _time() + ahead
    time.time_ns = lambda: _time_ns() + int(ahead * 1e9)
    threading.Thread(target=watch, args=(file,), name="clock", daemon=True).start()
    sys.argv = ["contactstream", *sys.argv[2:]]
    from streams.cli import main as command  # after the clock, which others may keep a reference to

    command()


if __name__ == "__main__":
    main()
