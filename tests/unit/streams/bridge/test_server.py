"""Each request to the webhook is answered as Nylas expects, and published where it belongs."""

import asyncio
import contextlib
import gzip
import json
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvloop
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from connectors.nylas.webhook import LONGEST_CHALLENGE
from streams.bridge import intake, server
from streams.bridge.watches import use_secrets
from streams.kafka.publisher import PublishFailed
from streams.kafka.records import header
from streams.metrics import BridgeMetrics
from streams.settings import BridgeSettings, NylasSettings, load
from tests.support.bridge_harness import (
    LAST_ATTEMPT,
    LIMIT,
    NAMES,
    RunningBridge,
    running_bridge,
)
from tests.support.letters import failed_record
from tests.support.waiting import until
from tests.support.webhooks import (
    Webhook,
    contact_body,
    envelope_body,
    misplaced,
    request,
    send_all,
    sign,
    webhooks,
)

TOPICS = {
    NAMES.events.name: "events",
    NAMES.grants.name: "grants",
    NAMES.dead_letter.name: "dead-letter",
}


async def test_a_signed_contact_is_published_under_its_key_as_it_came(
    bridge: RunningBridge,
) -> None:
    raw = contact_body("g1", "a/b#Ü", given_name="Zoë")
    assert (await bridge.post(raw)).status == 200
    (record,) = bridge.broker.records
    assert (record.topic, record.key, record.value) == (NAMES.events.name, "g1/a/b#Ü".encode(), raw)
    assert header(record.headers, "origin") == b"webhook"
    assert int(header(record.headers, "received_ms") or 0) > 1_700_000_000_000
    assert bridge.counted("published") == 1
    assert bridge.metric("notifications_total", type="contact.updated") == 1


async def test_a_compressed_contact_is_verified_as_it_came_and_published_inflated(
    bridge: RunningBridge,
) -> None:
    raw = contact_body("g1", "c1")
    assert (await bridge.post(gzip.compress(raw, mtime=0), Content_Encoding="gzip")).status == 200
    assert [record.value for record in bridge.broker.records] == [raw]


async def test_a_grant_event_goes_to_its_own_topic_under_the_grants_id(
    bridge: RunningBridge,
) -> None:
    raw = envelope_body("grant.expired", {"grant_id": "g1", "code": 25009})
    assert (await bridge.post(raw)).status == 200
    assert [(record.topic, record.key) for record in bridge.broker.records] == [
        (NAMES.grants.name, b"g1")
    ]


@pytest.mark.parametrize("kind", ["message.created", "contact", "grant", "contacts.updated"])
async def test_an_unknown_type_is_acknowledged_counted_and_not_published(
    bridge: RunningBridge, kind: str
) -> None:
    assert (await bridge.post(envelope_body(kind, {"id": "m"}))).status == 200
    assert bridge.broker.records == []
    assert bridge.counted("ignored_type") == 1


@pytest.mark.parametrize(
    "kind", ["contact.updated.truncated", "contact.created", "contact.something"]
)
async def test_any_contact_type_is_published(bridge: RunningBridge, kind: str) -> None:
    assert (await bridge.post(contact_body("g", "c", kind))).status == 200
    assert [record.topic for record in bridge.broker.records] == [NAMES.events.name]
    assert bridge.metric("notifications_total", type="contact.*") == 1


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
async def test_a_signed_body_that_cannot_be_read_is_dead_lettered_as_it_was_sent_and_gets_its_200(
    bridge: RunningBridge, raw: bytes
) -> None:
    assert (await bridge.post(raw)).status == 200
    (record,) = bridge.broker.records
    failed = failed_record(record)
    assert (failed.topic, failed.key, failed.value) == (NAMES.dead_letter.name, None, raw)
    assert header(record.headers, "dlq.stage") == b"bridge"
    assert header(record.headers, "dlq.reason")
    assert bridge.counted("dead_lettered") == 1


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
async def test_an_odd_contact_is_published_as_it_came(bridge: RunningBridge, raw: bytes) -> None:
    assert (await bridge.post(raw)).status == 200
    assert [(record.topic, record.key, record.value) for record in bridge.broker.records] == [
        (NAMES.events.name, b"g/c", raw)
    ]


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_megabyte_of_notes_is_published(compressed: bool) -> None:
    async with running_bridge(limit=2 * 1024 * 1024) as bridge:
        raw = contact_body("g", "c", notes="n" * 1_000_000)
        sent, headers = (
            (gzip.compress(raw, mtime=0), {"Content_Encoding": "gzip"}) if compressed else (raw, {})
        )
        assert (await bridge.post(sent, **headers)).status == 200
        assert [record.value for record in bridge.broker.records] == [raw]


