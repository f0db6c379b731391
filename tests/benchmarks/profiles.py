"""Shares of a profile of cProfile, by the part of the project that the time belongs to.

The time of a built-in or a library function counts for whoever called it. cProfile makes each call
longer by about as much, so that parts with many short calls look larger than they are.
"""

import pstats
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Function = tuple[str, int, str]
OTHERS = "everything else"


def shares(
    stats: pstats.Stats, parts: Mapping[str, Sequence[str]], left_out: Sequence[str]
) -> dict[str, float]:
    """The percent of the time that each part takes, the largest first, OTHERS last.

    `parts`: the paths of its modules, or their folders, relative to the project. Time below a
    function of `left_out` paths alone is nobody's.
    """
    functions: Mapping[Function, Any] = stats.stats  # type: ignore[attr-defined]
    of_file = {name: part for part, names in (*parts.items(), ("", left_out)) for name in names}
    known: dict[Function, str | None] = {one: _part(one[0], of_file) for one in functions}
    seconds: Counter[str] = Counter()
    for function, (_, _, own, _, callers) in functions.items():
        part = known[function]
        if part is not None:
            seconds[part] += own
        elif callers:
            # by how much of its time each caller asked for
            for caller, (_, _, own_below, _) in callers.items():
                seconds[_of_caller(caller, functions, known)] += own_below
        else:
            seconds[OTHERS] += own
    del seconds[""]
    whole = seconds.total()
    ordered = sorted(seconds, key=lambda part: (part == OTHERS, -seconds[part]))
    return {part: round(100 * seconds[part] / whole, 1) for part in ordered}


def _part(file: str, of_file: Mapping[str, str]) -> str | None:
    return next((part for name, part in of_file.items() if f"/{name}" in file), None)


# Deep enough for the HTTP client, which is some ten calls deep.
_MOST_CALLERS = 30


def _of_caller(
    caller: Function, functions: Mapping[Function, Any], known: Mapping[Function, str | None]
) -> str:
    """The part of the nearest caller that belongs to one, by way of whoever called most often."""
    for _ in range(_MOST_CALLERS):
        part = known.get(caller)
        if part is not None:
            return part
        callers = functions[caller][4] if caller in functions else {}
        if not callers:
            return OTHERS
        caller = max(callers, key=lambda one: callers[one][3])
    return OTHERS
