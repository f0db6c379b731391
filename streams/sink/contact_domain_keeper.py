"""Reads once a day, while this sink is the writer, to which Accounts the Contacts' domains lead."""

import asyncio

import structlog

from connectors.salesforce.account_store import AccountStoreUnavailable
from connectors.salesforce.api.errors import SalesforceError, WriterFenced
from connectors.salesforce.sync import Sync
from streams.metrics import SinkMetrics
from streams.sink.assignment import CurrentAssignment
from streams.sink.fence import WriteFence

log = structlog.get_logger()

# Between two looks whether a reading is due, which is once a day.
LOOK_SECONDS = 60.0


async def keep_contact_domains(
    org: Sync, current: CurrentAssignment, fence: WriteFence, metrics: SinkMetrics
) -> None:
    """Reads when it is due. Ends by cancellation; faults are logged, and are tried again."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        metrics.contact_domains.set(org.contact_domains)
        assignment = current.assignment
        if assignment is None or not assignment.recalled:
            continue
        try:
            await org.read_contact_domains(fence.for_batch(assignment))
        except WriterFenced as error:
            log.warning("a reading of the Contacts ended at its write fence", error=str(error))
        except (SalesforceError, AccountStoreUnavailable) as error:
            log.warning("could not read the Contacts; it is tried again", error=str(error))