async def test_ids_that_differ_only_in_case_are_two_keys(bridge: RunningBridge) -> None:
    for identity in ("abc", "ABC"):
        assert (await bridge.post(contact_body("g", identity))).status == 200
    assert [record.key for record in bridge.broker.records] == [b"g/abc", b"g/ABC"]


@pytest.mark.parametrize(
    "raw", [b"", gzip.compress(b"x" * 50, mtime=0)[:-4], gzip.compress(b"a", mtime=0) * 2, b"{}"]
)
async def test_a_body_that_does_not_inflate_is_dead_lettered_compressed_with_its_encoding(
    bridge: RunningBridge, raw: bytes
) -> None:
    assert (await bridge.post(raw, Content_Encoding="gzip")).status == 200
    (record,) = bridge.broker.records
    assert (record.topic, failed_record(record).value) == (NAMES.dead_letter.name, raw)
    assert header(record.headers, "content_encoding") == b"gzip"
    assert header(record.headers, "dlq.reason") == b"bad_gzip"


async def test_a_signed_gzip_bomb_is_dead_lettered_compressed(bridge: RunningBridge) -> None:
    raw = gzip.compress(bytes(20 * LIMIT), mtime=0)
    assert (await bridge.post(raw, Content_Encoding="gzip")).status == 200
    (record,) = bridge.broker.records
    assert failed_record(record).value == raw
    assert header(record.headers, "dlq.reason") == b"inflates_too_large"


async def test_another_encoding_is_415_and_the_body_is_dead_lettered(bridge: RunningBridge) -> None:
    raw = contact_body("g", "c")
    for encoding in ("br", "gzip, br"):
        assert (await bridge.post(raw, Content_Encoding=encoding)).status == 415
    assert [record.topic for record in bridge.broker.records] == [NAMES.dead_letter.name] * 2
    assert bridge.metric("dead_lettered_total", reason="unsupported_encoding") == 2


@pytest.mark.parametrize(
    "signature", ["", "0" * 64, sign(b"other"), "sha256=", "ü", sign(b"{}", "mock-webhook-secret")]
)
async def test_an_unsigned_request_is_401_and_published_nowhere(
    bridge: RunningBridge, signature: str
) -> None:
    assert (await bridge.post(b"{}", X_Nylas_Signature=signature)).status == 401
    assert (await bridge.send(request(b"{}", signed=False))).status == 401
    assert bridge.broker.records == []
    assert bridge.counted("bad_signature") == 2


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413_also_without_a_content_length(
    bridge: RunningBridge, chunked: bool
) -> None:
    raw = bytes(LIMIT + 1)
    if chunked:
        head = b"POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await bridge.send(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(raw), raw))
    else:
        answer = await bridge.post(raw)
    assert answer.status == 413
    assert bridge.broker.records == []
    assert (await bridge.post(bytes(LIMIT))).status == 200


async def test_without_a_secret_the_challenge_is_echoed_and_a_notification_is_503(
    bridge: RunningBridge,
) -> None:
    bridge.intake.secrets = ()
    answer = await bridge.send(b"GET /?challenge=a%2Bb%26+%C3%BC HTTP/1.1\r\nHost: b\r\n\r\n")
    assert (answer.status, answer.body) == (200, "a+b& ü".encode())
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-length"] == "7"
    answer = await bridge.send(request(b"{}", {"X-Nylas-Signature": sign(b"{}", "")}))
    assert (answer.status, bridge.counted("no_secret")) == (503, 1)
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "path", ["/", "/?challenge=", "/?challenge=" + "a" * (LONGEST_CHALLENGE + 1)]
)
async def test_no_challenge_or_a_long_one_is_refused(bridge: RunningBridge, path: str) -> None:
    assert (await bridge.send(f"GET {path} HTTP/1.1\r\nHost: b\r\n\r\n".encode())).status == 405


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
async def test_other_methods_are_405(bridge: RunningBridge, method: str) -> None:
    assert (await bridge.send(request(b"", method=method))).status == 405


