"""Holds the permission set Contactstream_Bulk_Load while contacts of a backfill are written.

Flows, validation rules and triggers of the org can test its custom permission, and leave a first
sync alone. Whether one runs is told by the contacts themselves: they say that a backfill read them.

1. The permission set is assigned before the first row of a backfill is written, and taken away once
   none was written for QUIET_SECONDS: a backfill that pauses gives it back meanwhile.
2. What a sink that was killed left assigned is found at the next start, and taken away likewise.
3. Without the permission set in the org nothing is asked for and no call is made. Without the right
   to assign it the refusal is counted, and the work goes on.

Limits: the permission is the user's, so that live changes that are written at the same time are
left alone too. An org may take a moment to apply an assignment to a session that is logged in.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from connectors.salesforce.api.client import CompositeClient, Fence
from connectors.salesforce.api.composite import (
    SubAnswer,
    Subrequest,
    query_page,
    query_subrequest,
)
from connectors.salesforce.api.error_parsing import parse_errors
from connectors.salesforce.api.errors import RequestRejected, SalesforceError, UnexpectedAnswer
from connectors.salesforce.counting import CountCallback, SyncWarning
from connectors.salesforce.planner import PlannedOutcome
from connectors.salesforce.rows import WriteRow

PERMISSION_SET = "Contactstream_Bulk_Load"
# The origin of a change that a backfill read.
BACKFILL = "backfill"
# Between two batches of a backfill there is less: the reader reads on while the sink writes.
QUIET_SECONDS = 120.0
# After a refusal: an administrator may have granted the right meanwhile.
REFUSED_SECONDS = 3600.0


def permission_queries(user: str) -> tuple[str, str]:
    """The statements that find the permission set, and its assignment to the user of an ID."""
    return (
        f"SELECT Id FROM PermissionSet WHERE Name = '{PERMISSION_SET}'",  # noqa: S608
        "SELECT Id FROM PermissionSetAssignment "  # noqa: S608
        f"WHERE PermissionSet.Name = '{PERMISSION_SET}' AND AssigneeId = '{user}'",
    )


class BulkLoad:
    """The assignment of the permission set to our user. `clock` in seconds."""

    def __init__(
        self, client: CompositeClient, count: CountCallback, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._count = count
        self._clock = clock
        self._permission_set: str | None = None
        self._assignment: str | None = None
        self._last_row = float("-inf")
        self._refused_at = float("-inf")
        self._changing = asyncio.Lock()

    @property
    def held(self) -> bool:
        """Whether our user has the permission set, as far as this process knows."""
        return self._assignment is not None

    async def start_subrequests(self) -> list[Subrequest]:
        """The queries for the permission set, and for an assignment that was left behind."""
        user = await self._client.user_id()
        if user is None:
            return []
        named, ours = permission_queries(user)
        return [
            query_subrequest(named, "bulk_load_permission"),
            query_subrequest(ours, "bulk_load_assignment"),
        ]

    def take_start(self, answers: Sequence[SubAnswer]) -> None:
        """Takes the answers to `start_subrequests`; a refused query shows nothing."""
        self._permission_set, self._assignment = map(_first_id, answers)

    async def before_write(self, rows: Iterable[WriteRow], fence: Fence) -> None:
        """Assigns the permission set if any of the rows comes from a backfill.

        Raises OrgUnavailable, WriterFenced.
        """
        if self._permission_set is None or not any(map(_of_backfill, rows)):
            return
        self._last_row = self._clock()
        async with self._changing:
            refused = self._clock() - self._refused_at < REFUSED_SECONDS
            if self._assignment is None and not refused:
                await self._assign(self._permission_set, fence)

    async def _assign(self, permission_set: str, fence: Fence) -> None:
        user = await self._client.user_id()
        body = {"AssigneeId": user, "PermissionSetId": permission_set}
        request = Subrequest("POST", "/sobjects/PermissionSetAssignment", "assign", body)
        (answer,) = await self._client.composite([request], "bulk_load", fence)
        assigned = answer.body.get("id") if isinstance(answer.body, dict) else None
        if answer.status < 300 and isinstance(assigned, str):
            self._assignment = assigned
            return
        self._refused_at = self._clock()
        self._count(SyncWarning.BULK_LOAD_REFUSED, _code(answer))

    async def release_when_quiet(self, fence: Fence) -> None:
        """Takes the permission set away if no row of a backfill was written for QUIET_SECONDS.

        To be called regularly by the writer. A failure is counted, and tried again with the next
        call.
        """
        async with self._changing:
            quiet = self._clock() - self._last_row >= QUIET_SECONDS
            if self._assignment is None or not quiet:
                return
            url = f"/sobjects/PermissionSetAssignment/{self._assignment}"
            request = Subrequest("DELETE", url, "release")
            try:
                (answer,) = await self._client.composite([request], "bulk_load", fence)
            except SalesforceError as error:
                self._count(SyncWarning.BULK_LOAD_REFUSED, type(error).__name__)
                return
            # 404: somebody took it away
            if answer.status < 300 or answer.status == 404:
                self._assignment = None
            else:
                self._count(SyncWarning.BULK_LOAD_REFUSED, _code(answer))


def _of_backfill(row: WriteRow) -> bool:
    members: list[PlannedOutcome] = row.tag or []
    return any(member.change.origin == BACKFILL for member in members)


def _first_id(answer: SubAnswer) -> str | None:
    try:
        rows = query_page(answer).records
    except (RequestRejected, UnexpectedAnswer):
        return None
    found = rows[0].get("Id") if rows else None
    return found if isinstance(found, str) else None


def _code(answer: SubAnswer) -> str:
    errors = parse_errors(answer.body)
    return errors[0].code.lower() if errors else f"http_{answer.status}"
