"""Takes in notifications: checks the signature, decides, and publishes.

The answer to Nylas follows from the result. Nylas redelivers only after 408, 429, 502, 503, 504 and
507, and waits 10 s for an answer. So every passing fault is answered with 503 within 8 s.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from connectors.nylas.webhook import signature_matches
from streams.bridge.broker_status import BrokerStatus
from streams.bridge.deadlines import Deadlines
from streams.bridge.decision import BridgeDecision, decide
from streams.bridge.reader_notice import ReaderNotice
from streams.dead_letters import dead_letter
from streams.events import now_ms, trace_headers
from streams.heartbeats import NYLAS_RETRY_SECONDS
from streams.kafka.publisher import BatchTooLarge, Publisher, PublishFailed
from streams.kafka.records import KafkaRecord
from streams.metrics import NOTIFICATIONS, BridgeMetrics
from streams.runtime.traceparent import parse_traceparent
from streams.runtime.traces import NO_TRACES, Traces
from streams.runtime.unfinished import UnfinishedTimes
from streams.topics import Topics

log = structlog.get_logger()

# Of the 10 s that Nylas waits; the other 2 s are for the network.
WEBHOOK_ANSWER_SECONDS = 8.0

# Refusals for want of memory are remembered this far apart, so that 20 minutes are 120 numbers.
OVERLOAD_STEP_SECONDS = 10.0


class InFlight:
    """The notifications that wait for the broker's acknowledgement."""

    def __init__(self) -> None:
        self.count = 0
        self.received = UnfinishedTimes()
        """When each of them was received."""
        self._idle = asyncio.Event()

    def begin(self, record: KafkaRecord, received_ms: int) -> None:
        """A record is to be published, whose notification was received at `received_ms`."""
        self.count += 1
        self.received.begin(id(record), received_ms)

    def end(self, record: KafkaRecord) -> None:
        """It was acknowledged, or failed."""
        self.received.end(id(record))
        self.count -= 1
        if not self.count:
            self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Returns once there is none, or after so many seconds."""
        if self.count:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), seconds)


class OverloadHistory:
    """When requests were refused unread, which may have been the last attempt of Nylas.

    A last attempt comes NYLAS_RETRY_SECONDS to twice as long after the first, so one is lost only
    if requests were refused at both times.
    """

    def __init__(self) -> None:
        self._refused_at: deque[float] = deque()
        self._asked_at = -math.inf

    def refused(self, now: float) -> bool:
        """A request is refused at `now` (seconds); whether to ask for a reconcile.

        At most once in NYLAS_RETRY_SECONDS: a request covers everything that was lost before it.
        """
        times = self._refused_at
        while times and times[0] < now - 2 * NYLAS_RETRY_SECONDS:
            times.popleft()
        if not times or now - times[-1] >= OVERLOAD_STEP_SECONDS:
            times.append(now)
        if times[0] > now - NYLAS_RETRY_SECONDS or now - self._asked_at < NYLAS_RETRY_SECONDS:
            return False
        self._asked_at = now
        return True


class NotificationIntake:
    """Receives notifications while it has a secret and is not `stopping`."""

    def __init__(
        self,
        publisher: Publisher,
        names: Topics,
        limit: int,
        metrics: BridgeMetrics,
        broker: BrokerStatus,
        notice: ReaderNotice,
        traces: Traces = NO_TRACES,
    ) -> None:
        self._publisher = publisher
        self._names = names
        self._limit = limit
        self._broker = broker
        self._notice = notice
        self._traces = traces
        self._dead_lettered = metrics.dead_lettered
        self._lost = metrics.lost
        self._overload = OverloadHistory()
        self._notifications = {kind: metrics.notifications.labels(kind) for kind in NOTIFICATIONS}
        self.in_flight = InFlight()
        self.secrets: Sequence[bytes] = ()
        self.stopping = False
        metrics.in_flight.set_function(lambda: self.in_flight.count)
        self._deadlines = Deadlines()
        metrics.oldest_unfinished.set_function(self.in_flight.received.oldest_seconds)
        self._last_webhook = 0.0  # in epoch seconds; 0 when none has come
        metrics.last_webhook.set_function(lambda: self._last_webhook)

    @property
    def accepting(self) -> bool:
        """Whether notifications can be received."""
        return bool(self.secrets) and not self.stopping

    async def receive(
        self,
        raw: bytes,
        signature: str | None,
        encodings: Sequence[str],
        on_signed: Callable[[], None] = lambda: None,
        traceparent: str | None = None,
    ) -> tuple[int, str]:
        """Takes in a POST's body; returns the HTTP status and the outcome for the metrics.

        `encodings` are the Content-Encoding headers. `on_signed` is called at once when the
        signature is valid. The trace of a valid `traceparent` goes on; without one it begins here.
        Returns within WEBHOOK_ANSWER_SECONDS.
        """
        if not self.secrets:
            return 503, "no_secret"
        if not signature_matches(self.secrets, raw, signature):
            return 401, "bad_signature"
        on_signed()
        self._last_webhook = time.time()
        if self._traces is NO_TRACES:
            return await self._take_in(raw, encodings)
        parent = parse_traceparent(traceparent)
        with self._traces.span("receive notification", "server", parent=parent):
            return await self._take_in(raw, encodings)

    async def _take_in(self, raw: bytes, encodings: Sequence[str]) -> tuple[int, str]:
        """Takes in a body whose signature is valid."""
        received_ms = now_ms()
        decision = decide(raw, ", ".join(encodings), self._limit, self._names, received_ms)
        # A last attempt would be lost, so it is still published while the bridge stops.
        if self.stopping and not decision.last_attempt:
            return 503, "stopping"
        if decision.record is not None:
            try:
                publish = self._publish if self._traces is NO_TRACES else self._traced_publish
                decision = await publish(decision, decision.record, received_ms)
            except Exception as error:
                if decision.last_attempt:
                    self._lost.labels("last_attempt").inc()
                    self._notice.notification_lost()
                if not isinstance(error, PublishFailed | TimeoutError):
                    raise
                self._broker.not_acknowledged(error)
                return 503, "broker_unavailable"
        if decision.reason:
            self._dead_lettered.labels(decision.reason).inc()
            log.warning("notification dead-lettered", reason=decision.reason, bytes=len(raw))
        else:
            self._notifications[decision.kind].inc()
        return decision.status, decision.outcome

    def refused_unread(self) -> None:
        """A request was refused for want of memory, before its attempt could be read."""
        if self._overload.refused(time.monotonic()):
            self._lost.labels("overloaded").inc()
            self._notice.notification_lost()

    async def _traced_publish(
        self, decision: BridgeDecision, record: KafkaRecord, received_ms: int
    ) -> BridgeDecision:
        """`_publish`, of the record with its trace."""
        attributes = {"messaging.system": "kafka", "messaging.destination.name": record.topic}
        with self._traces.span(f"send {record.topic}", "producer", attributes=attributes) as place:
            if place is not None:
                record = record._replace(headers=[*record.headers, *trace_headers(place)])
            return await self._publish(decision, record, received_ms)

    async def _publish(
        self, decision: BridgeDecision, record: KafkaRecord, received_ms: int
    ) -> BridgeDecision:
        """Publishes the record; a record that the broker always refuses is dead-lettered.

        Returns the decision as it was carried out. Raises PublishFailed or TimeoutError.
        """
        until = asyncio.get_running_loop().time() + WEBHOOK_ANSWER_SECONDS
        self.in_flight.begin(record, received_ms)
        try:
            await self._deadlines.wait(self._publisher.send(record), until)
        except PublishFailed as error:
            if not error.permanent:
                raise
            async with asyncio.timeout_at(until):
                return await self._publish_alone(decision, record, error)
        finally:
            self.in_flight.end(record)
        return decision

    async def _publish_alone(
        self, decision: BridgeDecision, record: KafkaRecord, error: PublishFailed
    ) -> BridgeDecision:
        """Publishes a record that was refused: again, or as a dead letter. Raises PublishFailed."""
        if isinstance(error, BatchTooLarge):
            try:
                await self._publisher.send_refused(record, error)
            except PublishFailed as refused:
                error = refused
            else:
                return decision
        if not error.permanent or decision.reason:
            raise error
        # Nylas would send it twice more, for nothing.
        topic = self._names.dead_letter.name
        dead = dead_letter(topic, record, "bridge", "refused_by_broker", str(error))
        await self._publisher.publish([dead])
        return BridgeDecision(200, "dead_lettered", record=dead, reason="refused_by_broker")
