"""Takes the permission of bulk loads away once a backfill is written, while this sink writes."""

import asyncio
from collections.abc import Callable

import structlog

from connectors.salesforce.api.errors import WriterFenced
from connectors.salesforce.sync import Sync

log = structlog.get_logger()

# A quarter of the time after which a backfill counts as written.
LOOK_SECONDS = 30.0


async def end_bulk_loads(
    org: Sync, is_writer: Callable[[], bool], seconds: float = LOOK_SECONDS
) -> None:
    """Looks again and again until it is cancelled. A look costs a call only if something is held.

    A sink that stops leaves the permission assigned; the next one finds it at its start.
    """

    def fence() -> None:
        if not is_writer():
            raise WriterFenced("the partition is not assigned to this process")

    while True:
        await asyncio.sleep(seconds)
        if not is_writer():
            continue
        try:
            await org.end_bulk_load(fence)
        except WriterFenced:
            log.info("the permission of bulk loads is left to the next writer")
