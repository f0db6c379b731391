"""The operations port of a process: `/metrics`, `/livez` and `/readyz`."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from streams.settings import cannot_listen

# Requests at once, each of which takes a thread. Probes and a scraper need three.
MAX_OPS_REQUESTS = 16

# For a whole request. Probes and scrapers are near and quick; Kubernetes itself waits for 1 s.
OPS_REQUEST_SECONDS = 5.0

# Between two looks whether the server is to stop. The default of 0.5 s delays the end of a process.
STOP_POLL_SECONDS = 0.05


class WorkInFlight:
    """Pieces of work that were begun, of which one has to end within `longest` seconds.

    Each piece has a bound of its own where it is done, also while a broker or an org is away: it
    then ends with an error. So work of which nothing ends for longer hangs, and a restart helps.
    A context manager around one piece; also for pieces at the same time. `what` names the pieces
    for an operator, in the plural.
    """

    def __init__(
        self, what: str, longest: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.what = what
        self._longest = longest
        self._clock = clock
        self._pieces = 0
        self._since = clock()

    def begin(self) -> None:
        """A piece of work was begun."""
        if self._pieces == 0:
            self._since = self._clock()
        self._pieces += 1

    def step(self) -> None:
        """A piece of work of several steps went on to its next; `longest` bounds each step."""
        self._since = self._clock()

    def end(self) -> None:
        """A piece of work ended, with a result or with an error."""
        self._pieces -= 1
        self._since = self._clock()

    def __enter__(self) -> None:
        self.begin()

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.end()

    @property
    def waiting_seconds(self) -> float:
        """Seconds since a piece ended, or since the first was begun; 0 when none is in flight."""
        return self._clock() - self._since if self._pieces else 0.0

    @property
    def overdue(self) -> bool:
        """Whether work is in flight and no piece of it ended within `longest` seconds."""
        return self.waiting_seconds > self._longest


class Health:
    """Whether a process is ready and alive. Set by the stage, read by the threads of the probes.

    Ready: the stage can work now. Alive: the stage makes progress, or has none to make, and none
    of the work given to `watch` is overdue. A failed liveness probe restarts the process, so a
    broker or an org that is away never fails it.

    `stalled_after` are the seconds without a `beat` after which the process is not alive.
    """

    def __init__(self, stalled_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stalled_after = stalled_after
        self._beat = clock()
        self._waiting_for = "starting"
        self._watched: list[WorkInFlight] = []

    def watch(self, work: WorkInFlight) -> None:
        """From now on the process is alive only while this work is not overdue."""
        self._watched.append(work)

    def beat(self) -> None:
        """The stage made progress, or has nothing to do."""
        self._beat = self._clock()

    def ready(self) -> None:
        """The stage can work now."""
        self._waiting_for = ""

    def waiting(self, reason: str) -> None:
        """The stage cannot work yet, or not now. Counts as a beat."""
        self._waiting_for = reason
        self.beat()

    @property
    def waiting_for(self) -> str:
        """Why the process is not ready; empty when it is."""
        return self._waiting_for

    @property
    def alive(self) -> bool:
        """Whether the last beat is recent enough, and no watched work is overdue."""
        return not self.stalled_by

    @property
    def stalled_by(self) -> str:
        """Why the process is not alive, for an operator; empty when it is."""
        if self._clock() - self._beat >= self._stalled_after:
            return "the stage makes no progress"
        overdue = [
            f"nothing of this ended for {work.waiting_seconds:.0f} s: {work.what}"
            for work in self._watched
            if work.overdue
        ]
        return "; ".join(overdue)


class _BoundedServer(ThreadingHTTPServer):
    """Answers at most MAX_OPS_REQUESTS at once, each within OPS_REQUEST_SECONDS.

    One more closes the oldest, so that connections that send nothing keep no probe out.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 4 * MAX_OPS_REQUESTS

    def __init__(
        self, address: tuple[str, int], family: socket.AddressFamily, handler: type[Any]
    ) -> None:
        self.address_family = family
        self._began: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Binds. `::` takes IPv4 connections too, as most systems do by default."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts the thread of a request."""
        with self._lock:
            if len(self._began) >= MAX_OPS_REQUESTS:
                _cut(self._began, next(iter(self._began)))
            self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The request is answered."""
        with self._lock:
            self._began.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cuts off requests that take too long; called every half a second."""
        oldest = time.monotonic() - OPS_REQUEST_SECONDS
        with self._lock:
            for request in [one for one, began in self._began.items() if began < oldest]:
                _cut(self._began, request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs nothing: the other side is gone, or was cut off."""


def _cut(began: dict[socket.socket, float], request: socket.socket) -> None:
    """Ends a request's connection, so that its thread ends too."""
    del began[request]
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def _server(host: str, port: int, handler: type[Any]) -> _BoundedServer:
    """A server at a host, which may be an IPv6 address with or without brackets. Raises OSError."""
    name = host.removeprefix("[").removesuffix("]") or "0.0.0.0"
    (family, _, _, _, address), *_ = socket.getaddrinfo(
        name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return _BoundedServer((str(address[0]), port), family, handler)


class OpsServer:
    """Serves the operations port in threads of its own.

    So a probe is answered while the stage's event loop is busy or stuck.
    """

    def __init__(self, listen: str, registry: CollectorRegistry, health: Health) -> None:
        self._listen = listen
        self._registry = registry
        self._health = health
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        """The port bound; known after `start`."""
        if self._server is None:
            raise RuntimeError("the ops server is not started")
        return self._server.server_port

    def start(self) -> None:
        """Binds the port and serves. Raises SettingsError when the port cannot be bound."""
        host, _, port = self._listen.rpartition(":")
        registry, health = self._registry, self._health

        class Handler(BaseHTTPRequestHandler):
            # For one read. The name is given by http.server.
            timeout = OPS_REQUEST_SECONDS

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    # OpenMetrics where it is asked for, because only that has exemplars.
                    encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                    self._answer(200, encode(registry), content_type)
                elif path == "/livez":
                    stalled_by = health.stalled_by
                    self._verdict(not stalled_by, stalled_by or "alive")
                elif path == "/readyz":
                    self._verdict(not health.waiting_for, health.waiting_for or "ready")
                else:
                    self._answer(404, b"see /metrics, /livez, /readyz\n", "text/plain")

            def _verdict(self, good: bool, reason: str) -> None:
                self._answer(
                    200 if good else 503,
                    orjson.dumps({"ok": good, "reason": reason}),
                    "application/json",
                )

            def _answer(self, status: int, body: bytes, content_type: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Logs nothing: probes come every few seconds."""

        try:
            self._server = _server(host, int(port), Handler)
        except (OSError, OverflowError) as error:
            raise cannot_listen("OPS_LISTEN", self._listen, error) from error
        serving = partial(self._server.serve_forever, STOP_POLL_SECONDS)
        threading.Thread(target=serving, name="ops", daemon=True).start()

    def stop(self) -> None:
        """Stops the server and frees the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
