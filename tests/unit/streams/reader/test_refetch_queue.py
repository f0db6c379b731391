"""Contacts that wait to be read again: each once, not before its time, committed once answered."""

from hypothesis import given
from hypothesis import strategies as st

from streams.events import refetch_headers
from streams.kafka.records import Headers, KafkaRecord
from streams.reader.refetch_queue import MAX_REQUESTED_WAIT_SECONDS, RefetchQueue

NOW = 1_700_000_000


def asked(key: str | bytes, not_before: int, offset: int, received_ms: int = 5) -> KafkaRecord:
    raw = key.encode() if isinstance(key, str) else key
    headers = refetch_headers("bodyless", not_before, received_ms)
    return KafkaRecord("contacts.refetch", raw, b"", headers, 0, offset)


def test_a_contact_is_not_due_before_its_time() -> None:
    queue = RefetchQueue()
    assert queue.add(asked("g/a", NOW + 10, 0), NOW)
    assert queue.take_due(NOW + 9) is None
    request = queue.take_due(NOW + 10)
    assert request is not None
    assert (request.key, request.reason, request.received_ms) == (b"g/a", "bodyless", 5)
    assert queue.take_due(NOW + 99) is None


def test_a_contact_asked_for_twice_is_read_once_at_the_later_time() -> None:
    queue = RefetchQueue()
    queue.add(asked("g/a", NOW + 10, 0), NOW)
    queue.add(asked("g/a", NOW + 30, 1), NOW)
    queue.add(asked("g/a", NOW + 20, 2), NOW)
    assert queue.take_due(NOW + 29) is None
    request = queue.take_due(NOW + 30)
    assert request is not None
    assert request.offsets == [0, 1, 2]
    assert len(queue) == 0
    queue.finish(request)
    assert queue.offsets.committable() == 3


def test_the_oldest_unfinished_request_is_known_also_while_it_is_read() -> None:
    queue = RefetchQueue()
    queue.add(asked("g/a", NOW, 0, received_ms=7000), NOW)
    queue.add(asked("g/b", NOW, 1, received_ms=6000), NOW)
    queue.add(asked("no key", NOW, 2, received_ms=1000), NOW)
    first = queue.take_due(NOW)
    assert first is not None
    assert queue.offsets.received.oldest_seconds() == 6
    queue.finish(first)
    second = queue.take_due(NOW)
    assert second is not None
    assert queue.offsets.received.oldest_seconds() == second.received_ms / 1000
    queue.finish(second)
    assert queue.offsets.received.oldest_seconds() > NOW


def test_a_contact_asked_for_while_it_is_read_is_read_once_more() -> None:
    queue = RefetchQueue()
    queue.add(asked("g/a", NOW, 0), NOW)
    first = queue.take_due(NOW)
    assert first is not None
    queue.add(asked("g/a", NOW + 5, 1), NOW)
    queue.finish(first)
    assert queue.offsets.committable() == 1
    second = queue.take_due(NOW + 5)
    assert second is not None
    assert second.offsets == [1]


def test_an_unanswered_request_is_merged_with_a_newer_one() -> None:
    queue = RefetchQueue()
    queue.add(asked("g/a", NOW, 0), NOW)
    request = queue.take_due(NOW)
    assert request is not None
    queue.add(asked("g/a", NOW + 50, 1), NOW)
    queue.put_back(request, NOW + 30)
    assert queue.take_due(NOW + 49) is None
    again = queue.take_due(NOW + 50)
    assert again is not None
    assert (again.not_before, sorted(again.offsets)) == (NOW + 50, [0, 1])
    assert queue.offsets.committable() == 0


def test_one_contact_of_a_grant_is_read_at_a_time_and_grants_do_not_wait_for_each_other() -> None:
    queue = RefetchQueue()
    for offset, key in enumerate(("g/a", "g/b", "g/c", "h/a")):
        queue.add(asked(key, NOW, offset), NOW)
    first, other = queue.take_due(NOW), queue.take_due(NOW)
    assert first is not None
    assert other is not None
    assert {first.grant, other.grant} == {"g", "h"}
    queue.add(asked("g/d", NOW, 4), NOW)
    assert queue.take_due(NOW) is None
    queue.finish(first)
    following = queue.take_due(NOW)
    assert following is not None
    assert following.grant == "g"


