"""The bridge over real HTTP, with a publisher that does as the test wishes in the place of the
broker.
"""

import asyncio
import contextlib
import gzip
import json
import math
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from connectors.nylas.webhook import LONGEST_CHALLENGE
from streams.bridge import server as module
from streams.bridge.server import Bridge
from streams.events import now_ms
from streams.heartbeats import HEARTBEAT_KEY, parse_heartbeat
from streams.kafka.publisher import Publisher, PublishFailed
from streams.kafka.records import KafkaRecord, header
from streams.metrics import BridgeMetrics
from streams.runs import Run, RunKind, parse_run
from streams.settings import BridgeSettings, KafkaSettings, load
from streams.topics import topics
from tests.support.waiting import until
from tests.support.webhooks import (
    SECRET,
    Answer,
    Client,
    Webhook,
    contact_body,
    envelope_body,
    misplaced,
    request,
    send_all,
    sign,
    webhooks,
)

NAMES = topics(load(KafkaSettings, {}))
TOPICS = {
    NAMES.events.name: "events",
    NAMES.grants.name: "grants",
    NAMES.dead_letter.name: "dead-letter",
}
LIMIT = 64 * 1024
LAST_ATTEMPT = envelope_body(
    "contact.updated", {"grant_id": "g", "id": "last"}, webhook_delivery_attempt=3
)


class Broker(Publisher):
    """Acknowledges at once, unless the test replaces `behave`."""

    def __init__(self) -> None:
        super().__init__({})
        self.records: list[KafkaRecord] = []
        self.behave: Callable[[KafkaRecord], object] = lambda _: None

    async def publish(self, records: Sequence[KafkaRecord]) -> None:
        for record in records:
            outcome = self.behave(record)
            if isinstance(outcome, Exception):
                raise outcome
            if isinstance(outcome, asyncio.Event):
                await outcome.wait()
            self.records.append(record)


@dataclass(slots=True)
class Running:
    """A bridge that serves on `port`."""

    bridge: Bridge
    broker: Broker
    registry: CollectorRegistry
    clients: list[Client] = field(default_factory=list)

    async def send(self, data: bytes) -> Answer:
        client = Client(self.bridge.port)
        self.clients.append(client)
        return await client.send(data)

    async def post(self, raw: bytes, **headers: str) -> Answer:
        return await self.send(
            request(raw, {name.replace("_", "-"): value for name, value in headers.items()})
        )

    def counted(self, outcome: str) -> float:
        return self.metric("requests_total", outcome=outcome)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"contactstream_bridge_{name}", labels) or 0.0


@contextlib.asynccontextmanager
async def running(limit: int = LIMIT) -> AsyncIterator[Running]:
    registry, broker = CollectorRegistry(), Broker()
    given = load(BridgeSettings, {}).model_copy(
        update={"body_limit": limit}
    )  # less than may be configured, for speed
    bridge = Bridge(broker, NAMES, given, BridgeMetrics(registry))
    bridge.secrets = (SECRET.encode(),)
    await bridge.listen("127.0.0.1:0")
    served = Running(bridge, broker, registry)
    try:
        yield served
    finally:
        for client in served.clients:
            await client.close()
        await bridge.stop(lame_duck=0)


@pytest.fixture
async def served() -> AsyncIterator[Running]:
    async with running() as one:
        yield one


async def test_a_signed_contact_is_published_under_its_key_as_it_came(served: Running) -> None:
    raw = contact_body("g1", "a/b#Ü", given_name="Zoë")
    assert (await served.post(raw)).status == 200
    (record,) = served.broker.records
    assert (record.topic, record.key, record.value) == (NAMES.events.name, "g1/a/b#Ü".encode(), raw)
    assert header(record.headers, "origin") == b"webhook"
    assert int(header(record.headers, "received_ms") or 0) > 1_700_000_000_000
    assert served.counted("published") == 1
    assert served.metric("notifications_total", type="contact.updated") == 1


async def test_a_compressed_contact_is_verified_as_it_came_and_published_inflated(
    served: Running,
) -> None:
    raw = contact_body("g1", "c1")
    assert (await served.post(gzip.compress(raw, mtime=0), Content_Encoding="gzip")).status == 200
    assert [record.value for record in served.broker.records] == [raw]


