"""Writes rows in Composite calls until each row has a result of its own.

Requests that are too large are halved, a row that breaks its whole request is isolated, and fields
that the org refuses are left out.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from connectors.salesforce.api.classification import DOUBTFUL_REASONS, classify_row
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
from connectors.salesforce.packing import PackLimits, halve, merge_groups, pack
from connectors.salesforce.provenance_fields import says_nothing
from connectors.salesforce.repeats import (
    ISOLATION_PARTS,
    MAX_LONE_FAILURES,
    NextRepeats,
    Repeat,
    SharedFaults,
    WrittenRow,
    shared_fault,
)
from connectors.salesforce.rows import Call, Collection, WriteRow, collection_subrequest

__all__ = ["MAX_LONE_FAILURES", "WriteContext", "WrittenRow", "write_rows"]

# Repeats of one batch that are in flight at once; the batches themselves are in flight together.
MAX_CALLS_IN_FLIGHT = 4
# Without them a new record is refused for another reason.
_REQUIRED_ON_CREATE = {"LastName", "Company"}
_DONE = Verdict(Action.DONE, "done")


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


@dataclass(slots=True)
class WriteResults:
    """Results so far: rows with a result of their own, rows that failed alone, rows to repeat.

    A row failed alone if a request was refused that held only this row. It is dead-lettered only if
    another row got a result of its own, because otherwise the org may be at fault.
    """

    done: list[WrittenRow] = field(default_factory=list)
    lone_failures: list[WrittenRow] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    faults: SharedFaults = field(default_factory=SharedFaults)
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
        while no row was read, or many were read and all were refused with unknown codes, or by the
        org's own triggers and flows.
        """
        doubtful = sum(one.verdict.reason in DOUBTFUL_REASONS for one in self.done)
        none_read = self.lone_failures and not self.any_row_read
        if none_read or MAX_LONE_FAILURES < doubtful == len(self.done):
            errors = (*self.lone_failures, *self.done)[0].result.errors
            raise RequestRejected(400, errors, Verdict(Action.BISECT, "unknown_code"))
        return [*self.done, *self.lone_failures]


async def write_rows(
    context: WriteContext, rows: Sequence[WriteRow], calls: int | None = 1
) -> tuple[list[WrittenRow], tuple[WriteRow, ...]]:
    """Writes rows; returns their results, and the rows for which `calls` Composites had no room.

    Repeats are not counted in `calls`. Raises OrgUnavailable (some rows may have been written: the
    same rows are safe to write again), RequestRejected for a fault of the org (all rows are
    refused, or more than MAX_LONE_FAILURES fail alone), UnexpectedAnswer, and WriterFenced.
    """
    packed = pack(rows, PackLimits(calls=calls))
    results = WriteResults()
    await _write_groups(context, packed.groups, results)
    waiting = results.take_repeats()
    # ends: every round has smaller collections or fewer fields, or leaves fewer rows; only the
    # first one has several sObjects in a collection
    while waiting:
        chosen = _next_repeats(waiting, results)
        results.done += chosen.given_up
        groups = _pack_repeats(chosen.now)
        results.faults.sending(chosen.now, sum(map(len, groups)))
        await _write_groups(context, groups, results)
        waiting = [*results.take_repeats(), *chosen.later]
    return results.final(), packed.leftovers


def _next_repeats(waiting: Sequence[Repeat], results: WriteResults) -> NextRepeats:
    """The rows to repeat now, those to repeat later, and those to repeat no more.

    After a refused request one collection goes at a time until any row is read: what the org
    refuses of all rows would otherwise cost a call for each row.
    """
    if results.any_row_read or not results.any_request_refused:
        return results.faults.choose(waiting)
    ordered = sorted(waiting, key=lambda repeat: repeat.size)
    size = ordered[0].size
    return NextRepeats(now=ordered[:size], later=ordered[size:])