def test_a_parked_grant_holds_back_all_its_contacts() -> None:
    queue = RefetchQueue()
    for offset, key in enumerate(("g/a", "g/b", "h/a")):
        queue.add(asked(key, NOW, offset), NOW)
    throttled = queue.take_due(NOW)
    assert throttled is not None
    assert throttled.grant == "g"
    queue.put_back(throttled, NOW + 100, park_grant=True)
    queue.add(asked("g/c", NOW, 3), NOW)
    found = queue.take_due(NOW + 99)
    assert found is not None
    assert found.key == b"h/a"
    assert queue.take_due(NOW + 99) is None
    left = set()
    while (request := queue.take_due(NOW + 100)) is not None:
        left.add(request.key)
        queue.finish(request)
    assert left == {b"g/a", b"g/b", b"g/c"}
    queue.finish(found)
    assert queue.offsets.committable() == 4


def test_a_request_from_a_wrong_clock_waits_for_an_hour_at_most() -> None:
    queue = RefetchQueue()
    queue.add(asked("g/a", NOW + 10**8, 0), NOW)
    assert queue.take_due(NOW + MAX_REQUESTED_WAIT_SECONDS) is not None


def test_a_record_without_a_contact_key_is_skipped() -> None:
    queue = RefetchQueue()
    for offset, key in enumerate([b"", b"g", b"g/", b"/a", b"\xff/a"]):
        assert not queue.add(asked(key, NOW, offset), NOW)
    assert queue.offsets.committable() == 5
    assert queue.take_due(NOW) is None


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.sampled_from("abcd"), st.integers(0, 50)),
            st.tuples(st.sampled_from(["done", "again"]), st.just(""), st.integers(0, 20)),
        ),
        max_size=60,
    )
)
def test_the_committed_offset_never_passes_an_unanswered_request(
    steps: list[tuple[str, str, int]],
) -> None:
    queue, now, offset = RefetchQueue(), NOW, 0
    asked_for: dict[int, tuple[bytes, int]] = {}
    answered: set[int] = set()
    for what, name, number in steps:
        if what == "ask":
            key = f"g/{name}"
            queue.add(asked(key, now + number, offset), now)
            asked_for[offset] = (key.encode(), now + number)
            offset += 1
            continue
        now += number
        request = queue.take_due(now)
        if request is None:
            continue
        if what == "again":
            queue.put_back(request, now + 7)
            continue
        for each in request.offsets:
            assert asked_for[each][0] == request.key
            assert asked_for[each][1] <= now
        queue.finish(request)
        answered.update(request.offsets)
    unanswered = [each for each in asked_for if each not in answered]
    assert queue.offsets.committable() == (min(unanswered) if unanswered else (offset or None))
    now += 10_000
    while (request := queue.take_due(now)) is not None:
        queue.finish(request)
    assert queue.offsets.committable() == (offset or None)
    assert len(queue) == 0


def test_a_request_without_its_time_of_receipt_has_the_time_of_its_record() -> None:
    """A reader that starts again must not take the request for a new one."""
    queue = RefetchQueue()
    queue.add(KafkaRecord("contacts.refetch", b"g/a", b"", [], 0, 0, (NOW - 900) * 1000), NOW)
    request = queue.take_due(NOW)
    assert request is not None
    assert request.received_ms == (NOW - 900) * 1000


@given(st.binary(max_size=40) | st.none() | st.sampled_from([b"9" * 25, b"9" * 5000]))
def test_unreadable_headers_of_a_request_ask_for_a_reading_now(value: bytes | None) -> None:
    queue = RefetchQueue()
    headers: Headers = [("not_before", value), ("received_ms", value), ("reason", value)]
    assert queue.add(KafkaRecord("contacts.refetch", b"g/a", b"", headers, 0, 0), NOW)
    request = queue.take_due(NOW + MAX_REQUESTED_WAIT_SECONDS)
    assert request is not None
    assert 0 <= request.received_ms < 10**15
