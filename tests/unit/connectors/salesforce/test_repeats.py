"""Whatever an org does to collections, every row gets one result, in a bounded number of calls."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.salesforce.api.client import CompositeClient, Fence, no_fence
from connectors.salesforce.api.composite import RowResult, SubAnswer, Subrequest
from connectors.salesforce.api.errors import Action, RequestRejected, Verdict
from connectors.salesforce.org_fields import KEY_FIELD
from connectors.salesforce.repeats import (
    MAX_ISOLATING_CALLS,
    MAX_LONE_FAILURES,
    Repeat,
    SharedFaults,
)
from connectors.salesforce.rows import WriteRow
from connectors.salesforce.writer import WriteContext, WrittenRow, write_rows

LIMIT = "Apex CPU time limit exceeded"
BUG = "An error occurred when executing a flow interview. Error ID: "


@dataclass
class TriggeredOrg:
    """Refuses all rows of a collection of more than `most` rows, or that holds a poison row.

    With `partial` a poison row fails alone, as one of a validation rule does.
    """

    most: int
    poison: frozenset[str]
    partial: bool
    calls: int = 0
    stored: set[str] = field(default_factory=set)

    async def composite(
        self, subrequests: Sequence[Subrequest], _kind: str, _fence: Fence = no_fence
    ) -> list[SubAnswer]:
        self.calls += 1
        await asyncio.sleep(0)
        return [SubAnswer(one.reference_id, 200, self._save(one)) for one in subrequests]

    def _save(self, one: Subrequest) -> list[dict[str, Any]]:
        keys = [record[KEY_FIELD] for record in (one.body or {})["records"]]
        if len(keys) > self.most:
            return [self._failed(LIMIT) for _ in keys]
        failing = self.poison & set(keys)
        if failing and not self.partial:
            return [self._failed(f"{BUG}{self.calls}") for _ in keys]
        self.stored |= set(keys) - failing
        return [
            self._failed(f"{BUG}{self.calls}")
            if key in failing
            else {"id": f"003{key}", "success": True, "created": True, "errors": []}
            for key in keys
        ]

    def _failed(self, message: str) -> dict[str, Any]:
        error = {"statusCode": "CANNOT_EXECUTE_FLOW_TRIGGER", "message": message, "fields": []}
        return {"success": False, "errors": [error]}

    async def rest_of(
        self, _answer: SubAnswer, _kind: str = "query", _fence: Fence = no_fence
    ) -> list[Mapping[str, Any]]:
        raise AssertionError("nothing is queried")

    async def user_id(self) -> str | None:
        return None


def written(org: TriggeredOrg, count: int) -> list[WrittenRow]:
    made = [
        WriteRow(("Contact", "Lead")[number % 2], "upsert", {KEY_FIELD: f"g/{number}"})
        for number in range(count)
    ]
    done, left = asyncio.run(
        write_rows(WriteContext(cast(CompositeClient, org), lambda *_: None), made)
    )
    assert not left
    return done


def expected_calls(count: int, org: TriggeredOrg) -> int:
    """A bound: the rounds of halving, the smallest collections that it ends with, the search."""
    halving = 10 + count // (5 * org.most) if org.most else 12
    return 1 + halving + MAX_ISOLATING_CALLS + 10


ALL = range(150)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, len(ALL)),
    most=st.sampled_from([0, 1, 7, 30, 200]),
    poison=st.frozensets(st.sampled_from(ALL), max_size=12) | st.just(ALL),
    partial=st.booleans(),
)
def test_every_row_gets_one_result_whatever_its_collections_meet(
    count: int, most: int, poison: Iterable[int], partial: bool
) -> None:
    bad = {f"g/{number}" for number in poison if number < count}
    org = TriggeredOrg(most, frozenset(bad), partial)
    try:
        results = written(org, count)
    except RequestRejected:  # a fault of the org: no row of many was written
        assert count > MAX_LONE_FAILURES
        assert len(bad) == count
        assert org.calls <= expected_calls(count, org)
        return
    found = {one.row.fields[KEY_FIELD]: one.verdict for one in results}
    assert len(results) == len(found) == count
    assert {key for key, verdict in found.items() if verdict.action is Action.DONE} == org.stored
    for key, verdict in found.items():
        if verdict.action is Action.DEAD_LETTER:
            assert key in bad, f"{key} was dead-lettered for the sake of another row"
        elif verdict.action is Action.RETRY_ROW:
            assert verdict.reason in {"apex_limit", "cannot_execute_flow_trigger"}
            assert most == 0 or len(bad) > MAX_LONE_FAILURES, "few are at fault, and were not found"
        else:
            assert verdict.action is Action.DONE
    assert org.calls <= expected_calls(count, org)


def test_a_few_rows_left_over_do_not_make_all_collections_as_small() -> None:
    limited = Verdict(Action.HALVE, "apex_limit")
    rows = [WriteRow("Lead", "upsert", {KEY_FIELD: f"g/{number}"}) for number in range(51)]
    refused = [WrittenRow(row, RowResult(None, False, None), limited) for row in rows]
    faults = SharedFaults()
    faults.sending([Repeat(one.row, 50, "apex_limit", one) for one in refused], 1)
    for one in refused[:50]:
        faults.note(one, "apex_limit", 50)
    done = WrittenRow(rows[50], RowResult("00Q", True, True), Verdict(Action.DONE, "done"))
    faults.note(done, "", 1)
    chosen = faults.choose(Repeat(one.row, 25, "apex_limit", one) for one in refused[:50])
    assert [repeat.size for repeat in chosen.now] == [25] * 50
