"""Asks the recycle bin, once a day, for what people deleted or merged since the last time.

The bin answers every lookup for 15 days. What it held must be known afterwards as well, or the next
change of the contact would bring the record back. The caller keeps what `sweep` returns durably
before it goes on, and then hands it to `DeletedRecords.remember`.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from connectors.salesforce.api.client import CompositeClient, Fence
from connectors.salesforce.api.composite import query_subrequest
from connectors.salesforce.deleted_records import DeletedRecord, DeletedRecords
from connectors.salesforce.moved_records import MovedRecord, row_move
from connectors.salesforce.queries import deleted_since
from connectors.salesforce.schema import Schema

# Rows of one object in one step, some 10 MB in memory. A step takes one call, and one more for
# each further 2,000 rows of an object.
MAX_SWEEP_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class SweepStep:
    """What one step of a sweep found.

    `records` are those that are new or changed. `read_up_to`: seconds since the epoch by object;
    the next step begins there. `done`: nothing more is to be read.
    """

    records: list[DeletedRecord]
    read_up_to: dict[str, int]
    done: bool


async def sweep(
    client: CompositeClient,
    schemas: Mapping[str, Schema],
    known: DeletedRecords,
    read_from: Mapping[str, int],
    fence: Fence,
) -> SweepStep:
    """What was deleted or merged since `read_from` (epoch seconds by object), in one Composite.

    Raises as `CompositeClient.composite` does. `known` stays as it is.
    """
    requests = [
        query_subrequest(
            deleted_since(shape, _stamp(read_from[name]), MAX_SWEEP_ROWS), name, deleted=True
        )
        for name, shape in schemas.items()
    ]
    answers = await client.composite(requests, "composite_query", fence)
    moves: list[MovedRecord] = []
    read_up_to, done = dict(read_from), True
    for name, answer in zip(schemas, answers, strict=True):
        rows = await client.rest_of(answer, fence=fence)
        found = _moves(name, rows, schemas[name].address_fields)
        moves += found
        if len(rows) >= MAX_SWEEP_ROWS and found:
            done = False
            # a second with more rows than a step takes must not be read for ever
            read_up_to[name] = max(found[-1].deleted_at, read_from[name] + 1)
    # in a thread: 10,000 rows take 0.1 s, and nothing changes `known` meanwhile but the caller
    changed = await asyncio.to_thread(_changed, known, moves)
    return SweepStep(changed, read_up_to, done)


def _stamp(epoch: int) -> str:
    return f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _moves(
    sobject: str, rows: Iterable[Mapping[str, Any]], address_fields: Iterable[str]
) -> list[MovedRecord]:
    """The rows as moves.

    The statement selects neither IsDeleted, which is true of all, nor IsConverted: a Lead with a
    Contact is converted.
    """
    known = {"IsDeleted": True}
    found = (
        row_move(
            sobject,
            {**row, **known, "IsConverted": bool(row.get("ConvertedContactId"))},
            address_fields,
        )
        for row in rows
    )
    return [move for move in found if move is not None]


def _changed(known: DeletedRecords, moves: Iterable[MovedRecord]) -> list[DeletedRecord]:
    """The records that are new or changed, in the order in which people deleted them.

    A record into which another one was merged before may be merged on, or deleted: then the other
    one's entry changes as well, whether it has a key itself or not.
    """
    in_order = sorted(moves, key=lambda move: move.deleted_at)
    by_master: dict[str, dict[str, DeletedRecord]] = {}
    for record in known.merged_into(move.record_id for move in in_order if move.record_id):
        by_master.setdefault((record.master_id or "")[:15], {})[record.key] = record
    changed: dict[str, DeletedRecord] = {}

    def note(record: DeletedRecord) -> None:
        changed[record.key] = record
        if record.master_id:
            by_master.setdefault(record.master_id[:15], {})[record.key] = record

    for move in in_order:
        if move.record_id is None:
            continue
        for record in list(by_master.pop(move.record_id[:15], {}).values()):
            note(replace(record, master_id=move.next_id, deleted_at=move.deleted_at))
        if move.key:
            hashes = tuple(known.hash_of(address) for address in move.addresses)
            made = DeletedRecord(move.key, move.record_id, move.next_id, move.deleted_at, hashes)
            before = changed.get(move.key) or known.get(move.key)
            if made.outdates(before) and not known.is_lifted(move.key, (), move.deleted_at):
                note(made)
    return list(changed.values())
