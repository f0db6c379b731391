"""Writes rows in Composite calls until each has a fate: halves what is too much, finds the guilty
row, leaves out refused fields.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from connectors.salesforce.api.classification import classify_row
from connectors.salesforce.api.client import SalesforceClient
from connectors.salesforce.api.composite import MAX_ROWS, WRITE_HEADERS, RowResult, row_results
from connectors.salesforce.api.errors import Action, OrgUnavailable, RequestRejected, Verdict
from connectors.salesforce.org_fields import KEY_FIELD, VERSION_FIELD
from connectors.salesforce.packing import PackLimits, halve, pack
from connectors.salesforce.rows import Call, Collection, WriteRow, collection_subrequest
from connectors.salesforce.schema import OrgNotPrepared

IN_FLIGHT = 4  # repeats of one batch side by side; the batches themselves are side by side already
FIFTHS = 5  # a guilty row among 200 is found in four calls of five collections
# Rows that break the requests that they are in: one is seen in months, many at once are the org's
# doing.
MOST_GUILTY = 5


@dataclass(frozen=True, slots=True)
class WrittenRow:
    """A row's last result and what it means: DONE, RETRY_ROW, ADOPT_DUPLICATE, DEAD_LETTER,
    FOLLOW_CONVERTED or STALE.
    """

    row: WriteRow
    result: RowResult
    verdict: Verdict


OnStripped = Callable[[str, str], None]
"""Called with an sObject and a field that the org refuses from our user."""


@dataclass(frozen=True, slots=True)
class WriteContext:
    """With what rows are written."""

    client: SalesforceClient
    on_stripped: OnStripped
    headers: Mapping[str, str] = field(default_factory=lambda: WRITE_HEADERS)


@dataclass(slots=True)
class WriteResults:
    """The rows that have theirs, and those that were refused all alone, for which only what became
    of the others can speak.
    """

    done: list[WrittenRow] = field(default_factory=list)
    guilty: list[WrittenRow] = field(default_factory=list)
    passed: bool = (
        False  # a row got a result of its own, whatever it says: the org reads what we send
    )
    refused: bool = False  # a request was refused whole, for one of its rows or for none of them

    def blame(self, row: WriteRow, refused: RequestRejected) -> None:
        """A request that held nothing but this row was refused whole. Raises RequestRejected where
        that is the org's doing.
        """
        failed = RowResult(None, False, None, refused.errors)
        self.guilty.append(
            WrittenRow(row, failed, Verdict(Action.DEAD_LETTER, refused.verdict.reason))
        )
        if len(self.guilty) > MOST_GUILTY:
            raise refused

    def settled(self) -> list[WrittenRow]:
        """All of them. Raises RequestRejected if no other row passed, and so nothing says that the
        guilty ones are to blame.
        """
        unknown = sum(one.verdict.reason == "unknown_code" for one in self.done)
        if (self.guilty and not self.passed) or MOST_GUILTY < unknown == len(self.done):
            first = (*self.guilty, *self.done)[0].result.errors
            raise RequestRejected(400, first, Verdict(Action.BISECT, "unknown_code"))
        return [*self.done, *self.guilty]


async def write_rows(
    how: WriteContext, rows: Sequence[WriteRow], calls: int | None = 1
) -> tuple[list[WrittenRow], tuple[WriteRow, ...]]:
    """Every row's fate, and the rows that `calls` Composite calls had no room for.

    Raises OrgUnavailable (some rows may have been written: the same rows are safe to write again),
    RequestRejected where no row is to blame (all are refused, or more than MOST_GUILTY are),
    UnexpectedAnswer.
    """
    packed = pack(rows, PackLimits(calls=calls))
    fates = WriteResults()
    again = await _write_groups(how, packed.groups, fates)
    while again:  # ends: every round has smaller collections or fewer fields, or leaves fewer rows
        by_size: dict[int, list[WriteRow]] = defaultdict(list)
        held: _Again = []
        if fates.refused and not fates.passed:
            # one piece at a time until any row passes: what the org refuses of everybody would cost
            # a call for each row else
            size = min(size for _, size in again)
            again.sort(key=lambda entry: entry[1])
            again, held = again[:size], again[size:]
        for row, size in again:
            by_size[size].append(row)
        groups = tuple(
            group
            for size, some in sorted(by_size.items())
            for group in pack(some, PackLimits(rows=size)).groups
        )
        again = [*await _write_groups(how, groups, fates), *held]
    return fates.settled(), packed.leftovers


_Again = list[tuple[WriteRow, int]]  # a row, and the size of the collection that it may be in


async def _write_groups(
    how: WriteContext, groups: Iterable[Sequence[Call]], fates: WriteResults
) -> _Again:
    again: _Again = []
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def write_group(calls: Sequence[Call]) -> None:
        async with slots:
            waiting = list(calls)  # they share an Account or a person: one after the other
            while waiting:
                call = waiting.pop(0)
                subrequests = [
                    collection_subrequest(part, f"part{number}", how.headers)
                    for number, part in enumerate(call)
                ]
                try:
                    answers = await how.client.composite(subrequests, "composite_write")
                except RequestRejected as refused:
                    if refused.verdict.action not in {Action.HALVE, Action.BISECT}:
                        raise
                    fates.refused = fates.refused or refused.verdict.action is Action.BISECT
                    if len(call) == 1 and len(call[0].rows) == 1:
                        _refused(call[0], refused, fates, again, how.on_stripped)
                    else:
                        waiting[:0] = halve(call)
                    continue
                for part, answer in zip(call, answers, strict=True):
                    try:
                        results = row_results(answer, part.rows)
                    except RequestRejected as refused:
                        _refused(part, refused, fates, again, how.on_stripped)
                    else:
                        for row, result in zip(part.rows, results, strict=True):
                            _sort(part, row, result, fates, again, how.on_stripped)

    # all of them end before one failure is raised: nothing of this batch is under way once the same
    # rows are sent again
    ended = await asyncio.gather(*(write_group(calls) for calls in groups), return_exceptions=True)
    for failure in ended:
        if failure is not None:
            raise failure
    return again


def _refused(
    part: Collection,
    refused: RequestRejected,
    fates: WriteResults,
    again: _Again,
    on_stripped: OnStripped,
) -> None:
    """A whole collection was refused."""
    verdict, size = refused.verdict, len(part.rows)
    fates.refused = fates.refused or verdict.action is Action.BISECT
    match verdict.action:
        case Action.HALVE | Action.BISECT if size > 1:
            smaller = -(-size // (2 if verdict.action is Action.HALVE else FIFTHS))
            again += [(row, smaller) for row in part.rows]
        case Action.HALVE:
            failed = RowResult(None, False, None, refused.errors)
            fates.done.append(
                WrittenRow(part.rows[0], failed, Verdict(Action.RETRY_ROW, verdict.reason))
            )
        case Action.BISECT:
            fates.blame(part.rows[0], refused)
        case Action.STRIP_FIELD:
            for row in part.rows:
                _strip(
                    row,
                    RowResult(None, False, None, refused.errors),
                    verdict,
                    size,
                    fates,
                    again,
                    on_stripped,
                )
        case _:
            raise refused


def _sort(
    part: Collection,
    row: WriteRow,
    result: RowResult,
    fates: WriteResults,
    again: _Again,
    on_stripped: OnStripped,
) -> None:
    fates.passed = True
    if result.success:
        fates.done.append(WrittenRow(row, result, Verdict(Action.DONE, "done")))
        return
    verdict = classify_row(result.errors, VERSION_FIELD)
    match verdict.action:
        case Action.PAUSE:
            raise OrgUnavailable(verdict.reason, verdict.retry_after)
        case Action.HALVE if len(part.rows) > 1:
            again.append((row, -(-len(part.rows) // 2)))
        case Action.HALVE:
            fates.done.append(WrittenRow(row, result, replace(verdict, action=Action.RETRY_ROW)))
        case Action.STRIP_FIELD:
            _strip(row, result, verdict, MAX_ROWS, fates, again, on_stripped)
        case _:
            fates.done.append(WrittenRow(row, result, verdict))


def _strip(
    row: WriteRow,
    result: RowResult,
    verdict: Verdict,
    size: int,
    fates: WriteResults,
    again: _Again,
    on_stripped: OnStripped,
) -> None:
    """Without the refused fields, if the row has them and is still itself."""
    refused = set(verdict.fields) & row.fields.keys()
    if vital := refused & {KEY_FIELD, VERSION_FIELD}:
        raise OrgNotPrepared(
            f"{row.sobject}.{min(vital)} cannot be written by our user; see contactstream doctor"
        )
    needed = row.op == "upsert" and refused & {
        "LastName",
        "Company",
    }  # without them the row is refused for another reason
    if not refused or "Id" in refused or needed:
        fates.done.append(WrittenRow(row, result, replace(verdict, action=Action.DEAD_LETTER)))
        return
    for name in refused:
        on_stripped(row.sobject, name)
    left = {name: value for name, value in row.fields.items() if name not in refused}
    if left.keys() == {"Id"}:
        fates.done.append(
            WrittenRow(row, RowResult(str(left["Id"]), True, False), Verdict(Action.DONE, "done"))
        )
    else:
        again.append((replace(row, fields=left), size))
