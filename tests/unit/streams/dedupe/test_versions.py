"""Which events are forwarded: the rules one by one, and against a naive model.

The model is compared under every order, redelivery and crash.
"""

from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.dedupe.versions import (
    DELETED,
    REMEMBERED_IDS,
    SETTLED,
    ContactEvent,
    DedupeState,
    UnreadableState,
    decide,
    decode,
    encode,
    group_tag,
    groups_moved,
    hash_id,
    mapping_tag,
)

NOW = 1_800_000_000
A, B, C = (bytes([letter]) * 16 for letter in b"ABC")
OLD, NEW = mapping_tag("old"), mapping_tag("new")


def event(
    version: int | None,
    content: bytes = A,
    id_: str = "",
    *,
    forced: bool = False,
    mapping: bytes = OLD,
) -> ContactEvent:
    return ContactEvent(version, hash_id(id_ or f"{version}-{content!r}"), content, mapping, forced)


def outcome(*events: ContactEvent) -> list[str]:
    """The decisions on the events, one after the other."""
    reasons, state = [], None
    for each in events:
        forward, reason, state, _ = decide(state, each, NOW)
        reasons.append(
            reason if forward or reason not in ("forwarded", "same_second") else f"not {reason}"
        )
    return reasons


def test_the_first_event_of_a_contact_is_forwarded() -> None:
    assert outcome(event(10)) == ["forwarded"]


def test_a_deletion_of_a_contact_never_seen_is_forwarded() -> None:
    assert outcome(event(10, DELETED)) == ["forwarded"]


def test_an_older_event_is_stale() -> None:
    assert outcome(event(10), event(9, B)) == ["forwarded", "stale"]


def test_the_version_of_a_duplicate_is_remembered() -> None:
    assert outcome(event(1, A), event(10, A), event(5, B)) == ["forwarded", "duplicate", "stale"]


def test_a_redelivered_notification_is_a_retry() -> None:
    assert outcome(event(10, A, "n1"), event(10, A, "n1")) == ["forwarded", "retry"]


def test_the_same_content_in_the_same_second_is_a_duplicate() -> None:
    assert outcome(event(10, A, "n1"), event(10, A, "n2"), event(10, A, "n2")) == [
        "forwarded",
        "duplicate",
        "retry",
    ]


def test_another_content_in_the_same_second_is_forwarded_and_the_contact_read_again() -> None:
    state = decide(None, event(10, A, "n1"), NOW).state
    decision = decide(state, event(10, B, "n2"), NOW)
    assert decision.forward
    assert decision.reason == "same_second"
    assert decision.refetch == 10 + SETTLED
    assert decision.state is not None
    assert decision.state.fingerprint == B


def test_a_contact_changed_back_within_a_second_is_forwarded_back() -> None:
    assert outcome(event(10, A, "n1"), event(10, B, "n2"), event(10, A, "n3")) == [
        "forwarded",
        "same_second",
        "same_second",
    ]


def test_a_contact_created_again_after_its_deletion_is_forwarded() -> None:
    assert outcome(event(1, A), event(5, DELETED), event(3, A, "late"), event(9, A)) == [
        "forwarded",
        "forwarded",
        "stale",
        "forwarded",
    ]


def test_after_an_event_without_a_body_the_contact_is_read_again_and_the_version_counts() -> None:
    state = decide(None, event(10, A), NOW).state
    decision = decide(state, event(20, b"", "truncated"), NOW)
    assert not decision.forward
    assert decision.reason == "bodyless"
    assert decision.refetch == NOW + SETTLED
    assert decide(decision.state, event(15, B), NOW).reason == "stale"
    assert decide(decision.state, event(20, b"", "truncated"), NOW).reason == "retry"


def test_after_an_event_without_a_body_from_the_future_the_contact_is_read_after_its_time() -> None:
    assert decide(None, event(NOW + 50, b""), NOW).refetch == NOW + 50 + SETTLED


