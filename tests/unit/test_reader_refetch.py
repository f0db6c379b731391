"""Contacts that wait to be read again: each once, not before its time, and committed only when it is read."""

from hypothesis import given
from hypothesis import strategies as st

from streams.events import Headers, Record, refetch_headers
from streams.refetch import MAX_WAIT, Pending

NOW = 1_700_000_000


def asked(key: str | bytes, not_before: int, offset: int) -> Record:
    raw = key.encode() if isinstance(key, str) else key
    return Record("contacts.refetch", raw, b"", refetch_headers("bodyless", not_before, 5), 0, offset)


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
def test_the_commit_never_passes_a_contact_that_was_not_read_late_enough(steps: list[tuple[str, str, int]]) -> None:
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
    assert pending.take(Record("contacts.refetch", b"g/a", b"", headers, 0, 0), NOW)
    wanted = pending.due(NOW + MAX_WAIT)
    assert wanted is not None
    assert 0 <= wanted.received_ms < 10**15
