"""The bridge: takes Nylas' notifications, publishes them, and answers 200 only after the broker has
acknowledged.

Nylas redelivers on 408, 429, 502, 503, 504 and 507 alone, and waits 10 s, so every passing fault is
a 503 within 8 s.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import structlog
from aiohttp import web

from connectors.nylas.webhook import challenge, signature_matches
from streams.bridge.decision import BridgeDecision, decide
from streams.events import dead_letter_headers, now_ms
from streams.heartbeats import heartbeat_record
from streams.kafka.publisher import Publisher, PublishFailed
from streams.kafka.records import KafkaRecord
from streams.metrics import BRIDGE_ANSWERS, NOTIFICATIONS, BridgeMetrics
from streams.runs import Run, RunKind, new_run_id, run_record
from streams.settings import (
    BridgeSettings,
)
from streams.topics import Topics

log = structlog.get_logger()

ANSWER_SECONDS = 8.0  # of the 10 s that Nylas waits; the rest is for the network
REQUEST_SECONDS = 10.0  # from a request's first byte to its last: by then Nylas has given it up
# A kept connection without a request: longer than the 60 s of the usual proxies, so that they close
# first.
IDLE_SECONDS = 75.0
STOP_SECONDS = ANSWER_SECONDS + 1  # what is in flight is answered within ANSWER_SECONDS
LINGER_SECONDS = (
    2.0  # reading on after an early answer, so that the sender sees it instead of a reset
)
HEARTBEAT_SECONDS = (
    60.0  # a tenth of the gap that the reader looks for; compaction removes the records
)
LAME_DUCK_SECONDS = (
    3.0  # until those who still send here have heard that this process is not ready any more
)

MAX_CONNECTIONS = 2048  # each costs memory; Nylas' burst of 20,000 needs far fewer
MAX_HELD = (
    256 * 1024 * 1024
)  # bytes of all bodies at once: a container's memory, not a sender's wish

RETRY_LATER = {"Retry-After": "5"}
HEADERS = {
    "Server": "contactstream",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
OVERLOADED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class BodyTooLarge(Exception):
    """More bytes than the limit."""


class Overloaded(Exception):
    """More bytes in all requests together than the bridge may hold."""


@dataclass(slots=True)
class Body:
    """A request's bytes as they come in, and how many of the bridge's allowance they take."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = 0


_HTTP_LOG = logging.getLogger("contactstream.http")
# aiohttp logs the raw body in the traceback of a malformed chunk. What matters is counted here.
_HTTP_LOG.disabled = True


class Connection(web.RequestHandler):
    """aiohttp's connection, and since when a request on it is incomplete: aiohttp bounds neither
    slow headers nor slow bodies.
    """

    __slots__ = ("_malformed", "incomplete_since")

    def __init__(
        self,
        manager: web.Server,
        malformed: Callable[[], web.Response],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            auto_decompress=False,  # the signature covers the bytes as they came
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            access_log=None,  # type: ignore[arg-type]  # documented to switch it off
            logger=_HTTP_LOG,
        )
        self._malformed = malformed
        self.incomplete_since: float | None = time.monotonic()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        if self.incomplete_since is None:
            self.incomplete_since = time.monotonic()
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP. aiohttp's own quotes the request and logs it."""
        return self._malformed()


class RejectedConnection(asyncio.Protocol):
    """A connection too many: told to come again, and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers at once."""
        cast(asyncio.Transport, transport).write(
            OVERLOADED
        )  # uvloop's is one, and says that it is none
        transport.close()


