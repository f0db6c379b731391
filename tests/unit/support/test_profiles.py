"""What a profile says of the parts of the project."""

import os

import pytest

from tests.benchmarks.profiles import OTHERS, ProfileRefused, sample, shares

LOOP = "loop (/lib/asyncio.py:1)"
MERGE = "merge (/p/connectors/merge.py:7)"
READ = "take (/p/streams/intake.py:1)"
SEND = "send (/lib/httpx/client.py:9)"
BENCH = "run (/p/tests/bench.py:3)"
PARTS = {"merging": ["connectors/"], "reading": ["streams/intake.py"]}


def stacks(**counts: int) -> str:
    made = {
        "loop": [LOOP],
        "merge": [LOOP, MERGE],
        "read_and_send": [LOOP, READ, SEND],
        "bench": [LOOP, BENCH],
        "bench_merges": [LOOP, BENCH, MERGE],
    }
    return "".join(f"{';'.join(made[name])} {count}\n" for name, count in counts.items())


def test_a_library_counts_for_its_caller_and_the_benchmark_for_nobody() -> None:
    found = shares(
        stacks(loop=10, merge=40, read_and_send=40, bench=70, bench_merges=10), PARTS, ["tests/"]
    )
    assert found == {"merging": 50.0, "reading": 40.0, OTHERS: 10.0}
    assert list(found) == ["merging", "reading", OTHERS]


def test_a_library_that_is_a_part_counts_for_itself() -> None:
    found = shares(stacks(merge=10, read_and_send=30), {"HTTP": ["httpx/"], **PARTS})
    assert found == {"HTTP": 75.0, "merging": 25.0}


def test_a_process_that_is_not_there_is_named(tmp_path: os.PathLike[str]) -> None:
    with pytest.raises(ProfileRefused, match=r"process 4194999"):
        sample(4194999, 1, tmp_path)  # type: ignore[arg-type]
