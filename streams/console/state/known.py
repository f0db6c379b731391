"""Follows the topics from which the console knows people, dead letters and grants."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog
from confluent_kafka import KafkaException

from streams.console.reading import NotReadable
from streams.console.state.control import ControlState
from streams.console.state.gauges import ConsoleGauges
from streams.console.state.grants import GrantState
from streams.console.state.letters import LetterState
from streams.console.state.people import PeopleState
from streams.kafka.followed import FollowedTopic
from streams.kafka.polling import TopicReplaced
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import SnapshotStalled
from streams.settings import KafkaSettings
from streams.topics import group, topics

log = structlog.get_logger()

# Between two updates of the metrics: less than between two scrapes.
GAUGES_SECONDS = 5.0

# Until a topic is followed again that was deleted, or that the broker refused.
FOLLOW_AGAIN_SECONDS = 5.0

# For what was added to a topic since the last look. A person waits for the page.
CATCH_UP_SECONDS = 10.0


class Followed(Protocol):
    """A topic that is read to its end and then followed."""

    async def ready(self) -> None:
        """Returns if the topic was read. Raises NotReadable while it is being read."""

    async def catch_up(self) -> None:
        """Returns once everything is known that the topic holds now. Raises NotReadable."""


class Following:
    """Keeps a state current, also when its topic is made anew."""

    def __init__(
        self, kafka: KafkaSettings, topic: str, take: Callable[[KafkaRecord], object]
    ) -> None:
        self._kafka, self._topic, self._given = kafka, topic, take
        self._followed = self._open()
        self.records = 0
        """Records that were read so far."""

    def _open(self) -> FollowedTopic:
        return FollowedTopic(self._kafka, self._topic, group(self._kafka, "console"), self._take)

    def _take(self, record: KafkaRecord) -> None:
        self.records += 1
        self._given(record)

    @property
    def caught_up(self) -> bool:
        """Whether the topic was read to its end."""
        return self._followed.caught_up.is_set()

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            try:
                await self._followed.run()
            except (KafkaException, TopicReplaced) as error:
                log.warning("topic cannot be followed", topic=self._topic, error=str(error))
            await asyncio.sleep(FOLLOW_AGAIN_SECONDS)
            self._followed = self._open()

    async def ready(self) -> None:
        """Returns if the topic was read. Raises NotReadable while it is being read."""
        if not self.caught_up:
            raise NotReadable(
                f"{self._topic} is being read; {self.records:,} records so far. Look again in a "
                "few seconds."
            )

    async def catch_up(self) -> None:
        """Returns once everything is known that the topic holds now. Raises NotReadable."""
        await self.ready()
        try:
            await self._followed.catch_up(CATCH_UP_SECONDS)
        except (SnapshotStalled, KafkaException) as error:
            raise NotReadable(f"{self._topic}: {error}; nothing was changed. Try again.") from error


class KnownState:
    """What the console knows, and where it comes from."""

    def __init__(self, kafka: KafkaSettings) -> None:
        names = topics(kafka)
        self.people = PeopleState()
        self.letters = LetterState(names)
        self.grants = GrantState()
        self.control = ControlState()
        self.outcomes_topic = Following(kafka, names.outcomes.name, self.people.take)
        self.letters_topic = Following(kafka, names.dead_letter.name, self.letters.take)
        self.grants_topic = Following(kafka, names.grants.name, self.grants.take)
        self.control_topic = Following(kafka, names.control.name, self.control.take)

    async def run(self, gauges: ConsoleGauges) -> None:
        """Follows the topics, and sets the metrics, until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for topic in (
                self.outcomes_topic,
                self.letters_topic,
                self.grants_topic,
                self.control_topic,
            ):
                tasks.create_task(topic.run())
            tasks.create_task(self._show(gauges))

    async def _show(self, gauges: ConsoleGauges) -> None:
        while True:
            if self.outcomes_topic.caught_up:
                gauges.show_people(self.people)
            if self.letters_topic.caught_up:
                gauges.show_letters(self.letters)
            await asyncio.sleep(GAUGES_SECONDS)
