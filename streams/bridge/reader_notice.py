"""Records for the reader: that notifications can be received, and that one was lost."""

import asyncio
import math
import time

import structlog

from streams.bridge.broker_status import BrokerStatus
from streams.bridge.owed_reconcile import OwedReconcile
from streams.events import now_ms
from streams.heartbeats import heartbeat_record
from streams.kafka.publisher import Publisher, PublishFailed
from streams.runs import Run, RunKind, new_run_id, run_record
from streams.topics import Topics

log = structlog.get_logger()

# A tenth of the gap that the reader reacts to. Compaction removes the records.
HEARTBEAT_SECONDS = 60.0

# Between two attempts to request a reconcile while the process stops.
SETTLE_RETRY_SECONDS = 0.2


class ReaderNotice:
    """Publishes heartbeats, and requests a reconcile after a notification was lost.

    The reader notices a gap between two heartbeats and reconciles by itself: while the bridge could
    receive nothing, there may have been no process to report it.
    """

    def __init__(
        self, publisher: Publisher, names: Topics, broker: BrokerStatus, owed: OwedReconcile
    ) -> None:
        self._publisher = publisher
        self._names = names
        self._broker = broker
        self._owed = owed
        self._heartbeat_at = -math.inf

    def notification_lost(self) -> None:
        """A notification was refused that Nylas does not send again, or may not."""
        self._owed.note()

    async def settle(self, seconds: float) -> None:
        """Requests what is owed before the process stops; tries for so many seconds.

        What is owed then is requested at the next start.
        """
        ends = time.monotonic() + seconds
        while self._owed.owed:
            try:
                async with asyncio.timeout(max(0.0, ends - time.monotonic())):
                    await self._request_reconcile()
            except (PublishFailed, TimeoutError) as error:
                fatal = isinstance(error, PublishFailed) and error.fatal
                if fatal or time.monotonic() + SETTLE_RETRY_SECONDS >= ends:
                    log.warning(
                        "stopped while a reconcile is owed: the next bridge here requests it; if "
                        "none starts on this volume, run: contactstream reconcile --all",
                        error=str(error) or "no acknowledgement in time",
                    )
                    return
                await asyncio.sleep(SETTLE_RETRY_SECONDS)

    async def publish(self, *, accepting: bool) -> None:
        """Publishes what is due; a record that is not acknowledged is due again.

        `accepting`: notifications can be received. To be called only once the topics exist.
        """
        now = time.monotonic()
        try:
            if self._owed.owed:
                await self._request_reconcile()
            if accepting and now - self._heartbeat_at >= HEARTBEAT_SECONDS:
                await self._publisher.publish([heartbeat_record(self._names, now_ms())])
                self._heartbeat_at = now
        except PublishFailed as error:
            self._broker.not_acknowledged(error)

    async def _request_reconcile(self) -> None:
        now = time.time()
        run = Run(kind=RunKind.RECONCILE, grants=None, requested_at=int(now), by="bridge")
        times = self._owed.owed  # another one that is lost meanwhile requests again
        await self._publisher.publish(
            [run_record(self._names, new_run_id(RunKind.RECONCILE, now), run)]
        )
        self._owed.requested(times)
        log.warning("reconcile requested: a notification was refused that Nylas does not resend")
