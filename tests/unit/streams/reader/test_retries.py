"""What the reader repeats until it succeeds, and what ends it."""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from streams.kafka.endings import ending
from streams.kafka.publisher import PublishFailed
from streams.reader import retries
from streams.reader.retries import retrying_publish, until_broker_answers
from streams.runtime.exit_codes import ExitCode
from streams.runtime.ops import Health


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PUBLISH_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(retries, "BROKER_RETRY_SECONDS", 0.0)


class FailingPublisher:
    """Fails with each of the errors, then succeeds; notes why the reader is not ready meanwhile."""

    def __init__(self, health: Health, *errors: PublishFailed) -> None:
        self._health, self._errors = health, list(errors)
        self.reasons: list[str] = []

    async def publish(self, _records: Any) -> None:
        self.reasons.append(self._health.waiting_for)
        if self._errors:
            raise self._errors.pop(0)


async def test_an_outage_is_repeated_and_logged_once_for_each_reason() -> None:
    health = Health(60.0)
    away = PublishFailed("no acknowledgement")
    publisher: Any = FailingPublisher(health, away, away, away)
    with capture_logs() as logged:
        await retrying_publish(publisher, health)([])
    assert [line["error"] for line in logged] == ["no acknowledgement"]
    assert set(publisher.reasons[1:]) == {"the broker does not acknowledge: no acknowledgement"}
    assert health.waiting_for == ""


@pytest.mark.parametrize("kind", ["denied", "permanent", "fatal"])
async def test_a_refusal_ends_the_reader(kind: str) -> None:
    health = Health(60.0)
    publisher: Any = FailingPublisher(health, PublishFailed("reader.runs: refused", **{kind: True}))
    with pytest.raises(PublishFailed) as raised:
        await retrying_publish(publisher, health)([])
    assert ending(raised.value) == (ExitCode.KAFKA_REFUSED, "reader.runs: refused")


async def test_a_broker_that_does_not_answer_is_asked_again_and_logged_once() -> None:
    health = Health(60.0)
    answers: list[Callable[[], int]] = [fail, fail, lambda: 7]
    with capture_logs() as logged:
        assert await until_broker_answers(lambda: answers.pop(0)(), health) == 7
    assert len(logged) == 1
    assert "the group dedupe is refused" in logged[0]["error"]
    assert "the group dedupe is refused" in health.waiting_for


def fail() -> int:
    raise KafkaException(
        KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED, "the group dedupe is refused")
    )
