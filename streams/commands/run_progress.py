"""The progress of a run in numbers and words: sums over its grants, and the time left."""

from collections.abc import Mapping
from dataclasses import dataclass

from streams.runs import FINAL, Progress, Run, RunKind, RunState


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the grants of a run."""

    grants: int
    finished: int
    """Grants that need no more work, whether they are done, failed, skipped or cancelled."""
    failed: int
    skipped: int
    pages: int
    contacts: int
    """Contacts read so far."""
    expected: int | None
    """Contacts to read in all; None while the size of an address book cannot be estimated."""
    estimated: int
    """Address books whose size is estimated from the finished ones of this run."""
    deleted: int
    reoffered: int


def totals(grants: Mapping[str, Progress]) -> Totals:
    """The sums over a run's grants.

    An address book that was never read before counts as the mean of the finished ones of this run,
    or as what was already read of it when that is more.
    """
    every = list(grants.values())
    readable = [one for one in every if one.state is not RunState.SKIPPED]
    read_sizes = [
        one.contacts for one in readable if one.state in (RunState.SCANNED, RunState.DONE)
    ]
    sizes = [
        one.contacts if one.state in FINAL or one.state is RunState.SCANNED else one.expected
        for one in readable
    ]
    mean = sum(read_sizes) / len(read_sizes) if read_sizes else None
    unknown = [one.contacts for one, size in zip(readable, sizes, strict=True) if size is None]
    estimates = [] if mean is None else [max(round(mean), contacts) for contacts in unknown]
    all_known = bool(sizes) and len(estimates) == len(unknown)
    return Totals(
        grants=len(every),
        finished=sum(one.state in FINAL for one in every),
        failed=sum(one.state is RunState.FAILED for one in every),
        skipped=sum(one.state is RunState.SKIPPED for one in every),
        pages=sum(one.pages for one in every),
        contacts=sum(one.contacts for one in every),
        expected=sum(size or 0 for size in sizes) + sum(estimates) if all_known else None,
        estimated=len(estimates),
        deleted=sum(one.deleted for one in every),
        reoffered=sum(one.offered for one in every),
    )


class Pace:
    """Estimates the time left from the contacts read since watching began.

    Contacts that were read before took a time that this command did not measure.
    """

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None

    def seconds_left(self, sums: Totals, elapsed: float) -> float | None:
        """Seconds to the end at this pace; None while the sizes or the pace are not known.

        `elapsed` is the number of seconds since watching began.
        """
        # The sum shrinks when a cursor is lost, after which a grant is read again from its start.
        if self._began is None or sums.contacts < self._began[1]:
            self._began = elapsed, sums.contacts
        since, contacts = elapsed - self._began[0], sums.contacts - self._began[1]
        if sums.expected is None or since <= 0 or contacts <= 0:
            return None
        return since * max(0, sums.expected - sums.contacts) / contacts


def format_seconds(seconds: float) -> str:
    """A duration in the unit that suits an estimate: seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def time_left(sums: Totals, seconds: float | None) -> str:
    """The time left in words, saying what is estimated; empty when nothing can be said."""
    if sums.grants == 0 or sums.finished == sums.grants:
        return ""
    if sums.expected is None:
        return "time left unknown until one address book is finished"
    if seconds is None:
        return ""
    return f"about {format_seconds(seconds)} left{_estimated_sizes(sums.estimated)}"


def _estimated_sizes(grants: int) -> str:
    if grants == 0:
        return ""
    return f" (size of {grants} grant{'' if grants == 1 else 's'} estimated)"


def _parts(run: Run) -> str:
    return "partitions" if run.kind is RunKind.REPLAY else "grants"


def run_line(run: Run, sums: Totals, seconds_left: float | None) -> str:
    """A run in one line, with the time left when it can be estimated."""
    running = run.state not in FINAL
    of_about = f" of about {sums.expected}" if sums.expected and running else ""
    parts = [
        f"{run.kind.value} {run.state.value}",
        f"{sums.finished} of {sums.grants} {_parts(run)}",
        f"{sums.contacts} contacts{of_about}",
        f"{sums.pages} pages",
    ]
    if run.dry_run and run.kind is RunKind.RECONCILE:
        parts += [f"{sums.deleted} would be deleted", f"{sums.reoffered} would be offered again"]
    else:
        parts += [f"{sums.deleted} deleted"] if sums.deleted else []
        parts += [f"{sums.reoffered} offered again"] if sums.reoffered else []
    parts += [f"{sums.skipped} skipped"] if sums.skipped else []
    parts += [f"{sums.failed} failed"] if sums.failed else []
    if running and (text := time_left(sums, seconds_left)):
        parts.append(text)
    return ", ".join(parts)
