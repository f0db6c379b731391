"""What `contactstream status` asks the org, in two calls."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from connectors.salesforce.api.budget import Usage
from connectors.salesforce.api.client import SalesforceClient
from connectors.salesforce.api.composite import SubAnswer, query_page, query_subrequest
from connectors.salesforce.api.errors import RequestRejected, SalesforceError, UnexpectedAnswer
from connectors.salesforce.bulk_load import permission_queries
from connectors.salesforce.checkup.bulk_load import ASSIGN_RIGHT_QUERY
from streams.commands.replay.estimates import calls_left
from streams.commands.status.figures import BulkLoadFigures, CallFigures
from streams.org import command_client
from streams.settings import SalesforceSettings, SettingsError


@dataclass(frozen=True, slots=True)
class OrgFigures:
    """What the org says; None for what it did not say."""

    calls: CallFigures | None = None
    storage: Usage | None = None
    """Data storage in MB."""
    bulk_load: BulkLoadFigures | None = None
    org_id: str | None = None
    """The org that the login leads to."""


async def ask_org(settings: SalesforceSettings) -> OrgFigures:
    """Asks the org. Everything is None without a login in the settings, or without an answer."""
    try:
        opened = command_client(settings)
    except SettingsError:
        return OrgFigures()
    async with opened as client:
        limits: Mapping[str, Usage] = {}
        bulk_load, org_id = None, None
        try:
            org_id = await client.org_id()
            limits = await client.limits()
        except RequestRejected:
            pass  # without View Setup; each answer says the calls in a header too
        except SalesforceError:
            return OrgFigures(org_id=org_id)
        with suppress(SalesforceError):  # then it is unknown, and nothing is said of it
            bulk_load = await _bulk_load(client)
        usage = limits.get("DailyApiRequests") or client.budget.usage
    left = None if usage is None else calls_left(usage, settings.call_reserve)
    return OrgFigures(
        None if left is None else CallFigures(left.left, left.allowed),
        limits.get("DataStorageMB"),
        bulk_load,
        org_id,
    )


async def _bulk_load(client: SalesforceClient) -> BulkLoadFigures | None:
    """Whether our user has, or may give itself, the permission of bulk loads. One call."""
    user = await client.user_id()
    if user is None:
        return None
    named, ours = permission_queries(user)
    statements = {"named": named, "ours": ours, "right": ASSIGN_RIGHT_QUERY}
    requests = [query_subrequest(soql, name) for name, soql in statements.items()]
    named_answer, ours_answer, right = await client.composite(requests, "status")
    return BulkLoadFigures(
        deployed=bool(_rows(named_answer)),
        held=bool(_rows(ours_answer)),
        may_assign=any(row.get("PermissionsAssignPermissionSets") is True for row in _rows(right)),
    )


def _rows(answer: SubAnswer) -> Sequence[Mapping[str, Any]]:
    """The rows of a query; none where our user may not ask."""
    try:
        return query_page(answer).records
    except (RequestRejected, UnexpectedAnswer):
        return ()
