"""Follows topics that the sink has to know as they are now."""

from confluent_kafka import KafkaException

from streams.kafka.endings import ending
from streams.kafka.followed import FollowedTopic
from streams.kafka.polling import TopicReplaced
from streams.runtime.exit_codes import ExitCode
from streams.sink.stopping import StopRequest

# For the end of a topic that holds a record for each reason of failures, or for each person who
# asked to be erased. A broker that takes longer is asked again (`assignment.RECALL_SECONDS`).
CATCH_UP_SECONDS = 10.0


async def follow(topic: FollowedTopic, stop: StopRequest) -> None:
    """Follows a topic until it is cancelled.

    An error that no retry helps against stops the sink.
    """
    try:
        await topic.run()
    except (KafkaException, TopicReplaced) as error:
        code, reason = ending(error) or (ExitCode.KAFKA_REFUSED, str(error))
        stop.request(reason, code)
