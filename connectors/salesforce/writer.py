"""Writes rows in Composite calls until each row has a result of its own.

Requests that are too large are halved, a row that breaks its whole request is isolated, and fields
that the org refuses are left out.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from connectors.salesforce.api.classification import classify_row
from connectors.salesforce.api.client import CompositeClient, Fence, no_fence
from connectors.salesforce.api.composite import MAX_ROWS, WRITE_HEADERS, RowResult, row_results
from connectors.salesforce.api.errors import (
    Action,
    OrgUnavailable,
    RequestRejected,
    RowError,
    Verdict,
)
from connectors.salesforce.org_fields import KEY_FIELD, MARKER_FIELD, VERSION_FIELD
from connectors.salesforce.packing import PackLimits, halve, pack
from connectors.salesforce.rows import Call, Collection, WriteRow, collection_subrequest
from connectors.salesforce.schema import OrgNotPrepared

# Repeats of one batch that are in flight at once; the batches themselves are in flight together.
MAX_CALLS_IN_FLIGHT = 4
# A collection that is refused for one of its rows is split into so many: a poison row among 200 is
# found in four calls of five collections.
ISOLATION_PARTS = 5
# Rows that fail alone. One poison row is seen in months; many at once are a fault of the org.
MAX_LONE_FAILURES = 5
# Without them a new record is refused for another reason.
_REQUIRED_ON_CREATE = {"LastName", "Company"}


@dataclass(frozen=True, slots=True)
class WrittenRow:
    """A row's last result and what it means.

    The verdict is DONE, RETRY_ROW, ADOPT_DUPLICATE, DEAD_LETTER, FOLLOW_CONVERTED or STALE.
    """

    row: WriteRow
    result: RowResult
    verdict: Verdict


FieldRefusedCallback = Callable[[str, str], None]
"""Called with an sObject and the name of a field that the org refuses to write."""


@dataclass(frozen=True, slots=True)
class WriteContext:
    """Everything a write needs besides the rows.

    `on_field_refused` is called for each field that is left out of a row.
    """

    client: CompositeClient
    on_field_refused: FieldRefusedCallback
    headers: Mapping[str, str] = field(default_factory=lambda: WRITE_HEADERS)
    fence: Fence = no_fence


class Repeat(NamedTuple):
    """A row to be sent again, in a collection of at most `size` rows."""

    row: WriteRow
    size: int


@dataclass(slots=True)
class WriteResults:
    """Results so far: rows with a result of their own, rows that failed alone, rows to repeat.

    A row failed alone if a request was refused that held only this row. It is dead-lettered only if
    another row got a result of its own, because otherwise the org may be at fault.
    """

    done: list[WrittenRow] = field(default_factory=list)
    lone_failures: list[WrittenRow] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    # a row got a result of its own, of any kind: the org can read what we send
    any_row_read: bool = False
    # a request was refused whole, for one of its rows or for a fault of the org
    any_request_refused: bool = False

    def take_repeats(self) -> list[Repeat]:
        """The rows to repeat, which are now the caller's."""
        taken, self.repeats = self.repeats, []
        return taken

    def add_lone_failure(self, row: WriteRow, refused: RequestRejected) -> None:
        """A request that held only this row was refused.

        Raises RequestRejected when so many rows failed alone that the org is at fault.
        """
        verdict = Verdict(Action.DEAD_LETTER, refused.verdict.reason)
        self.lone_failures.append(WrittenRow(row, _failed(refused.errors), verdict))
        if len(self.lone_failures) > MAX_LONE_FAILURES:
            raise refused

    def final(self) -> list[WrittenRow]:
        """All rows with their results.

        Raises RequestRejected if nothing shows that the org works for other rows: some failed alone
        while no row was read, or many were read and all were refused with unknown codes.
        """
        unknown = sum(one.verdict.reason == "unknown_code" for one in self.done)
        none_read = self.lone_failures and not self.any_row_read
        if none_read or MAX_LONE_FAILURES < unknown == len(self.done):
            errors = (*self.lone_failures, *self.done)[0].result.errors
            raise RequestRejected(400, errors, Verdict(Action.BISECT, "unknown_code"))
        return [*self.done, *self.lone_failures]


async def write_rows(
    context: WriteContext, rows: Sequence[WriteRow], calls: int | None = 1
) -> tuple[list[WrittenRow], tuple[WriteRow, ...]]:
    """Writes rows; returns their results, and the rows for which `calls` Composites had no room.

    Repeats are not counted in `calls`. Raises OrgUnavailable (some rows may have been written: the
    same rows are safe to write again), RequestRejected for a fault of the org (all rows are
    refused, or more than MAX_LONE_FAILURES fail alone), UnexpectedAnswer, OrgNotPrepared, and
    WriterFenced.
    """
    packed = pack(rows, PackLimits(calls=calls))
    results = WriteResults()
    await _write_groups(context, packed.groups, results)
    waiting = results.take_repeats()
    # ends: every round has smaller collections or fewer fields, or leaves fewer rows
    while waiting:
        batch, held = _next_repeats(waiting, results)
        await _write_groups(context, _pack_repeats(batch), results)
        waiting = [*results.take_repeats(), *held]
    return results.final(), packed.leftovers


def _next_repeats(
    waiting: Sequence[Repeat], results: WriteResults
) -> tuple[Sequence[Repeat], Sequence[Repeat]]:
    """The rows to repeat now, and those to repeat later.

    After a refused request one collection goes at a time until any row is read: what the org
    refuses of all rows would otherwise cost a call for each row.
    """
    if results.any_row_read or not results.any_request_refused:
        return waiting, ()
    ordered = sorted(waiting, key=lambda repeat: repeat.size)
    size = ordered[0].size
    return ordered[:size], ordered[size:]


