"""`make mutants`: plants small faults in the modules that decide, and counts those that are caught.

`python -m tests.mutants.report [MODULE ...]` takes all modules, or those whose paths contain one of
the words. It prints a line for each module and each fault that no test caught, and ends with 1 if
fewer than BAR_PERCENT of a module's faults were caught. Faults in `accepted.toml` change nothing
that anybody could notice; they count neither as caught nor as missed.
"""

import argparse
import contextlib
import os
import random
import sys
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mutants.planting import COPY, Change, Fault, modules, nearest_tests, plant
from tests.mutants.session import FaultSession, Verdict
from tests.support.paths import ROOT

BAR_PERCENT = 90.0
ACCEPTED = Path(__file__).parent / "accepted.toml"
# Of the random choice of `--sample`, so that two runs compare.
SEED = 1
PROGRESS_FAULTS = 100
# Without the plugins that would keep results, or run tests in other processes.
PYTEST = (
    *("--rootdir=.", "-q", "--capture=no", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("--hypothesis-profile", "mutants"),
)


@dataclass(frozen=True, slots=True)
class ModuleResult:
    """The faults of one module by what became of them."""

    module: str
    faults: int
    caught: int
    accepted: int
    missed: int
    unused: tuple[Change, ...]
    """Accepted faults that were caught, or are no longer there."""

    @property
    def percent(self) -> float:
        """Of the faults that are not accepted, how many were caught."""
        counted = self.faults - self.accepted
        return 100 * self.caught / counted if counted else 100.0

    @property
    def good(self) -> bool:
        """Whether the module reaches the bar."""
        return self.percent >= BAR_PERCENT


def read_accepted(path: Path = ACCEPTED) -> dict[str, set[Change]]:
    """The accepted faults by module. Raises KeyError if one has no reason."""
    found: dict[str, set[Change]] = {}
    for entry in tomllib.loads(path.read_text())["accepted"]:
        if not entry["reason"].strip():
            raise KeyError(f"no reason for {entry}")
        changes = {Change(entry["function"], entry["line"], after) for after in entry["becomes"]}
        found.setdefault(entry["module"], set()).update(changes)
    return found


def summarize(
    module: str, verdicts: Mapping[Fault, Verdict], accepted: Collection[Change]
) -> ModuleResult:
    """Counts the verdicts on the faults of a module."""
    own = {fault: verdict for fault, verdict in verdicts.items() if fault.module == module}
    left = [fault.change() for fault, verdict in own.items() if verdict is not Verdict.CAUGHT]
    missed = sum(change not in accepted for change in left)
    return ModuleResult(
        module,
        faults=len(own),
        caught=len(own) - len(left),
        accepted=len(left) - missed,
        missed=missed,
        unused=tuple(change for change in accepted if change not in left),
    )


def described(title: str, module: str, change: Change) -> str:
    """A fault as text of three lines."""
    return f"{title}, in {module}, {change.function}:\n  - {change.before}\n  + {change.after}"


def table(results: Sequence[ModuleResult]) -> list[str]:
    """The report: a line for each module."""
    return [
        f"{'module':40}  faults  caught  accepted  missed  caught %",
        *(
            f"{result.module:40} {result.faults:7} {result.caught:7} {result.accepted:9} "
            f"{result.missed:7} {result.percent:9.1f}"
            for result in results
        ),
    ]


def main(arguments: Sequence[str]) -> int:
    """Runs it. Returns 0; 1 if a module is below the bar; 2 if nothing could be measured."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("module", nargs="*", help="a part of a path; default: every module")
    parser.add_argument("--sample", type=int, help="try so many faults of each module, by chance")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="at once")
    given = parser.parse_args(arguments)
    chosen = [
        path for path in modules() if not given.module or any(word in path for word in given.module)
    ]
    if not chosen:
        print(f"no module matches; there are {', '.join(modules())}", file=sys.stderr)
        return 2
    faults = plant(chosen)
    planted = len(faults)
    if given.sample:
        faults = _sample(faults, chosen, given.sample)
        print(f"a sample of {len(faults)} of {planted} faults, chosen with seed {SEED}")
    accepted = read_accepted()
    session = FaultSession(faults, given.workers, _Progress(len(faults), accepted))
    with contextlib.chdir(COPY):
        pytest.main([*PYTEST, *map(nearest_tests, chosen)], plugins=[session])
    if not session.passed:
        print("a test fails without any fault; see `make test-fast`", file=sys.stderr)
        return 2
    results = [summarize(path, session.verdicts, accepted.get(path, set())) for path in chosen]
    for result in results if not given.sample else ():
        for change in result.unused:
            print(described("accepted.toml need not name", result.module, change))
    print(*table(results), sep="\n")
    if all(result.good for result in results):
        return 0
    print(f"fewer than {BAR_PERCENT:.0f} % of a module's faults were caught", file=sys.stderr)
    return 1


def _sample(faults: Sequence[Fault], chosen: Sequence[str], most: int) -> list[Fault]:
    chance = random.Random(SEED)
    found: list[Fault] = []
    for module in chosen:
        own = [fault for fault in faults if fault.module == module]
        found += chance.sample(own, min(most, len(own)))
    return found


class _Progress:
    """Prints each fault that no test catches when it is found, and how far the run has come."""

    def __init__(self, faults: int, accepted: Mapping[str, Collection[Change]]) -> None:
        self._faults = faults
        self._accepted = accepted
        self._done = 0

    def __call__(self, fault: Fault, verdict: Verdict) -> None:
        self._done += 1
        if self._done % PROGRESS_FAULTS == 0:
            print(f"{self._done} of {self._faults} faults tried", file=sys.stderr)
        if verdict is Verdict.CAUGHT:
            return
        with contextlib.chdir(ROOT):
            change = fault.change()
        if change not in self._accepted.get(fault.module, ()):
            print(described("no test catches", fault.module, change), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
