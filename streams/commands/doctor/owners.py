"""Asks the org about owners and the permission of bulk loads, for `contactstream doctor`."""

import asyncio
from collections.abc import Awaitable, Callable

from connectors.salesforce.api.errors import RequestRejected
from connectors.salesforce.checkup import owners
from connectors.salesforce.checkup.bulk_load import (
    ASSIGN_RIGHT_QUERY,
    PERMISSION_SET_QUERY,
    bulk_load_permission,
)
from connectors.salesforce.checkup.findings import CheckupFinding
from connectors.salesforce.checkup.sharing import Sharing, edits_every_record
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

    async def our_access() -> tuple[Rows, list[owners.RecordAccess | None]]:
        user = soql_text(our_user or "")
        rows = await query(owners.USER_QUERY.format(user=user))
        access = (_record_access(query, name, sharing, user) for name in OBJECTS)
        return rows, await asyncio.gather(*access)

    def judge_sharing(
        answers: tuple[Rows, list[owners.RecordAccess | None]],
    ) -> list[CheckupFinding]:
        rows, found = answers
        return [
            owners.given_away(name, policy, sharing, rows, access)
            for name, access in zip(OBJECTS, found, strict=True)
        ]

    questions: list[Awaitable[list[CheckupFinding]]] = [
        ask("owners: records of others", our_access(), judge_sharing, optional=True)
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


async def _record_access(
    query: Query, sobject: str, sharing: Sharing, user: str
) -> owners.RecordAccess | None:
    """What our user may edit of the records of others, in three calls.

    None without a call where its permissions decide, and where the org refuses to say it. `user` is
    its ID as a literal.
    """
    if edits_every_record(sobject, sharing) is not False:
        return None
    try:
        others = await query(owners.OTHERS_QUERY.format(sobject=sobject, user=user))
        asked = [str(row["Id"]) for row in others]
        ids = ",".join(map(soql_text, asked))
        access = await query(owners.ACCESS_QUERY.format(user=user, ids=ids)) if asked else ()
    except RequestRejected:
        return None
    try:
        rules = await query(owners.OWNER_RULES_QUERY.format(sobject=sobject))
    except RequestRejected:
        rules = None
    return owners.record_access(asked, access, rules)


def _users(policy: OwnerPolicy) -> Callable[[Rows], list[CheckupFinding]]:
    return lambda rows: [owners.users(policy, rows)]


def _configured(policy: OwnerPolicy) -> Callable[[Rows], list[CheckupFinding]]:
    return lambda rows: [owners.configured(policy, rows)]