def test_after_an_event_without_a_time_the_contact_is_read_again_and_nothing_remembered() -> None:
    state = decide(None, event(10, A), NOW).state
    decision = decide(state, event(None, B), NOW)
    assert (decision.forward, decision.reason, decision.refetch) == (
        False,
        "no_time",
        NOW + SETTLED,
    )
    assert decision.state == state
    assert decide(None, event(None, B), NOW).state is None


def test_after_a_change_of_the_mapping_the_same_contact_is_forwarded_again() -> None:
    assert outcome(event(10, A), event(20, B, mapping=NEW)) == ["forwarded", "forwarded"]


@pytest.mark.parametrize(
    ("before", "replayed", "expected"),
    [
        # The version forwarded.
        ([event(10, A, "n")], event(10, A, "n", forced=True), "forwarded"),
        # Newer than all.
        ([event(10, A)], event(11, A, forced=True), "forwarded"),
        # The version forwarded, although a newer one was seen.
        ([event(1, A), event(10, A)], event(1, A, forced=True), "forwarded"),
        ([event(1, A), event(10, A)], event(5, B, forced=True), "stale"),
        ([event(1, A), event(10, B)], event(1, A, forced=True), "stale"),
        # The other content of a second, which a page has settled since.
        ([event(5, A), event(5, B), event(9, B)], event(5, A, forced=True), "stale"),
        # The mapping has changed since.
        ([event(5, A), event(9, A)], event(5, B, forced=True, mapping=NEW), "forwarded"),
        ([event(5, A)], event(5, B, forced=True), "same_second"),
        ([event(5, A)], event(5, B, forced=True, mapping=NEW), "forwarded"),
        ([event(5, A), event(9, b"")], event(5, b"", forced=True), "stale"),
    ],
)
def test_a_replay_is_forwarded_only_as_the_version_forwarded_or_the_newest(
    before: list[ContactEvent], replayed: ContactEvent, expected: str
) -> None:
    assert outcome(*before, replayed)[-1] == expected


def test_a_replay_of_the_version_forwarded_keeps_the_newest_version_seen() -> None:
    assert outcome(event(1, A), event(10, A), event(1, A, forced=True), event(5, B))[-1] == "stale"


def test_the_ids_of_a_second_are_bounded() -> None:
    state = None
    for number in range(REMEMBERED_IDS * 3):
        state = decide(state, event(10, A, f"n{number}"), NOW).state
    assert state is not None
    assert len(state.ids) == REMEMBERED_IDS


def test_of_a_second_with_too_many_notifications_the_first_is_forgotten() -> None:
    events = [event(10, A, f"n{number}") for number in range(REMEMBERED_IDS + 1)]
    assert outcome(*events, *events[1:])[len(events) :] == ["retry"] * REMEMBERED_IDS
    assert outcome(*events, events[0])[-1] == "duplicate"


def test_what_was_forwarded_is_remembered_over_events_that_are_not() -> None:
    for between, reason in ((event(20, b""), "bodyless"), (event(20, A), "duplicate")):
        assert outcome(event(10, A), between, event(30, A)) == ["forwarded", reason, "duplicate"]
        for replayed, expected in (
            (event(10, A, forced=True), "forwarded"),
            (event(10, B, forced=True), "stale"),
            (event(10, B, forced=True, mapping=NEW), "forwarded"),
        ):
            assert outcome(event(10, A), between, replayed)[-1] == expected


def test_a_replay_under_another_mapping_is_what_was_forwarded_last() -> None:
    before = (event(10, A), event(20, A), event(10, B, forced=True, mapping=NEW))
    assert outcome(*before) == ["forwarded", "duplicate", "forwarded"]
    for after, expected in (
        (event(30, B, mapping=NEW), "duplicate"),
        (event(30, A, mapping=NEW), "forwarded"),
        (event(15, C, mapping=NEW), "stale"),
        (event(10, C, forced=True, mapping=NEW), "stale"),
        (event(10, C, forced=True, mapping=OLD), "forwarded"),
    ):
        assert outcome(*before, after)[-1] == expected


STATES = st.builds(
    DedupeState,
    newest=st.integers(-1, 2**62),
    forwarded=st.integers(-1, 2**62),
    fingerprint=st.binary(min_size=16, max_size=16),
    mapping=st.binary(min_size=4, max_size=4),
    ids=st.lists(st.binary(min_size=8, max_size=8), max_size=REMEMBERED_IDS).map(tuple),
)


