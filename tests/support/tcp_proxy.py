"""A TCP proxy on the loopback interface whose connections a test can delay, stop, or cut."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Self

from deploy.local.broker import free_ports

# For a command to the proxy's own loop, which never blocks but may be slow on a busy machine.
COMMAND_SECONDS = 30.0
CHUNK = 64 * 1024
# Chunks in flight in each direction of a connection. It bounds memory, and is large enough that a
# delay does not cost bandwidth.
MAX_CHUNKS_IN_FLIGHT = 256


class TcpProxy:
    """Forwards connections to `target_port`.

    Its event loop has a thread of its own, so that a test may block, or have its own loop.
    `with TcpProxy(target_port) as proxy:` starts it; `proxy.port` is where it listens.
    """

    def __init__(self, target_port: int = 0) -> None:
        self.target_port = target_port
        self.delay = 0.0
        """Seconds added to each chunk, in each direction. May be changed at any time."""
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="tcp-proxy", daemon=True
        )
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        (self.port,) = free_ports(1)
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._do(self._end_connections())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(COMMAND_SECONDS)
        self._loop.close()

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._connections)

    def black_hole(self) -> None:
        """From now on no byte arrives and no connection fails, as behind a dead route.

        New connections are accepted. Bytes in flight arrive after `heal`, as TCP would send them
        again.
        """
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def heal(self) -> None:
        """Ends `black_hole` and `delay`, and listens again after `refuse`."""
        self.delay = 0.0
        self._loop.call_soon_threadsafe(self._flowing.set)
        self.accept()

    def reset(self) -> None:
        """Cuts every open connection with a TCP reset. New ones are accepted."""
        self._do(self._reset())

    def refuse(self) -> None:
        """Stops listening: new connections are refused, open ones stay."""
        self._do(self._close())

    def accept(self) -> None:
        """Listens again after `refuse`."""
        self._do(self._listen())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(COMMAND_SECONDS)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            # Without wait_closed: from Python 3.12 on it waits for the open connections.
            self._server.close()
            self._server = None

    async def _reset(self) -> None:
        for writer in self._writers:
            sock: socket.socket | None = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                # With this option, close sends a reset.
                linger = struct.pack("ii", 1, 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        await self._end_connections()

    async def _end_connections(self) -> None:
        ending = list(self._connections)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writers = [writer]
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self.target_port)
            writers.append(back)
            self._writers.add(back)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward(reader, back))
                both.create_task(self._forward(there, writer))
        except* (OSError, asyncio.CancelledError):
            pass  # when one side breaks, both are aborted below
        finally:
            for each in writers:
                self._writers.discard(each)
                each.transport.abort()
                # A second cancellation changes nothing: the connection is ending already.
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await each.wait_closed()
            self._connections.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        in_flight: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_CHUNKS_IN_FLIGHT)

        async def receive() -> None:
            while chunk := await reader.read(CHUNK):
                await in_flight.put((self._loop.time() + self.delay, chunk))
            await in_flight.put((self._loop.time() + self.delay, b""))

        async def deliver() -> None:
            while True:
                due, chunk = await in_flight.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await self._flowing.wait()
                if not chunk:
                    break
                writer.write(chunk)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

        async with asyncio.TaskGroup() as both:
            both.create_task(receive())
            both.create_task(deliver())
