"""Slow, broken and numerous senders cannot take the bridge's memory or its connections."""

import asyncio
import contextlib
import resource
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from streams.bridge import bodies
from streams.bridge.server import MAX_CONNECTIONS
from streams.runtime import connections
from tests.support.bridge_harness import RunningBridge, running_bridge
from tests.support.waiting import until
from tests.support.webhooks import Client, contact_body, request


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST / HTTP/1.1\r\nHost: b\r\nX-Slow: ",
        b"POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 100\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
async def test_a_slow_sender_is_cut_off(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.server.port)
    writer.write(begun)
    await writer.drain()
    await until(lambda: bridge.metric("connections") == 1, "it is connected")
    bridge.server.cut_slow()
    assert bridge.metric("connections") == 1, "it still has time"
    monkeypatch.setattr(connections, "WHOLE_REQUEST_SECONDS", -1.0)
    bridge.server.cut_slow()
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    await until(lambda: bridge.metric("connections") == 0, "it is cut off")
    assert bridge.metric("connections_closed_total", reason="slow") == 1
    writer.close()


async def test_a_kept_connection_between_requests_is_not_slow(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(bridge.server.port)
    bridge.clients.append(client)
    for _ in range(2):
        assert (await client.send(request(contact_body("g", "c")))).status == 200
        monkeypatch.setattr(connections, "WHOLE_REQUEST_SECONDS", -1.0)
        bridge.server.cut_slow()
    assert bridge.metric("connections_closed_total", reason="slow") == 0


async def test_a_sender_is_waited_for_while_the_broker_is_slow(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged = asyncio.Event()
    bridge.broker.behave = lambda _: acknowledged
    sent = asyncio.create_task(bridge.post(contact_body("g", "c")))
    await until(lambda: bridge.in_flight == 1, "it is in flight")
    monkeypatch.setattr(connections, "WHOLE_REQUEST_SECONDS", -1.0)
    bridge.server.cut_slow()
    acknowledged.set()
    assert (await sent).status == 200


BOTH_LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@BOTH_LOOPS
def test_one_connection_too_many_is_503_while_all_others_carry_signed_requests(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    async def story() -> None:
        async with running_bridge() as bridge:
            bridge.server.listener.most = 1
            acknowledged = asyncio.Event()
            bridge.broker.behave = lambda _: acknowledged
            sent = asyncio.create_task(bridge.post(contact_body("g", "c")))
            await until(lambda: bridge.in_flight == 1, "it waits for the broker")
            reader, second = await asyncio.open_connection("127.0.0.1", bridge.server.port)
            assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
            assert bridge.metric("connections_closed_total", reason="too_many") == 1
            second.close()
            acknowledged.set()
            assert (await sent).status == 200
            bridge.broker.behave = lambda _: None
            assert (await bridge.post(contact_body("g", "c"))).status == 200
            assert bridge.metric("connections_closed_total", reason="evicted") == 1

    run(story())


async def test_unsigned_connections_are_evicted_before_signed_ones_and_the_oldest_first(
    bridge: RunningBridge,
) -> None:
    bridge.server.listener.most = 3
    signed = Client(bridge.server.port)
    bridge.clients.append(signed)
    assert (await signed.send(request(contact_body("g", "c")))).status == 200
    strangers = []
    for count in (2, 3, 3, 3):
        strangers.append(await asyncio.open_connection("127.0.0.1", bridge.server.port))
        await until(lambda: bridge.metric("connections") == count, "it is connected")  # noqa: B023
    for reader, _ in strangers[:2]:
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    assert bridge.metric("connections_closed_total", reason="evicted") == 2
    assert not any(reader.at_eof() for reader, _ in strangers[2:])
    assert (await signed.send(request(contact_body("g", "c")))).status == 200
    assert bridge.metric("connections_closed_total", reason="too_many") == 0
    for _, writer in strangers:
        writer.close()


async def test_of_the_signed_connections_the_longest_idle_is_evicted(
    bridge: RunningBridge,
) -> None:
    bridge.server.listener.most = 2
    kept, idle = Client(bridge.server.port), Client(bridge.server.port)
    bridge.clients += [kept, idle]
    for client in (kept, idle, kept):
        assert (await client.send(request(contact_body("g", "c")))).status == 200
    assert (await bridge.post(contact_body("g", "c"))).status == 200
    assert (await kept.send(request(contact_body("g", "c")))).status == 200
    assert (await idle.send(request(contact_body("g", "c")))).status == 0, "it was evicted"


async def test_kept_connections_leave_half_of_the_room_to_new_ones(
    bridge: RunningBridge,
) -> None:
    bridge.server.listener.most = 4
    for _ in range(4):
        assert (await bridge.post(contact_body("g", "c"))).status == 200
    begun = request(contact_body("g", "slow"))
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.server.port)
    writer.write(begun[:-10])
    _, stranger = await asyncio.open_connection("127.0.0.1", bridge.server.port)
    await until(
        lambda: bridge.metric("connections_closed_total", reason="evicted") == 2, "both are in"
    )
    writer.write(begun[-10:])
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    writer.close()
    stranger.close()


@pytest.mark.parametrize(
    "data",
    [
        request(b"", method="GET", path="/?challenge=abc", signed=False),
        request(b"", method="GET", signed=False),
        request(contact_body("g", "c"), signed=False),
    ],
    ids=["a challenge", "a GET", "an unsigned POST"],
)
async def test_a_connection_is_kept_only_after_a_valid_signature(
    bridge: RunningBridge, data: bytes
) -> None:
    answer = await bridge.send(data)
    assert answer.headers.get("connection") == "close"
    client = Client(bridge.server.port)
    bridge.clients.append(client)
    assert (await client.send(request(contact_body("g", "c")))).status == 200
    assert bridge.metric("connections") == 1, "the signed one is kept"
    assert (await client.send(request(b"x", signed=False))).headers.get("connection") is None
    assert bridge.metric("connections") == 1, "as a proxy keeps it for all of its senders"


HOSTILE_CONNECTIONS = 10_000

# Opens connections to the port argv[1], argv[2] of them, and holds them until its input ends. What
# they send is nothing, a whole request without a signature, or half of a request.
HOSTILE = """
import socket, sys
begun = (
    b"",
    b"GET / HTTP/1.1\\r\\nHost: b\\r\\n\\r\\n",
    b"POST / HTTP/1.1\\r\\nHost: b\\r\\nContent-Length: 100\\r\\n\\r\\nhalf",
)
held = []
for count in range(int(sys.argv[2])):
    held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    try:
        held[-1].sendall(begun[count % len(begun)])
    except ConnectionError:
        pass
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def open_files() -> Iterator[int]:
    """Raises the limit of open files; returns how many hostile connections fit in it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = HOSTILE_CONNECTIONS + 100
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    yield min(HOSTILE_CONNECTIONS, allowed - 100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_a_signed_sender_is_never_refused_beside_ten_thousand_hostile_connections(
    open_files: int,
) -> None:
    async def story() -> None:
        async with running_bridge() as bridge:
            kept = Client(bridge.server.port)
            bridge.clients.append(kept)
            hostile = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                HOSTILE,
                str(bridge.server.port),
                str(open_files),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert hostile.stdout is not None
            all_open = asyncio.create_task(hostile.stdout.readline())
            statuses: list[int] = []
            try:
                while not all_open.done() or len(statuses) < 50:
                    statuses.append((await kept.send(request(contact_body("g", "kept")))).status)
                    statuses.append((await bridge.post(contact_body("g", "new"))).status)
                    await bridge.clients.pop().close()
                assert await all_open == b"open\n"
                assert bridge.metric("connections") <= MAX_CONNECTIONS
                assert bridge.metric("connections_closed_total", reason="too_many") == 0
                assert set(statuses) == {200}
            finally:
                hostile.kill()
                await hostile.wait()

    uvloop.run(story())


async def test_the_bytes_held_at_once_are_bounded(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MAX_HELD_BYTES", 1000)
    assert (await bridge.post(contact_body("g", "c", notes="n" * 2000))).status == 503
    assert bridge.counted("overloaded") == 1
    assert (await bridge.post(contact_body("g", "c"))).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nAriadne\r\n",
        b"POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nAriadne\r\n",
        b"POST / HTTP/1.1\r\nHost: b\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: b\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"POST /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_a_request_that_is_not_http_is_refused_and_its_bytes_are_not_logged(
    bridge: RunningBridge,
    data: bytes,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = await bridge.send(data)
    assert answer.status in {0, 400}
    assert b"Ariadne" not in answer.body
    assert "Ariadne" not in "".join(capsys.readouterr()) + caplog.text
    assert bridge.counted("bad_request") >= 1
    assert bridge.broker.records == []


async def test_a_sender_that_leaves_in_the_middle_of_a_request_leaves_nothing_behind(
    bridge: RunningBridge,
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", bridge.server.port)
    writer.write(request(contact_body("g", "c"))[:-10])
    await writer.drain()
    await until(lambda: bridge.metric("connections") == 1, "it is connected")
    writer.transport.abort()
    await until(lambda: bridge.metric("connections") == 0, "it is forgotten")
    assert (await bridge.post(contact_body("g", "c"))).status == 200
    assert len(bridge.broker.records) == 1


async def test_a_sender_that_expects_100_continue_gets_it(bridge: RunningBridge) -> None:
    raw = contact_body("g", "c")
    data = request(raw, {"Expect": "100-continue"})
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.server.port)
    writer.write(data[: -len(raw)])
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(raw)
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_requests_sent_without_waiting_are_each_answered(bridge: RunningBridge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.server.port)
    writer.write(b"".join(request(contact_body("g", f"c{n}")) for n in range(50)))
    answered = 0
    while answered < 50:
        answered += (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()
    assert sorted(record.key or b"" for record in bridge.broker.records) == sorted(
        b"g/c%d" % n for n in range(50)
    )


async def test_answers_do_not_name_the_http_server(bridge: RunningBridge) -> None:
    for data in (request(b"{}"), request(b"{}", signed=False), b"nonsense\r\n\r\n"):
        assert "aiohttp" not in str((await bridge.send(data)).headers).lower()
