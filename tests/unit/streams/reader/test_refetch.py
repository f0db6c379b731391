"""Contacts that wait to be read again: each once, not before its time, and committed only when it
is read.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from connectors.nylas.client import NylasClient
from connectors.nylas.contacts import Reading
from connectors.nylas.errors import Passing, RateLimited, Refused
from streams.events import refetch_headers
from streams.kafka.records import Headers, KafkaRecord, header
from streams.metrics import ReaderMetrics
from streams.reader import refetch
from streams.reader.grant_events import GrantTable
from streams.reader.refetch import AT_ONCE, MAX_WAIT, REFUSED_FOR, Pending, Refetcher
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.waiting import until

TOPICS = topics(load(KafkaSettings, {}))

NOW = 1_700_000_000


def asked(key: str | bytes, not_before: int, offset: int) -> KafkaRecord:
    raw = key.encode() if isinstance(key, str) else key
    return KafkaRecord(
        "contacts.refetch", raw, b"", refetch_headers("bodyless", not_before, 5), 0, offset
    )


def test_a_contact_is_not_due_before_its_time() -> None:
    pending = Pending()
    assert pending.take(asked("g/a", NOW + 10, 0), NOW)
    assert pending.due(NOW + 9) is None
    wanted = pending.due(NOW + 10)
    assert wanted is not None
    assert (wanted.key, wanted.reason, wanted.received_ms) == (b"g/a", "bodyless", 5)
    assert pending.due(NOW + 99) is None


def test_asked_for_twice_it_is_read_once_and_late_enough_for_both() -> None:
    pending = Pending()
    pending.take(asked("g/a", NOW + 10, 0), NOW)
    pending.take(asked("g/a", NOW + 30, 1), NOW)
    pending.take(asked("g/a", NOW + 20, 2), NOW)
    assert pending.due(NOW + 29) is None
    wanted = pending.due(NOW + 30)
    assert wanted is not None
    assert wanted.offsets == [0, 1, 2]
    assert len(pending) == 0
    pending.finish(wanted)
    assert pending.offsets.committable() == 3


def test_what_is_asked_for_while_it_is_being_read_is_read_after_that() -> None:
    pending = Pending()
    pending.take(asked("g/a", NOW, 0), NOW)
    first = pending.due(NOW)
    assert first is not None
    pending.take(asked("g/a", NOW + 5, 1), NOW)
    pending.finish(first)
    assert pending.offsets.committable() == 1
    second = pending.due(NOW + 5)
    assert second is not None
    assert second.offsets == [1]


def test_a_try_in_vain_is_repeated_and_keeps_what_was_asked_for() -> None:
    pending = Pending()
    pending.take(asked("g/a", NOW, 0), NOW)
    wanted = pending.due(NOW)
    assert wanted is not None
    pending.take(asked("g/a", NOW + 50, 1), NOW)
    pending.put_back(wanted, NOW + 30)
    assert pending.due(NOW + 49) is None
    again = pending.due(NOW + 50)
    assert again is not None
    assert (again.not_before, sorted(again.offsets)) == (NOW + 50, [0, 1])
    assert pending.offsets.committable() == 0


def test_one_contact_of_a_grant_is_read_at_a_time_and_grants_do_not_wait_for_each_other() -> None:
    pending = Pending()
    for offset, key in enumerate(("g/a", "g/b", "g/c", "h/a")):
        pending.take(asked(key, NOW, offset), NOW)
    first, other = pending.due(NOW), pending.due(NOW)
    assert first is not None
    assert other is not None
    assert {first.grant, other.grant} == {"g", "h"}
    pending.take(asked("g/d", NOW, 4), NOW)
    assert pending.due(NOW) is None
    pending.finish(first)
    following = pending.due(NOW)
    assert following is not None
    assert following.grant == "g"


def test_a_throttled_grant_is_parked_with_all_that_is_wanted_of_it() -> None:
    pending = Pending()
    for offset, key in enumerate(("g/a", "g/b", "h/a")):
        pending.take(asked(key, NOW, offset), NOW)
    throttled = pending.due(NOW)
    assert throttled is not None
    assert throttled.grant == "g"
    pending.put_back(throttled, NOW + 100, parked=True)
    pending.take(asked("g/c", NOW, 3), NOW)
    found = pending.due(NOW + 99)
    assert found is not None
    assert found.key == b"h/a"
    assert pending.due(NOW + 99) is None
    left = set()
    while (wanted := pending.due(NOW + 100)) is not None:
        left.add(wanted.key)
        pending.finish(wanted)
    assert left == {b"g/a", b"g/b", b"g/c"}
    pending.finish(found)
    assert pending.offsets.committable() == 4


class Desk:
    """A refetcher whose Nylas is `answer`, and what it published."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, answer: Callable[[str, str], Awaitable[Reading]]
    ) -> None:
        async def get_contact(_client: object, grant: str, contact_id: str) -> Reading:
            return await answer(grant, contact_id)

        async def publish(records: Sequence[KafkaRecord]) -> None:
            self.published += records

        monkeypatch.setattr(refetch, "get_contact", get_contact)
        self.published: list[KafkaRecord] = []
        self.metrics, self.book = ReaderMetrics(CollectorRegistry()), GrantTable()
        client = NylasClient("http://nowhere.example", "key")
        self.refetcher = Refetcher(client, publish, TOPICS, self.metrics, self.book)

    def ask(self, *keys: str, received: float) -> None:
        for offset, key in enumerate(keys):
            headers = refetch_headers("conflict", 0, int(received * 1000))
            self.refetcher.pending.take(
                KafkaRecord(TOPICS.refetch.name, key.encode(), b"", headers, 0, offset),
                int(time.time()),
            )

    async def until(self, condition: Callable[[], object]) -> None:
        work = asyncio.create_task(self.refetcher.run())
        try:
            await until(condition, "it is served")
        finally:
            work.cancel()
            await asyncio.wait([work])