@given(STATES)
def test_a_state_survives_the_changelog(state: DedupeState) -> None:
    assert decode(encode(state)) == state


@given(STATES, st.data())
def test_a_damaged_state_is_refused_or_is_a_state(state: DedupeState, data: st.DataObject) -> None:
    damaged = data.draw(
        st.binary(max_size=60) | st.just(encode(state)[:-1]) | st.just(b"\2" + encode(state)[1:])
    )
    with suppress(UnreadableState):
        assert encode(decode(damaged)) == damaged


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (b"", "0 bytes, the first of them missing"),
        (b"\x01" + bytes(35), "36 bytes, the first of them 01"),
        (b"\x01" + bytes(40), "41 bytes, the first of them 01"),
        (b"\xff" + bytes(36), "37 bytes, the first of them ff"),
    ],
)
def test_an_entry_that_cannot_be_read_is_described(entry: bytes, said: str) -> None:
    with pytest.raises(UnreadableState) as refused:
        decode(entry)
    assert str(refused.value) == said


def test_the_hashes_have_the_sizes_of_the_table_and_tell_texts_apart() -> None:
    assert [len(hash_id(text)) for text in ("", "n1", "n" * 1000, "\ud800")] == [8] * 4
    assert [len(mapping_tag(text)) for text in ("", "old", "m" * 1000)] == [4] * 3
    assert len({hash_id(text) for text in ("", "n1", "n2", "\ud800")}) == 4
    assert len({mapping_tag(text) for text in ("", "old", "new")}) == 3


def test_the_table_and_the_ids_of_an_earlier_release_are_understood() -> None:
    state = DedupeState(258, 257, b"F" * 16, b"MAPP", (b"12345678", b"abcdefgh"))
    entry = (
        b"\x01" + b"\x02\x01" + bytes(6) + b"\x01\x01" + bytes(6) + b"F" * 16
        + b"MAPP" + b"12345678" + b"abcdefgh"
    )  # fmt: skip
    assert encode(state) == entry
    assert decode(entry) == state


@dataclass
class Naive:
    """The rules, applied by searching the whole history of a contact."""

    seen: list[ContactEvent] = field(default_factory=list)
    forwarded: list[ContactEvent] = field(default_factory=list)
    mapping: bytes = b""
    """Of the content last forwarded; of a duplicate since, its own."""

    def take(self, each: ContactEvent) -> bool:
        newest = max((old.version for old in self.seen if old.version is not None), default=-1)
        last = self.forwarded[-1] if self.forwarded else None
        retry = any((old.version, old.id_hash) == (each.version, each.id_hash) for old in self.seen)
        if each.version is None:
            return False
        same = last is not None and last.fingerprint == each.fingerprint
        one_forwarded = (
            last is not None
            and each.version == last.version
            and (same or each.mapping != self.mapping)
        )
        if each.version < newest:
            if not (each.forced and one_forwarded and each.fingerprint):
                return False
        elif each.version == newest and retry and not each.forced:
            return False
        self.seen.append(each)
        if not each.fingerprint:
            return False
        self.mapping = each.mapping
        if same and not each.forced:
            return False
        self.forwarded.append(each)
        return True


EVENTS = st.builds(
    event,
    st.none() | st.integers(0, 6),
    st.sampled_from([A, B, C, DELETED, b""]),
    st.sampled_from(["", "n1", "n2"]),
    forced=st.booleans(),
    mapping=st.sampled_from([OLD, NEW]),
)


@given(st.lists(EVENTS, max_size=30))
def test_decisions_equal_those_of_a_naive_model_over_the_whole_history(
    events: list[ContactEvent],
) -> None:
    naive, state = Naive(), None
    for each in events:
        forward, _, state, _ = decide(state, each, NOW)
        assert forward == naive.take(each)