def _pack_repeats(repeats: Iterable[Repeat]) -> tuple[tuple[Call, ...], ...]:
    by_size: dict[int, list[WriteRow]] = defaultdict(list)
    for repeat in repeats:
        by_size[repeat.size].append(repeat.row)
    return tuple(
        group
        for size, rows in sorted(by_size.items())
        for group in pack(rows, PackLimits(rows=size)).groups
    )


async def _write_groups(
    context: WriteContext, groups: Iterable[Sequence[Call]], results: WriteResults
) -> None:
    """Writes groups side by side, the calls of one group one after the other."""
    slots = asyncio.Semaphore(MAX_CALLS_IN_FLIGHT)

    async def write_group(calls: Sequence[Call]) -> None:
        async with slots:
            waiting = list(calls)
            while waiting:
                waiting[:0] = await _write_call(context, waiting.pop(0), results)

    # All groups end before one failure is raised: nothing of this batch is in flight when the same
    # rows are sent again.
    ended = await asyncio.gather(*(write_group(calls) for calls in groups), return_exceptions=True)
    for failure in ended:
        if failure is not None:
            raise failure


async def _write_call(context: WriteContext, call: Call, results: WriteResults) -> tuple[Call, ...]:
    """Sends one Composite and adds its results; returns smaller calls if it was refused whole."""
    subrequests = [
        collection_subrequest(part, f"part{number}", context.headers)
        for number, part in enumerate(call)
    ]
    try:
        answers = await context.client.composite(subrequests, "composite_write", context.fence)
    except RequestRejected as refused:
        if refused.verdict.action not in {Action.HALVE, Action.BISECT}:
            raise
        if len(call) == 1 and len(call[0].rows) == 1:
            _add_refused_collection(context, call[0], refused, results)
            return ()
        if refused.verdict.action is Action.BISECT:
            results.any_request_refused = True
        return halve(call)
    for part, answer in zip(call, answers, strict=True):
        try:
            row_answers = row_results(answer, part.rows)
        except RequestRejected as refused:
            _add_refused_collection(context, part, refused, results)
            continue
        results.any_row_read = True
        for row, result in zip(part.rows, row_answers, strict=True):
            _add_row_result(context, row, result, len(part.rows), results)
    return ()


def _add_refused_collection(
    context: WriteContext, part: Collection, refused: RequestRejected, results: WriteResults
) -> None:
    verdict, size = refused.verdict, len(part.rows)
    if verdict.action is Action.BISECT:
        results.any_request_refused = True
    match verdict.action:
        case Action.HALVE if size > 1:
            results.repeats += _in_parts(part, 2)
        case Action.HALVE:
            retry = Verdict(Action.RETRY_ROW, verdict.reason)
            results.done.append(WrittenRow(part.rows[0], _failed(refused.errors), retry))
        case Action.BISECT if size > 1:
            results.repeats += _in_parts(part, ISOLATION_PARTS)
        case Action.BISECT:
            results.add_lone_failure(part.rows[0], refused)
        case Action.STRIP_FIELD:
            for row in part.rows:
                written = WrittenRow(row, _failed(refused.errors), verdict)
                _leave_out_fields(context, written, size, results)
        case _:
            raise refused


def _in_parts(part: Collection, parts: int) -> list[Repeat]:
    size = -(-len(part.rows) // parts)
    return [Repeat(row, size) for row in part.rows]


def _add_row_result(
    context: WriteContext, row: WriteRow, result: RowResult, size: int, results: WriteResults
) -> None:
    """Adds the result of a row that was in a collection of `size` rows."""
    if result.success:
        results.done.append(WrittenRow(row, result, Verdict(Action.DONE, "done")))
        return
    verdict = classify_row(result.errors, VERSION_FIELD)
    match verdict.action:
        case Action.PAUSE:
            raise OrgUnavailable(verdict.reason, verdict.retry_after)
        case Action.HALVE if size > 1:
            results.repeats.append(Repeat(row, -(-size // 2)))
        case Action.HALVE:
            retry = replace(verdict, action=Action.RETRY_ROW)
            results.done.append(WrittenRow(row, result, retry))
        case Action.STRIP_FIELD:
            _leave_out_fields(context, WrittenRow(row, result, verdict), MAX_ROWS, results)
        case _:
            results.done.append(WrittenRow(row, result, verdict))


def _leave_out_fields(
    context: WriteContext, written: WrittenRow, size: int, results: WriteResults
) -> None:
    """Repeats a row without the fields that its verdict names, in a collection of at most `size`.

    The row fails if it has none of these fields, or needs one of them. Raises OrgNotPrepared if our
    own key, version or marker field is refused.
    """
    row, verdict = written.row, written.verdict
    refused = set(verdict.fields) & row.fields.keys()
    if own := refused & {KEY_FIELD, VERSION_FIELD, MARKER_FIELD}:
        raise OrgNotPrepared(
            f"{row.sobject}.{min(own)} cannot be written by our user; see contactstream doctor"
        )
    if not refused or "Id" in refused or (row.op == "upsert" and refused & _REQUIRED_ON_CREATE):
        failed = replace(verdict, action=Action.DEAD_LETTER)
        results.done.append(replace(written, verdict=failed))
        return
    for name in refused:
        context.on_field_refused(row.sobject, name)
    shorter = row.without(refused)
    if shorter.fields.keys() == {"Id"}:  # nothing is left to write
        unchanged = RowResult(str(row.fields["Id"]), True, False)
        results.done.append(WrittenRow(row, unchanged, Verdict(Action.DONE, "done")))
    else:
        results.repeats.append(Repeat(shorter, size))


def _failed(errors: tuple[RowError, ...]) -> RowResult:
    return RowResult(None, False, None, errors)
