"""The configuration of all Kafka clients, and the wait for a broker.

It is in one place because the guarantees depend on it.
"""

import time
from collections.abc import Callable
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streams.kafka.security import librdkafka_security
from streams.runtime.logs import CLIENT_LOGGER, process_name
from streams.settings import KafkaSettings

PARTITIONER = "murmur2_random"
"""The partitioner of Kafka's Java client and of Faust. librdkafka's default (crc32) would send a
key to another partition than the one that holds it.
"""

MAX_MESSAGE_BYTES = 3 * 1024 * 1024
"""The largest record: a signed notification of up to 1 MB, escaped as JSON, with our headers. Kafka
and librdkafka refuse more than 1 MB by default.
"""

BATCH_BYTES = 1_000_000
"""The largest batch of records that a producer makes, with its framing. A larger record is sent
alone. Every topic takes batches of this size by Kafka's defaults.
"""

log = structlog.get_logger()

# Between two log lines about the same error of a client.
SAME_ERROR_SECONDS = 30.0

# One metadata request. Short, so that a process that waits for a broker notices a signal soon.
METADATA_SECONDS = 5.0

# Between two questions whether a broker answers and the topics exist.
BROKER_CHECK_SECONDS = 0.2


class ErrorLog:
    """Logs the errors that a client reports, each at most every SAME_ERROR_SECONDS.

    librdkafka itself would print twenty lines a second while a broker is away. `count` is called
    with the name of every error.
    """

    __slots__ = ("_count", "_quiet_until")

    def __init__(self, count: Callable[[str], None] = lambda _name: None) -> None:
        self._count = count
        self._quiet_until: dict[str, float] = {}

    def __call__(self, error: KafkaError) -> None:
        """Serves as a client's `error_cb`, which the client calls within its `poll`."""
        self._count(error.name())
        now = time.monotonic()
        if now >= self._quiet_until.get(error.name(), now):
            self._quiet_until[error.name()] = now + SAME_ERROR_SECONDS
            log.warning("kafka client error", code=error.name(), error=error.str())


def client_config(kafka: KafkaSettings) -> dict[str, Any]:
    """The settings that producers, consumers and admin clients share."""
    return librdkafka_security(kafka) | {
        "bootstrap.servers": kafka.bootstrap_servers,
        "client.id": f"{kafka.topic_prefix}contactstream-{process_name()}",
        # So that a restarted broker is found again within a second; the default backs off to 10 s.
        "reconnect.backoff.max.ms": 1000,
        "log_level": 4,
        # librdkafka's own lines, some twenty a second while a broker is away.
        "logger": CLIENT_LOGGER,
        "error_cb": ErrorLog(),
    }


def producer_config(
    kafka: KafkaSettings, *, delivery_timeout: float, linger_ms: float = 5
) -> dict[str, Any]:
    """The settings of an idempotent producer that waits for all in-sync replicas.

    A record that is not acknowledged within `delivery_timeout` seconds is reported as failed.
    """
    return client_config(kafka) | {
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": PARTITIONER,
        "delivery.timeout.ms": int(delivery_timeout * 1000),
        "linger.ms": linger_ms,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "batch.size": BATCH_BYTES,
        "compression.type": "lz4",
    }


def consumer_config(
    kafka: KafkaSettings, group_id: str, *, session_timeout: float, max_poll: float = 60.0
) -> dict[str, Any]:
    """The settings of a group's consumer whose offsets are committed explicitly.

    The assignor is cooperative-sticky: with the default one a joining standby takes the partition
    away from the active process; tests/faults/test_fences.py shows both. A process that does not
    poll for `max_poll` seconds hangs; its partitions go to the other members.
    """
    return client_config(kafka) | {
        "group.id": group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # A position outside of the log means lost records: an error, never a silent reset. See
        # `starting_offsets`.
        "auto.offset.reset": "error",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": int(session_timeout * 1000),
        "heartbeat.interval.ms": int(session_timeout * 1000 / 5),
        "max.poll.interval.ms": int(max(max_poll, session_timeout) * 1000),
        "isolation.level": "read_committed",
        "fetch.message.max.bytes": MAX_MESSAGE_BYTES,
        # Bounds the memory of a paused consumer; the default is 64 MB for each partition.
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
    """Blocks until a broker answers and every topic exists; False when `stopped()` became true.

    A process waits instead of ending itself: under Kubernetes' restart back-off an outage of a
    minute would become five. `waiting` gets the reason, for the readiness probe.

    With a `deadline` (seconds) it raises BrokerUnavailable when that has passed; without one only
    `stopped` ends the wait.
    """
    admin = AdminClient(client_config(kafka))
    ends = None if deadline is None else time.monotonic() + deadline
    while not stopped():
        admin.poll(0)  # serves `error_cb`; otherwise reported errors would pile up
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
        time.sleep(BROKER_CHECK_SECONDS)
    return False
