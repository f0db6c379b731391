"""The usual answer of the bridge, 200 without a body, in bytes that are made once a second.

aiohttp puts the headers of each response together anew, which takes longer than to verify and parse
a notification. Any other answer goes that way.
"""

import time
from email.utils import formatdate

from aiohttp import web
from aiohttp.client_exceptions import ClientConnectionResetError
from aiohttp.http import HttpVersion11


class PlainAnswer(web.Response):
    """A response that is complete before the request comes: one object for all requests."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__(headers=headers)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._head = f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{lines}Date: ".encode()
        self._second = -1
        self._bytes = b""

    @staticmethod
    def suits(request: web.BaseRequest) -> bool:
        """Whether the request's connection is kept after its answer, as HTTP/1.1 does by itself."""
        return request.version == HttpVersion11 and request.keep_alive

    @property
    def keep_alive(self) -> bool:
        """Always: see `suits`."""
        return True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Writes the answer."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("the sender is gone")
        transport.write(self.at(int(time.time())))

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""

    def at(self, second: int) -> bytes:
        """The whole answer at a second since the epoch."""
        if second != self._second:
            date = formatdate(second, usegmt=True).encode()
            self._second, self._bytes = second, self._head + date + b"\r\n\r\n"
        return self._bytes
