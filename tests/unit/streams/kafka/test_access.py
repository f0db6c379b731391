"""What a broker allows is compared with what a process needs; a silent broker proves nothing."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AclOperation  # type: ignore[attr-defined]
from structlog.testing import capture_logs

from streams.kafka import clients
from streams.kafka.access import Acl, allowed_operations, named_denial
from streams.kafka.clients import BrokerUnavailable, LastError, wait_for_broker
from streams.kafka.publisher import publish_failure
from streams.settings import KafkaSettings, load

KAFKA = load(KafkaSettings, {})
DENIED = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "Topic authorization failed")
UNKNOWN = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, "unknown topic")


class DescribingAdmin:
    """An admin client whose broker has topics, and allows operations with them."""

    def __init__(self, topics: dict[str, list[Any] | KafkaError | None]) -> None:
        self.topics = topics

    def poll(self, _seconds: float) -> int:
        return 0

    def list_topics(self, timeout: float) -> Any:
        assert timeout > 0
        seen = {name for name, said in self.topics.items() if not isinstance(said, KafkaError)}
        return SimpleNamespace(topics=dict.fromkeys(seen))

    def describe_topics(self, asked: Any, **options: Any) -> dict[str, "Future[Any]"]:
        assert options["include_authorized_operations"]
        answers = {}
        for name in asked.topic_names:
            answer: Future[Any] = Future()
            said = self.topics.get(name, UNKNOWN)
            if isinstance(said, KafkaError):
                answer.set_exception(KafkaException(said))
            else:
                answer.set_result(SimpleNamespace(authorized_operations=said))
            answers[name] = answer
        return answers


def allowed(topics: dict[str, Any], *asked: str) -> dict[str, frozenset[str]]:
    return allowed_operations(DescribingAdmin(topics), asked or topics)  # type: ignore[arg-type]


def test_describe_comes_with_read_and_write() -> None:
    assert allowed({"t": [AclOperation.READ]}) == {"t": frozenset({"Read", "Describe"})}
    found = allowed({"t": [AclOperation.DESCRIBE_CONFIGS, AclOperation.DESCRIBE]})
    assert found == {"t": frozenset({"DescribeConfigs", "Describe"})}


def test_of_a_hidden_topic_nothing_is_allowed_and_a_missing_one_is_left_out() -> None:
    assert allowed({"hidden": DENIED}, "hidden", "gone") == {"hidden": frozenset()}


@pytest.mark.parametrize("said", [None, []])
def test_a_broker_that_does_not_know_the_question_allows_everything(said: list[Any] | None) -> None:
    assert allowed({"t": said}) == {}


def test_any_other_error_of_the_broker_is_raised() -> None:
    with pytest.raises(KafkaException, match="time is over"):
        allowed({"t": KafkaError(KafkaError._TIMED_OUT, "time is over")})


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> DescribingAdmin:
    admin = DescribingAdmin({"t": [AclOperation.READ]})
    monkeypatch.setattr(clients, "AdminClient", lambda _config: admin)
    monkeypatch.setattr(clients, "BROKER_CHECK_SECONDS", 0.0)
    return admin


def test_a_stage_waits_for_what_it_needs_and_says_it_once_in_the_log(
    broker: DescribingAdmin,
) -> None:
    reasons: list[str] = []

    def waiting(reason: str) -> None:
        reasons.append(reason)
        if len(reasons) == 3:
            broker.topics["t"] = [AclOperation.READ, AclOperation.WRITE]

    needs = [Acl("topic", "t", ("Read", "Write"))]
    with capture_logs() as logged:
        assert wait_for_broker(KAFKA, ["t"], stopped=lambda: False, waiting=waiting, needs=needs)
    assert len(reasons) == 3
    assert "Write on the topic t. Grant it: kafka-acls.sh" in reasons[0]
    assert [line["reason"] for line in logged] == reasons[:1]


def test_a_topic_that_is_missing_is_not_taken_for_a_refusal(broker: DescribingAdmin) -> None:
    reasons: list[str] = []
    assert not wait_for_broker(
        KAFKA,
        ["t", "gone"],
        stopped=lambda: bool(reasons),
        waiting=reasons.append,
        needs=[Acl("topic", "t", ("Read",)), Acl("group", "g", ("Read",))],
    )
    assert reasons == [
        "topics are missing: gone; if KAFKA_TOPIC_PREFIX is right, run: contactstream topics create"
    ]


def test_a_command_ends_at_once_when_its_topic_is_hidden(broker: DescribingAdmin) -> None:
    broker.topics["t"] = DENIED
    with pytest.raises(BrokerUnavailable, match="Describe on the topic t"):
        wait_for_broker(
            KAFKA, ["t"], stopped=lambda: False, waiting=lambda _: None, deadline=3600.0
        )


def test_why_no_broker_answers_stays_the_same_from_one_attempt_to_the_next() -> None:
    passed: list[str] = []
    last = LastError(lambda error: passed.append(error.str()))
    last(KafkaError(KafkaError._AUTHENTICATION, "wrong password (after 535ms in state AUTH)"))
    last(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert last.text == "wrong password"
    assert len(passed) == 2


def test_only_a_refusal_gets_the_command_that_shows_what_is_needed() -> None:
    other = KafkaError(KafkaError._TRANSPORT, "away")
    assert named_denial(other, "t") is other
    named = named_denial(DENIED, "contacts.events")
    assert named.code() == DENIED.code()
    assert named.str().startswith("contacts.events: Topic authorization failed; our user needs")


@pytest.mark.parametrize(("error", "denied"), [(DENIED, True), (UNKNOWN, False)])
def test_a_publisher_tells_a_refusal_from_an_outage(error: KafkaError, *, denied: bool) -> None:
    failure = publish_failure(error)
    assert (failure.denied, failure.permanent, failure.fatal) == (denied, False, False)
