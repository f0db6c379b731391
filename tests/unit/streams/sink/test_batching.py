"""A batch holds each contact once, at its highest version, and no person of another batch."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.outcome import ContactVersion
from streams.events import ContactChange, Kind, Origin
from streams.kafka.records import KafkaRecord
from streams.sink.batching import (
    NO_BATCH_FAILURES,
    NO_ROW_ATTEMPTS,
    BatchFailures,
    CompleteRuns,
    PendingChange,
    PendingChanges,
    RowAttempts,
    claims_of,
    contact_version,
    is_small_live_batch,
)


def row(
    key: str, version: int, offset: int, *, due: float = 0.0, addresses: tuple[str, ...] = ()
) -> PendingChange:
    change = ContactChange(key, Kind.UPDATED, version, "", "", "webhook", 0, {"id": key})
    record = KafkaRecord("contacts.changes", key.encode(), b"{}", [], 0, offset)
    return PendingChange(change, record, frozenset((key, *addresses)), due, [offset])


changes = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5)), max_size=60)


@given(arrivals=changes, size=st.integers(1, 7), put_back=st.booleans())
def test_every_offset_comes_out_once_and_each_contact_at_its_highest_version(
    arrivals: list[tuple[str, int]], size: int, put_back: bool
) -> None:
    waiting = PendingChanges()
    for offset, (key, version) in enumerate(arrivals):
        waiting.add(row(key, version, offset))
        if put_back and offset == len(arrivals) // 2:
            waiting.put_back(waiting.next_batch((), 10, size))
    taken: list[PendingChange] = []
    while batch := waiting.next_batch((), 10, size):
        assert len(batch) <= size
        taken.extend(batch)
    assert sorted(offset for one in taken for offset in one.offsets) == list(range(len(arrivals)))
    for one in taken:
        versions = [version for key, version in arrivals if key == one.key]
        last = max(
            offset
            for offset, (key, version) in enumerate(arrivals)
            if key == one.key and version == max(versions)
        )
        assert one.change.version == max(versions)
        assert one.record.offset == last, (
            "of two equal versions the later one, which the dedupe stage let win"
        )


@given(
    arrivals=st.lists(st.tuples(st.integers(0, 3), st.sets(st.sampled_from("xyz"))), max_size=8),
    put_back=st.booleans(),
)
def test_the_change_that_stays_restores_what_any_of_its_contact_was_to_restore(
    arrivals: list[tuple[int, set[str]]], put_back: bool
) -> None:
    waiting, asked = PendingChanges(), set[str]()
    for offset, (version, fields) in enumerate(arrivals):
        made = row("a", version, offset)
        made.change = replace(made.change, restore=frozenset(fields))
        waiting.add(made)
        asked |= fields
        if put_back and offset == len(arrivals) // 2:
            in_flight = waiting.next_batch((), 10, 1)
            late = row("a", 4, len(arrivals))
            waiting.add(late)
            waiting.put_back(in_flight)
    for one in waiting.next_batch((), 10, 1):
        assert one.change.restore == asked


def test_a_batch_that_is_not_full_waits_no_longer_than_the_linger_time() -> None:
    waiting = PendingChanges()
    waiting.add(row("a", 1, 0, due=102.0))
    assert waiting.next_batch((), 101.9, 2) == []
    assert [one.key for one in waiting.next_batch((), 102.0, 2)] == ["a"]


def bulk(key: str, offset: int, *, due: float = 1e9) -> PendingChange:
    """A change that a backfill has read."""
    made = row(key, 1, offset, due=due)
    made.change = replace(made.change, origin="backfill")
    return made


def test_what_a_run_has_read_goes_once_the_run_is_complete() -> None:
    waiting = PendingChanges()
    for offset, key in enumerate("abc"):
        waiting.add(bulk(key, offset))
    assert waiting.next_batch((), 0, 5) == []
    assert waiting.next_batch((), 0, 5, complete=CompleteRuns(0)) == []
    assert [one.key for one in waiting.next_batch((), 0, 5, complete=CompleteRuns(3))] == [
        "a",
        "b",
        "c",
    ]


def test_what_the_next_run_reads_waits_for_the_end_of_that_run() -> None:
    waiting = PendingChanges()
    waiting.add(bulk("next", 7))
    assert waiting.next_batch((), 0, 5, complete=CompleteRuns(7)) == []
    waiting.add(bulk("last", 6))
    assert {one.key for one in waiting.next_batch((), 0, 5, complete=CompleteRuns(7))} == {
        "next",
        "last",
    }


def test_a_small_rest_waits_for_a_batch_that_is_in_flight_but_not_longer_than_its_time() -> None:
    waiting = PendingChanges()
    for offset, key in enumerate("abc"):
        waiting.add(bulk(key, offset, due=100.0))
    rest = CompleteRuns(3, fewest=4)
    assert waiting.next_batch((), 99, 8, complete=rest) == []
    waiting.add(bulk("d", 3, due=100.0))
    assert len(waiting.next_batch((), 99, 8, complete=rest)) == 4
    waiting.add(bulk("e", 2, due=100.0))
    assert len(waiting.next_batch((), 100, 8, complete=rest)) == 1


def test_the_rest_of_a_run_takes_the_rows_along_that_a_batch_left_for_the_next_one() -> None:
    waiting = PendingChanges()
    waiting.add(bulk("a", 0))
    left, failed = bulk("b", 1), bulk("c", 2)
    left.not_before, failed.not_before = 10.3, 60.0
    waiting.put_back([left, failed])
    rest = CompleteRuns(3, soon=0.5)
    assert waiting.next_batch((), 10.0, 8, complete=rest) == []
    assert {one.key for one in waiting.next_batch((), 10.3, 8, complete=rest)} == {"a", "b"}
    waiting.add(bulk("d", 2))
    assert [one.key for one in waiting.next_batch((), 11, 8, complete=rest)] == ["d"]


def test_the_end_of_a_run_hurries_no_live_change() -> None:
    waiting = PendingChanges()
    waiting.add(row("live", 1, 0))
    assert waiting.next_batch((), 0, 5, live_due_by=-1, complete=CompleteRuns(9)) == []


@given(
    arrivals=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 5), st.booleans()), max_size=40
    ),
    ends=st.lists(st.integers(0, 50), max_size=6),
    size=st.integers(1, 7),
)
def test_the_end_of_a_run_at_any_time_loses_and_repeats_no_change(
    arrivals: list[tuple[str, int, bool]], ends: list[int], size: int
) -> None:
    """Whether it comes too early, late, twice, or from a topic with other offsets."""
    waiting, taken = PendingChanges(), list[PendingChange]()
    for offset, (key, version, is_bulk) in enumerate(arrivals):
        made = row(key, version, offset, due=1e9)
        if is_bulk:
            made.change = replace(made.change, origin="reconcile")
        waiting.add(made)
        if ends and offset % 5 == 0:
            batch = waiting.next_batch((), 0, size, complete=CompleteRuns(ends.pop()))
            assert len({one.key for one in batch}) == len(batch) <= size
            taken += batch
    while batch := waiting.next_batch((), 0, size, hurry=True):
        taken += batch
    assert sorted(offset for one in taken for offset in one.offsets) == list(range(len(arrivals)))
    for key in {key for key, _, _ in arrivals}:
        last = [one.change.version for one in taken if one.key == key]
        assert max(last) == max(version for name, version, _ in arrivals if name == key)


def test_a_full_batch_goes_at_once() -> None:
    waiting = PendingChanges()
    for offset, key in enumerate("abc"):
        waiting.add(row(key, 1, offset, due=102.0))
    assert [one.key for one in waiting.next_batch((), 100.0, 2)] == ["a", "b"]
    assert len(waiting) == 1


def test_a_contact_that_shares_an_address_with_a_batch_in_flight_waits() -> None:
    waiting = PendingChanges()
    first = row("g1/x", 1, 0, addresses=("ada@acme.example",))
    waiting.add(row("g2/y", 1, 1, addresses=("ada@acme.example",)))
    waiting.add(row("g2/z", 1, 2, addresses=("bob@acme.example",)))
    assert [one.key for one in waiting.next_batch(claims_of([first]), 10, 5)] == ["g2/z"]
    assert [one.key for one in waiting.next_batch((), 10, 5)] == ["g2/y"]


def test_a_row_that_failed_waits_for_its_time_and_a_newer_change_does_not() -> None:
    waiting = PendingChanges()
    failed = row("a", 1, 0)
    failed.not_before, failed.row_attempts = 50.0, RowAttempts(3, 1.0, "unable_to_lock_row", 3)
    waiting.put_back([failed])
    assert waiting.next_batch((), 49, 5) == []
    waiting.add(row("a", 2, 1))
    (taken,) = waiting.next_batch((), 49, 5)
    assert (taken.change.version, taken.offsets) == (2, [0, 1])
    assert taken.row_attempts == NO_ROW_ATTEMPTS


def test_suspected_rows_come_last_in_batches_of_their_own_the_longest_waiting_first() -> None:
    waiting = PendingChanges()
    suspects = [row(key, 1, offset) for offset, key in enumerate("abcd")]
    for offset, one in enumerate(suspects):
        one.batch_failures, one.not_before = BatchFailures(3, max_rows=2), float(10 - offset // 2)
    waiting.put_back(suspects)
    waiting.add(row("e", 1, 4))
    assert [one.key for one in waiting.next_batch((), 20, 5)] == ["e"]
    assert waiting.next_batch((), 8.5, 5) == []
    assert [one.key for one in waiting.next_batch((), 20, 5)] == ["c", "d"]
    assert [one.key for one in waiting.next_batch((), 20, 5)] == ["a", "b"]


def test_a_newer_change_of_a_suspected_contact_is_not_suspected() -> None:
    waiting = PendingChanges()
    suspect = row("a", 1, 0)
    suspect.not_before, suspect.batch_failures = 50.0, BatchFailures(3, "server_error", 1)
    waiting.put_back([suspect])
    waiting.add(row("a", 2, 1))
    (taken,) = waiting.next_batch((), 10, 5)
    assert (taken.change.version, taken.batch_failures) == (2, NO_BATCH_FAILURES)


@given(
    limits=st.lists(st.one_of(st.none(), st.integers(1, 4)), max_size=30), size=st.integers(1, 6)
)
def test_no_suspected_row_is_in_a_larger_batch_than_it_may_be(
    limits: list[int | None], size: int
) -> None:
    waiting = PendingChanges()
    for offset, limit in enumerate(limits):
        one = row(f"g{offset}", 1, offset)
        one.batch_failures = BatchFailures(max_rows=limit)
        waiting.add(one)
    taken = 0
    while batch := waiting.next_batch((), 10, size):
        taken += len(batch)
        allowed = [one.batch_failures.max_rows for one in batch]
        assert len(batch) <= min(size, *(limit or size for limit in allowed), size)
        assert len({limit is None for limit in allowed}) == 1
    assert taken == len(limits)


def test_a_contact_that_waits_already_is_told_and_counts_once() -> None:
    waiting = PendingChanges()
    assert not waiting.add(row("a", 1, 0))
    assert not waiting.add(row("b", 1, 1))
    assert waiting.add(row("a", 2, 2))
    assert waiting.add(row("a", 1, 3))
    assert len(waiting) == 2


def test_two_changes_of_a_contact_go_when_the_first_of_them_is_due() -> None:
    for first, second in ((102.0, 105.0), (105.0, 102.0)):
        waiting = PendingChanges()
        waiting.add(row("a", 1, 0, due=first))
        waiting.add(row("a", 2, 1, due=second))
        assert waiting.next_batch((), 101.9, 5) == []
        assert [one.offsets for one in waiting.next_batch((), 102.0, 5)] == [[0, 1]]


def test_an_older_change_that_comes_late_changes_nothing_but_what_is_finished_with_it() -> None:
    waiting = PendingChanges()
    newer = row("a", 2, 0, addresses=("new@acme.example",))
    newer.row_attempts = RowAttempts(3, 1.0, "unable_to_lock_row", 3)
    waiting.add(newer)
    waiting.add(row("a", 1, 1, addresses=("old@acme.example",)))
    assert waiting.next_batch({"new@acme.example"}, 10, 5) == [], "its people are claimed"
    (taken,) = waiting.next_batch({"old@acme.example"}, 10, 5)
    assert (taken.change.version, taken.record.offset, taken.offsets) == (2, 0, [0, 1])
    assert taken.row_attempts == RowAttempts(3, 1.0, "unable_to_lock_row", 3)


def test_a_newer_change_claims_its_own_people() -> None:
    waiting = PendingChanges()
    waiting.add(row("a", 1, 0, addresses=("old@acme.example",)))
    waiting.add(row("a", 2, 1, addresses=("new@acme.example",)))
    assert waiting.next_batch({"new@acme.example"}, 10, 5) == []
    (taken,) = waiting.next_batch({"old@acme.example"}, 10, 5)
    assert claims_of([taken, row("b", 1, 2)]) == {"a", "new@acme.example", "b"}


def test_unfinished_rows_go_before_those_that_came_since() -> None:
    waiting = PendingChanges()
    for offset, key in enumerate("abcd"):
        waiting.add(row(key, 1, offset))
    taken = waiting.next_batch((), 10, 2)
    waiting.add(row("b", 2, 4))
    waiting.put_back(taken)
    found = waiting.next_batch((), 10, 5)
    assert [(one.key, one.change.version) for one in found] == [
        ("a", 1),
        ("b", 2),
        ("c", 1),
        ("d", 1),
    ]
    assert [one.offsets for one in found][1] == [1, 4]


def test_nothing_waits_after_the_partition_is_gone() -> None:
    waiting = PendingChanges()
    gone = row("a", 1, 0)
    gone.size = 100
    waiting.add(gone)
    waiting.clear()
    assert (len(waiting), waiting.bytes) == (0, 0)
    assert waiting.next_batch((), 10, 5) == []


def test_a_row_that_is_due_takes_those_along_that_are_not() -> None:
    waiting = PendingChanges()
    for offset, (key, due) in enumerate([("a", 200.0), ("b", 100.0), ("c", 300.0)]):
        waiting.add(row(key, 1, offset, due=due))
    assert waiting.next_batch((), 99.9, 5) == []
    assert [one.key for one in waiting.next_batch((), 100.0, 5)] == ["a", "b", "c"]


def test_rows_that_share_a_person_may_go_in_one_batch() -> None:
    waiting = PendingChanges()
    waiting.add(row("g1/x", 1, 0, addresses=("ada@acme.example",)))
    waiting.add(row("g2/y", 1, 1, addresses=("ada@acme.example",)))
    assert len(waiting.next_batch((), 10, 5)) == 2


def test_people_of_one_account_go_together_though_others_came_between_them() -> None:
    """Otherwise those who came later would wait until the batch of the first one has ended."""
    waiting = PendingChanges()
    for number in range(10):
        account = ("001-acme",) if number in {0, 9} else ()
        waiting.add(row(f"g/{number}", 1, number, addresses=account))
    waiting.add(row("g/same", 1, 10, addresses=("ada@acme.example", "001-acme")))
    waiting.add(row("g/home", 1, 11, addresses=("ada@acme.example",)))
    taken = [one.key for one in waiting.next_batch((), 0, 4)]
    assert sorted(taken) == ["g/0", "g/9", "g/home", "g/same"]
    assert [one.key for one in waiting.next_batch((), 0, 4)] == ["g/1", "g/2", "g/3", "g/4"]


def test_one_whose_address_is_in_flight_waits_though_its_account_goes() -> None:
    waiting = PendingChanges()
    waiting.add(row("g/a", 1, 0, addresses=("001-acme",)))
    waiting.add(row("g/b", 1, 1, addresses=("001-acme", "b@acme.example")))
    assert [one.key for one in waiting.next_batch({"b@acme.example"}, 0, 9)] == ["g/a"]
    assert [one.key for one in waiting.next_batch((), 0, 9)] == ["g/b"]


def test_a_row_goes_along_by_what_its_newest_change_claims() -> None:
    waiting = PendingChanges()
    waiting.add(row("g/moved", 1, 0, addresses=("001-acme",)))
    for number in range(3):
        waiting.add(row(f"g/{number}", 1, number + 1))
    waiting.add(row("g/acme", 1, 4, addresses=("001-acme",)))
    waiting.add(row("g/moved", 2, 5, addresses=("001-other",)))
    assert [one.key for one in waiting.next_batch((), 0, 2)] == ["g/moved", "g/0"]


@given(
    claims=st.lists(st.sets(st.sampled_from("pqrstuv"), max_size=2), max_size=20),
    size=st.integers(1, 6),
    claimed=st.sets(st.sampled_from("pq")),
)
def test_whoever_came_first_goes_first_and_nobody_is_lost(
    claims: list[set[str]], size: int, claimed: set[str]
) -> None:
    waiting = PendingChanges()
    left = {}
    for number, own in enumerate(claims):
        left[f"g/{number}"] = own
        waiting.add(row(f"g/{number}", 1, number, addresses=tuple(own)))
    while free := [key for key, own in left.items() if own.isdisjoint(claimed)]:
        batch = [one.key for one in waiting.next_batch(claimed, 0, size)]
        assert batch[0] == free[0]
        assert len(batch) == min(size, len(free))
        assert {*batch} <= {*free}
        for key in batch:
            del left[key]
    assert waiting.next_batch(claimed, 0, size) == []
    assert len(waiting) == len(left)


def test_a_row_goes_from_its_time_on() -> None:
    waiting = PendingChanges()
    failed = row("a", 1, 0)
    failed.not_before = 50.0
    waiting.put_back([failed])
    assert waiting.next_batch((), 49.9, 1) == []
    assert [one.key for one in waiting.next_batch((), 50.0, 1)] == ["a"]


def test_suspected_rows_that_fill_their_batch_do_not_wait() -> None:
    def suspects(count: int) -> PendingChanges:
        waiting = PendingChanges()
        for offset in range(count):
            one = row(f"g{offset}", 1, offset, due=100.0)
            one.batch_failures = BatchFailures(3, max_rows=2)
            waiting.add(one)
        return waiting

    assert suspects(1).next_batch((), 1, 5) == [], "another suspect may come yet"
    assert len(suspects(2).next_batch((), 1, 2)) == 2
    three = suspects(3)
    assert [one.key for one in three.next_batch((), 1, 5)] == ["g0", "g1"]
    assert len(three) == 1


def test_rows_that_wait_for_their_time_are_counted_in_rows_and_bytes() -> None:
    waiting = PendingChanges()
    assert (len(waiting), waiting.bytes) == (0, 0)
    ready, deferred = row("a", 1, 0), row("b", 1, 1)
    ready.size, deferred.size, deferred.not_before = 100, 30, 0.5
    waiting.add(ready)
    waiting.put_back([deferred])
    assert (len(waiting), waiting.ready, waiting.bytes) == (2, 1, 130)
    assert [one.key for one in waiting.next_batch((), 0.4, 1)] == ["a"]
    assert (len(waiting), waiting.ready, waiting.bytes) == (1, 0, 30)


@pytest.mark.parametrize(
    ("kind", "origin", "live", "erase"),
    [
        (Kind.UPDATED, Origin.WEBHOOK, True, False),
        (Kind.UPDATED, Origin.BACKFILL, False, False),
        (Kind.DELETED, Origin.REDRIVE, False, False),
        (Kind.DELETED, Origin.ERASURE, False, True),
    ],
)
def test_a_change_becomes_what_sync_takes(
    kind: Kind, origin: Origin, live: bool, erase: bool
) -> None:
    change = ContactChange("g/ada", kind, 7, "", "", origin, 0, {"id": "ada"}, frozenset({"Title"}))
    assert contact_version(change) == ContactVersion(
        "g/ada",
        7,
        {"id": "ada"} if kind is Kind.UPDATED else None,
        frozenset({"Title"}),
        live=live,
        origin=origin,
        erase=erase,
    )


def of_origin(key: str, origin: Origin, offset: int = 0) -> PendingChange:
    made = row(key, 1, offset)
    made.change = replace(made.change, origin=origin)
    return made


def test_only_a_small_live_batch_of_nobody_suspected_takes_an_allowance() -> None:
    live, bulk = of_origin("g/a", Origin.WEBHOOK), of_origin("g/b", Origin.BACKFILL)
    suspected = of_origin("g/c", Origin.WEBHOOK)
    suspected.batch_failures = BatchFailures(3, "server_error", max_rows=1)
    assert is_small_live_batch([live, bulk], 3)
    assert not is_small_live_batch([live, bulk], 2), "it is full"
    assert not is_small_live_batch([bulk], 3)
    assert not is_small_live_batch([live, suspected], 3)


def test_bulk_changes_that_are_put_off_wait_and_live_ones_do_not() -> None:
    waiting = PendingChanges()
    waiting.add(of_origin("g/bulk", Origin.REPLAY))
    waiting.add(of_origin("g/live", Origin.WEBHOOK, 1))
    waiting.defer_bulk(60.0)
    assert [one.key for one in waiting.next_batch((), 59.0, 9)] == ["g/live"]
    assert waiting.next_batch((), 59.0, 9) == []
    assert [one.key for one in waiting.next_batch((), 60.0, 9)] == ["g/bulk"]


def test_waiting_rows_claim_what_became_known_of_them_since() -> None:
    waiting = PendingChanges()
    later = row("g/later", 1, 1)
    later.not_before = 5.0
    for number, one in enumerate((row("g/a", 1, 0, addresses=("old",)), later)):
        one.offsets = [number]
        waiting.add(one)
    waiting.add(row("g/b", 1, 2))
    waiting.claim_again(lambda one: frozenset((one.key, "001-acme")) if one.key != "g/b" else NONE)
    assert waiting.next_batch({"001-acme"}, 9.0, 1)[0].key == "g/b"
    assert [one.key for one in waiting.next_batch({"old"}, 9.0, 2)] == ["g/later", "g/a"]


NONE: frozenset[str] = frozenset()


def test_a_row_that_went_draws_nobody_along_when_it_comes_back_alone() -> None:
    waiting = PendingChanges()
    waiting.add(row("g/a", 1, 0, addresses=("001-acme",)))
    waiting.add(row("g/b", 1, 1, addresses=("001-acme",)))
    assert len(waiting.next_batch((), 0, 9)) == 2
    for number in range(3):
        waiting.add(row(f"g/{number}", 1, 2 + number))
    waiting.add(row("g/a", 2, 5, addresses=("001-acme",)))
    waiting.add(row("g/b", 2, 6))
    taken = [one.key for one in waiting.next_batch((), 0, 2)]
    assert taken == ["g/0", "g/1"]
    assert [one.key for one in waiting.next_batch((), 0, 2)] == ["g/2", "g/a"]


def test_whoever_moved_to_another_account_does_not_go_along_with_the_old_one() -> None:
    waiting = PendingChanges()
    waiting.add(row("g/stays", 1, 0, addresses=("001-acme",)))
    waiting.add(row("g/next", 1, 1))
    waiting.add(row("g/moved", 1, 2, addresses=("001-acme",)))
    waiting.add(row("g/third", 1, 3, addresses=("001-acme",)))
    waiting.add(row("g/moved", 2, 4, addresses=("001-other",)))
    assert [one.key for one in waiting.next_batch((), 0, 3)] == ["g/stays", "g/third", "g/next"]


def test_the_bytes_of_what_waits_are_those_of_the_newest_changes() -> None:
    waiting = PendingChanges()
    for version, size in enumerate((100, 30, 70)):
        made = row("g/a", version, version)
        made.size = size
        waiting.add(made)
        assert waiting.bytes == size
    other = row("g/b", 1, 3)
    other.size = 5
    waiting.add(other)
    assert waiting.bytes == 75
    (first,) = waiting.next_batch((), 0, 1)
    newer = row("g/a", 9, 4)
    newer.size, newer.not_before = 40, 50.0
    waiting.add(newer)
    assert waiting.bytes == 45
    waiting.put_back([first])
    assert (waiting.bytes, len(waiting)) == (45, 2)
    assert [one.key for one in waiting.next_batch((), 0, 9)] == ["g/b"]
    assert [one.change.version for one in waiting.next_batch((), 50.0, 9)] == [9]
    assert (waiting.bytes, len(waiting)) == (0, 0)
