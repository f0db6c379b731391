"""Waves of a backfill: so many grants are read, then the run waits until a person continues it.

Plain functions; the state is that of the run, of its grants, and the records `continue/RUN`.
"""

from collections.abc import Mapping

from streams.runs import FINAL, Progress, Run, RunLog, RunState


def read_so_far(grants: Mapping[str, Progress]) -> int:
    """How many grants of a run were read to their end, successfully or not."""
    return sum(one.state in FINAL and one.state is not RunState.SKIPPED for one in grants.values())


def room(run: Run, continued: int, read: int, open_grants: int) -> int:
    """How many more grants the run may begin, when `read` grants are read.

    `continued` is how often a person continued it.
    """
    if not run.wave:
        return open_grants
    return max(0, min(open_grants, run.wave * (1 + continued) - read))


def waits_for_a_person(run: Run, grants: Mapping[str, Progress], continued: int) -> bool:
    """Whether the run goes on only after `contactstream runs continue`."""
    if not run.wave or run.state is not RunState.RUNNING:
        return False
    left = sum(one.state not in FINAL for one in grants.values())
    return left > 0 and room(run, continued, read_so_far(grants), left) == 0


def how_to_continue(run_id: str) -> str:
    """What continues a run that waits."""
    return f"contactstream runs continue {run_id}"


def held_back(run_log: RunLog) -> set[str]:
    """The grants that a later wave is to read: a reconcile of everything leaves them out.

    It would read on the first day what the waves were to hold back.
    """
    return {
        grant
        for run_id, run in run_log.runs.items()
        if run.wave and run.state not in FINAL
        for grant, one in run_log.progress(run_id).items()
        if one.state is RunState.WAITING
    }
