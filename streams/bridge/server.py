"""The bridge's HTTP server: one URL, whatever its path. GET is a challenge, POST a notification."""

import asyncio
import time

import structlog
from aiohttp import web

from connectors.nylas.webhook import challenge
from streams.bridge.bodies import Body, BodyReader, BodyTooLarge, Overloaded
from streams.bridge.intake import WEBHOOK_ANSWER_SECONDS, NotificationIntake
from streams.bridge.plain_answer import PlainAnswer
from streams.metrics import BRIDGE_ANSWERS, BridgeMetrics
from streams.runtime.connections import Connection, Listener, authenticated, request_complete
from streams.runtime.logs import where

log = structlog.get_logger()

# Each costs memory. Nylas' burst of 20,000 notifications needs far fewer. At this number each new
# connection evicts another one, so that strangers cannot use them up.
MAX_CONNECTIONS = 2048

# When the port closes: for the answers that are being written.
CLOSE_SECONDS = 1.0

# For notifications in flight when the bridge stops: each is answered within WEBHOOK_ANSWER_SECONDS.
DRAIN_SECONDS = WEBHOOK_ANSWER_SECONDS + 1

# From the signal to the closing of the port. By then the load balancer knows that this process is
# not ready any more, and sends no requests here.
LAME_DUCK_SECONDS = 3.0

RETRY_LATER = {"Retry-After": "5"}
HEADERS = {
    "Server": "contactstream",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class WebhookServer:
    """Answers requests to the webhook's URL, and counts them by their outcome."""

    def __init__(self, intake: NotificationIntake, limit: int, metrics: BridgeMetrics) -> None:
        self._intake = intake
        self._bodies = BodyReader(limit)
        self._ok = PlainAnswer(HEADERS)
        self._closed = metrics.connections_closed
        self.listener = Listener(MAX_CONNECTIONS, self._bad_request, self._count_closed)
        metrics.connections.set_function(lambda: len(self.listener))
        self._request_seconds = metrics.request_seconds
        self._requests = {outcome: metrics.requests.labels(outcome) for outcome in BRIDGE_ANSWERS}

    @property
    def port(self) -> int:
        """The port bound; known after `listen`."""
        return self.listener.port

    async def listen(self, address: str) -> None:
        """Binds the address (host:port) and serves. Raises OSError when the port is taken."""
        await self.listener.listen(address, web.Server(self._handle))

    def cut_slow(self) -> None:
        """Aborts connections on which a request has been incomplete for too long."""
        self.listener.cut_slow()

    async def stop(self, lame_duck: float = LAME_DUCK_SECONDS) -> None:
        """Refuses new notifications for `lame_duck` seconds, then closes the port.

        Waits in between for the notifications in flight.
        """
        self._intake.stopping = True
        # For so long senders get an answer; a closed port would be none.
        await asyncio.sleep(lame_duck)
        await self._intake.in_flight.drain(DRAIN_SECONDS)
        await self.listener.close(CLOSE_SECONDS)

    def _count_closed(self, reason: str, connections: int) -> None:
        self._closed.labels(reason).inc(connections)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = Body()
        connection = request.protocol if isinstance(request.protocol, Connection) else None
        if connection is not None:
            connection.answering = True
        try:
            answer = await self._answer(request, body)
            # A stranger's connection is not kept.
            if connection is None or connection.authenticated:
                return answer
            return _closing(_response(200) if answer is self._ok else answer)
        except ConnectionError:  # the sender is gone
            self._requests["bad_request"].inc()
            raise
        except web.RequestPayloadError:  # malformed chunks
            return self._bad_request()
        except Exception as error:
            if request.transport is None or request.transport.is_closing():
                # Cut off or evicted: aiohttp raises RuntimeError when its body is read on.
                self._requests["bad_request"].inc()
                raise ConnectionResetError from error
            # aiohttp would answer 500, after which Nylas gives up.
            _log_unexpected(error)
            self._requests["failed"].inc()
            return _closing(_response(503))
        finally:
            self._bodies.release(body)
            if connection is not None:
                connection.answering = False

    async def _answer(self, request: web.BaseRequest, body: Body) -> web.Response:
        if request.method == "GET":
            return self._challenge(request)
        if request.method != "POST":
            self._requests["bad_request"].inc()
            return _closing(_response(405, Allow="GET, POST"))
        try:
            raw = await self._bodies.read(request, body)
        except BodyTooLarge:
            self._requests["too_large"].inc()
            return _closing(_response(413))
        except Overloaded:
            self._intake.refused_unread()
            self._requests["overloaded"].inc()
            return _closing(_response(503))
        began = time.perf_counter()
        status, outcome = await self._intake.receive(
            raw,
            request.headers.get("X-Nylas-Signature"),
            request.headers.getall("Content-Encoding", []),
            on_signed=lambda: authenticated(request),
            traceparent=request.headers.get("traceparent"),
        )
        self._request_seconds.observe(time.perf_counter() - began)
        self._requests[outcome].inc()
        if self._intake.stopping:
            return _closing(_response(status))
        if status == 200 and PlainAnswer.suits(request):
            return self._ok
        return _response(status)

    def _challenge(self, request: web.BaseRequest) -> web.Response:
        text = challenge(request.rel_url.raw_query_string)
        request_complete(request)
        if text is None:
            # As Nylas' own receiver answers a GET without a challenge.
            self._requests["bad_request"].inc()
            return _closing(_response(405, Allow="POST"))
        self._requests["challenge"].inc()
        return web.Response(
            body=text, headers=HEADERS | {"Content-Type": "text/plain; charset=utf-8"}
        )

    def _bad_request(self) -> web.Response:
        self._requests["bad_request"].inc()
        return _closing(_response(400))


def _response(status: int, **headers: str) -> web.Response:
    if status == 200:
        return web.Response(headers=HEADERS)
    return web.Response(
        status=status, headers=HEADERS | (RETRY_LATER if status == 503 else {}) | headers
    )


def _closing(response: web.Response) -> web.Response:
    response.force_close()
    return response


def _log_unexpected(error: Exception) -> None:
    # Neither the error's text nor the traceback, which could quote the body; the place is enough to
    # find the fault.
    log.error("request failed unexpectedly", error=type(error).__name__, where=where(error))