def _pack_repeats(repeats: Iterable[Repeat]) -> tuple[tuple[Call, ...], ...]:
    """The rows in as few calls as their sizes allow, those of each sObject by themselves."""
    by_size: dict[int, list[WriteRow]] = defaultdict(list)
    for repeat in repeats:
        by_size[repeat.size].append(repeat.row)
    return merge_groups(
        group
        for size, rows in sorted(by_size.items())
        for group in pack(rows, PackLimits(rows=size, mixed_updates=False)).groups
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
        _add_row_results(context, part, row_answers, results)
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
        case Action.STRIP_FIELD if part.is_mixed:  # only one of the sObjects lacks the field
            results.repeats += _in_parts(part, 1)
        case Action.STRIP_FIELD:
            for row in part.rows:
                written = WrittenRow(row, _failed(refused.errors), verdict)
                _leave_out_fields(context, written, size, results)
        case _:
            raise refused


def _in_parts(part: Collection, parts: int) -> list[Repeat]:
    size = -(-len(part.rows) // parts)
    return [Repeat(row, size) for row in part.rows]


def _add_row_results(
    context: WriteContext, part: Collection, answers: Sequence[RowResult], results: WriteResults
) -> None:
    """Adds the results of the rows of a collection."""
    written = [_judged(row, result) for row, result in zip(part.rows, answers, strict=True)]
    if not results.faults.any_sent and all(one.verdict is _DONE for one in written):
        results.done += written  # nearly always
        return
    faults = [shared_fault(one) for one in written]
    sharing = Counter(faults)
    for one, fault in zip(written, faults, strict=True):
        results.faults.note(one, fault, len(part.rows))
        _add_written_row(context, one, len(part.rows), fault if sharing[fault] > 1 else "", results)


def _add_written_row(
    context: WriteContext, one: WrittenRow, size: int, fault: str, results: WriteResults
) -> None:
    """Adds a row that was in a collection of `size` rows, others of which had the same `fault`.

    `fault` is "" if no other row had it.
    """
    match one.verdict.action:
        case Action.PAUSE:
            raise OrgUnavailable(one.verdict.reason, one.verdict.retry_after)
        case Action.HALVE if size > 1:
            results.repeats.append(Repeat(one.row, -(-size // 2), shared_fault(one), one))
        case Action.HALVE:
            results.done.append(one.ends_as(Action.RETRY_ROW))
        case Action.ISOLATE if fault:
            results.repeats.append(Repeat(one.row, -(-size // ISOLATION_PARTS), fault, one))
        case Action.ISOLATE:
            results.done.append(one.ends_as(Action.DEAD_LETTER))
        case Action.STRIP_FIELD:
            _leave_out_fields(context, one, MAX_ROWS, results)
        case _:
            results.done.append(one)


def _judged(row: WriteRow, result: RowResult) -> WrittenRow:
    if result.success:
        return WrittenRow(row, result, _DONE)
    return WrittenRow(row, result, classify_row(result.errors, VERSION_FIELD))


def _leave_out_fields(
    context: WriteContext, written: WrittenRow, size: int, results: WriteResults
) -> None:
    """Repeats a row without the fields that its verdict names, in a collection of at most `size`.

    The row fails if it has none of these fields, or needs one of them. If it is refused for our own
    key, version or marker field it is to be tried again later: whether the org took the field away
    is for the next describe to say, and not for one row.
    """
    row, verdict = written.row, written.verdict
    refused = set(verdict.fields) & row.fields.keys()
    if own := refused & {KEY_FIELD, VERSION_FIELD, MARKER_FIELD}:
        for name in own:
            context.on_field_refused(row.sobject, name)
        later = replace(verdict, action=Action.RETRY_ROW)
        results.done.append(replace(written, verdict=later))
        return
    if not refused or "Id" in refused or (row.creates and refused & _REQUIRED_ON_CREATE):
        failed = replace(verdict, action=Action.DEAD_LETTER)
        results.done.append(replace(written, verdict=failed))
        return
    for name in refused:
        context.on_field_refused(row.sobject, name)
    shorter = row.without(refused)
    if says_nothing(set(shorter.fields)):  # nothing is left to write
        unchanged = RowResult(str(row.fields["Id"]), True, False)
        results.done.append(WrittenRow(shorter, unchanged, _DONE))
    else:
        results.repeats.append(Repeat(shorter, size))


def _failed(errors: tuple[RowError, ...]) -> RowResult:
    return RowResult(None, False, None, errors)
