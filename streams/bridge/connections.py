"""Connections to the webhook's port: their number, their time limits, malformed requests."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web

from streams.metrics import BridgeMetrics

# Each costs memory. Nylas' burst of 20,000 notifications needs far fewer.
MAX_CONNECTIONS = 2048

# From a request's first byte to its last. Nylas waits 10 s for an answer, so it has given up then.
WHOLE_REQUEST_SECONDS = 10.0

# A kept connection without a request. Longer than the 60 s of the usual proxies, so that they close
# first.
IDLE_CONNECTION_SECONDS = 75.0

# Reading on after an early answer, so that the sender gets the answer instead of a reset.
EARLY_ANSWER_LINGER_SECONDS = 2.0

# When the port closes: for the answers that are being written.
CLOSE_SECONDS = 1.0

# Connections that the kernel holds until they are accepted.
BACKLOG = 1024

OVERLOADED = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Retry-After: 5\r\n"
    b"Content-Length: 0\r\n"
    b"Connection: close\r\n"
    b"\r\n"
)

_HTTP_LOG = logging.getLogger("contactstream.http")
# aiohttp logs the raw body in the traceback of a malformed chunk. Metrics count such requests.
_HTTP_LOG.disabled = True


class Connection(web.RequestHandler):
    """aiohttp's connection, and the moment since when a request on it is incomplete.

    aiohttp has no time limit for headers and bodies that come slowly.
    """

    __slots__ = ("_answer_malformed", "incomplete_since")

    def __init__(
        self,
        manager: web.Server,
        answer_malformed: Callable[[], web.Response],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            auto_decompress=False,  # the signature covers the bytes as they were sent
            keepalive_timeout=IDLE_CONNECTION_SECONDS,
            lingering_time=EARLY_ANSWER_LINGER_SECONDS,
            access_log=None,  # type: ignore[arg-type]  # documented to switch it off
            logger=_HTTP_LOG,
        )
        self._answer_malformed = answer_malformed
        self.incomplete_since: float | None = time.monotonic()

    def data_received(self, data: bytes) -> None:
        """Notes the first bytes of a request."""
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
        """Answers a request that is not HTTP. aiohttp's own answer quotes it, and logs it."""
        return self._answer_malformed()


class RejectedConnection(asyncio.Protocol):
    """A connection beyond MAX_CONNECTIONS: answered with 503 and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers at once."""
        # uvloop's transport is an asyncio.Transport, but not a subclass of it.
        cast(asyncio.Transport, transport).write(OVERLOADED)
        transport.close()


def request_complete(request: web.BaseRequest) -> None:
    """The request was read to its end: its connection is no longer slow."""
    if isinstance(request.protocol, Connection):
        request.protocol.incomplete_since = None


class Listener:
    """The webhook's port: accepts a bounded number of connections and cuts off slow senders."""

    def __init__(self, metrics: BridgeMetrics) -> None:
        self._metrics = metrics
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port bound; known after `listen`."""
        if self._listener is None:
            raise RuntimeError("the bridge does not listen yet")
        return int(self._listener.sockets[0].getsockname()[1])

    async def listen(
        self,
        address: str,
        handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        answer_malformed: Callable[[], web.Response],
    ) -> None:
        """Binds the address (host:port) and serves. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        server = self._server = web.Server(handle)
        self._metrics.connections.set_function(lambda: len(server.connections))

        def accept() -> asyncio.Protocol:
            if len(server.connections) < MAX_CONNECTIONS:
                return Connection(server, answer_malformed, loop)
            self._metrics.connections_closed.labels("too_many").inc()
            return RejectedConnection()

        host, _, port = address.rpartition(":")
        self._listener = await loop.create_server(accept, host or None, int(port), backlog=BACKLOG)

    def cut_slow(self) -> None:
        """Aborts connections on which a request is incomplete after WHOLE_REQUEST_SECONDS."""
        oldest = time.monotonic() - WHOLE_REQUEST_SECONDS
        for connection in self._server.connections if self._server else ():
            since = connection.incomplete_since if isinstance(connection, Connection) else None
            if since is not None and since < oldest and connection.transport is not None:
                self._metrics.connections_closed.labels("slow").inc()
                connection.transport.abort()

    async def close(self) -> None:
        """Closes the port, and the connections once their answers are written."""
        if self._listener is not None and self._server is not None:
            self._listener.close()
            self._server.pre_shutdown()
            await self._server.shutdown(CLOSE_SECONDS)
