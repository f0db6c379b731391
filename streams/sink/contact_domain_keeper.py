"""Reads once a day, while this sink is the writer, to which Accounts the Contacts' domains lead."""

import asyncio

import structlog

from connectors.salesforce.api.client import Fence
from connectors.salesforce.api.errors import SalesforceError, WriterFenced
from connectors.salesforce.sync import Sync
from streams.metrics import SinkMetrics
from streams.sink.assignment import CurrentAssignment
from streams.sink.fence import WriteFence

log = structlog.get_logger()

# Between two looks whether a reading is due, which is once a day.
LOOK_SECONDS = 60.0


class ContactDomainKeeper:
    """Keeps the evidence by Contacts fresh; made where the settings ask for it."""

    def __init__(self, org: Sync, metrics: SinkMetrics) -> None:
        self._org = org
        self._metrics = metrics

    async def run(self, current: CurrentAssignment, fence: WriteFence) -> None:
        """Reads when it is due, while this sink is the writer. Ends by cancellation."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            assignment = current.assignment
            if assignment is not None and assignment.recalled:
                await self.keep(fence.for_batch(assignment))

    async def keep(self, fence: Fence) -> None:
        """Reads if it is due. Faults are logged, and it is tried again."""
        try:
            await self._org.read_contact_domains(fence)
        except WriterFenced as error:
            log.warning("a reading of the Contacts ended at its write fence", error=str(error))
        except SalesforceError as error:
            log.warning("could not read the Contacts; it is tried again", error=str(error))
        self._metrics.contact_domains.set(self._org.contact_domains)
