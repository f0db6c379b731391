"""Asks the org for its automation on Contact and Lead, for `contactstream doctor`."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from connectors.salesforce import checkup
from connectors.salesforce.checkup import automation
from connectors.salesforce.checkup.findings import CheckupFinding
from connectors.salesforce.queries import soql_text

Rows = Sequence[Any]
Query = Callable[[str], Awaitable[Rows]]
OBJECTS = ("Contact", "Lead")


class Ask(Protocol):
    """Judges the answer to a question; a question without an answer becomes a warning."""

    def __call__(
        self,
        check: str,
        question: Awaitable[Any],
        judge: Callable[[Any], list[CheckupFinding]],
        remedy: str = checkup.SEE_SETUP,
        *,
        optional: bool = False,
    ) -> Awaitable[list[CheckupFinding]]: ...


async def automation_findings(
    ask: Ask, query: Query, tooling_query: Query, sees_setup: bool | None, *, asked_for: bool
) -> list[CheckupFinding]:
    """Flows, triggers, workflow rules and the Lead assignment rule, each named.

    `asked_for`: the settings let the assignment rule choose owners. Four calls, and one for each
    workflow rule, of which MAX_WORKFLOW_RULES are asked for at most.
    """

    def judge_flows(rows: Rows) -> list[CheckupFinding]:
        found = [automation.flows(name, rows, sees_setup) for name in OBJECTS]
        return [*found, *automation.processes(rows)]

    def judge_triggers(rows: Rows) -> list[CheckupFinding]:
        return [automation.triggers(name, rows, sees_setup) for name in OBJECTS]

    def judge_rules(answer: tuple[Rows, int]) -> list[CheckupFinding]:
        rows, listed = answer
        return [automation.workflow_rules(name, rows, sees_setup, listed) for name in OBJECTS]

    def judge_assignment(rows: Rows) -> list[CheckupFinding]:
        return [automation.assignment_rules(rows, sees_setup, asked_for=asked_for)]

    answers = await asyncio.gather(
        ask("flows", query(automation.FLOWS_QUERY), judge_flows, optional=True),
        ask(
            "Apex triggers",
            tooling_query(automation.TRIGGERS_QUERY),
            judge_triggers,
            optional=True,
        ),
        ask("workflow rules", _workflow_rules(tooling_query), judge_rules, optional=True),
        ask(
            "Lead assignment rules",
            query(automation.ASSIGNMENT_RULES_QUERY),
            judge_assignment,
            optional=True,
        ),
    )
    return [finding for answer in answers for finding in answer]


async def _workflow_rules(tooling_query: Query) -> tuple[Rows, int]:
    """The first workflow rules with their Metadata, and how many there are."""
    listed = await tooling_query(automation.WORKFLOW_RULES_QUERY)
    rules = [
        await tooling_query(
            automation.WORKFLOW_RULE_QUERY.format(rule=soql_text(str(row.get("Id"))))
        )
        for row in listed[: automation.MAX_WORKFLOW_RULES]
    ]
    return [row for rows in rules for row in rows], len(listed)
