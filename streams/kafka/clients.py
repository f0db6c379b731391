"""The Kafka clients' configuration, in one place because the promises hang on it, and the wait for
a broker.
"""

import time
from collections.abc import Callable
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streams.settings import KafkaSettings

PARTITIONER = "murmur2_random"
"""Java's, and Faust's. librdkafka's default (crc32) would send a contact to another partition than
the one it is in.
"""

MAX_MESSAGE_BYTES = 3 * 1024 * 1024
"""The largest record: a signed notification of up to 1 MB, escaped, with our headers. The default
of Kafka and librdkafka (1 MB) would refuse it.
"""

log = structlog.get_logger()

SAME_ERROR_SECONDS = 30.0  # between two lines on the same error of a client
METADATA_SECONDS = 5.0  # one metadata request; short, so that a stage that waits notices a signal


class ErrorLog:
    """Logs what a client reports of its connections: librdkafka itself would print twenty lines a
    second while a broker is away.
    """

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def __call__(self, error: KafkaError) -> None:
        """As a client's `error_cb`; called from its `poll`."""
        now = time.monotonic()
        if now >= self._said.get(error.name(), now):
            self._said[error.name()] = now + SAME_ERROR_SECONDS
            log.warning("kafka", code=error.name(), error=error.str())


def client_config(kafka: KafkaSettings) -> dict[str, Any]:
    """What producers, consumers and admin clients share."""
    config: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": kafka.security_protocol,
        # A restarted broker is found again within a second; the default backs off to 10 s.
        "reconnect.backoff.max.ms": 1000,
        "log_level": 4,
        "error_cb": ErrorLog(),
    }
    if kafka.ssl_ca_location:
        config["ssl.ca.location"] = kafka.ssl_ca_location
    if kafka.security_protocol.startswith("SASL"):
        config |= {
            "sasl.mechanism": kafka.sasl_mechanism,
            "sasl.username": kafka.sasl_username,
            "sasl.password": kafka.sasl_password.get_secret_value(),
        }
    return config


def producer_config(
    kafka: KafkaSettings, *, delivery_timeout: float, linger_ms: float = 5
) -> dict[str, Any]:
    """An idempotent producer whose records are acknowledged by all in-sync replicas or reported
    within `delivery_timeout` seconds.
    """
    return client_config(kafka) | {
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": PARTITIONER,
        "delivery.timeout.ms": int(delivery_timeout * 1000),
        "linger.ms": linger_ms,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "compression.type": "lz4",
    }


def consumer_config(
    kafka: KafkaSettings, group_id: str, *, session_timeout: float, max_poll: float = 60.0
) -> dict[str, Any]:
    """A consumer whose offsets are committed by hand.

    cooperative-sticky: with the default assignor a joining standby takes the partition away;
    tests/faults/test_fences.py shows both. `max_poll` seconds without a poll mean that the process
    hangs: its partition goes to the standby.
    """
    return client_config(kafka) | {
        "group.id": group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # see `starting_offsets`: a position out of the log is a loss, never a default
        "auto.offset.reset": "error",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": int(session_timeout * 1000),
        "heartbeat.interval.ms": int(session_timeout * 1000 / 5),
        "max.poll.interval.ms": int(max(max_poll, session_timeout) * 1000),
        "isolation.level": "read_committed",
        "fetch.message.max.bytes": MAX_MESSAGE_BYTES,
        # Bounds what waits in memory for a paused consumer; the default would hold 64 MB for
        # each partition.
        "queued.max.messages.kbytes": 16_384,
    }


class BrokerUnavailable(RuntimeError):
    """No broker answered within the time given."""


def wait_for_broker(
    kafka: KafkaSettings,
    topics: list[str],
    *,
    stopped: Callable[[], bool],
    waiting: Callable[[str], None],
    deadline: float | None = None,
) -> bool:
    """Returns True once a broker answers and every topic is there, False when `stopped()` turned
    true.

    A stage waits instead of dying: under a cluster's restart back-off an outage of a minute would
    become five. `waiting` is told why, for the readiness probe. With a `deadline` (seconds) it
    raises BrokerUnavailable; without, only `stopped` ends it.
    """
    admin = AdminClient(client_config(kafka))
    ends = None if deadline is None else time.monotonic() + deadline
    while not stopped():
        admin.poll(0)  # reported errors would pile up else
        try:
            known = admin.list_topics(timeout=METADATA_SECONDS).topics
            missing = [name for name in topics if name not in known]
            if not missing:
                return True
            reason = f"topics are missing: {', '.join(missing)}; run: contactstream topics create"
        except KafkaException as error:
            reason = f"no broker answers at {kafka.bootstrap_servers}: {error.args[0].str()}"
        waiting(reason)
        if ends is not None and time.monotonic() > ends:
            raise BrokerUnavailable(reason)
        time.sleep(0.2)
    return False