async def test_both_secrets_are_accepted_while_one_is_rotated(bridge: RunningBridge) -> None:
    bridge.intake.secrets = (b"new", b"old")
    raw = contact_body("g", "c")
    for secret in ("new", "old"):
        assert (await bridge.post(raw, X_Nylas_Signature=sign(raw, secret))).status == 200


@pytest.mark.parametrize(
    "fault",
    [
        PublishFailed("Local: Message timed out"),
        PublishFailed("Local: Queue full"),
        ValueError("a bug"),
        KeyError(),
    ],
)
async def test_every_fault_is_503_and_the_next_notification_is_published(
    bridge: RunningBridge, fault: Exception
) -> None:
    bridge.broker.behave = lambda _: fault
    answer = await bridge.post(contact_body("g", "c"))
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    bridge.broker.behave = lambda _: None
    assert (await bridge.post(contact_body("g", "c"))).status == 200


async def test_an_unexpected_fault_is_logged_without_the_notification(
    bridge: RunningBridge, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    bridge.broker.behave = lambda record: ValueError(record.value)
    assert (await bridge.post(contact_body("g", "c", given_name="Ariadne"))).status == 503
    assert bridge.counted("failed") == 1
    logged = "".join(capsys.readouterr()) + caplog.text
    assert "Ariadne" not in logged
    assert "ValueError" in logged


async def test_an_acknowledgement_that_takes_too_long_is_503(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "WEBHOOK_ANSWER_SECONDS", 0.05)
    bridge.broker.behave = lambda _: asyncio.Event()
    assert (await bridge.post(contact_body("g", "c"))).status == 503
    assert bridge.counted("broker_unavailable") == 1


async def test_a_dead_letter_that_is_not_acknowledged_is_503(bridge: RunningBridge) -> None:
    bridge.broker.behave = lambda _: PublishFailed("away")
    for raw, headers in ((b"junk", {}), (b"{}", {"Content_Encoding": "br"})):
        assert (await bridge.post(raw, **headers)).status == 503


async def test_a_record_that_the_broker_always_refuses_is_dead_lettered(
    bridge: RunningBridge,
) -> None:
    bridge.broker.behave = lambda record: (
        PublishFailed("too large", permanent=True) if record.topic == NAMES.events.name else None
    )
    raw = contact_body("g", "c")
    assert (await bridge.post(raw)).status == 200
    (record,) = bridge.broker.records
    failed = failed_record(record)
    assert (failed.topic, failed.key, failed.value) == (NAMES.dead_letter.name, b"g/c", raw)
    assert header(record.headers, "dlq.reason") == b"refused_by_broker"


async def test_a_stop_finishes_notifications_in_flight_and_refuses_new_ones(
    bridge: RunningBridge,
) -> None:
    port, acknowledged = bridge.server.port, asyncio.Event()
    bridge.broker.behave = lambda _: acknowledged
    early = asyncio.create_task(bridge.post(contact_body("g", "early")))
    await until(lambda: bridge.in_flight == 1, "the early one is in flight")
    stop = asyncio.create_task(bridge.server.stop(lame_duck=0))
    await asyncio.sleep(0)
    late = await bridge.post(contact_body("g", "late"))
    assert (late.status, late.headers["connection"]) == (503, "close")
    assert not stop.done()
    acknowledged.set()
    assert (await early).status == 200
    await stop
    assert [record.key for record in bridge.broker.records] == [b"g/early"]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_stopping_bridge_still_answers_and_publishes_a_last_attempt(
    bridge: RunningBridge,
) -> None:
    stop = asyncio.create_task(bridge.server.stop(lame_duck=60))
    await until(lambda: bridge.intake.stopping, "it stops")
    answer = await bridge.post(contact_body("g", "late"))
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert (await bridge.post(LAST_ATTEMPT)).status == 200
    assert [record.value for record in bridge.broker.records] == [LAST_ATTEMPT]
    await bridge.publish_notices()
    assert len(bridge.broker.records) == 1, "no heartbeat: it refuses all other notifications"
    stop.cancel()
    port = bridge.server.port
    await bridge.server.stop(lame_duck=0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_stop_is_bounded_when_the_broker_never_answers(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "DRAIN_SECONDS", 0.1)
    bridge.broker.behave = lambda _: asyncio.Event()
    hanging = asyncio.create_task(bridge.post(contact_body("g", "c")))
    await until(lambda: bridge.in_flight == 1, "it is in flight")
    async with asyncio.timeout(5):
        await bridge.server.stop(lame_duck=0)
    assert (await hanging).status in {0, 503}


async def test_a_fatal_error_of_the_producer_is_answered_with_503(bridge: RunningBridge) -> None:
    bridge.broker.behave = lambda _: PublishFailed("fenced", fatal=True)
    assert (await bridge.post(contact_body("g", "c"))).status == 503


@pytest.mark.slow
def test_any_webhook_is_answered_and_published_exactly_where_it_belongs() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = contextlib.AsyncExitStack()
        bridge = runner.run(stack.enter_async_context(running_bridge()))

        @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(webhooks(), min_size=2, max_size=2))
        def fuzz(families: list[list[Webhook]]) -> None:
            batch = [webhook for family in families for webhook in family]
            bridge.broker.records.clear()
            answers = runner.run(
                send_all(bridge.server.port, [webhook.data for webhook in batch], 8)
            )
            found: dict[bytes, list[tuple[str, bytes | None]]] = {}
            for published in bridge.broker.records:
                is_letter = published.topic == NAMES.dead_letter.name
                record = failed_record(published) if is_letter else published
                found.setdefault(record.value or b"", []).append((TOPICS[record.topic], record.key))
            for webhook, answer in zip(batch, answers, strict=True):
                assert not misplaced(webhook, answer, found)
            assert bridge.counted("failed") == 0

        @settings(max_examples=100, deadline=None, phases=[Phase.explicit, Phase.generate])
        @given(
            st.binary(max_size=200),
            st.sampled_from([b"", b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: b\r\n"]),
        )
        def garbage(data: bytes, before: bytes) -> None:
            with socket.create_connection(("127.0.0.1", bridge.server.port)) as raw:
                raw.sendall(before + data)
                raw.shutdown(socket.SHUT_WR)
            bridge.broker.records.clear()
            assert runner.run(bridge.post(contact_body("g", "c"))).status == 200
            assert [record.key for record in bridge.broker.records] == [b"g/c"]
            assert bridge.counted("failed") == 0

        fuzz()
        garbage()
        runner.run(stack.aclose())


def test_a_bridge_without_a_secret_says_at_its_start_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("\n")
    nylas = load(NylasSettings, {"NYLAS_WEBHOOK_SECRETS_FILE": str(file)})
    metrics = BridgeMetrics(CollectorRegistry())
    intake = SimpleNamespace(secrets=())
    with capture_logs() as logged:
        use_secrets(cast(Any, intake), metrics, nylas, load(BridgeSettings, {}), first=True)
        use_secrets(cast(Any, intake), metrics, nylas, load(BridgeSettings, {}))
    (line,) = logged
    assert "NYLAS_WEBHOOK_SECRETS_FILE" in line["event"]


async def test_the_metrics_say_since_when_a_notification_waits_for_the_broker(
    bridge: RunningBridge,
) -> None:
    began, acknowledged = time.time(), asyncio.Event()
    assert bridge.metric("last_webhook_timestamp_seconds") == 0
    assert bridge.metric("oldest_unfinished_timestamp_seconds") >= began
    bridge.broker.behave = lambda _: acknowledged
    sending = asyncio.create_task(bridge.post(contact_body("g", "c")))
    await until(lambda: bridge.in_flight == 1, "the notification waits", 10)
    waiting_since = bridge.metric("oldest_unfinished_timestamp_seconds")
    assert began - 0.001 <= waiting_since <= time.time()
    assert bridge.metric("oldest_unfinished_timestamp_seconds") == waiting_since
    acknowledged.set()
    assert (await sending).status == 200
    assert bridge.metric("oldest_unfinished_timestamp_seconds") > waiting_since
    assert began <= bridge.metric("last_webhook_timestamp_seconds") <= time.time()