class Bridge:
    """One URL, whatever its path: GET is the challenge, POST a notification."""

    def __init__(
        self, publisher: Publisher, names: Topics, settings: BridgeSettings, metrics: BridgeMetrics
    ) -> None:
        self._publisher = publisher
        self._names = names
        self._limit = settings.body_limit
        self._metrics = metrics
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._held = 0
        self._drained = asyncio.Event()
        self.secrets: Sequence[bytes] = ()
        self.stopping = False
        self.lost = False
        """Whether a signed notification was refused that Nylas does not send again."""
        self.in_flight = 0
        self.broker_lost = asyncio.Event()
        self.fatal = asyncio.Event()
        metrics.in_flight.set_function(lambda: self.in_flight)
        self._requests = {outcome: metrics.requests.labels(outcome) for outcome in BRIDGE_ANSWERS}
        self._notifications = {kind: metrics.notifications.labels(kind) for kind in NOTIFICATIONS}

    @property
    def port(self) -> int:
        """The port bound; known after `listen`."""
        if self._listener is None:
            raise RuntimeError("the bridge does not listen")
        return int(self._listener.sockets[0].getsockname()[1])

    async def listen(self, address: str) -> None:
        """Binds and serves. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        server = self._server = web.Server(self._handle)
        self._metrics.connections.set_function(lambda: len(server.connections))

        def connection() -> asyncio.Protocol:
            if len(server.connections) < MAX_CONNECTIONS:
                return Connection(server, self._bad_request, loop)
            self._metrics.connections_closed.labels("too_many").inc()
            return RejectedConnection()

        host, _, port = address.rpartition(":")
        self._listener = await loop.create_server(connection, host or None, int(port), backlog=1024)

    def cut_slow(self) -> None:
        """Ends the connections on which a request has been incomplete for too long."""
        oldest = time.monotonic() - REQUEST_SECONDS
        for connection in self._server.connections if self._server else ():
            since = connection.incomplete_since if isinstance(connection, Connection) else None
            if since is not None and since < oldest and connection.transport is not None:
                self._metrics.connections_closed.labels("slow").inc()
                connection.transport.abort()

    async def stop(self, lame_duck: float = LAME_DUCK_SECONDS) -> None:
        """Refuses what is new for at least `lame_duck` seconds, waits for what is in flight, and
        closes the port.
        """
        self.stopping = True
        await asyncio.sleep(lame_duck)  # a closed port would be no answer at all
        if self.in_flight:
            self._drained.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), STOP_SECONDS)
        if self._listener is not None and self._server is not None:
            self._listener.close()
            self._server.pre_shutdown()
            await self._server.shutdown(1.0)  # answers that are being written

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = Body()
        try:
            return await self._answer(request, body)
        except (ConnectionError, web.RequestPayloadError) as error:
            # The sender is gone, or its chunks are malformed.
            answer = self._bad_request()
            if isinstance(error, ConnectionError):
                raise
            return answer
        except Exception as error:
            self._log_unexpected(error)
            self._requests["failed"].inc()
            return _closing(self._response(503))
        finally:
            self._held -= body.size

    async def _answer(self, request: web.BaseRequest, body: Body) -> web.Response:
        if request.method == "GET":
            return await self._challenge(request)
        if request.method != "POST":
            self._requests["bad_request"].inc()
            return _closing(self._response(405, Allow="GET, POST"))
        try:
            raw = await self._read(request, body)
        except BodyTooLarge:
            self._requests["too_large"].inc()
            return _closing(self._response(413))
        except Overloaded:
            self._requests["overloaded"].inc()
            return _closing(self._response(503))
        began = time.perf_counter()
        status, outcome = await self._take(request, raw)
        self._metrics.request_seconds.observe(time.perf_counter() - began)
        self._requests[outcome].inc()
        answer = self._response(status)
        return _closing(answer) if self.stopping else answer

    async def _challenge(self, request: web.BaseRequest) -> web.Response:
        text = challenge(request.rel_url.raw_query_string)
        _complete(request)
        if text is None:
            # As Nylas' own receiver answers a GET that asks nothing.
            self._requests["bad_request"].inc()
            return _closing(self._response(405, Allow="POST"))
        self._requests["challenge"].inc()
        return web.Response(
            body=text, headers=HEADERS | {"Content-Type": "text/plain; charset=utf-8"}
        )

    async def _read(self, request: web.BaseRequest, body: Body) -> bytes:
        if (request.content_length or 0) > self._limit:
            raise BodyTooLarge
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # else aiohttp takes it for the answer
        content = request.content
        while not content.at_eof():
            chunk = await content.readany()
            body.chunks.append(chunk)
            body.size += len(chunk)
            self._held += len(chunk)
            if body.size > self._limit:
                raise BodyTooLarge
            if self._held > MAX_HELD:
                raise Overloaded
        _complete(request)
        return body.chunks[0] if len(body.chunks) == 1 else b"".join(body.chunks)

    async def _take(self, request: web.BaseRequest, raw: bytes) -> tuple[int, str]:
        if not self.secrets:
            return 503, "no_secret"
        if not signature_matches(self.secrets, raw, request.headers.get("X-Nylas-Signature")):
            return 401, "bad_signature"
        encodings = request.headers.getall("Content-Encoding", [])
        decision = decide(raw, ", ".join(encodings), self._limit, self._names, now_ms())
        if (
            self.stopping and not decision.last_attempt
        ):  # that one would be lost, and there is still a moment for it
            return 503, "stopping"
        if decision.record is not None:
            try:
                decision = await self._publish(decision, decision.record)
            except Exception as error:
                self.lost |= decision.last_attempt
                if not isinstance(error, PublishFailed | TimeoutError):
                    raise
                self._not_acknowledged(error)
                return 503, "broker_unavailable"
        if decision.reason:
            self._metrics.dead_lettered.labels(decision.reason).inc()
            log.warning("unreadable", reason=decision.reason, bytes=len(raw))
        else:
            self._notifications[decision.kind].inc()
        return decision.status, decision.outcome

    async def _publish(self, decision: BridgeDecision, record: KafkaRecord) -> BridgeDecision:
        """Returns the decision as it was carried out. Raises PublishFailed or TimeoutError."""
        self.in_flight += 1
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                try:
                    await self._publisher.publish([record])
                except PublishFailed as error:
                    if not error.permanent or decision.reason:
                        raise
                    # The broker will never take it where it belongs, and Nylas would try twice more
                    # and forget it.
                    headers = dead_letter_headers(record, "bridge", "refused_by_broker", str(error))
                    dead = KafkaRecord(
                        self._names.dead_letter.name, record.key, record.value, headers
                    )
                    await self._publisher.publish([dead])
                    decision = BridgeDecision(
                        200, "dead_lettered", record=dead, reason="refused_by_broker"
                    )
        finally:
            self.in_flight -= 1
            if self.stopping and not self.in_flight:
                self._drained.set()
        return decision

    async def tell_reader(self, last: float, every: float = HEARTBEAT_SECONDS) -> float:
        """Publishes what the reader has to know: a lost notification, and, `every` so many seconds,
        that notifications can be taken.

        Not to be called before the topics are there. `last` and the result are the monotonic
        seconds of the last heartbeat. It is the reader that sees a gap between two: a bridge that
        could take nothing may have been no process at all.
        """
        takes = self._listener is not None and self.secrets and not self.stopping
        now = time.monotonic()
        try:
            if self.lost:
                await self._request_reconcile()
            if not takes or now - last < every:
                return last
            await self._publisher.publish([heartbeat_record(self._names, now_ms())])
        except PublishFailed as error:
            self._not_acknowledged(error)
            return last
        return now

    async def _request_reconcile(self) -> None:
        now = time.time()
        run = Run(kind=RunKind.RECONCILE, grants=None, requested_at=int(now), by="bridge")
        self.lost = False  # another one that is lost meanwhile asks again
        try:
            await self._publisher.publish(
                [run_record(self._names, new_run_id(RunKind.RECONCILE, now), run)]
            )
        except PublishFailed:
            self.lost = True
            raise
        log.warning(
            "a notification was refused that Nylas does not send again; a reconcile is requested"
        )

    def _not_acknowledged(self, error: PublishFailed | TimeoutError) -> None:
        if isinstance(error, PublishFailed) and error.fatal:
            self.fatal.set()
        if not self.broker_lost.is_set():  # one line for an outage, not one for each notification
            log.warning("the broker does not acknowledge", error=str(error) or "no answer in time")
            self.broker_lost.set()

    def _bad_request(self) -> web.Response:
        self._requests["bad_request"].inc()
        return _closing(self._response(400))

    def _response(self, status: int, **headers: str) -> web.Response:
        if status == 200:
            return web.Response(headers=HEADERS)
        return web.Response(
            status=status, headers=HEADERS | (RETRY_LATER if status == 503 else {}) | headers
        )

    def _log_unexpected(self, error: Exception) -> None:
        # Not the text and not the traceback, which could quote the body; where it happened is
        # enough to find it.
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = (
            f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
        )
        log.error("unexpected", error=type(error).__name__, where=where)


def _complete(request: web.BaseRequest) -> None:
    if isinstance(request.protocol, Connection):
        request.protocol.incomplete_since = None


def _closing(response: web.Response) -> web.Response:
    response.force_close()
    return response
