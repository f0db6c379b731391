"""Follows topics that dedupe has to know before it plans its first event, and from then on."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from confluent_kafka import KafkaException

from streams.kafka.endings import ending
from streams.kafka.followed import FollowedTopic
from streams.kafka.polling import TopicReplaced
from streams.runtime.exit_codes import Die, ExitCode, die


async def follow(topic: FollowedTopic, die: Die = die) -> None:
    """Follows a topic until it is cancelled. Ends the process where no retry helps."""
    try:
        await topic.run()
    except (KafkaException, TopicReplaced) as error:
        code, reason = ending(error) or (ExitCode.KAFKA_REFUSED, str(error))
        die(code, reason)


async def ends_before_stop(work: Coroutine[Any, Any, Any], stopping: asyncio.Event) -> bool:
    """Whether the work ended before the process was asked to stop; waits for either.

    The wait is as long as the broker is away.
    """
    working = asyncio.ensure_future(work)
    asked = asyncio.create_task(stopping.wait())
    await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if working.done():
        return True
    working.cancel()
    return False