async def test_a_grant_event_goes_to_its_own_topic_under_the_grants_id(served: Running) -> None:
    raw = envelope_body("grant.expired", {"grant_id": "g1", "code": 25009})
    assert (await served.post(raw)).status == 200
    assert [(record.topic, record.key) for record in served.broker.records] == [
        (NAMES.grants.name, b"g1")
    ]


@pytest.mark.parametrize("kind", ["message.created", "contact", "grant", "contacts.updated"])
async def test_an_unknown_type_is_acknowledged_counted_and_not_published(
    served: Running, kind: str
) -> None:
    assert (await served.post(envelope_body(kind, {"id": "m"}))).status == 200
    assert served.broker.records == []
    assert served.counted("ignored_type") == 1


@pytest.mark.parametrize(
    "kind", ["contact.updated.truncated", "contact.created", "contact.something"]
)
async def test_any_contact_type_is_published(served: Running, kind: str) -> None:
    assert (await served.post(contact_body("g", "c", kind))).status == 200
    assert [record.topic for record in served.broker.records] == [NAMES.events.name]
    assert served.metric("notifications_total", type="contact.*") == 1


BAD = {
    "not JSON": b"hello",
    "empty": b"",
    "not an envelope": b"[1, 2]",
    "no contact ID": envelope_body("contact.updated", {"grant_id": "g"}),
    "no grant ID": envelope_body("contact.updated", {"id": "c"}),
    "a NUL in an ID": contact_body("g", "a\x00b"),
    "a lone surrogate in an ID": contact_body("g", "a\ud800"),
    "nested 10,000 deep": b"[" * 10_000,
    "not UTF-8": b'{"type": "contact.updated\xff"}',
    "NaN": b'{"type": NaN}',
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
async def test_a_signed_body_that_cannot_be_read_is_kept_as_it_came_and_gets_its_200(
    served: Running, raw: bytes
) -> None:
    assert (await served.post(raw)).status == 200
    (record,) = served.broker.records
    assert (record.topic, record.key, record.value) == (NAMES.dead_letter.name, None, raw)
    assert header(record.headers, "dlq.stage") == b"bridge"
    assert header(record.headers, "dlq.reason")
    assert served.counted("dead_lettered") == 1


ODD = {
    "every array null": contact_body("g", "c", emails=None, phone_numbers=None, groups=None),
    "no email": contact_body("g", "c", given_name="A"),
    "no name at all": contact_body("g", "c", emails=[{"email": "a@example.com"}]),
    "a 300-character name": contact_body("g", "c", surname="x" * 300),
    "lone surrogates": contact_body("g", "c", notes="a\ud800b"),
    "no time, ID or attempt": json.dumps(
        {"type": "contact.updated", "data": {"object": {"grant_id": "g", "id": "c"}}}
    ).encode(),
    "an unknown field": envelope_body(
        "contact.updated", {"grant_id": "g", "id": "c"}, metric={"a": 1}
    ),
    "deep, but not too deep": contact_body("g", "c", notes=json.loads("[" * 200 + "]" * 200)),
}


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD.keys())
async def test_an_odd_contact_is_published_as_it_came(served: Running, raw: bytes) -> None:
    assert (await served.post(raw)).status == 200
    assert [(record.topic, record.key, record.value) for record in served.broker.records] == [
        (NAMES.events.name, b"g/c", raw)
    ]


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_megabyte_of_notes_is_published(compressed: bool) -> None:
    async with running(limit=2 * 1024 * 1024) as served:
        raw = contact_body("g", "c", notes="n" * 1_000_000)
        sent, headers = (
            (gzip.compress(raw, mtime=0), {"Content_Encoding": "gzip"}) if compressed else (raw, {})
        )
        assert (await served.post(sent, **headers)).status == 200
        assert [record.value for record in served.broker.records] == [raw]


async def test_ids_that_differ_only_in_case_are_two_keys(served: Running) -> None:
    for identity in ("abc", "ABC"):
        assert (await served.post(contact_body("g", identity))).status == 200
    assert [record.key for record in served.broker.records] == [b"g/abc", b"g/ABC"]


