"""Whether the broker acknowledges, as the bridge's publishing shows."""

import asyncio

import structlog

from streams.kafka.publisher import PublishFailed

log = structlog.get_logger()


class BrokerStatus:
    """Events for `watches`: the broker was lost, or the producer cannot publish any more."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.producer_failed = asyncio.Event()

    def not_acknowledged(self, error: PublishFailed | TimeoutError) -> None:
        """A record was not acknowledged."""
        if isinstance(error, PublishFailed) and error.fatal:
            self.producer_failed.set()
        if not self.lost.is_set():  # one line for an outage, not one for each notification
            log.warning(
                "broker did not acknowledge", error=str(error) or "no acknowledgement in time"
            )
            self.lost.set()