@dataclass
class Log:
    """The results of a worker: outputs, then the table, then the commit.

    A crash may come between any two.
    """

    outputs: list[ContactEvent] = field(default_factory=list)
    refetched: set[int] = field(default_factory=set)
    table: bytes | None = None
    committed: int = 0

    def batch(self, log: list[ContactEvent], size: int, steps: int, torn: int) -> None:
        """Works on up to `size` events after the commit and crashes after `steps` of the three.

        A crash during the first leaves `torn` outputs.
        """
        state = None if self.table is None else decode(self.table)
        outputs: list[ContactEvent] = []
        taken = log[self.committed : self.committed + size]
        for each in taken:
            forward, _, state, refetch = decide(state, each, NOW)
            if forward:
                outputs.append(each)
            if refetch is not None and each.version is not None and steps > 0:
                self.refetched.add(each.version)
        self.outputs += outputs if steps > 0 else outputs[:torn]
        if steps > 1 and state is not None:
            self.table = encode(state)
        if steps > 2:
            self.committed += len(taken)


def notification(version: int, content: bytes, number: int) -> ContactEvent:
    """One ID never carries two contents."""
    return event(version, content, f"{version}-{content!r}-{number}")


LIVE = st.builds(
    notification, st.integers(0, 6), st.sampled_from([A, B, C, DELETED]), st.integers(0, 2)
)


@given(
    st.lists(LIVE, min_size=1, max_size=12).flatmap(
        lambda sent: st.permutations(sent + sent[: len(sent) // 2])
    ),
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(0, 6)), max_size=20),
)
def test_any_order_redelivery_and_crash_ends_with_the_newest_content_forwarded_last(
    log: list[ContactEvent], crashes: list[tuple[int, int, int]]
) -> None:
    left = Log()
    for size, steps, torn in crashes:
        left.batch(log, size, steps, torn)
    while left.committed < len(log):
        left.batch(log, 4, 3, 0)

    newest = max(each.version or 0 for each in log)
    candidates = {each.fingerprint for each in log if each.version == newest}
    assert left.outputs[-1].fingerprint in candidates
    if len(candidates) > 1:
        assert newest in left.refetched, (
            "whole seconds cannot tell which came last: the contact has to be read again"
        )


@given(st.lists(LIVE, min_size=1, max_size=20))
def test_without_a_crash_no_older_version_follows_a_newer_one(log: list[ContactEvent]) -> None:
    left = Log()
    while left.committed < len(log):
        left.batch(log, 5, 3, 0)
    versions = [each.version or 0 for each in left.outputs]
    assert versions == sorted(versions)


@given(st.lists(LIVE, min_size=1, max_size=20), st.integers(0, 19))
def test_an_older_event_than_one_seen_is_never_forwarded(log: list[ContactEvent], cut: int) -> None:
    state = None
    for each in log[: cut + 1]:
        state = decide(state, each, NOW).state
    assert state is not None
    for version in range(state.newest):
        assert not decide(state, event(version, C, "another"), NOW).forward


def test_a_duplicate_keeps_the_tag_of_its_own_event() -> None:
    state = decide(None, event(10, A), NOW).state
    seen = decide(state, event(20, A, mapping=NEW), NOW).state
    assert seen is not None
    assert (seen.mapping, seen.forwarded) == (NEW, 10)


def test_a_contact_moves_between_groups_only_under_one_mapping_and_one_rule() -> None:
    before = group_tag("m", b"rule", ["1", "2"])
    assert len(before) == 4
    assert before == group_tag("m", b"rule", ["1", "2"])
    assert not groups_moved(before, before)
    assert groups_moved(before, group_tag("m", b"rule", ["1"]))
    assert groups_moved(before, group_tag("m", b"rule", ["12"])), "IDs are not run together"
    assert groups_moved(group_tag("m", b"rule", []), before)
    for other in (
        group_tag("m", b"another", ["1"]),
        group_tag("n", b"rule", ["1"]),
        mapping_tag("m"),
    ):
        assert not groups_moved(before, other)
        assert not groups_moved(other, before)


def test_any_text_may_be_the_id_of_a_group() -> None:
    assert len(group_tag("m", b"rule", ["\ud800", "", "\n"])) == 4
