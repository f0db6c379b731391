"""Another deployment in the same cluster while a replay fills it: its topics, and when to wait."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog
from confluent_kafka import KafkaException

from streams.control import ControlTable, open_breakers
from streams.kafka.followed import FollowedTopic
from streams.kafka.lag import LagReader
from streams.kafka.polling import TopicReplaced
from streams.reader.context import ReaderContext
from streams.reader.gate import flow_gate
from streams.reader.reading_pause import ReadingPause
from streams.runs import ReplayTarget
from streams.settings import KafkaSettings
from streams.topics import group, topics

log = structlog.get_logger()

# Until the control topic of the other deployment is opened again after an error.
RETRY_SECONDS = 5.0


class Control:
    """What the other deployment's contactstream.control says, as far as it is known."""

    def __init__(self) -> None:
        self._table = ControlTable()
        self._followed: FollowedTopic | None = None

    def begin(self, kafka: KafkaSettings) -> FollowedTopic:
        """The topic, to be read from its start; until its end nothing is known."""
        self._table = table = ControlTable()
        names = topics(kafka)
        self._followed = FollowedTopic(
            kafka, names.control.name, group(kafka, "reader-work"), table.apply
        )
        return self._followed

    def end(self) -> None:
        """The topic cannot be read now."""
        self._followed = None

    def stops_bulk(self) -> bool:
        """Whether one of its failure breakers is open. True while that is not known."""
        known = self._followed is not None and self._followed.caught_up.is_set()
        return not known or bool(open_breakers(self._table.breakers.values()))


class OtherDeployments:
    """Opens the deployment that a replay fills, for as long as the replay takes."""

    def __init__(
        self,
        kafka: KafkaSettings,
        context: ReaderContext,
        lags: LagReader,
        max_lag: int,
        pause: ReadingPause,
    ) -> None:
        self._kafka, self._context, self._lags, self._max_lag = kafka, context, lags, max_lag
        self._pause = pause

    @asynccontextmanager
    async def open(self, target: ReplayTarget) -> AsyncIterator[ReaderContext]:
        """The context for publishing there.

        Its gate waits while that deployment lags, while one of its failure breakers is open, while
        that cannot be read, and while reading is paused here.
        """
        update = {"topic_prefix": target.prefix, "events_partitions": target.partitions}
        kafka = self._kafka.model_copy(update=update)
        control = Control()

        def stopped_by() -> str:
            if self._pause.ends_seconds():
                return "paused"
            return "breaker" if control.stops_bulk() else ""

        gate = flow_gate(kafka, self._lags, self._max_lag, self._context.metrics, stopped_by)
        following = asyncio.create_task(_follow(control, lambda: control.begin(kafka)))
        try:
            yield replace(self._context, topics=topics(kafka), gate=gate)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def _follow(control: Control, begin: Callable[[], FollowedTopic]) -> None:
    """Works until it is cancelled. What is wrong with another deployment does not end a reader."""
    while True:
        try:
            await begin().run()
        except (KafkaException, TopicReplaced) as error:
            control.end()
            log.warning(
                "the replay waits: contactstream.control of the deployment that it fills cannot be "
                "read; create it with contactstream topics create, or cancel the run",
                error=str(error),
            )
        await asyncio.sleep(RETRY_SECONDS)