@pytest.mark.parametrize(
    "raw", [b"", gzip.compress(b"x" * 50, mtime=0)[:-4], gzip.compress(b"a", mtime=0) * 2, b"{}"]
)
async def test_what_does_not_inflate_is_kept_compressed_with_its_encoding(
    served: Running, raw: bytes
) -> None:
    assert (await served.post(raw, Content_Encoding="gzip")).status == 200
    (record,) = served.broker.records
    assert (record.topic, record.value) == (NAMES.dead_letter.name, raw)
    assert header(record.headers, "content_encoding") == b"gzip"
    assert header(record.headers, "dlq.reason") == b"bad_gzip"


async def test_a_signed_bomb_is_kept_compressed(served: Running) -> None:
    raw = gzip.compress(bytes(20 * LIMIT), mtime=0)
    assert (await served.post(raw, Content_Encoding="gzip")).status == 200
    (record,) = served.broker.records
    assert (record.value, header(record.headers, "dlq.reason")) == (raw, b"inflates_too_large")


async def test_another_encoding_is_415_and_kept_all_the_same(served: Running) -> None:
    raw = contact_body("g", "c")
    for encoding in ("br", "gzip, br"):
        assert (await served.post(raw, Content_Encoding=encoding)).status == 415
    assert [record.topic for record in served.broker.records] == [NAMES.dead_letter.name] * 2
    assert served.metric("unreadable_total", reason="unsupported_encoding") == 2


@pytest.mark.parametrize(
    "signature", ["", "0" * 64, sign(b"other"), "sha256=", "ü", sign(b"{}", "mock-webhook-secret")]
)
async def test_what_is_not_signed_is_401_and_goes_nowhere(served: Running, signature: str) -> None:
    assert (await served.post(b"{}", X_Nylas_Signature=signature)).status == 401
    assert (await served.send(request(b"{}", signed=False))).status == 401
    assert served.broker.records == []
    assert served.counted("bad_signature") == 2


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413_even_when_its_length_is_not_told(
    served: Running, chunked: bool
) -> None:
    raw = bytes(LIMIT + 1)
    if chunked:
        head = b"POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await served.send(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(raw), raw))
    else:
        answer = await served.post(raw)
    assert answer.status == 413
    assert served.broker.records == []
    assert (await served.post(bytes(LIMIT))).status == 200


async def test_before_there_is_a_secret_the_challenge_is_echoed_and_a_notification_told_to_come_again(
    served: Running,
) -> None:
    served.bridge.secrets = ()
    answer = await served.send(b"GET /?challenge=a%2Bb%26+%C3%BC HTTP/1.1\r\nHost: b\r\n\r\n")
    assert (answer.status, answer.body) == (200, "a+b& ü".encode())
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-length"] == "7"
    answer = await served.send(request(b"{}", {"X-Nylas-Signature": sign(b"{}", "")}))
    assert (answer.status, served.counted("no_secret")) == (503, 1)
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "path", ["/", "/?challenge=", "/?challenge=" + "a" * (LONGEST_CHALLENGE + 1)]
)
async def test_no_challenge_or_a_long_one_is_refused(served: Running, path: str) -> None:
    assert (await served.send(f"GET {path} HTTP/1.1\r\nHost: b\r\n\r\n".encode())).status == 405


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
async def test_other_methods_are_405(served: Running, method: str) -> None:
    assert (await served.send(request(b"", method=method))).status == 405


async def test_both_secrets_are_accepted_while_one_is_rotated(served: Running) -> None:
    served.bridge.secrets = (b"new", b"old")
    raw = contact_body("g", "c")
    for secret in ("new", "old"):
        assert (await served.post(raw, X_Nylas_Signature=sign(raw, secret))).status == 200


@pytest.mark.parametrize(
    "fault",
    [
        PublishFailed("Local: Message timed out"),
        PublishFailed("Local: Queue full"),
        ValueError("a bug"),
        KeyError(),
    ],
)
async def test_every_fault_is_503_and_the_next_notification_is_taken(
    served: Running, fault: Exception
) -> None:
    served.broker.behave = lambda _: fault
    answer = await served.post(contact_body("g", "c"))
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    served.broker.behave = lambda _: None
    assert (await served.post(contact_body("g", "c"))).status == 200


