"""Asks Nylas whether a grant that seems to be deleted really is."""

import structlog

from connectors.nylas.client import NylasClient
from connectors.nylas.errors import NotFound, NylasError
from connectors.nylas.grants import get_grant
from streams.metrics import ReaderMetrics

log = structlog.get_logger()


async def deletion_time(client: NylasClient, metrics: ReaderMetrics, grant: str) -> int | None:
    """When Nylas confirmed that the grant is deleted, by its own clock (epoch seconds), or None.

    None means that the grant exists, or that Nylas refused to say: that is logged and counted, and
    the next reconcile asks again.
    """
    try:
        await get_grant(client, grant)
    except NotFound as answer:
        # Unlike a page, this answer is never older than its Date: the grant is gone as of now.
        return answer.served_at
    except NylasError as fault:
        metrics.grants_skipped.labels("grant_unverified").inc()
        log.warning(
            "Nylas did not say whether a grant is deleted; the next reconcile asks again",
            grant=grant,
            fault=str(fault),
        )
    return None
