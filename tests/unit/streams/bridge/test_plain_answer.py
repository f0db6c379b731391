"""The answer 200, which is put together by hand, is the one that aiohttp would give."""

import asyncio
import time
from email.utils import parsedate_to_datetime

from streams.bridge.plain_answer import PlainAnswer
from tests.support.bridge_harness import RunningBridge
from tests.support.webhooks import contact_body, request

RAW = contact_body("g", "c")
# Between the request and the check, on a machine that is shared.
CLOCK_SECONDS = 60.0


async def test_the_usual_200_has_no_body_and_the_headers_of_every_answer(
    bridge: RunningBridge,
) -> None:
    usual = await bridge.post(RAW)
    put_together = await bridge.send(request(RAW, {"Connection": "close"}))
    assert (usual.status, usual.body) == (put_together.status, put_together.body) == (200, b"")
    assert usual.headers["content-length"] == "0"
    described = {"connection", "content-type", "date"}
    assert {name: value for name, value in usual.headers.items() if name not in described} == {
        name: value for name, value in put_together.headers.items() if name not in described
    }
    date = parsedate_to_datetime(usual.headers["date"])
    assert abs(date.timestamp() - time.time()) < CLOCK_SECONDS


def test_the_date_is_that_of_the_answer() -> None:
    answer = PlainAnswer({})
    dates = [answer.at(second).split(b"Date: ")[1] for second in (0, 86_399, 86_399)]
    assert dates == [
        b"Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n",
        *[b"Thu, 01 Jan 1970 23:59:59 GMT\r\n\r\n"] * 2,
    ]


async def raw_answer(bridge: RunningBridge, data: bytes) -> bytes:
    """All that comes back until the bridge closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.server.port)
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), CLOCK_SECONDS)
    writer.close()
    return answer


async def test_a_sender_that_wants_its_connection_closed_gets_that(bridge: RunningBridge) -> None:
    answer = await raw_answer(bridge, request(RAW, {"Connection": "close"}))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in answer


async def test_an_older_sender_is_answered_in_its_version(bridge: RunningBridge) -> None:
    older = request(RAW).replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)
    assert (await raw_answer(bridge, older)).startswith(b"HTTP/1.0 200 OK\r\n")


async def test_two_requests_in_one_packet_get_two_answers(bridge: RunningBridge) -> None:
    last = request(RAW, {"Connection": "close"})
    answer = await raw_answer(bridge, request(RAW) + last)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
