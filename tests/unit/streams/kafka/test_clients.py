"""What all Kafka clients have in common: a name, a prefix, and where their own lines go."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from confluent_kafka import Consumer, Producer

from streams.kafka.clients import client_config, consumer_config, producer_config
from streams.runtime.logs import CLIENT_LOGGER, RateLimit, configure, configure_command
from streams.settings import KafkaSettings, ProcessSettings, load

# Nothing listens there: port 1 needs a privilege that no test server has.
KAFKA = load(
    KafkaSettings,
    {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "KAFKA_TOPIC_PREFIX": "org2."},
)


@pytest.fixture
def restored() -> Iterator[None]:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    filters = CLIENT_LOGGER.filters[:]
    CLIENT_LOGGER.filters[:] = [RateLimit()]  # other tests may have logged just now
    yield
    CLIENT_LOGGER.filters[:] = filters
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()


def test_every_client_has_a_name_with_the_prefix() -> None:
    for config in (
        client_config(KAFKA),
        producer_config(KAFKA, delivery_timeout=1.0),
        consumer_config(KAFKA, "org2.contactstream-sink", session_timeout=10.0),
    ):
        assert config["client.id"].startswith("org2.contactstream-")


@pytest.mark.usefixtures("restored")
def test_librdkafkas_own_lines_are_few_and_in_our_form(capfd: pytest.CaptureFixture[str]) -> None:
    configure(load(ProcessSettings, {"OPS_LOG_FORMAT": "json"}), "sink")
    producer = Producer(producer_config(KAFKA, delivery_timeout=1.0))
    consumer = Consumer(consumer_config(KAFKA, "g", session_timeout=10.0))
    for _ in range(30):
        producer.poll(0.05)
        consumer.poll(0.05)
    consumer.close()
    lines = capfd.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 12
    assert all(json.loads(line)["stage"] == "sink" for line in lines)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("form", ["json", "console"])
def test_librdkafkas_lines_are_few_in_a_short_command_too(
    form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_command({"OPS_LOG_FORMAT": form})
    producer = Producer(producer_config(KAFKA, delivery_timeout=1.0))
    for _ in range(20):
        producer.poll(0.05)
    printed = capfd.readouterr()
    lines = printed.err.splitlines()
    assert 1 <= len(lines) <= 6
    assert not any(line.startswith("%") for line in lines)
    assert printed.out == "", "programs read it"
    if form == "json":
        assert all(json.loads(line)["stage"] == "command" for line in lines)
