"""Whether the broker acknowledges, as the bridge's publishing shows."""

import asyncio

import structlog

from streams.kafka.publisher import PublishFailed

log = structlog.get_logger()


class BrokerStatus:
    """An event for `watches`: the broker was lost."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def not_acknowledged(self, error: PublishFailed | TimeoutError) -> None:
        """A record was not acknowledged."""
        if not self.lost.is_set():  # one line for an outage, not one for each notification
            log.warning(
                "broker did not acknowledge", error=str(error) or "no acknowledgement in time"
            )
            self.lost.set()
