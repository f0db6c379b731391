"""Records for the reader: that notifications can be received, and that one was lost."""

import math
import time

import structlog

from streams.bridge.broker_status import BrokerStatus
from streams.events import now_ms
from streams.heartbeats import heartbeat_record
from streams.kafka.publisher import Publisher, PublishFailed
from streams.runs import Run, RunKind, new_run_id, run_record
from streams.topics import Topics

log = structlog.get_logger()

# A tenth of the gap that the reader reacts to. Compaction removes the records.
HEARTBEAT_SECONDS = 60.0


class ReaderNotice:
    """Publishes heartbeats, and requests a reconcile after a notification was lost.

    The reader notices a gap between two heartbeats and reconciles by itself: while the bridge could
    receive nothing, there may have been no process to report it.
    """

    def __init__(self, publisher: Publisher, names: Topics, broker: BrokerStatus) -> None:
        self._publisher = publisher
        self._names = names
        self._broker = broker
        self._notification_lost = False
        self._heartbeat_at = -math.inf

    def notification_lost(self) -> None:
        """A signed notification was refused that Nylas does not send again."""
        self._notification_lost = True

    async def publish(self, *, accepting: bool) -> None:
        """Publishes what is due; a record that is not acknowledged is due again.

        `accepting`: notifications can be received. To be called only once the topics exist.
        """
        now = time.monotonic()
        try:
            if self._notification_lost:
                await self._request_reconcile()
            if accepting and now - self._heartbeat_at >= HEARTBEAT_SECONDS:
                await self._publisher.publish([heartbeat_record(self._names, now_ms())])
                self._heartbeat_at = now
        except PublishFailed as error:
            self._broker.not_acknowledged(error)

    async def _request_reconcile(self) -> None:
        now = time.time()
        run = Run(kind=RunKind.RECONCILE, grants=None, requested_at=int(now), by="bridge")
        self._notification_lost = False  # another one that is lost meanwhile requests again
        try:
            await self._publisher.publish(
                [run_record(self._names, new_run_id(RunKind.RECONCILE, now), run)]
            )
        except PublishFailed:
            self._notification_lost = True
            raise
        log.warning("reconcile requested: a notification was refused that Nylas does not resend")
