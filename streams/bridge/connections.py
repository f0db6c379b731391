"""Connections to the webhook's port: their number, their time limits, malformed requests."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web

from streams.metrics import BridgeMetrics

# Each costs memory. Nylas' burst of 20,000 notifications needs far fewer. At this number each new
# connection evicts another one, so that strangers cannot use them up.
MAX_CONNECTIONS = 2048

# From a request's first byte to its last. Nylas waits 10 s for an answer, so it has given up then.
WHOLE_REQUEST_SECONDS = 10.0

# A connection that carried a signed request and has none now. Longer than the 60 s of the usual
# proxies, so that they close first. A connection without a signed request is not kept.
IDLE_CONNECTION_SECONDS = 75.0

# Reading on after an early answer, so that the sender gets the answer instead of a reset.
EARLY_ANSWER_LINGER_SECONDS = 2.0

# When the port closes: for the answers that are being written.
CLOSE_SECONDS = 1.0

# Connections that the kernel holds until they are accepted. asyncio accepts so many before it reads
# again, so it is a fraction of MAX_CONNECTIONS: a sender's first request is read before that many
# newer connections can evict its own.
BACKLOG = 512

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
    """aiohttp's connection, and what is happening on it.

    aiohttp has no time limit for headers and bodies that come slowly. `incomplete_since` is the
    moment since when a request is incomplete; `answering`, whether one is being answered.
    """

    __slots__ = ("_answer_malformed", "_open", "answering", "incomplete_since")

    def __init__(
        self,
        manager: web.Server,
        answer_malformed: Callable[[], web.Response],
        loop: asyncio.AbstractEventLoop,
        connections: "OpenConnections",
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
        self._open = connections
        self.answering = False
        self.incomplete_since: float | None = time.monotonic()
        connections.add(self)

    @property
    def idle(self) -> bool:
        """Whether it carries no request at the moment."""
        return self.incomplete_since is None and not self.answering

    @property
    def signed(self) -> bool:
        """Whether it has carried a request with a valid signature."""
        return self._open.is_signed(self)

    def carried_signed(self) -> None:
        """Notes that the request being answered has a valid signature."""
        self._open.carried_signed(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins to read, unless the connection was evicted before the loop came to it."""
        super().connection_made(transport)
        if not self._open.holds(self):
            cast(asyncio.Transport, transport).abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forgets the connection."""
        self._open.discard(self)
        super().connection_lost(exc)

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


class OpenConnections:
    """The open connections, and which of them makes room for a new one.

    Those that never carried a signed request are evicted in the order of their age: what a stranger
    sends on them makes them no younger. Those that did and carry no request now are evicted in the
    order in which they became idle, and only while they hold more than half of the room: so a
    stranger never drives out the kept connections of Nylas, and a new connection of Nylas has half
    of MAX_CONNECTIONS newer ones before it is evicted.
    """

    def __init__(self) -> None:
        self._unsigned: dict[Connection, None] = {}
        self._signed: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._unsigned) + len(self._signed)

    def add(self, connection: Connection) -> None:
        """A connection was accepted."""
        self._unsigned[connection] = None

    def holds(self, connection: Connection) -> bool:
        """Whether a connection was accepted, and neither closed nor evicted since."""
        return connection in self._unsigned or connection in self._signed

    def discard(self, connection: Connection) -> None:
        """A connection is closed."""
        self._unsigned.pop(connection, None)
        self._signed.pop(connection, None)

    def carried_signed(self, connection: Connection) -> None:
        """A connection carried a signed request: it becomes the last one to be evicted.

        One that is closed already stays forgotten: aiohttp finishes its request all the same.
        """
        if self.holds(connection):
            self.discard(connection)
            self._signed[connection] = None

    def is_signed(self, connection: Connection) -> bool:
        """Whether a connection has carried a signed request."""
        return connection in self._signed

    def make_room(self) -> bool:
        """Closes the next connection to be evicted; False when each carries a signed request."""
        oldest = next(iter(self._unsigned), None)
        idle = (connection for connection in self._signed if connection.idle)
        if len(self._unsigned) < MAX_CONNECTIONS // 2:
            evicted = next(idle, oldest)
        else:
            evicted = oldest or next(idle, None)
        if evicted is None:
            return False
        self.discard(evicted)
        if evicted.transport is not None:
            evicted.transport.abort()
        return True

    def cut_slow(self) -> int:
        """Aborts connections on which a request is incomplete after WHOLE_REQUEST_SECONDS.

        Returns their number.
        """
        oldest = time.monotonic() - WHOLE_REQUEST_SECONDS
        slow = [
            each
            for each in (*self._unsigned, *self._signed)
            if each.incomplete_since is not None and each.incomplete_since < oldest
        ]
        for each in slow:
            self.discard(each)
            if each.transport is not None:
                each.transport.abort()
        return len(slow)


class RejectedConnection(asyncio.Protocol):
    """A connection too many, while all others carry signed requests: answered with 503."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers at once."""
        # uvloop's transport is an asyncio.Transport, but not a subclass of it.
        cast(asyncio.Transport, transport).write(OVERLOADED)
        transport.close()


def request_complete(request: web.BaseRequest) -> None:
    """The request was read to its end: its connection is no longer slow."""
    if isinstance(request.protocol, Connection):
        request.protocol.incomplete_since = None


def carried_signed(request: web.BaseRequest) -> None:
    """The request has a valid signature: its connection is kept."""
    if isinstance(request.protocol, Connection):
        request.protocol.carried_signed()


class Listener:
    """The webhook's port: accepts a bounded number of connections and cuts off slow senders."""

    def __init__(self, metrics: BridgeMetrics) -> None:
        self._metrics = metrics
        self._connections = OpenConnections()
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
        self._metrics.connections.set_function(lambda: len(self._connections))

        def accept() -> asyncio.Protocol:
            if len(self._connections) >= MAX_CONNECTIONS:
                if not self._connections.make_room():
                    self._metrics.connections_closed.labels("too_many").inc()
                    return RejectedConnection()
                self._metrics.connections_closed.labels("evicted").inc()
            return Connection(server, answer_malformed, loop, self._connections)

        host, _, port = address.rpartition(":")
        self._listener = await loop.create_server(accept, host or None, int(port), backlog=BACKLOG)

    def cut_slow(self) -> None:
        """Aborts connections on which a request is incomplete after WHOLE_REQUEST_SECONDS."""
        self._metrics.connections_closed.labels("slow").inc(self._connections.cut_slow())

    async def close(self) -> None:
        """Closes the port, and the connections once their answers are written."""
        if self._listener is not None and self._server is not None:
            self._listener.close()
            self._server.pre_shutdown()
            await self._server.shutdown(CLOSE_SECONDS)
