"""The reader hears that the bridge can receive, and that a notification was lost."""

import pytest

from streams.bridge import reader_notice
from streams.events import now_ms
from streams.heartbeats import HEARTBEAT_KEY, parse_heartbeat
from streams.kafka.publisher import PublishFailed
from streams.runs import Run, RunKind, parse_run
from tests.support.bridge_harness import LAST_ATTEMPT, NAMES, RunningBridge
from tests.support.webhooks import contact_body, envelope_body, sign


async def test_heartbeats_come_at_their_interval_while_notifications_can_be_received(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = now_ms()
    for _ in range(2):
        await bridge.publish_notices()
    assert len(bridge.broker.records) == 1, "the second is not due yet"
    monkeypatch.setattr(reader_notice, "HEARTBEAT_SECONDS", 0.0)
    await bridge.publish_notices()
    assert [record.key for record in bridge.broker.records] == [HEARTBEAT_KEY] * 2
    assert all(
        began <= parse_heartbeat(record.value or b"") <= now_ms()
        for record in bridge.broker.records
    )
    bridge.intake.secrets = ()
    await bridge.publish_notices()
    assert len(bridge.broker.records) == 2, "without a secret nothing can be received"


async def test_a_heartbeat_that_is_not_acknowledged_shows_that_the_broker_is_lost_and_is_sent_again(
    bridge: RunningBridge,
) -> None:
    bridge.broker.behave = lambda _: PublishFailed("away")
    await bridge.publish_notices()
    assert bridge.status.lost.is_set()

    bridge.broker.behave = lambda _: None
    await bridge.publish_notices()
    assert [record.key for record in bridge.broker.records] == [HEARTBEAT_KEY]


def requested(bridge: RunningBridge) -> list[Run]:
    """The runs that the bridge requested."""
    return [
        parse_run(record.value or b"")
        for record in bridge.broker.records
        if record.topic == NAMES.runs.name and record.key != HEARTBEAT_KEY
    ]


async def test_after_a_refused_last_attempt_one_reconcile_is_requested_once_the_broker_is_back(
    bridge: RunningBridge,
) -> None:
    bridge.broker.behave = lambda _: PublishFailed("away")
    assert (await bridge.post(LAST_ATTEMPT)).status == 503
    await bridge.publish_notices()
    assert requested(bridge) == []
    bridge.broker.behave = lambda _: None
    for _ in range(2):
        await bridge.publish_notices()
    (run,) = requested(bridge)
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
async def test_no_reconcile_is_requested_for_an_unsigned_request_or_one_that_nylas_sends_again(
    bridge: RunningBridge, raw: bytes, signature: str | None
) -> None:
    bridge.broker.behave = lambda _: PublishFailed("away")
    assert (await bridge.post(raw, X_Nylas_Signature=signature or sign(raw))).status in {401, 503}
    bridge.broker.behave = lambda _: None
    await bridge.publish_notices()
    assert requested(bridge) == []
