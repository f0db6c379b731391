"""Decides which waiting runs start and when a reconcile is due: plain functions."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from streams.reader.grant_selection import SIGN_IN_EVENTS
from streams.runs import FINAL, Run, RunState


@dataclass(frozen=True, slots=True)
class Starts:
    """What to do with waiting runs."""

    start: tuple[str, ...] = ()
    """IDs of the runs to start, in this order."""
    merged: Mapping[str, str] = field(default_factory=dict)
    """ID of a run that need not start, and of the started run that does the same."""


def next_runs(runs: Mapping[str, Run], active: Collection[str], room: int | None = None) -> Starts:
    """Which unfinished runs to start now; `active` are the IDs of those in progress.

    Reconciles of everything run one after the other, because a second one at the same time would
    only ask Nylas twice. Those that queued up meanwhile with the same options are merged into the
    newest. Of all other runs, `room` start (None for all of them) and share the calls to Nylas.
    Runs that a person or the schedule asked for go before those that a sign-in asked for.
    """
    start: list[str] = []
    waiting: list[str] = []
    busy = False
    left = len(runs) if room is None else room
    for run_id in sorted(runs, key=lambda name: _turn(name, runs[name])):
        run = runs[run_id]
        if run.state in FINAL:
            continue
        if run_id in active:
            busy = busy or run.reconciles_everything
        elif not run.reconciles_everything:
            if left > 0:
                start.append(run_id)
                left -= 1
        elif run.state is RunState.RUNNING and not busy:
            # The previous active reader was in the middle of it.
            start.append(run_id)
            busy = True
        else:
            waiting.append(run_id)
    if not waiting or busy:
        return Starts(tuple(start))
    first = _options(runs[waiting[0]])
    *older, newest = [run_id for run_id in waiting if _options(runs[run_id]) == first]
    return Starts((*start, newest), dict.fromkeys(older, newest))


def _turn(run_id: str, run: Run) -> tuple[bool, int, str]:
    """The order in which runs start."""
    return run.by in SIGN_IN_EVENTS, run.requested_at, run_id


def _options(run: Run) -> tuple[tuple[str, ...], float | None]:
    return run.sources, run.max_delete_share


def reconcile_due(runs: Iterable[Run], now: float, every: float, since: float) -> bool:
    """Whether the last reconcile of everything was requested `every` seconds ago or earlier.

    It does not matter who requested it. `since` (epoch seconds) counts as the last request if there
    is none. `every` 0 switches the schedule off.
    """
    if every <= 0:
        return False
    requests = (run.requested_at for run in runs if run.reconciles_everything)
    return now - max(requests, default=since) >= every


def reconcile_owed(runs: Iterable[Run], lost_ms: int) -> bool:
    """Whether no reconcile makes up for the notifications lost until `lost_ms`.

    `lost_ms` is in epoch milliseconds. A reconcile of everything makes up for them if it was
    requested since, or has yet to start.
    """
    return not any(
        run.reconciles_everything
        and not run.sources
        and (run.state is RunState.WAITING or run.requested_at * 1000 >= lost_ms)
        for run in runs
    )