async def test_a_grant_that_does_not_answer_holds_no_other_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answer(grant: str, contact_id: str) -> Reading:
        if grant == "slow":
            await asyncio.Event().wait()
        return Reading({"id": contact_id}, int(time.time()), "r")

    desk = Desk(monkeypatch, answer)
    desk.ask(*[f"slow/{number}" for number in range(3 * AT_ONCE)], "quick/a", received=time.time())
    await desk.until(lambda: [record.key for record in desk.published] == [b"quick/a"])


async def test_what_nylas_asks_to_wait_for_a_grant_is_waited_for_by_all_of_its_contacts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked_for: list[str] = []

    async def answer(_grant: str, contact_id: str) -> Reading:
        asked_for.append(contact_id)
        raise RateLimited(300.0)

    desk = Desk(monkeypatch, answer)
    desk.ask("g/a", "g/b", received=time.time())
    before = int(time.time())
    await desk.until(lambda: len(desk.refetcher.pending) == 2 and asked_for)
    assert len(asked_for) == 1
    assert desk.refetcher.pending.due(before + 299) is None
    assert desk.refetcher.pending.due(before + 400) is not None


@pytest.mark.parametrize(
    ("status", "age", "outcome"),
    [
        ("valid", 60, "refused"),
        ("valid", REFUSED_FOR + 60, "dead_lettered"),
        ("expired", 60, "expired"),
        ("expired", REFUSED_FOR + 60, "expired"),
    ],
)
async def test_what_nylas_refuses_is_asked_for_again_for_a_day_and_then_a_dead_letter(
    monkeypatch: pytest.MonkeyPatch, status: str, age: float, outcome: str
) -> None:
    async def answer(_grant: str, _contact_id: str) -> Reading:
        raise Refused(400, "the ID is not one")

    desk = Desk(monkeypatch, answer)
    desk.book.status["g"] = status
    received = time.time() - age
    desk.ask("g/a", received=received)
    await desk.until(lambda: desk.refetcher.pending.offsets.committable() == 1)
    assert desk.metrics.refetched.labels(outcome)._value.get() == 1
    if outcome == "expired":
        assert desk.published == [], "its sign-in compares it"
        return
    (record,) = desk.published
    assert (record.key, header(record.headers, "received_ms")) == (
        b"g/a",
        b"%d" % (received * 1000),
    )
    if outcome == "refused":
        assert record.topic == TOPICS.refetch.name
        assert int(header(record.headers, "not_before") or b"") > time.time() + 500
    else:
        assert record.topic == TOPICS.dead_letter.name
        assert header(record.headers, "dlq.reason") == b"refused"
        assert header(record.headers, "dlq.original.topic") == TOPICS.refetch.name.encode()
        assert b"400" in (header(record.headers, "dlq.detail") or b"")


