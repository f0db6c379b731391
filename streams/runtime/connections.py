"""Connections to a port that strangers reach: their number, time limits, malformed requests.

The bridge and the console use it. A connection is authenticated once it has carried a request whose
sender showed who they are: by a valid signature, or as a person who may read.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import cast

from aiohttp import web

# From a request's first byte to its last. Nylas waits 10 s for an answer, so it has given up then;
# the forms of the console are a few hundred bytes.
WHOLE_REQUEST_SECONDS = 10.0

# An authenticated connection without a request. Longer than the 60 s of the usual proxies, so that
# they close first.
IDLE_CONNECTION_SECONDS = 75.0

# Reading on after an early answer, so that the sender gets the answer instead of a reset.
EARLY_ANSWER_LINGER_SECONDS = 2.0

# The share of the connections that the kernel holds until they are accepted. asyncio accepts so
# many before it reads again, so it is a fraction: a sender's first request is read before that many
# newer connections can evict its own.
BACKLOG_SHARE = 0.25

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
            # The signature covers the bytes as they were sent. No form is compressed, so that what
            # is inflated needs no bound.
            auto_decompress=False,
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
    def authenticated(self) -> bool:
        """Whether it has carried a request whose sender showed who they are."""
        return self._open.is_authenticated(self)

    def authenticate(self) -> None:
        """Notes that the sender of the request being answered showed who they are."""
        self._open.authenticate(self)

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

    Those that are not authenticated are evicted in the order of their age: what a stranger sends on
    them makes them no younger. Authenticated ones that carry no request now are evicted in the
    order in which they became idle, and only while they hold more than half of the room: so a
    stranger never drives out the kept connections of Nylas, and a new connection of Nylas has half
    of the room newer ones before it is evicted.
    """

    def __init__(self) -> None:
        self._strangers: dict[Connection, None] = {}
        self._authenticated: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._strangers) + len(self._authenticated)

    def add(self, connection: Connection) -> None:
        """A connection was accepted."""
        self._strangers[connection] = None

    def holds(self, connection: Connection) -> bool:
        """Whether a connection was accepted, and neither closed nor evicted since."""
        return connection in self._strangers or connection in self._authenticated

    def discard(self, connection: Connection) -> None:
        """A connection is closed."""
        self._strangers.pop(connection, None)
        self._authenticated.pop(connection, None)

    def authenticate(self, connection: Connection) -> None:
        """A connection carried an authenticated request: it becomes the last one to be evicted.

        One that is closed already stays forgotten: aiohttp finishes its request all the same.
        """
        held = self._authenticated.pop(connection, False) is None
        if held or self._strangers.pop(connection, False) is None:
            self._authenticated[connection] = None  # at the end

    def is_authenticated(self, connection: Connection) -> bool:
        """Whether a connection has carried an authenticated request."""
        return connection in self._authenticated

    def make_room(self, most: int) -> bool:
        """Closes the next of `most` connections to be evicted.

        False when each carries an authenticated request.
        """
        oldest = next(iter(self._strangers), None)
        idle = (connection for connection in self._authenticated if connection.idle)
        if len(self._strangers) < most // 2:
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
            for each in (*self._strangers, *self._authenticated)
            if each.incomplete_since is not None and each.incomplete_since < oldest
        ]
        for each in slow:
            self.discard(each)
            if each.transport is not None:
                each.transport.abort()
        return len(slow)


class RejectedConnection(asyncio.Protocol):
    """A connection too many, while all others carry authenticated requests: gets 503."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers at once."""
        # uvloop's transport is an asyncio.Transport, but not a subclass of it.
        cast(asyncio.Transport, transport).write(OVERLOADED)
        transport.close()


def request_complete(request: web.BaseRequest) -> None:
    """The request was read to its end: its connection is no longer slow."""
    if isinstance(request.protocol, Connection):
        request.protocol.incomplete_since = None


def authenticated(request: web.BaseRequest) -> None:
    """The sender of the request showed who they are: its connection is kept."""
    if isinstance(request.protocol, Connection):
        request.protocol.authenticate()


class Listener:
    """A port: accepts a bounded number of connections and cuts off slow senders."""

    def __init__(
        self,
        most: int,
        answer_malformed: Callable[[], web.Response],
        closed: Callable[[str, int], None],
    ) -> None:
        """`most` connections are open at once. `closed` is told why and how many were closed here.

        The reasons are `evicted`, `too_many` and `slow`.
        """
        self.most = most
        self._answer_malformed, self._closed = answer_malformed, closed
        self._connections = OpenConnections()
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def port(self) -> int:
        """The port bound; known after `listen`."""
        if self._listener is None:
            raise RuntimeError("nothing listens yet")
        return int(self._listener.sockets[0].getsockname()[1])

    async def listen(self, address: str, server: web.Server) -> None:
        """Binds the address (host:port) and serves. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = server

        def accept() -> asyncio.Protocol:
            if len(self._connections) >= self.most:
                if not self._connections.make_room(self.most):
                    self._closed("too_many", 1)
                    return RejectedConnection()
                self._closed("evicted", 1)
            return Connection(server, self._answer_malformed, loop, self._connections)

        host, _, port = address.rpartition(":")
        name = host.removeprefix("[").removesuffix("]") or None
        backlog = max(1, int(self.most * BACKLOG_SHARE))
        self._listener = await loop.create_server(accept, name, int(port), backlog=backlog)

    def cut_slow(self) -> None:
        """Aborts connections on which a request is incomplete after WHOLE_REQUEST_SECONDS."""
        self._closed("slow", self._connections.cut_slow())

    async def close(self, seconds: float) -> None:
        """Closes the port, and the connections once their answers are written.

        Answers that are not written within so many seconds are cut off.
        """
        if self._listener is not None and self._server is not None:
            self._listener.close()
            self._server.pre_shutdown()
            await self._server.shutdown(seconds)
