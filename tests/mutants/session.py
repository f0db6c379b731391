"""Runs the tests against planted faults in one session of pytest, which forks for each fault.

`mutmut run` starts pytest anew for each fault, which takes several times the processor time.
"""

import os
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from enum import StrEnum

import mutmut
import pytest
from _pytest.runner import runtestprotocol

from tests.mutants.planting import CHOICE, Fault

PRODUCT = ("streams.", "connectors.")
# A fault may make a loop endless. Its tests may take so much more processor time than without it;
# the constant is for tests that take nearly none.
TIMES_AS_LONG, MORE_SECONDS = 4.0, 5.0
# Of a process that waits, which takes no processor time: long, because a process that has to share
# the processors with many others is not to be taken for one that waits.
WAITING_SECONDS = 1800
# An endless loop may also fill the memory.
MEMORY_BYTES = 2 * 1024**3
SURVIVED, CAUGHT = 0, 1


class Verdict(StrEnum):
    """What the tests say of a fault."""

    CAUGHT = "caught"  # a test failed, or did not end in its time
    SURVIVED = "survived"
    UNTESTED = "untested"  # no test calls the function


class FaultSession:
    """A plugin of pytest that runs the collected tests against each fault.

    A fault is tried with the tests of its module that call its function, the shortest first, until
    one fails.
    `passed` is false if a test fails without a fault; then there are no verdicts.
    """

    def __init__(
        self, faults: Sequence[Fault], workers: int, done: Callable[[Fault, Verdict], None]
    ) -> None:
        self.verdicts: dict[Fault, Verdict] = {}
        self.passed = False
        self._faults = faults
        self._workers = workers
        self._done = done
        self._running: dict[int, Fault] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Takes the place of pytest's own loop."""
        durations: dict[pytest.Item, float] = {}
        callers: defaultdict[str, list[pytest.Item]] = defaultdict(list)
        os.environ[CHOICE] = "stats"
        for item in session.items:
            started = time.process_time()
            if not _passes(item):
                return True
            durations[item] = time.process_time() - started
            for function in mutmut._stats:
                callers[function].append(item)
            mutmut._stats.clear()
        os.environ[CHOICE] = ""
        self.passed = True
        for items in callers.values():
            items.sort(key=durations.__getitem__)
        for fault in self._faults:
            items = [item for item in callers[fault.function] if item.path.name == fault.tests]
            if not items:
                self._decide(fault, Verdict.UNTESTED)
                continue
            self._start(fault, items, sum(durations[item] for item in items))
            if len(self._running) >= self._workers:
                self._wait()
        while self._running:
            self._wait()
        return True

    def _start(self, fault: Fault, items: Sequence[pytest.Item], seconds: float) -> None:
        child = os.fork()
        if child:
            self._running[child] = fault
            return
        result = CAUGHT
        try:
            _limit(TIMES_AS_LONG * seconds + MORE_SECONDS)
            os.environ[CHOICE] = fault.name
            result = SURVIVED if all(map(_passes, items)) else CAUGHT
        finally:
            os._exit(result)

    def _wait(self) -> None:
        child, status = os.wait()
        survived = os.waitstatus_to_exitcode(status) == SURVIVED
        self._decide(self._running.pop(child), Verdict.SURVIVED if survived else Verdict.CAUGHT)

    def _decide(self, fault: Fault, verdict: Verdict) -> None:
        self.verdicts[fault] = verdict
        self._done(fault, verdict)


def _passes(item: pytest.Item) -> bool:
    _forget()
    reports = runtestprotocol(item, log=False, nextitem=None)
    return not any(report.failed for report in reports)


def _forget() -> None:
    """Empties the caches of the product: what was remembered without the fault would hide it."""
    for name, module in list(sys.modules.items()):
        if name.startswith(PRODUCT):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def _limit(seconds: float) -> None:
    """Bounds this process, and silences it. The system ends a process that exceeds a bound."""
    most = int(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WAITING_SECONDS)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
