"""Follows a topic of one partition: reads it from its start, and then what is added to it.

For a small compacted topic that a process has to know as it is now.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from streams.kafka.assigned import AssignedPartition
from streams.kafka.polling import OffsetOutOfRange
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import SnapshotStalled
from streams.settings import KafkaSettings


class Followed(Protocol):
    """One topic that is followed, or several together."""

    async def run(self) -> None:
        """See FollowedTopic.run."""
        ...

    async def catch_up(self, seconds: float) -> None:
        """See FollowedTopic.catch_up."""
        ...


class FollowedTopics:
    """Several topics that a process has to know before it works."""

    def __init__(self, *topics: "FollowedTopic") -> None:
        self._topics = topics

    async def run(self) -> None:
        """Follows all of them until it is cancelled. Raises as the first that fails does."""
        tasks = [asyncio.ensure_future(topic.run()) for topic in self._topics]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def catch_up(self, seconds: float) -> None:
        """Returns once each was read to its end. Raises as FollowedTopic.catch_up does."""
        for topic in self._topics:
            await topic.catch_up(seconds)


class FollowedTopic:
    """Gives every record of a topic to `take`, in the event loop and in the order of the log.

    `group_id` is never joined, and nothing is committed to it; the client asks for its offsets.
    """

    def __init__(
        self, kafka: KafkaSettings, topic: str, group_id: str, take: Callable[[KafkaRecord], object]
    ) -> None:
        self._topic, self._take = topic, take
        self._source = AssignedPartition(kafka, topic, group_id, lambda: None)
        self.caught_up = asyncio.Event()
        """Set once the topic was read to its end for the first time."""
        self._progress = asyncio.Condition()
        self._taken_to = -1  # the offset behind everything taken

    async def run(self) -> None:
        """Works until it is cancelled.

        Raises KafkaException for an error that the client cannot recover from, and TopicReplaced
        when the topic is gone.
        """
        async with self._source as source:
            await source.start(from_beginning=True)
            while True:
                try:
                    records = await source.consume()
                except OffsetOutOfRange:
                    # Kafka lost the end of the log. What it still holds is read again.
                    await source.start_over()
                    continue
                for record in records:
                    self._take(record)
                if source.at_end:
                    self.caught_up.set()
                async with self._progress:
                    self._taken_to = source.position
                    self._progress.notify_all()

    async def catch_up(self, seconds: float) -> None:
        """Returns once everything was taken that the topic holds now; `run` has to be at work.

        Raises SnapshotStalled after so many seconds, and KafkaException when no broker answers.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._until_taken_to(0)  # `run` has opened the topic
                await self._until_taken_to(await self._source.end())
        except TimeoutError as error:
            raise SnapshotStalled(
                f"{self._topic} was not read to its end within {seconds:.0f} s"
            ) from error

    async def _until_taken_to(self, offset: int) -> None:
        async with self._progress:
            await self._progress.wait_for(lambda: self._taken_to >= offset)
