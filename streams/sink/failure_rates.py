"""How many of the latest contacts failed, by reason, and which limits that reaches.

Plain data: no clock, no I/O. Two windows are counted: the outcomes of bulk runs, and all outcomes.
A bulk run can be repeated, so a small share of failures stops it. One rule that refuses two
contacts in a hundred must not stop the live changes of everybody, so it takes far more to stop all.
All outcomes count for that, those of bulk runs among them: a run that fails whole stops the sink.

Any final outcome that is no failure counts as good, whether or not something was written: what is
limited is the share of changes that end in the dead letters.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

from streams.control import FailuresSeen, Stops


@dataclass(frozen=True, slots=True)
class FailureLimits:
    """From which failures on a reason stops something. A share is a number from 0 to 1."""

    bulk_share: float = 0.01
    """Of the outcomes of bulk runs, for one reason: stops bulk runs."""
    all_share: float = 0.2
    """Of all outcomes, for one reason: stops everything."""
    in_a_row: int = 1_000
    """Of all outcomes, for whatever reasons: stops everything. It finds a fault that shows in many
    reasons, none of which reaches its share.
    """
    min_outcomes: int = 500
    """No share counts of fewer. A smaller number would let five bad contacts stop a run of 20."""
    window: int = 5_000
    """The latest outcomes that count: five full batches. Without a bound, a reason that appears
    after a million good outcomes would need 10,000 dead letters to reach 1 %. A window cannot be
    much smaller, because a batch often holds the contacts of one address book, and bad contacts
    come in clusters.
    """


@dataclass(frozen=True, slots=True)
class Failure:
    """One contact that failed for good."""

    reason: str
    key: str
    at_ms: int
    """Epoch milliseconds."""


class FailureWindow:
    """The latest outcomes, and how many of them failed for each reason."""

    def __init__(self, size: int) -> None:
        self._outcomes: deque[Failure | None] = deque(maxlen=size)
        self.counts: Counter[str] = Counter()
        """Failures by reason; only reasons that have some."""

    def __len__(self) -> int:
        return len(self._outcomes)

    def __iter__(self) -> Iterator[Failure | None]:
        return iter(self._outcomes)

    def add(self, failure: Failure | None) -> None:
        """One more outcome, None for a good one; the oldest leaves a full window."""
        if len(self._outcomes) == self._outcomes.maxlen:
            oldest = self._outcomes[0]
            if oldest is not None:
                self.counts[oldest.reason] -= 1
                if not self.counts[oldest.reason]:
                    del self.counts[oldest.reason]
        self._outcomes.append(failure)
        if failure is not None:
            self.counts[failure.reason] += 1

    def clear(self) -> None:
        """Forgets all outcomes."""
        self._outcomes.clear()
        self.counts.clear()


class FailureRates:
    """Counts outcomes in both windows, and says which reasons reach a limit."""

    def __init__(self, limits: FailureLimits) -> None:
        self._limits = limits
        self._bulk = FailureWindow(limits.window)
        self._all = FailureWindow(limits.window)
        self._streak: Counter[str] = Counter()  # of all outcomes: failures since the last good one

    def add(self, failure: Failure | None, *, bulk: bool) -> None:
        """One more final outcome, None for a good one; `bulk`: its change came from a bulk run."""
        self._all.add(failure)
        if bulk:
            self._bulk.add(failure)
        if failure is None:
            self._streak.clear()
        else:
            self._streak[failure.reason] += 1

    def clear(self) -> None:
        """Forgets everything: a reason was released, and counting starts anew."""
        self._bulk.clear()
        self._all.clear()
        self._streak.clear()

    def reached(self) -> dict[str, Stops]:
        """The reasons that reach a limit now, and the most that each has to stop.

        Cheap: it is asked after each outcome.
        """
        if not self._all.counts:
            return {}
        found = dict.fromkeys(self._over(self._bulk, self._limits.bulk_share), Stops.BULK)
        if self._streak_length() >= self._limits.in_a_row:
            found[self._streak.most_common(1)[0][0]] = Stops.ALL
        found |= dict.fromkeys(self._over(self._all, self._limits.all_share), Stops.ALL)
        return found

    def seen(self, reason: str, stops: Stops) -> FailuresSeen:
        """Why a reason that `reached` names has to stop this much. Reads a whole window."""
        window = self._bulk if stops is Stops.BULK else self._all
        in_a_row = stops is Stops.ALL and reason not in self._over(window, self._limits.all_share)
        failures = [one for one in window if one is not None and one.reason == reason]
        return FailuresSeen(
            failures=self._streak[reason] if in_a_row else len(failures),
            outcomes=self._streak_length() if in_a_row else len(window),
            in_a_row=in_a_row,
            first_ms=failures[0].at_ms,
            last_ms=failures[-1].at_ms,
            example=failures[-1].key,
        )

    def _streak_length(self) -> int:
        return sum(self._streak.values())

    def _over(self, window: FailureWindow, share: float) -> list[str]:
        outcomes = len(window)
        if outcomes < self._limits.min_outcomes:
            return []
        return [
            reason for reason, failures in window.counts.items() if failures / outcomes >= share
        ]
