"""The proxy that the fault tests put before a broker does what it says to a connection."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets; its port."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve_one(connection: socket.socket) -> None:
        with connection:
            try:
                while chunk := connection.recv(65536):
                    connection.sendall(chunk)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


@pytest.fixture
def proxy(echo: int) -> Iterator[TcpProxy]:
    with TcpProxy(echo) as proxy:
        yield proxy


def connected(proxy: TcpProxy, timeout: float = 5.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout)


def received(connection: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count and (chunk := connection.recv(count - len(got))):
        got += chunk
    return got


def test_it_forwards_every_byte_in_order(proxy: TcpProxy) -> None:
    sent = bytes(range(256)) * 8000
    with connected(proxy) as connection:
        sender = threading.Thread(target=connection.sendall, args=(sent,))
        sender.start()
        assert received(connection, len(sent)) == sent
        sender.join(5)


def test_a_delay_is_added_in_each_direction(proxy: TcpProxy) -> None:
    proxy.delay = 0.15
    with connected(proxy) as connection:
        began = time.monotonic()
        connection.sendall(b"x")
        assert received(connection, 1) == b"x"
        assert time.monotonic() - began >= 0.3


def test_a_delay_does_not_reorder_nor_add_up_over_chunks(proxy: TcpProxy) -> None:
    proxy.delay = 0.2
    with connected(proxy) as connection:
        began = time.monotonic()
        for number in range(20):
            connection.sendall(b"%02d" % number)
            time.sleep(0.001)  # makes chunks of their own likely
        got = received(connection, 40)
        assert time.monotonic() - began < 2.0
        numbers = [int(got[at : at + 2]) for at in range(0, 40, 2)]
        assert all(one < other for one, other in pairwise(numbers))


def test_in_a_black_hole_nothing_arrives_and_nothing_fails_until_it_heals(proxy: TcpProxy) -> None:
    with connected(proxy, timeout=0.3) as connection:
        proxy.black_hole()
        connection.sendall(b"held")
        with pytest.raises(TimeoutError):
            connection.recv(4)
        with connected(proxy, timeout=0.3) as later:
            later.sendall(b"new")
            with pytest.raises(TimeoutError):
                later.recv(3)
            proxy.heal()
            connection.settimeout(5)
            later.settimeout(5)
            assert received(connection, 4) == b"held"
            assert received(later, 3) == b"new"


def test_a_reset_is_seen_as_one_and_new_connections_work(proxy: TcpProxy) -> None:
    with connected(proxy) as connection:
        connection.sendall(b"x")
        assert received(connection, 1) == b"x"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with connected(proxy) as connection:
        connection.sendall(b"y")
        assert received(connection, 1) == b"y"


def test_refused_connections_are_refused_while_open_ones_stay(proxy: TcpProxy) -> None:
    with connected(proxy) as connection:
        connection.sendall(b"x")
        assert received(connection, 1) == b"x"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
        connection.sendall(b"y")
        assert received(connection, 1) == b"y"
    proxy.heal()
    with connected(proxy) as connection:
        connection.sendall(b"z")
        assert received(connection, 1) == b"z"


def test_a_server_that_is_away_ends_the_connection() -> None:
    with TcpProxy(target_port=1) as proxy, connected(proxy) as connection:
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
        wait_until(lambda: proxy.connections == 0, "the proxy has let go of it")


def test_a_client_that_leaves_is_let_go(proxy: TcpProxy) -> None:
    with connected(proxy) as connection:
        connection.sendall(b"x")
        assert received(connection, 1) == b"x"
        assert proxy.connections == 1
    wait_until(lambda: proxy.connections == 0, "the proxy has let go of it")
