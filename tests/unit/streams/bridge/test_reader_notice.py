"""The reader hears that the bridge can receive, and that a notification was lost."""

from pathlib import Path

import pytest

from streams.bridge import bodies, intake, reader_notice
from streams.bridge.intake import OverloadHistory
from streams.events import now_ms
from streams.heartbeats import HEARTBEAT_KEY, parse_heartbeat
from streams.kafka.publisher import PublishFailed
from streams.runs import Run, RunKind, parse_run
from tests.support.bridge_harness import LAST_ATTEMPT, NAMES, RunningBridge, running_bridge
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


async def test_what_is_owed_is_requested_before_the_bridge_stops(bridge: RunningBridge) -> None:
    bridge.broker.behave = lambda _: PublishFailed("away")
    assert (await bridge.post(LAST_ATTEMPT)).status == 503
    assert bridge.metric("lost_total", reason="last_attempt") == 1
    answers = [PublishFailed("away"), None]
    bridge.broker.behave = lambda _: answers.pop(0)
    await bridge.notice.settle(5.0)
    assert [run.kind for run in requested(bridge)] == [RunKind.RECONCILE]
    assert not bridge.owed.owed
    await bridge.notice.settle(5.0)
    assert len(requested(bridge)) == 1


async def test_what_is_owed_when_the_bridge_stops_is_requested_at_the_next_start(
    tmp_path: Path,
) -> None:
    file = tmp_path / "owed"
    async with running_bridge(owed_file=file) as first:
        first.broker.behave = lambda _: PublishFailed("away")
        assert (await first.post(LAST_ATTEMPT)).status == 503
        await first.notice.settle(0.0)
    async with running_bridge(owed_file=file) as second:
        await second.publish_notices()
        assert [run.kind for run in requested(second)] == [RunKind.RECONCILE]
    async with running_bridge(owed_file=file) as third:
        await third.publish_notices()
        assert requested(third) == []


async def test_what_is_lost_while_a_request_is_published_is_still_owed(
    bridge: RunningBridge,
) -> None:
    bridge.notice.notification_lost()

    def behave(_: object) -> None:
        bridge.broker.behave = lambda _: None
        bridge.notice.notification_lost()

    bridge.broker.behave = behave
    await bridge.publish_notices()
    assert bridge.owed.owed == 1
    await bridge.publish_notices()
    assert len(requested(bridge)) == 2


async def test_a_folder_that_cannot_be_written_is_said_and_the_request_is_still_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_bridge(owed_file=tmp_path / "missing" / "owed") as bridge:
        bridge.notice.notification_lost()
        assert "contactstream reconcile --all" in "".join(capsys.readouterr())
        await bridge.publish_notices()
        assert len(requested(bridge)) == 1


@pytest.mark.parametrize(
    ("moments", "asked"),
    [
        ([0.0], []),
        ([0.0, 300.0, 599.0], []),
        ([0.0, 600.0], [600.0]),
        ([0.0, 900.0, 910.0], [900.0]),
        ([0.0, 1201.0], []),
        ([float(second) for second in range(0, 1900, 5)], [600.0, 1200.0, 1800.0]),
    ],
)
def test_overload_asks_for_a_reconcile_when_it_may_have_refused_a_last_attempt(
    moments: list[float], asked: list[float]
) -> None:
    history = OverloadHistory()
    assert [moment for moment in moments if history.refused(moment)] == asked


async def test_sustained_overload_asks_for_a_reconcile(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MAX_HELD_BYTES", 10)
    monkeypatch.setattr(intake, "NYLAS_RETRY_SECONDS", 0.0)
    assert (await bridge.post(contact_body("g", "c"))).status == 503
    assert bridge.metric("lost_total", reason="overloaded") == 1
    await bridge.publish_notices()
    assert len(requested(bridge)) == 1
