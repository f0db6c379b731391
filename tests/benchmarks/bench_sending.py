"""The load of the other benchmarks itself: each request is sent once, and an error is found."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.benchmarks.wrk import sending, write_requests

pytestmark = pytest.mark.benchmark


def test_each_request_is_sent_once_in_order_and_an_error_of_the_server_is_found(
    tmp_path: Path,
) -> None:
    requests = [b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n%02d" % number for number in range(9)]
    write_requests(tmp_path / "requests", requests)
    with answering() as (port, bodies):
        with sending(port, tmp_path / "requests", 9, rate=0, connections=2, seconds=60.0) as sent:
            began, ended = sent.wait_answered(30.0)
        assert sorted(bodies) == [b"%02d" % number for number in range(9)]
        assert began <= ended
    with (
        answering(503) as (port, _),
        sending(port, tmp_path / "requests", 9, rate=500, connections=1, seconds=60.0) as sent,
        pytest.raises(AssertionError, match='"refused": 9'),
    ):
        sent.wait_answered(30.0)


@contextmanager
def answering(status: int = 200) -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers every POST with a status: its port, and the bodies that it got."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield server.server_port, bodies
        server.shutdown()
        serving.join()
