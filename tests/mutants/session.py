"""Runs the tests against planted faults in one session of pytest, which forks for each fault.

`mutmut run` starts pytest anew for each fault, which takes several times the processor time.
"""

import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

import mutmut
import pytest

from tests.mutants.planting import CHOICE, Fault

PRODUCT = ("streams.", "connectors.")
# A fault may make a loop endless. Its tests may take so much more processor time than without it;
# the constant is for tests that take nearly none. A test that waits is ended by pytest's time-out.
TIMES_AS_LONG, MORE_SECONDS = 4.0, 5.0
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
    one fails. `passed` is false if a test fails without a fault; then there are no verdicts.
    """

    def __init__(
        self, faults: Sequence[Fault], workers: int, done: Callable[[Fault, Verdict], None]
    ) -> None:
        self.verdicts: dict[Fault, Verdict] = {}
        self.passed = False
        self._failed = False
        self._faults = faults
        self._workers = workers
        self._done = done
        self._running: dict[int, Fault] = {}
        self._caches: list[Callable[[], None]] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Takes the place of pytest's own loop."""
        self._caches = _caches()
        durations, callers = self._run_without_faults(session.items)
        for fault in self._faults if self.passed else ():
            called = callers.get(fault.function, ())
            items = [item for item in called if item.path.name == fault.tests]
            if not items:
                self._decide(fault, Verdict.UNTESTED)
                continue
            self._start(fault, items, sum(durations[item] for item in items))
            if len(self._running) >= self._workers:
                self._wait()
        while self._running:
            self._wait()
        return True

    def _run_without_faults(
        self, items: Sequence[pytest.Item]
    ) -> tuple[dict[pytest.Item, float], dict[str, list[pytest.Item]]]:
        """Runs all tests: their durations, and by function those that call it, the shortest first.

        Stops at the first that fails.
        """
        durations: dict[pytest.Item, float] = {}
        callers: dict[str, list[pytest.Item]] = {}
        os.environ[CHOICE] = "stats"
        for item in items:
            started = time.process_time()
            if not self._passes(item):
                break
            durations[item] = time.process_time() - started
            for function in mutmut._stats:
                callers.setdefault(function, []).append(item)
            mutmut._stats.clear()
        os.environ[CHOICE] = ""
        self.passed = len(durations) == len(items)
        for found in callers.values():
            found.sort(key=durations.__getitem__)
        return durations, callers

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes that the running test has failed, in its setup, its call or its teardown."""
        self._failed = self._failed or report.failed

    def _passes(self, item: pytest.Item) -> bool:
        # what was remembered without the fault would hide it
        for clear in self._caches:
            clear()
        self._failed = False
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        return not self._failed

    def _start(self, fault: Fault, items: Sequence[pytest.Item], seconds: float) -> None:
        child = os.fork()
        if child:
            self._running[child] = fault
            return
        result = CAUGHT
        try:
            _limit(TIMES_AS_LONG * seconds + MORE_SECONDS)
            os.environ[CHOICE] = fault.name
            result = SURVIVED if all(map(self._passes, items)) else CAUGHT
        finally:
            os._exit(result)

    def _wait(self) -> None:
        child, status = os.wait()
        survived = os.waitstatus_to_exitcode(status) == SURVIVED
        self._decide(self._running.pop(child), Verdict.SURVIVED if survived else Verdict.CAUGHT)

    def _decide(self, fault: Fault, verdict: Verdict) -> None:
        self.verdicts[fault] = verdict
        self._done(fault, verdict)


def _caches() -> list[Callable[[], None]]:
    """What empties each cache of the product. Looks into every module that was imported."""
    return [
        value.cache_clear
        for name, module in list(sys.modules.items())
        if name.startswith(PRODUCT)
        for value in list(vars(module).values())
        if hasattr(value, "cache_clear")
    ]


def _limit(seconds: float) -> None:
    """Bounds this process, and silences it. The system ends a process that exceeds a bound."""
    most = int(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
