"""Lists the grants of the application, and writes to grants.events what the listing adds."""

from collections.abc import Sequence
from functools import partial

import structlog

from connectors.nylas.client import NylasClient
from connectors.nylas.errors import NotFound, Passing
from connectors.nylas.grants import Grant, get_grant, list_grants
from streams.grant_addresses import GrantAddresses, address_record
from streams.reader.context import ReaderContext
from streams.reader.grant_events import (
    GrantTable,
    deleted_record,
    listed_record,
    plausibly_deleted,
)
from streams.reader.grant_verification import deletion_time
from streams.reader.retries import until_nylas_answers

log = structlog.get_logger()

# Grants of one run that are asked for one by one. The listing takes a call for each 200 grants of
# the application, and memory for all of them. Ten calls are less than a second's.
MAX_ASKED_ONE_BY_ONE = 10


class GrantListing:
    """The grants as Nylas lists them, and the table of grants as grants.events has them."""

    def __init__(
        self,
        context: ReaderContext,
        client: NylasClient,
        grants: GrantTable,
        addresses: GrantAddresses,
        max_delete_share: float,
    ) -> None:
        self._context, self._client, self._grants = context, client, grants
        self._addresses = addresses
        self._max_delete_share = max_delete_share

    async def read(self, names: Sequence[str] | None) -> list[Grant]:
        """The grants that `names` names by ID or address, and perhaps others; None for all.

        A few grants that are named by their IDs are asked for one by one. One that Nylas does not
        know, or does not answer for, is left out. Raises NylasError when Nylas refuses to answer.
        """
        if names is not None and len(names) <= MAX_ASKED_ONE_BY_ONE and not _addresses(names):
            found = [await self._grant(name) for name in names]
            return [grant for grant in found if grant is not None]
        without_id = self._context.metrics.grants_skipped.labels("grant_without_id").inc
        return await until_nylas_answers(partial(list_grants, self._client, without_id))

    async def _grant(self, name: str) -> Grant | None:
        try:
            return await get_grant(self._client, name)
        except NotFound:
            return None
        except Passing as fault:
            # Its contacts are asked for all the same, and that has a bound of its own.
            log.warning(
                "Nylas did not show a grant; it is read anyway", grant=name, fault=str(fault)
            )
            return None

    async def publish_changes(
        self, listed: Sequence[Grant], asked_at: int, *, find_deleted: bool
    ) -> None:
        """Writes to grants.events which grants have another status or address than it says.

        `asked_at` (epoch seconds) is when the listing was asked for: events of later moments are
        newer than the listing. With `find_deleted`, grants that the listing lacks are verified with
        Nylas and written as deleted.
        """
        topics = self._context.topics
        records = [
            listed_record(topics, grant, asked_at) for grant in self._grants.changed_in(listed)
        ]
        records += [address_record(topics, one, asked_at) for one in self._addresses.new_in(listed)]
        missing = self._grants.missing_from(listed) if find_deleted else []
        if missing and not plausibly_deleted(len(missing), len(listed), self._max_delete_share):
            log.error(
                "too many grants missing from the listing; none was taken for deleted",
                missing=len(missing),
                listed=len(listed),
                remedy="check that NYLAS_API_KEY belongs to the application of the known grants",
            )
            missing = []
        for grant in missing:
            deleted_at = await deletion_time(self._client, self._context.metrics, grant)
            if deleted_at is not None:
                records.append(deleted_record(topics, grant, deleted_at))
        await self._context.publish(records)

    def deleted_grants(self, listed: Sequence[Grant]) -> set[str]:
        """IDs of the grants that were deleted and that the listing does not hold either."""
        return self._grants.deleted() - {grant.id for grant in listed}


def _addresses(names: Sequence[str]) -> list[str]:
    return [name for name in names if "@" in name]
