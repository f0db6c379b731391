"""How long each process takes to stop at the most, from the code's own bounds.

Whoever supervises a process gives it a grace period of at least `grace_seconds` before the kill:
Compose, Kubernetes, and the table of deploy/docs/image.md are compared with it.
"""

import math

from streams.bridge import process as bridge
from streams.bridge import server
from streams.console import server as console
from streams.dedupe import process as dedupe
from streams.reader import process as reader
from streams.runtime import traces_otel, watchdog
from streams.sink import process as sink

# What comes before the stop begins and after its bound: signal, timers, the end of the interpreter.
MARGIN_SECONDS = 2.0
# Kubernetes' default. Less would gain nothing: a process that has stopped is not waited for.
LEAST_GRACE_SECONDS = 30

STOP_SECONDS = {
    # One step after the other, each with its own bound.
    "bridge": server.LAME_DUCK_SECONDS
    + server.DRAIN_SECONDS
    + server.CLOSE_SECONDS
    + bridge.SETTLE_SECONDS
    + server.DRAIN_SECONDS
    + traces_otel.CLOSE_SECONDS,
    "reader": reader.OVERDUE_SECONDS,
    "dedupe": dedupe.STOP_SECONDS + watchdog.TICK_SECONDS,
    "sink": sink.OVERDUE_SECONDS,
    "console": console.DRAIN_SECONDS,
}
"""Seconds by process, from SIGTERM to its end."""


def grace_seconds(process: str) -> int:
    """The grace period of a process: its bound and a margin, in steps of five seconds."""
    return max(LEAST_GRACE_SECONDS, 5 * math.ceil((STOP_SECONDS[process] + MARGIN_SECONDS) / 5))


def grace_periods() -> str:
    """The table of every process with its bound and its grace period, in Markdown."""
    lines = ["| process | has stopped within | grace period |", "|---|---|---|"]
    lines += [
        f"| `{process}` | {bound:.0f} s | {grace_seconds(process)} s |"
        for process, bound in STOP_SECONDS.items()
    ]
    return "\n".join(lines)
