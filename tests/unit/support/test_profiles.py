"""What a profile says of the parts of the project."""

import pstats
from typing import Any

from tests.benchmarks.profiles import OTHERS, shares

MERGE = ("/p/connectors/merge.py", 1, "merge")
READ = ("/p/streams/intake.py", 1, "take")
GET = ("~", 0, "<method 'get' of 'dict' objects>")
LIBRARY = ("/p/lib/httpx/client.py", 1, "send")
SOCKET = ("~", 0, "<send>")
BENCH = ("/p/tests/bench.py", 1, "run")
LOOP = ("/p/lib/asyncio.py", 1, "loop")


class Recorded:
    """A profile as pstats takes it: of each function its calls, its own time, and its callers'."""

    def __init__(self, stats: dict[Any, Any]) -> None:
        self.stats = stats

    def create_stats(self) -> None:
        pass


def entry(own: float, **callers: float) -> tuple[int, int, float, float, dict[Any, Any]]:
    named = {"merge": MERGE, "read": READ, "library": LIBRARY, "bench": BENCH, "loop": LOOP}
    of = {named[name]: (1, 1, seconds, seconds) for name, seconds in callers.items()}
    return 1, 1, own, own, of


def test_a_built_in_counts_for_its_callers_and_the_benchmark_for_nobody() -> None:
    recorded = Recorded(
        {
            LOOP: entry(1.0),
            BENCH: entry(5.0, loop=5.0),
            MERGE: entry(2.0, loop=2.0),
            READ: entry(1.0, loop=1.0),
            GET: entry(4.0, merge=3.0, bench=1.0),
            LIBRARY: entry(1.0, read=1.0),
            SOCKET: entry(2.0, library=2.0),
        }
    )
    found = shares(
        pstats.Stats(recorded),  # type: ignore[arg-type]  # as `Profile` has them
        {"merging": ["connectors/"], "reading": ["streams/intake.py"]},
        ["tests/"],
    )
    assert found == {"merging": 50.0, "reading": 40.0, OTHERS: 10.0}
    assert list(found) == ["merging", "reading", OTHERS]
