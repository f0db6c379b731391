"""Decides which refused rows of a batch are sent again, how many at a time, and when that ends.

For `connectors.salesforce.writer`. Rows that share a fault (a governor limit, a trigger or a flow
that failed for the whole collection) are sent in smaller collections. As long as that has helped
none of them, one call at a time goes, with the smallest collections: what the org does to all rows
costs a few calls and not one for each row. A row is dead-lettered for such a fault only if it had
it alone; the rows that were not tried alone belong in a later batch.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from connectors.salesforce.api.classification import fault_of
from connectors.salesforce.api.composite import MAX_COLLECTIONS, RowResult
from connectors.salesforce.api.errors import Action, Verdict
from connectors.salesforce.rows import WriteRow

# A collection that fails for one of its rows is split into so many: a poison row among 200 is found
# in four calls of five collections.
ISOLATION_PARTS = 5
# Rows that fail alone in the same way, before the search ends that has helped nobody: the others
# are tried again later. One poison row is seen in months; many at once are a fault of the org.
MAX_LONE_FAILURES = 5
# Calls of one batch that look for the rows at fault, beyond which the others wait for another
# batch: ten poison rows in collections of their own are found in as many.
MAX_ISOLATING_CALLS = 40


@dataclass(frozen=True, slots=True)
class WrittenRow:
    """A row's last result and what it means.

    The verdict is DONE, RETRY_ROW, ADOPT_DUPLICATE, DEAD_LETTER, FOLLOW_CONVERTED or STALE.
    """

    row: WriteRow
    result: RowResult
    verdict: Verdict

    def ends_as(self, action: Action) -> "WrittenRow":
        """The row with another action for the same reason."""
        return replace(self, verdict=replace(self.verdict, action=action))


class Repeat(NamedTuple):
    """A row to be sent again, in a collection of at most `size` rows.

    `refused` is its result so far if it shares a `fault` with others; `fault` is only compared.
    """

    row: WriteRow
    size: int
    fault: str = ""
    refused: WrittenRow | None = None

    @property
    def isolates(self) -> bool:
        """Whether the row is sent again to find out which row of many is at fault."""
        return self.refused is not None and self.refused.verdict.action is Action.ISOLATE


def shared_fault(refused: WrittenRow) -> str:
    """What the row's fault is called among the rows of its batch; "" for a fault of the row alone.

    Two rows share a limit whatever it is called, and a failed trigger or flow by its message.
    """
    match refused.verdict.action:
        case Action.HALVE:
            return refused.verdict.reason
        case Action.ISOLATE:
            return fault_of(refused.result.errors)
        case _:
            return ""


@dataclass(slots=True)
class _Fault:
    helped: bool = False
    """A row passed that had this fault in a larger collection."""
    passed_at: int = 0
    """The largest collection, of those that were about as large as they might be, that passed."""
    alone: int = 0
    """Rows with this fault that failed in a collection of their own, for whatever reason."""


@dataclass(slots=True)
class NextRepeats:
    """The repeats of one round: those to send now, those that wait, and rows that are given up."""

    now: list[Repeat] = field(default_factory=list)
    later: list[Repeat] = field(default_factory=list)
    given_up: list[WrittenRow] = field(default_factory=list)


class SharedFaults:
    """What the repeats of one batch have shown about the faults that rows share."""

    def __init__(self) -> None:
        self._faults: defaultdict[str, _Fault] = defaultdict(_Fault)
        # the rows that were sent again for such a fault, by their id()
        self._sent: dict[int, Repeat] = {}
        self._isolating_calls = 0

    @property
    def any_sent(self) -> bool:
        """Whether a row that was sent again for a shared fault has no result yet."""
        return bool(self._sent)

    def sending(self, repeats: Iterable[Repeat], calls: int) -> None:
        """Notes that these rows go again, in so many calls."""
        repeats = list(repeats)
        self._sent |= {id(repeat.row): repeat for repeat in repeats if repeat.fault}
        if any(repeat.isolates for repeat in repeats):
            self._isolating_calls += calls

    def note(self, written: WrittenRow, fault: str, size: int) -> None:
        """Notes the result of a row in a collection of `size` rows, and its shared fault, or ""."""
        before = self._sent.pop(id(written.row), None)
        if before is not None and written.verdict.action is Action.DONE:
            known = self._faults[before.fault]
            known.helped = True
            if 2 * size > before.size:  # a few rows that were left over prove nothing of more
                known.passed_at = max(known.passed_at, size)
        elif size == 1:
            for name in {before.fault if before else "", fault} - {""}:
                self._faults[name].alone += 1

    def choose(self, waiting: Iterable[Repeat]) -> NextRepeats:
        """What to do with the rows that wait. Every round sends or gives up at least one row."""
        by_fault: defaultdict[str, list[Repeat]] = defaultdict(list)
        for repeat in waiting:
            by_fault[repeat.fault].append(repeat)
        chosen = NextRepeats(now=by_fault.pop("", []))
        for fault, repeats in by_fault.items():
            self._choose(self._faults[fault], repeats, chosen)
        return chosen

    def _choose(self, fault: _Fault, repeats: list[Repeat], chosen: NextRepeats) -> None:
        isolates = repeats[0].isolates
        if isolates and self._isolating_calls >= MAX_ISOLATING_CALLS:
            chosen.given_up += _tried_again_later(repeats)
        elif fault.helped and (isolates or not fault.passed_at):
            chosen.now += repeats
        elif fault.helped:
            # a limit: larger collections than one that passed are not worth a call
            chosen.now += [
                repeat._replace(size=min(repeat.size, fault.passed_at)) for repeat in repeats
            ]
        elif fault.alone >= MAX_LONE_FAILURES:
            chosen.given_up += _tried_again_later(repeats)
        else:
            ordered = sorted(repeats, key=lambda repeat: repeat.size)
            size = ordered[0].size * MAX_COLLECTIONS
            chosen.now += ordered[:size]
            chosen.later += ordered[size:]


def _tried_again_later(repeats: Sequence[Repeat]) -> list[WrittenRow]:
    """The results of rows that were not tried alone, so that nothing is proven of them."""
    return [
        repeat.refused.ends_as(Action.RETRY_ROW) for repeat in repeats if repeat.refused is not None
    ]
