"""Repeats requests of the reader that fail for a reason that passes, until they succeed.

None of these waits has a deadline: the reader has nothing else to do, and a run that is cancelled
or a process that stops cancels the task that waits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog
from confluent_kafka import KafkaException

from connectors.nylas.errors import Passing
from streams.kafka.publisher import Publisher, PublishFailed
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import SnapshotStalled
from streams.reader.context import Publish
from streams.runtime.current_work import waiting_on_purpose
from streams.runtime.ops import Health

log = structlog.get_logger()

ResultT = TypeVar("ResultT")

# Before records are published again. The publisher has waited for its delivery time-out already.
PUBLISH_RETRY_SECONDS = 1.0

# Before the broker is asked for offsets again. A restarted broker answers within moments.
BROKER_RETRY_SECONDS = 1.0

# Before a topic is read to its end again, which takes a core for a while.
SNAPSHOT_RETRY_SECONDS = 60.0

# Before the grants are listed again. The client has repeated the call for minutes already.
GRANT_LISTING_RETRY_SECONDS = 60.0


def retrying_publish(publisher: Publisher, health: Health) -> Publish:
    """A `Publish` that publishes records again until the broker acknowledges them.

    The process is reported as not ready meanwhile. Raises PublishFailed when the broker refuses a
    record itself: a topic is not as `contactstream topics check` wants it. Raises it as well when
    our user may not write, or the producer cannot publish any more. These end the process.

    The wait is one on purpose: the publisher's own work is watched.
    """

    async def publish(records: Sequence[KafkaRecord]) -> None:
        with waiting_on_purpose():
            await until_acknowledged(records)

    async def until_acknowledged(records: Sequence[KafkaRecord]) -> None:
        logged = ""
        while True:
            try:
                await publisher.publish(records)
            except PublishFailed as error:
                if error.permanent or error.fatal or error.denied:
                    raise
                if str(error) != logged:
                    logged = str(error)
                    log.warning("Kafka did not acknowledge; it is repeated", error=logged)
                health.waiting(f"the broker does not acknowledge: {error}")
                await asyncio.sleep(PUBLISH_RETRY_SECONDS)
            else:
                health.ready()
                return

    return publish


async def until_broker_answers(question: Callable[[], ResultT], health: Health) -> ResultT:
    """The answer of the broker; `question` blocks and runs in a thread."""
    logged = ""
    while True:
        try:
            return await asyncio.to_thread(question)
        except KafkaException as error:
            if str(error) != logged:
                logged = str(error)
                log.warning("Kafka did not answer; it is asked again", error=logged)
            health.waiting(f"the broker does not answer: {error}")
            with waiting_on_purpose():
                await asyncio.sleep(BROKER_RETRY_SECONDS)


async def until_snapshot_read(work: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """The result of `work`, which reads topics to their ends."""
    while True:
        try:
            return await work()
        except (SnapshotStalled, KafkaException) as error:
            log.warning(
                "reading a topic to its end failed; it is repeated",
                seconds=SNAPSHOT_RETRY_SECONDS,
                error=str(error),
            )
            with waiting_on_purpose():
                await asyncio.sleep(SNAPSHOT_RETRY_SECONDS)


async def until_nylas_answers(call: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """The answer of Nylas. Raises NylasError for a fault that does not pass."""
    while True:
        try:
            return await call()
        except Passing as fault:
            log.warning(
                "Nylas did not answer; the call is repeated",
                seconds=GRANT_LISTING_RETRY_SECONDS,
                fault=str(fault),
            )
            with waiting_on_purpose():
                await asyncio.sleep(GRANT_LISTING_RETRY_SECONDS)
