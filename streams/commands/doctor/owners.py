"""Asks the org about owners and the permission of bulk loads, for `contactstream doctor`."""

import asyncio
from collections.abc import Awaitable, Callable

from connectors.salesforce.checkup import owners
from connectors.salesforce.checkup.bulk_load import (
    ASSIGN_RIGHT_QUERY,
    PERMISSION_SET_QUERY,
    bulk_load_permission,
)
from connectors.salesforce.checkup.findings import CheckupFinding
from connectors.salesforce.checkup.sharing import Sharing
from connectors.salesforce.owner_rules import OwnerPolicy, OwnerRule
from connectors.salesforce.queries import soql_text
from streams.commands.doctor.automation import OBJECTS, Ask, Query, Rows


async def bulk_load_findings(ask: Ask, query: Query) -> list[CheckupFinding]:
    """Whether the sink can hold the permission of bulk loads. Two calls."""

    async def answers() -> tuple[Rows, Rows]:
        return await query(PERMISSION_SET_QUERY), await query(ASSIGN_RIGHT_QUERY)

    def judge(found: tuple[Rows, Rows]) -> list[CheckupFinding]:
        return [bulk_load_permission(*found)]

    return await ask("bulk load permission", answers(), judge, optional=True)


async def owner_findings(
    ask: Ask, query: Query, policy: OwnerPolicy, sharing: Sharing, our_user: str | None
) -> list[CheckupFinding]:
    """Findings about owners; none where the settings name no rule, since our user owns all then."""
    if not policy.rules:
        return []

    def judge_sharing(rows: Rows) -> list[CheckupFinding]:
        return [owners.given_away(name, policy, sharing, rows) for name in OBJECTS]

    us = query(owners.USER_QUERY.format(user=soql_text(our_user or "")))
    questions: list[Awaitable[list[CheckupFinding]]] = [
        ask("owners: records of others", us, judge_sharing, optional=True)
    ]
    if owners.asks_users(policy):
        listed = query(owners.USERS_QUERY.format(field=policy.match.field))
        questions.append(ask("owners: users", listed, _users(policy), optional=True))
    if OwnerRule.CONFIGURED in policy.rules:
        wanted = soql_text(policy.configured_id)
        soql = (
            owners.QUEUE_QUERY.format(queue=wanted)
            if policy.configured_queue
            else owners.USER_QUERY.format(user=wanted)
        )

        questions.append(ask("owners: configured", query(soql), _configured(policy), optional=True))
    return [finding for answer in await asyncio.gather(*questions) for finding in answer]


def _users(policy: OwnerPolicy) -> Callable[[Rows], list[CheckupFinding]]:
    return lambda rows: [owners.users(policy, rows)]


def _configured(policy: OwnerPolicy) -> Callable[[Rows], list[CheckupFinding]]:
    return lambda rows: [owners.configured(policy, rows)]
