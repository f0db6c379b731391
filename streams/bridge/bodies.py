"""Reads the bodies of requests, within one limit for each and one for all together."""

from dataclasses import dataclass, field

from aiohttp import web

from streams.runtime.connections import request_complete

# Of all bodies at once: the memory of a container, not the senders, sets the limit.
MAX_HELD_BYTES = 256 * 1024 * 1024


class BodyTooLarge(Exception):
    """A body has more bytes than the limit."""


class Overloaded(Exception):
    """The bodies of all requests together have more bytes than the bridge may hold."""


@dataclass(slots=True)
class Body:
    """A request's bytes as they come in."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = 0


class BodyReader:
    """Reads bodies of up to `limit` bytes, and of MAX_HELD_BYTES together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    async def read(self, request: web.BaseRequest, body: Body) -> bytes:
        """Reads a request's body into `body`; `release` it in any case when it is answered.

        Raises BodyTooLarge and Overloaded.
        """
        if (request.content_length or 0) > self._limit:
            raise BodyTooLarge
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # otherwise aiohttp takes it for the answer
        content = request.content
        while not content.at_eof():
            # A small body is here already, all of it.
            chunk = content.read_nowait() if content.is_eof() else await content.readany()
            body.chunks.append(chunk)
            body.size += len(chunk)
            self._held += len(chunk)
            if body.size > self._limit:
                raise BodyTooLarge
            if self._held > MAX_HELD_BYTES:
                raise Overloaded
        request_complete(request)
        return body.chunks[0] if len(body.chunks) == 1 else b"".join(body.chunks)

    def release(self, body: Body) -> None:
        """The request is answered: its bytes no longer count."""
        self._held -= body.size
