"""The port that operators and probes ask: `/metrics`, `/livez` and `/readyz` of one process."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from streams.settings import cannot_listen


class Health:
    """What a process says of itself. Written by the stage, read by the probes' threads.

    Ready: the stage can do its work now. Alive: it makes progress, or rightly has none to make; a
    probe that fails here gets the process restarted, so an absent broker or org never makes it
    fail.
    """

    def __init__(self, stalled_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stalled_after = stalled_after
        self._beat = clock()
        self._waiting_for = "starting"

    def beat(self) -> None:
        """The stage's main loop went round, or has nothing to do."""
        self._beat = self._clock()

    def ready(self) -> None:
        """The stage works."""
        self._waiting_for = ""

    def waiting(self, reason: str) -> None:
        """The stage is up and cannot work yet, or not now."""
        self._waiting_for = reason
        self.beat()

    @property
    def waiting_for(self) -> str:
        """Why the process is not ready; empty when it is."""
        return self._waiting_for

    @property
    def alive(self) -> bool:
        """Whether the main loop went round within the bound."""
        return self._clock() - self._beat < self._stalled_after


class OpsServer:
    """Answers in threads of its own, so that a probe is answered while the stage's loop is busy or
    stuck.
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
        """Binds and serves. Raises SettingsError when the port cannot be had."""
        host, _, port = self._listen.rpartition(":")
        registry, health = self._registry, self._health

        class Handler(BaseHTTPRequestHandler):
            timeout = 5  # seconds for a whole request: probes and scrapers are local and quick

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                elif path == "/livez":
                    self._say(
                        health.alive, "alive" if health.alive else "the main loop stands still"
                    )
                elif path == "/readyz":
                    self._say(not health.waiting_for, health.waiting_for or "ready")
                else:
                    self._answer(404, b"see /metrics, /livez, /readyz\n", "text/plain")

            def _say(self, good: bool, reason: str) -> None:
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
                """Probes are not news."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        try:
            self._server = Server((host or "0.0.0.0", int(port)), Handler)
        except (OSError, OverflowError) as error:
            raise cannot_listen("OPS_LISTEN", self._listen, error) from error
        threading.Thread(target=self._server.serve_forever, name="ops", daemon=True).start()

    def stop(self) -> None:
        """Ends the server and frees the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
