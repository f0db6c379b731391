"""Holds back the contacts of deleted grants when too many grants were deleted within a day.

A deleted application, a bulk clean-up at Nylas or a wrong API key would otherwise release every
record in Salesforce at once. A person lets them go with `contactstream grants confirm`.
"""

import time
from collections.abc import Callable, Collection

import structlog

from streams.control import ControlTable
from streams.control_grants import held_record
from streams.reader.context import ReaderContext
from streams.reader.grant_events import GrantTable

log = structlog.get_logger()

# The share of READER_MAX_DELETE_SHARE is that of a day.
DAY_SECONDS = 86_400


class DeletionGuard:
    """Which deleted grants wait for a person. `clock` in epoch seconds."""

    def __init__(
        self,
        context: ReaderContext,
        control: ControlTable,
        grants: GrantTable,
        max_share: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._context, self._deletions, self._grants = context, control.grant_deletions, grants
        self._max_share, self._clock = max_share, clock
        self.pending: set[str] = set()
        """IDs of deleted grants whose contacts have yet to be removed."""

    def held(self) -> set[str]:
        """Those of the pending grants that wait for a person."""
        deleted = self._grants.deleted()
        open_ones = {
            grant
            for grant in deleted
            if self._grants.since[grant] > self._deletions.confirmed_until
            and (grant in self.pending or self._grants.since[grant] > self._clock() - DAY_SECONDS)
        }
        living = len(self._grants.status) - len(deleted)
        if len(open_ones) <= max(1.0, self._max_share * (living + len(open_ones))):
            return set()
        return self.pending & open_ones

    def revived(self, grants: Collection[str]) -> set[str]:
        """Those that are not deleted any more, by what the topic says now."""
        return set(grants) - self._grants.deleted()

    async def report(self) -> None:
        """Publishes which grants wait, where that changed. Returns once it is acknowledged."""
        held = frozenset(self.held())
        self._context.metrics.grants_held.set(len(held))
        if held == self._deletions.held:
            return
        record = held_record(self._context.topics, held)
        await self._context.publish([record])
        self._deletions.apply(record)
        if held:
            log.error(
                "too many grants were deleted within a day; their contacts wait for a person",
                grants=len(held),
                remedy="contactstream grants confirm, or correct NYLAS_API_KEY",
            )