async def test_one_contact_that_nylas_cannot_serve_does_not_hold_the_commit_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answer(_grant: str, _contact_id: str) -> Reading:
        raise Passing(503)

    monkeypatch.setattr(refetch, "HELD_SECONDS", 2)
    monkeypatch.setattr(refetch, "AGAIN_SECONDS", 0)
    desk = Desk(monkeypatch, answer)
    desk.ask("g/a", received=time.time() - 2 * REFUSED_FOR)
    await desk.until(lambda: desk.refetcher.pending.offsets.committable() == 1)
    (record,) = desk.published
    assert (record.topic, record.key) == (TOPICS.refetch.name, b"g/a"), (
        "asked for again, however old it is"
    )
    assert int(header(record.headers, "not_before") or b"") >= time.time() - 1
    assert desk.metrics.refetched.labels("held_too_long")._value.get() == 1


def test_a_time_from_a_wrong_clock_does_not_hold_the_topic_for_ever() -> None:
    pending = Pending()
    pending.take(asked("g/a", NOW + 10**8, 0), NOW)
    assert pending.due(NOW + MAX_WAIT) is not None


def test_what_names_no_contact_is_passed_over() -> None:
    pending = Pending()
    for offset, key in enumerate([b"", b"g", b"g/", b"/a", b"\xff/a"]):
        assert not pending.take(asked(key, NOW, offset), NOW)
    assert pending.offsets.committable() == 5
    assert pending.due(NOW) is None


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.sampled_from("abcd"), st.integers(0, 50)),
            st.tuples(st.sampled_from(["done", "again"]), st.just(""), st.integers(0, 20)),
        ),
        max_size=60,
    )
)
def test_the_commit_never_passes_a_contact_that_was_not_read_late_enough(
    steps: list[tuple[str, str, int]],
) -> None:
    pending, now, offset = Pending(), NOW, 0
    asked_for: dict[int, tuple[bytes, int]] = {}
    answered: set[int] = set()
    for what, name, number in steps:
        if what == "ask":
            key = f"g/{name}"
            pending.take(asked(key, now + number, offset), now)
            asked_for[offset] = (key.encode(), now + number)
            offset += 1
            continue
        now += number
        wanted = pending.due(now)
        if wanted is None:
            continue
        if what == "again":
            pending.put_back(wanted, now + 7)
            continue
        for each in wanted.offsets:
            assert asked_for[each][0] == wanted.key
            assert asked_for[each][1] <= now
        pending.finish(wanted)
        answered.update(wanted.offsets)
    unanswered = [each for each in asked_for if each not in answered]
    assert pending.offsets.committable() == (min(unanswered) if unanswered else (offset or None))
    now += 10_000
    while (wanted := pending.due(now)) is not None:
        pending.finish(wanted)
    assert pending.offsets.committable() == (offset or None)
    assert len(pending) == 0


@given(st.binary(max_size=40) | st.none() | st.sampled_from([b"9" * 25, b"9" * 5000]))
def test_a_number_that_is_none_asks_for_a_reading_now(value: bytes | None) -> None:
    pending = Pending()
    headers: Headers = [("not_before", value), ("received_ms", value), ("reason", value)]
    assert pending.take(KafkaRecord("contacts.refetch", b"g/a", b"", headers, 0, 0), NOW)
    wanted = pending.due(NOW + MAX_WAIT)
    assert wanted is not None
    assert 0 <= wanted.received_ms < 10**15
