"""When the sink's fence lets a request to the org pass."""

import pytest
from confluent_kafka import TopicPartition

from connectors.salesforce.api.errors import WriterFenced
from streams.sink.assignment import Assignment, ReadProgress
from streams.sink.deletions import Deletions
from streams.sink.fence import WriteFence


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def assignment() -> Assignment:
    return Assignment(TopicPartition("contacts.changes", 0), 0, None, Deletions(), ReadProgress(0))


def test_a_process_that_polls_may_write() -> None:
    clock = Clock()
    fence = WriteFence(10.0, clock)
    send = fence.for_batch(assignment())
    for _ in range(100):
        clock.now += 4.9
        send()
        fence.polled()
        send()
    assert send.requests_sent == 200


def test_a_process_that_has_not_polled_for_half_a_session_may_not_write() -> None:
    clock = Clock()
    fence = WriteFence(10.0, clock)
    send = fence.for_batch(assignment())
    clock.now = 5.1
    with pytest.raises(WriterFenced):
        send()
    assert send.requests_sent == 0


def test_the_first_poll_after_a_pause_proves_nothing() -> None:
    clock = Clock()
    fence = WriteFence(10.0, clock)
    clock.now = 20.0
    fence.polled()
    with pytest.raises(WriterFenced, match="did not poll"):
        fence.for_batch(assignment())()
    clock.now = 24.0
    fence.polled()
    assert fence.in_doubt
    clock.now = 25.0
    fence.polled()
    fence.for_batch(assignment())()


def test_a_batch_sends_nothing_more_once_its_partition_is_gone() -> None:
    fence, lost = WriteFence(10.0, Clock()), assignment()
    send = fence.for_batch(lost)
    send()
    lost.active = False
    with pytest.raises(WriterFenced, match="revoked or lost since the batch was taken"):
        send()
    assert send.requests_sent == 1
    fence.for_batch(assignment())()


def test_a_batch_sends_nothing_more_after_a_pause_even_if_the_partition_stayed() -> None:
    clock = Clock()
    fence, kept = WriteFence(10.0, clock), assignment()
    send = fence.for_batch(kept)
    clock.now = 20.0
    for _ in range(3):
        fence.polled()
        clock.now += 4.0
    assert not fence.in_doubt
    with pytest.raises(WriterFenced, match="paused since the batch was taken"):
        send()
    fence.for_batch(kept)()
