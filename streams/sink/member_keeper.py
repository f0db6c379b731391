"""Publishes which users have the permission sets that PEOPLE_MAILBOXES names.

The sink asks, because it alone asks Salesforce. It asks by itself and not with a batch: while
nothing is selected there is no batch. Only the writer of the org asks, once an hour.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from connectors.salesforce.api.errors import SalesforceError, WriterFenced
from connectors.salesforce.sync import Sync
from streams.control_selection import Members, members_record
from streams.kafka.publisher import PublishFailed, RecordPublisher
from streams.metrics import SinkMetrics
from streams.sink.assignment import CurrentAssignment
from streams.sink.fence import BatchFence, WriteFence
from streams.topics import Topics

log = structlog.get_logger()

# Between two questions to the org: 24 calls a day. Somebody who gets the permission set waits for
# this long.
ASK_SECONDS = 3600.0
# After a question that failed.
RETRY_SECONDS = 300.0
# Between two looks whether this sink is the writer, and so for the first answer after a start.
LOOK_SECONDS = 2.0


class MemberKeeper:
    """Asks for the users of permission sets, and publishes them. `clock` in monotonic seconds."""

    def __init__(
        self,
        org: Sync,
        publisher: RecordPublisher,
        names: Topics,
        permission_sets: Sequence[str],
        metrics: SinkMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._org, self._publisher, self._names = org, publisher, names
        self._permission_sets, self._metrics = permission_sets, metrics
        self._clock = clock
        self._due_at = clock()

    async def run(self, current: CurrentAssignment, fence: WriteFence) -> None:
        """Asks while this sink is the writer. Ends by cancellation, or at once without a set."""
        while self._permission_sets:
            assignment = current.assignment
            if assignment is not None and assignment.recalled and self._clock() >= self._due_at:
                await self.keep(fence.for_batch(assignment))
            await asyncio.sleep(LOOK_SECONDS)

    async def keep(self, fence: BatchFence) -> None:
        """Asks once, and publishes the answer. Faults are counted and logged, and tried again."""
        try:
            found = await self._org.permission_set_members(self._permission_sets, fence)
            fence()
            now_ms = int(time.time() * 1000)
            await self._publisher.publish(
                [
                    members_record(self._names, Members(name, addresses, now_ms))
                    for name, addresses in found.items()
                ]
            )
        except WriterFenced as error:
            log.warning("a question for users ended at the write fence", error=str(error))
            self._due_at = self._clock() + RETRY_SECONDS
        except (SalesforceError, PublishFailed) as error:
            self._due_at = self._clock() + RETRY_SECONDS
            self._metrics.member_lists.labels("failed").inc()
            log.warning(
                "could not publish who has the permission sets of PEOPLE_MAILBOXES; the last "
                "list counts until it succeeds",
                error=str(error),
                in_seconds=RETRY_SECONDS,
            )
        else:
            self._due_at = self._clock() + ASK_SECONDS
            self._metrics.member_lists.labels("published").inc()
            for name in set(self._permission_sets) - found.keys():
                log.error(
                    "the org has no permission set of this API name, so it selects no mailbox",
                    permission_set=name,
                    remedy="correct PEOPLE_MAILBOXES",
                )
