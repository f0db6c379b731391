"""When a replay into another deployment waits for that deployment's failure breakers."""

from typing import Any

import pytest

from streams.control import FailureBreaker, FailuresSeen, Stops, breaker_record, released
from streams.kafka.followed import FollowedTopic
from streams.reader.other_deployment import Control
from streams.settings import KafkaSettings, load
from streams.topics import topics

KAFKA = load(KafkaSettings, {"KAFKA_TOPIC_PREFIX": "sandbox."})
BREAKER = FailureBreaker("TOO_LONG", Stops.BULK, 1, FailuresSeen(10, 500))


@pytest.fixture
def takes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The functions to which each followed topic gives its records."""
    found: list[Any] = []
    begun = FollowedTopic.__init__

    def begin(self: FollowedTopic, kafka: Any, topic: str, group_id: str, take: Any) -> None:
        assert topic == "sandbox.contactstream.control"
        found.append(take)
        begun(self, kafka, topic, group_id, take)

    monkeypatch.setattr(FollowedTopic, "__init__", begin)
    return found


def test_bulk_waits_until_the_control_topic_is_known_and_while_a_breaker_is_open(
    takes: list[Any],
) -> None:
    control = Control()
    assert control.stops_bulk(), "nothing was read"
    followed = control.begin(KAFKA)
    assert control.stops_bulk(), "the end was not reached"
    followed.caught_up.set()
    assert not control.stops_bulk()
    names = topics(KAFKA)
    takes[0](breaker_record(names, BREAKER))
    assert control.stops_bulk()
    takes[0](breaker_record(names, released(BREAKER, "ada", 2, 3600)))
    assert not control.stops_bulk()


def test_what_was_known_before_an_error_does_not_count(takes: list[Any]) -> None:
    control = Control()
    control.begin(KAFKA).caught_up.set()
    takes[0](breaker_record(topics(KAFKA), BREAKER))
    control.end()
    assert control.stops_bulk()
    control.begin(KAFKA).caught_up.set()
    assert not control.stops_bulk(), "the topic was made anew, without the breaker"
    assert len(takes) == 2
