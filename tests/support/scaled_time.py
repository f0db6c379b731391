"""Rules of Prometheus and a configuration of Alertmanager in which time passes faster.

`FACTOR` divides every duration: `for`, ranges, offsets, intervals, waits, and the numbers of
seconds that expressions compare with. Nothing else changes. So alerts fire, inhibit each other and
resolve in the same order, and a test that takes minutes shows what takes hours.

Counts, such as 20 requests, stay: a load that is as much denser reaches them. The bound of the
objective on freshness is the limit of a bucket of a histogram, and so is its share.

What the product and the machine need for themselves is not divided: a stage that starts in 5 s
takes 5 minutes of this time, so that faults look longer than they are.
"""

import re
from collections.abc import Callable

from streams.metrics import LATENCY_BUCKETS

FACTOR = 60
"""A minute is a second, and an hour a minute."""

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
# As in `for: 5m`, `[30m:2m]`, `offset 1w`. In the name of a series, as rate15m, is none.
DURATION = re.compile(r"\b(\d+)(ms|s|m|h|d|w)\b")
# In expressions, where Prometheus knows no durations: `> 900`, `< 2 * 86400`, `26 * 3600`.
SECONDS = re.compile(r"\b(?:(\d+) \* )?(900|3600|86400)\b")
FRESH = re.compile(r'le="([\d.]+)"')
# Lines that are texts for people.
TEXT = re.compile(r"^ *(#|summary:|description:|runbook_url:)")


def scaled(seconds: float) -> float:
    """Seconds of a real deployment, in those of the test."""
    return seconds / FACTOR


def duration(seconds: float) -> str:
    """A scaled duration, as Prometheus and Alertmanager read it."""
    return f"{round(scaled(seconds) * 1000)}ms"


def scaled_rules(text: str) -> str:
    """The text of a file of rules, in which time passes faster."""
    return _each_line(text, _rule_line)


def scaled_alertmanager(text: str) -> str:
    """The text of a configuration of Alertmanager, in which time passes faster."""
    return _each_line(text, _durations)


def _each_line(text: str, change: Callable[[str], str]) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(line if TEXT.match(line) else change(line) for line in lines)


def _rule_line(line: str) -> str:
    return FRESH.sub(_bucket, SECONDS.sub(_seconds, _durations(line)))


def _durations(line: str) -> str:
    return DURATION.sub(lambda found: duration(int(found[1]) * UNITS[found[2]]), line)


def _seconds(found: re.Match[str]) -> str:
    return f"{scaled(int(found[1] or 1) * int(found[2])):g}"


def _bucket(found: re.Match[str]) -> str:
    limit = scaled(float(found[1]))
    assert limit in LATENCY_BUCKETS, f"no bucket of the histogram ends at {limit} s"
    return f'le="{limit}"'
