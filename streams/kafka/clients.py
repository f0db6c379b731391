"""The configuration of all Kafka clients, and the wait for a broker.

It is in one place because the guarantees depend on it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streams.kafka.access import (
    Acl,
    allowed_operations,
    denied_group,
    explain_missing,
    missing_operations,
)
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


def helper_group(kafka: KafkaSettings, purpose: str) -> str:
    """The group of a consumer that joins none. librdkafka demands one, and asks who coordinates it.

    Its name begins as that of the process's own group, so that the same ACL covers both.
    """
    return f"{kafka.topic_prefix}contactstream-{process_name()}-{purpose}"


class BrokerUnavailable(RuntimeError):
    """No broker answered within the time given, or it refuses our user."""


class LastError:
    """Keeps the last error of a client: why no broker answers is said there alone.

    `then` gets each error as well.
    """

    __slots__ = ("_then", "text")

    def __init__(self, then: Callable[[KafkaError], None] = lambda _error: None) -> None:
        self._then = then
        self.text = ""

    def __call__(self, error: KafkaError) -> None:
        """Serves as a client's `error_cb`, which the client calls within its `poll`."""
        self._then(error)
        # This one follows every other, and says nothing.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            # Without how long that attempt took, so that the reason stays the same.
            self.text = error.str().partition(" (after ")[0]


def wait_for_broker(
    kafka: KafkaSettings,
    topics: Sequence[str],
    *,
    stopped: Callable[[], bool],
    waiting: Callable[[str], None],
    deadline: float | None = None,
    needs: Sequence[Acl] = (),
) -> bool:
    """Blocks until a broker answers, every topic exists, and the operations of `needs` are allowed.

    Returns False when `stopped()` became true. Of `needs` those count that are about `topics`, and
    those about groups.

    A process waits instead of ending itself: under Kubernetes' restart back-off an outage of a
    minute would become five. `waiting` gets the reason, for the readiness probe; a refusal is
    logged too.

    With a `deadline` (seconds) it raises BrokerUnavailable when that has passed, and at once for a
    refusal, because a person waits; without one only `stopped` ends the wait.
    """
    last_error = LastError(ErrorLog())
    admin = AdminClient(client_config(kafka) | {"error_cb": last_error})
    ends = None if deadline is None else time.monotonic() + deadline
    refused = ""
    while not stopped():
        admin.poll(0)  # serves `error_cb`; otherwise reported errors would pile up
        try:
            known = admin.list_topics(timeout=METADATA_SECONDS).topics
            absent = [name for name in topics if name not in known]
            asked = topics if needs else absent
            allowed = allowed_operations(admin, asked) if asked else {}
        except KafkaException as error:
            admin.poll(0)
            reason = f"no broker answers at {kafka.bootstrap_servers}: {error.args[0].str()}"
            if last_error.text:
                reason += f" ({last_error.text})"
        else:
            if denied := _denied(kafka, needs, absent, allowed):
                reason = explain_missing(denied, kafka)
                if ends is not None:
                    raise BrokerUnavailable(reason)
                if reason != refused:
                    log.warning("Kafka does not allow what this process does", reason=reason)
                refused = reason
            elif absent:
                reason = (
                    f"topics are missing: {', '.join(absent)}; if KAFKA_TOPIC_PREFIX is right, "
                    "run: contactstream topics create"
                )
            else:
                return True
        waiting(reason)
        if ends is not None and time.monotonic() > ends:
            raise BrokerUnavailable(reason)
        time.sleep(BROKER_CHECK_SECONDS)
    return False


def _denied(
    kafka: KafkaSettings,
    needs: Sequence[Acl],
    absent: Sequence[str],
    allowed: Mapping[str, frozenset[str]],
) -> list[Acl]:
    """Which of `needs` the broker does not allow; without `needs`, which topics it hides.

    Without Describe a topic is absent from the broker's list, whether it exists or not.
    """
    if not needs:
        hidden = [Acl("topic", name, ("Describe",)) for name in absent if name in allowed]
        return missing_operations(hidden, allowed)
    missing = missing_operations(needs, allowed)
    if absent and not missing:
        return []  # the topics come first; each question about a group costs a client
    groups = [acl for acl in needs if acl.kind == "group" and denied_group(kafka, acl)]
    return [*missing, *groups]