async def test_an_unexpected_fault_is_logged_without_the_notification(
    served: Running, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    served.broker.behave = lambda record: ValueError(record.value)
    assert (await served.post(contact_body("g", "c", given_name="Ariadne"))).status == 503
    assert served.counted("failed") == 1
    said = "".join(capsys.readouterr()) + caplog.text
    assert "Ariadne" not in said
    assert "ValueError" in said


async def test_an_acknowledgement_that_takes_too_long_is_503(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)
    served.broker.behave = lambda _: asyncio.Event()
    assert (await served.post(contact_body("g", "c"))).status == 503
    assert served.counted("broker_unavailable") == 1
    assert module.ANSWER_SECONDS < 10


async def test_a_dead_letter_that_is_not_acknowledged_is_503(served: Running) -> None:
    served.broker.behave = lambda _: PublishFailed("away")
    for raw, headers in ((b"junk", {}), (b"{}", {"Content_Encoding": "br"})):
        assert (await served.post(raw, **headers)).status == 503


async def test_what_the_broker_refuses_for_good_is_kept_in_the_dead_letters(
    served: Running,
) -> None:
    served.broker.behave = lambda record: (
        PublishFailed("too large", permanent=True) if record.topic == NAMES.events.name else None
    )
    raw = contact_body("g", "c")
    assert (await served.post(raw)).status == 200
    (record,) = served.broker.records
    assert (record.topic, record.key, record.value) == (NAMES.dead_letter.name, b"g/c", raw)
    assert header(record.headers, "dlq.reason") == b"refused_by_broker"


async def test_stopping_finishes_what_is_in_flight_and_refuses_what_is_new(served: Running) -> None:
    port, acknowledged = served.bridge.port, asyncio.Event()
    served.broker.behave = lambda _: acknowledged
    early = asyncio.create_task(served.post(contact_body("g", "early")))
    await until(lambda: served.bridge.in_flight == 1, "the early one is in flight")
    stop = asyncio.create_task(served.bridge.stop(lame_duck=0))
    await asyncio.sleep(0)
    late = await served.post(contact_body("g", "late"))
    assert (late.status, late.headers["connection"]) == (503, "close")
    assert not stop.done()
    acknowledged.set()
    assert (await early).status == 200
    await stop
    assert [record.key for record in served.broker.records] == [b"g/early"]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_stop_answers_for_a_while_though_nothing_is_in_flight_and_still_takes_a_last_attempt(
    served: Running,
) -> None:
    stop = asyncio.create_task(served.bridge.stop(lame_duck=60))
    await until(lambda: served.bridge.stopping, "it stops")
    answer = await served.post(contact_body("g", "late"))
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert (await served.post(LAST_ATTEMPT)).status == 200
    assert [record.value for record in served.broker.records] == [LAST_ATTEMPT]
    assert await served.bridge.tell_reader(-math.inf) == -math.inf, (
        "no heartbeat: it takes none of the others"
    )
    stop.cancel()
    port = served.bridge.port
    await served.bridge.stop(lame_duck=0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_stopping_is_bounded_when_the_broker_never_answers(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)
    served.broker.behave = lambda _: asyncio.Event()
    hanging = asyncio.create_task(served.post(contact_body("g", "c")))
    await until(lambda: served.bridge.in_flight == 1, "it is in flight")
    async with asyncio.timeout(5):
        await served.bridge.stop(lame_duck=0)
    assert (await hanging).status in {0, 503}


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
    served: Running, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.bridge.port)
    writer.write(begun)
    await writer.drain()
    await until(lambda: served.metric("connections") == 1, "it is connected")
    served.bridge.cut_slow()
    assert served.metric("connections") == 1, "it still has time"
    monkeypatch.setattr(module, "REQUEST_SECONDS", -1.0)
    served.bridge.cut_slow()
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    await until(lambda: served.metric("connections") == 0, "it is cut off")
    assert served.metric("cut_off_total", reason="slow") == 1
    writer.close()


async def test_a_kept_connection_between_requests_is_not_slow(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(served.bridge.port)
    served.clients.append(client)
    for _ in range(2):
        assert (await client.send(request(contact_body("g", "c")))).status == 200
        monkeypatch.setattr(module, "REQUEST_SECONDS", -1.0)
        served.bridge.cut_slow()
    assert served.metric("cut_off_total", reason="slow") == 0


async def test_a_sender_is_waited_for_while_the_broker_is_slow(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged = asyncio.Event()
    served.broker.behave = lambda _: acknowledged
    sent = asyncio.create_task(served.post(contact_body("g", "c")))
    await until(lambda: served.bridge.in_flight == 1, "it is in flight")
    monkeypatch.setattr(module, "REQUEST_SECONDS", -1.0)
    served.bridge.cut_slow()
    acknowledged.set()
    assert (await sent).status == 200


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_connections_are_bounded_and_one_too_many_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def story() -> None:
        async with running() as served:
            _, writer = await asyncio.open_connection("127.0.0.1", served.bridge.port)
            await until(lambda: served.metric("connections") == 1, "the first is connected")
            reader, second = await asyncio.open_connection("127.0.0.1", served.bridge.port)
            assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
            assert served.metric("cut_off_total", reason="too_many") == 1
            writer.close()
            second.close()
            await until(lambda: served.metric("connections") == 0, "there is room again")
            assert (await served.post(contact_body("g", "c"))).status == 200

    monkeypatch.setattr(module, "MAX_CONNECTIONS", 1)
    run(story())


async def test_the_bytes_held_at_once_are_bounded(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_HELD", 1000)
    assert (await served.post(contact_body("g", "c", notes="n" * 2000))).status == 503
    assert served.counted("overloaded") == 1
    assert (await served.post(contact_body("g", "c"))).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nAriadne\r\n",
        b"POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nAriadne\r\n",
        b"POST / HTTP/1.1\r\nHost: b\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: b\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"POST /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_http_is_refused_and_its_bytes_are_not_logged(
    served: Running,
    data: bytes,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = await served.send(data)
    assert answer.status in {0, 400}
    assert b"Ariadne" not in answer.body
    assert "Ariadne" not in "".join(capsys.readouterr()) + caplog.text
    assert served.counted("bad_request") >= 1
    assert served.broker.records == []


async def test_a_sender_that_leaves_in_the_middle_costs_nothing(served: Running) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", served.bridge.port)
    writer.write(request(contact_body("g", "c"))[:-10])
    await writer.drain()
    await until(lambda: served.metric("connections") == 1, "it is connected")
    writer.transport.abort()
    await until(lambda: served.metric("connections") == 0, "it is forgotten")
    assert (await served.post(contact_body("g", "c"))).status == 200
    assert len(served.broker.records) == 1


async def test_a_sender_that_asks_whether_to_go_on_is_told_so(served: Running) -> None:
    raw = contact_body("g", "c")
    data = request(raw, {"Expect": "100-continue"})
    reader, writer = await asyncio.open_connection("127.0.0.1", served.bridge.port)
    writer.write(data[: -len(raw)])
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(raw)
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_requests_sent_without_waiting_are_each_answered(served: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.bridge.port)
    writer.write(b"".join(request(contact_body("g", f"c{n}")) for n in range(50)))
    answered = 0
    while answered < 50:
        answered += (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()
    assert sorted(record.key or b"" for record in served.broker.records) == sorted(
        b"g/c%d" % n for n in range(50)
    )


async def test_answers_do_not_tell_what_serves_them(served: Running) -> None:
    for data in (request(b"{}"), request(b"{}", signed=False), b"nonsense\r\n\r\n"):
        assert "aiohttp" not in str((await served.send(data)).headers).lower()


async def test_heartbeats_come_while_notifications_can_be_taken_and_at_their_interval(
    served: Running,
) -> None:
    bridge = served.bridge
    began = now_ms()
    first = await bridge.tell_reader(-math.inf)
    assert await bridge.tell_reader(first, every=3600) == first
    assert len(served.broker.records) == 1
    assert await bridge.tell_reader(first, every=0) >= first
    assert [record.key for record in served.broker.records] == [HEARTBEAT_KEY] * 2
    assert all(
        began <= parse_heartbeat(record.value or b"") <= now_ms()
        for record in served.broker.records
    )
    bridge.secrets = ()
    await bridge.tell_reader(first, every=0)
    assert len(served.broker.records) == 2, "without a secret nothing can be taken"


async def test_a_heartbeat_that_is_not_acknowledged_is_none_and_tells_that_the_broker_is_away(
    served: Running,
) -> None:
    served.broker.behave = lambda _: PublishFailed("away")
    assert await served.bridge.tell_reader(-math.inf) == -math.inf
    assert served.bridge.broker_lost.is_set()
    served.broker.behave = lambda _: PublishFailed("fenced", fatal=True)
    await served.bridge.tell_reader(-math.inf)
    assert served.bridge.fatal.is_set()


def requested(served: Running) -> list[Run]:
    """The runs asked for."""
    return [
        parse_run(record.value or b"")
        for record in served.broker.records
        if record.topic == NAMES.runs.name and record.key != HEARTBEAT_KEY
    ]


async def test_a_last_attempt_that_was_refused_has_everything_read_again_once_that_can_be_said(
    served: Running,
) -> None:
    served.broker.behave = lambda _: PublishFailed("away")
    assert (await served.post(LAST_ATTEMPT)).status == 503
    await served.bridge.tell_reader(-math.inf)
    assert requested(served) == []
    served.broker.behave = lambda _: None
    for _ in range(2):
        await served.bridge.tell_reader(-math.inf)
    (run,) = requested(served)
    assert (run.kind, run.grants, run.by) == (RunKind.RECONCILE, None, "bridge")


@pytest.mark.parametrize(
    ("raw", "signature"),
    [
        (LAST_ATTEMPT, "0" * 64),
        (contact_body("g", "c"), None),
        (
            envelope_body(
                "contact.updated", {"grant_id": "g", "id": "c"}, webhook_delivery_attempt=2
            ),
            None,
        ),
    ],
    ids=["not signed", "first attempt", "second attempt"],
)
async def test_what_nylas_did_not_say_or_says_again_has_nothing_read_again(
    served: Running, raw: bytes, signature: str | None
) -> None:
    served.broker.behave = lambda _: PublishFailed("away")
    assert (await served.post(raw, X_Nylas_Signature=signature or sign(raw))).status in {401, 503}
    served.broker.behave = lambda _: None
    await served.bridge.tell_reader(-math.inf)
    assert requested(served) == []


async def test_a_producer_that_cannot_go_on_ends_the_process(served: Running) -> None:
    served.broker.behave = lambda _: PublishFailed("fenced", fatal=True)
    assert (await served.post(contact_body("g", "c"))).status == 503
    assert served.bridge.fatal.is_set()


def test_no_webhook_crashes_the_bridge_no_unsigned_one_gets_in_and_each_signed_one_is_where_it_belongs() -> (
    None
):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = contextlib.AsyncExitStack()
        served = runner.run(stack.enter_async_context(running()))

        @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(webhooks(), min_size=2, max_size=2))
        def fuzz(families: list[list[Webhook]]) -> None:
            batch = [webhook for family in families for webhook in family]
            served.broker.records.clear()
            answers = runner.run(
                send_all(served.bridge.port, [webhook.data for webhook in batch], 8)
            )
            found: dict[bytes, list[tuple[str, bytes | None]]] = {}
            for record in served.broker.records:
                found.setdefault(record.value or b"", []).append((TOPICS[record.topic], record.key))
            for webhook, answer in zip(batch, answers, strict=True):
                assert not misplaced(webhook, answer, found)
            assert served.counted("failed") == 0

        @settings(max_examples=100, deadline=None, phases=[Phase.explicit, Phase.generate])
        @given(
            st.binary(max_size=200),
            st.sampled_from([b"", b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: b\r\n"]),
        )
        def garbage(data: bytes, before: bytes) -> None:
            with socket.create_connection(("127.0.0.1", served.bridge.port)) as raw:
                raw.sendall(before + data)
                raw.shutdown(socket.SHUT_WR)
            served.broker.records.clear()
            assert runner.run(served.post(contact_body("g", "c"))).status == 200
            assert [record.key for record in served.broker.records] == [b"g/c"]
            assert served.counted("failed") == 0

        fuzz()
        garbage()
        runner.run(stack.aclose())
