"""Decides which waiting runs start now and when a reconcile is due. Plain functions."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from streams.runs import FINAL, Run, RunKind, RunState


@dataclass(frozen=True, slots=True)
class Starts:
    """What to do with the runs that wait: start these, and call those done by another."""

    start: tuple[str, ...] = ()
    merged: Mapping[str, str] = field(default_factory=dict)


def next_runs(runs: Mapping[str, Run], active: Collection[str]) -> Starts:
    """Which unfinished runs to start now.

    Reconciles of every grant run one after the other, since a second one at the same time would
    only ask Nylas twice; those that queued up meanwhile with the same wishes are one: the newest.
    Everything else starts at once and shares the calls.
    """
    start: list[str] = []
    merged: dict[str, str] = {}
    wholes: list[str] = []
    busy = False
    for run_id in sorted(runs, key=lambda name: (runs[name].requested_at, name)):
        run = runs[run_id]
        if run.state in FINAL:
            continue
        if run_id in active:
            busy = busy or run.whole
        elif not run.whole:
            start.append(run_id)
        elif run.state is RunState.RUNNING and not busy:  # a predecessor was in the middle of it
            start.append(run_id)
            busy = True
        else:
            wholes.append(run_id)
    if wholes and not busy:
        same = [name for name in wholes if _wishes(runs[name]) == _wishes(runs[wholes[0]])]
        start.append(same[-1])
        merged = dict.fromkeys(same[:-1], same[-1])
    return Starts(tuple(start), merged)


def _wishes(run: Run) -> tuple[tuple[str, ...], float | None]:
    return run.sources, run.max_delete_share


def reconcile_due(runs: Iterable[Run], now: float, every: float, since: float) -> bool:
    """Whether the schedule asks for a reconcile of every grant: the last one was asked for `every`
    seconds ago, by whomever.

    `since` (epoch seconds) stands for the last one where there was none. 0 switches the schedule
    off.
    """
    if every <= 0:
        return False
    return now - max((run.requested_at for run in runs if run.whole), default=since) >= every


def reconcile_owed(runs: Iterable[Run], lost_ms: int) -> bool:
    """Whether no reconcile of everything makes up for the events lost until `lost_ms` (epoch
    milliseconds).

    One makes up for them that was asked for since, or that has yet to begin.
    """
    return not any(
        run.kind is RunKind.RECONCILE
        and run.grants is None
        and not run.dry_run
        and not run.sources
        and (run.state is RunState.WAITING or run.requested_at * 1000 >= lost_ms)
        for run in runs
    )
