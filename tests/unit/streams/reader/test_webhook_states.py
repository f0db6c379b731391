"""What Nylas says of the webhooks is shown as a metric, asked for at a bounded interval."""

import asyncio
from collections.abc import Sequence

import pytest
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from connectors.nylas.client import NylasClient
from connectors.nylas.destinations import STATUSES, TRIGGERS, Destination
from connectors.nylas.simulator import app
from connectors.nylas.simulator.world import World
from streams.metrics import WEBHOOK_STATES, ReaderMetrics
from streams.reader.webhook_states import (
    FIRST_QUESTION_SECONDS,
    QUESTION_SECONDS,
    count_states,
    watch_webhooks,
)


def destination(status: str, triggers: Sequence[str] = TRIGGERS) -> Destination:
    return Destination("d", "https://x.example", status, tuple(triggers))


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_of_nylas_is_a_state(status: str) -> None:
    states = count_states([destination(status)])
    assert [state for state, number in states.items() if number] == [status]
    assert set(states) == set(WEBHOOK_STATES)


def test_a_webhook_of_another_program_is_not_ours() -> None:
    assert count_states([destination("failed", ("message.created",))])["failed"] == 0


def test_no_webhook_at_all_is_missing() -> None:
    assert count_states([])["missing"] == 1


def test_a_status_that_nylas_does_not_document_is_unknown() -> None:
    assert count_states([destination("snoozed")])["unknown"] == 1


async def test_nylas_is_asked_once_in_ten_minutes_and_its_last_answer_stands() -> None:
    registry = CollectorRegistry()
    metrics = ReaderMetrics(registry)
    webhook = {"url": "https://x.example", "secret": "s", "trigger_types": list(TRIGGERS)}
    world = World.from_json({"webhook": webhook})
    (ours,) = world.destinations.values()
    slept: list[float] = []
    seen: list[dict[str, float]] = []

    def shown() -> dict[str, float]:
        return {
            state: registry.get_sample_value("contactstream_reader_webhooks", {"state": state}) or 0
            for state in WEBHOOK_STATES
        }

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        seen.append({state: number for state, number in shown().items() if number})
        if len(slept) == 2:
            ours.status = "failing"
        if len(slept) == 3:
            world.api_key = "another one"
        if len(slept) == 4:
            raise asyncio.CancelledError

    async with (
        TestServer(app(world)) as server,
        NylasClient(str(server.make_url("/")), "sim-api-key") as client,
    ):
        with pytest.raises(asyncio.CancelledError):
            await watch_webhooks(client, metrics.webhooks, sleep)
    assert slept == [FIRST_QUESTION_SECONDS, *[QUESTION_SECONDS] * 3]
    assert seen == [{"unknown": 1}, {"active": 1}, {"failing": 1}, {"failing": 1}]
    assert world.calls["webhooks"] == 3
