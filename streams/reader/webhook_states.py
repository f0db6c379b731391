"""Asks Nylas now and then whether it still sends webhooks, and shows the answer as a metric.

Only Nylas knows: a webhook that it has stopped looks to the bridge like a quiet day.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import structlog
from prometheus_client import Gauge

from connectors.nylas.client import NylasClient
from connectors.nylas.destinations import STATUSES, Destination, list_destinations, sends_contacts
from connectors.nylas.errors import NylasError
from streams.metrics import WEBHOOK_STATES

log = structlog.get_logger()

# Before the first question. A reader that has just become active has more urgent ones.
FIRST_QUESTION_SECONDS = 60.0

# Between two questions. Nylas stops a webhook 72 hours after it has marked it as failing, and takes
# 50 such calls a second.
QUESTION_SECONDS = 600.0


def count_states(destinations: Sequence[Destination]) -> dict[str, int]:
    """How many destinations of contacts are in each state of WEBHOOK_STATES.

    `missing` is 1 when there is none; a status that Nylas does not document is `unknown`.
    """
    found = Counter(
        one.status if one.status in STATUSES else "unknown"
        for one in destinations
        if sends_contacts(one)
    )
    if not found:
        found["missing"] = 1
    return {state: found[state] for state in WEBHOOK_STATES}


def show_unknown(webhooks: Gauge) -> None:
    """Sets the metric to what holds before Nylas has answered, and in a standby."""
    for state in WEBHOOK_STATES:
        webhooks.labels(state).set(state == "unknown")


async def watch_webhooks(
    client: NylasClient,
    webhooks: Gauge,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Asks until it is cancelled, with one call each QUESTION_SECONDS.

    An answer stands until the next one: the client has repeated a call for minutes before it fails.
    """
    show_unknown(webhooks)
    await sleep(FIRST_QUESTION_SECONDS)
    while True:
        try:
            states = count_states(await list_destinations(client))
        except NylasError as error:
            log.warning(
                "Nylas did not say whether it still sends webhooks; it is asked again",
                seconds=QUESTION_SECONDS,
                error=str(error),
                remedy="contactstream webhooks check",
            )
        else:
            for state, number in states.items():
                webhooks.labels(state).set(number)
        await sleep(QUESTION_SECONDS)
