"""Which runs start, wait or are merged, and when a reconcile is due."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from streams.reader.schedule import next_runs, reconcile_due
from streams.runs import FINAL, Run, RunKind, RunState

EVERYTHING = Run(RunKind.RECONCILE, None, 100, "schedule")
ONE = Run(RunKind.BACKFILL, ("g1",), 100, "command")


def test_a_backfill_starts_at_once_and_a_second_reconcile_of_everything_waits() -> None:
    runs = {"a": replace(EVERYTHING, state=RunState.RUNNING), "b": EVERYTHING, "c": ONE}
    assert next_runs(runs, {"a"}).start == ("c",)
    assert next_runs({"b": EVERYTHING, "c": ONE}, set()).start == ("c", "b")


def test_queued_reconciles_of_everything_are_merged_into_the_newest() -> None:
    runs = {
        name: replace(EVERYTHING, requested_at=at) for name, at in (("a", 1), ("b", 3), ("c", 2))
    }
    starts = next_runs(runs, set())
    assert starts.start == ("b",)
    assert starts.merged == {"a": "b", "c": "b"}
    others = runs | {"d": replace(EVERYTHING, requested_at=9, max_delete_share=1.0)}
    assert next_runs(others, set()).start == ("b",), "one with other options waits"


def test_a_reconcile_that_the_previous_reader_had_started_goes_first() -> None:
    runs = {
        "a": replace(EVERYTHING, state=RunState.RUNNING, requested_at=5),
        "b": replace(EVERYTHING, requested_at=1),
    }
    starts = next_runs(runs, set())
    assert (starts.start, starts.merged) == (("a",), {})


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=2),
        st.builds(
            Run,
            st.sampled_from(RunKind),
            st.sampled_from([None, ("g",)]),
            st.integers(0, 5),
            st.just("x"),
            state=st.sampled_from(RunState),
            dry_run=st.booleans(),
        ),
    ),
    st.sets(st.text("abcdef", min_size=1, max_size=2)),
)
def test_every_unfinished_run_starts_waits_or_is_merged_into_one_that_starts(
    runs: dict[str, Run], names: set[str]
) -> None:
    active = {name for name in names if name in runs}
    starts = next_runs(runs, active)
    open_runs = {name for name, run in runs.items() if run.state not in FINAL}
    assert set(starts.start) <= open_runs - active
    assert set(starts.merged.values()) <= set(starts.start)
    assert not set(starts.merged) & set(starts.start)

    def everything(name: str) -> bool:
        return (
            runs[name].kind is RunKind.RECONCILE
            and runs[name].grants is None
            and not runs[name].dry_run
        )

    started = sum(everything(name) for name in starts.start)
    assert started <= 1 or not any(everything(name) for name in active)
    left = open_runs - active - set(starts.start) - set(starts.merged)
    assert all(everything(name) for name in left)
    assert not left or started or any(everything(name) for name in active & open_runs)


def test_the_schedule_counts_from_the_last_reconcile_of_everything() -> None:
    done = replace(EVERYTHING, requested_at=1000, state=RunState.DONE)
    assert not reconcile_due([done], 1999, 1000, 0)
    assert reconcile_due([done], 2000, 1000, 0)
    assert reconcile_due(
        [replace(done, grants=("g",)), replace(done, dry_run=True), ONE], 2000, 1000, 500
    )
    assert not reconcile_due([], 1400, 1000, 500)
    assert not reconcile_due([], 10**9, 0, 0)
