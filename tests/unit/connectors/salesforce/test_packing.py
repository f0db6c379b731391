"""Rows are packed into Composite calls within Salesforce's limits, and none is lost."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.salesforce.api.composite import (
    composite_body,
)
from connectors.salesforce.org_fields import KEY_FIELD
from connectors.salesforce.packing import PackLimits, halve, merge_groups, pack
from connectors.salesforce.rows import Call, Collection, Op, WriteRow, collection_subrequest


def part(reference: str | None, status: int = 200, body: Any = None) -> dict[str, Any]:
    return {"body": body, "httpHeaders": {}, "httpStatusCode": status, "referenceId": reference}


def row(
    number: int,
    sobject: str = "Contact",
    op: Op = "upsert",
    account: str | None = None,
    *people: str,
) -> WriteRow:
    identity = {"Id": f"record{number}"} if op == "update" else {KEY_FIELD: f"g/{number}"}
    return WriteRow(sobject, op, identity, account, frozenset(people), number)


def test_a_thousand_rows_are_one_call() -> None:
    rows = [row(number, "Contact" if number % 5 else "Lead") for number in range(1000)]
    packed = pack(rows)
    ((call,),) = packed.groups
    assert sorted((part.rows[0].sobject, len(part.rows)) for part in call) == [
        ("Contact", 200)
    ] * 4 + [("Lead", 200)]
    assert not packed.leftovers


def test_updates_of_both_sobjects_share_a_collection_each_as_one_run() -> None:
    rows = [row(number, "Contact" if number % 2 else "Lead", "update") for number in range(1000)]
    packed = pack(rows, PackLimits(calls=1))
    ((call,),) = packed.groups
    assert [len(part.rows) for part in call] == [200] * 5
    assert not packed.leftovers
    for part in call:
        sobjects = [each.sobject for each in part.rows]
        assert sobjects == sorted(sobjects)
    apart = pack(rows[:10], PackLimits(mixed_updates=False)).groups
    assert not any(part.is_mixed for group in apart for call in group for part in call)


def test_rows_of_one_account_lie_side_by_side() -> None:
    rows = [row(number, account=f"00{number % 7}") for number in range(70)]
    ((call,),) = pack(rows).groups
    accounts = [packed_row.account_id for part in call for packed_row in part.rows]
    assert accounts == sorted(accounts, key=str)


def test_as_few_rows_as_possible_are_left_over_when_one_call_is_not_enough() -> None:
    odd = [row(1, "Lead", "update"), row(2, "Contact", "update"), row(3, "Lead")]
    many = [row(number) for number in range(10, 1010)]
    packed = pack([many[0], *odd, *many[1:]], PackLimits(calls=1))
    assert [len(call) for group in packed.groups for call in group] == [5]
    assert [left.tag for left in packed.leftovers] == [1, 2, 3]


def test_a_leftover_that_comes_first_is_taken_into_the_next_call() -> None:
    odd = row(1, "Lead", "update")
    packed = pack([odd, *(row(number) for number in range(10, 1010))], PackLimits(calls=1))
    assert odd not in packed.leftovers
    assert len(packed.leftovers) == 200


def test_a_record_that_two_contacts_update_is_in_a_call_once() -> None:
    first = WriteRow("Contact", "update", {"Id": "record"}, tag=1)
    second = WriteRow("Contact", "update", {"Id": "record"}, tag=2)
    packed = pack([first, second])
    assert [
        [[r.tag for part in call for r in part.rows] for call in group] for group in packed.groups
    ] == [[[1], [2]]]


def test_one_account_with_more_rows_than_a_call_goes_call_after_call() -> None:
    packed = pack([row(number, account="001") for number in range(2500)])
    assert [
        [sum(len(part.rows) for part in call) for call in group] for group in packed.groups
    ] == [[1000, 1000, 500]]


def test_calls_without_a_common_account_or_person_may_go_side_by_side() -> None:
    packed = pack(
        [row(number, "Contact", "upsert", f"account{number % 286}") for number in range(2002)]
    )
    assert [len(group) for group in packed.groups] == [1, 1, 1]  # accounts of seven rows stay whole


tokens = st.integers(0, 12)


rows_of_any_kind = st.lists(
    st.builds(
        lambda identity, sobject, op, account, people: (identity, sobject, op, account, people),
        st.integers(0, 40),
        st.sampled_from(["Contact", "Lead"]),
        st.sampled_from(get_args(Op)),
        st.none() | tokens.map("001{}".format),
        st.frozensets(tokens.map("person{}".format), max_size=2),
    ),
    max_size=60,
)


@pytest.mark.slow
@settings(max_examples=200)
@given(rows_of_any_kind, st.integers(1, 5), st.integers(1, 6), st.none() | st.integers(1, 3))
def test_packing_loses_no_row_and_respects_every_limit(
    made: list[Any], collections: int, size: int, calls: int | None
) -> None:
    rows = [
        WriteRow(
            sobject,
            op,
            {"Id" if op == "update" else KEY_FIELD: f"{op}{identity}"},
            account,
            people,
            place,
        )
        for place, (identity, sobject, op, account, people) in enumerate(made)
    ]
    packed = pack(rows, PackLimits(collections, size, calls))
    sent = [call for group in packed.groups for call in group]

    # every row is in exactly one place
    places = Counter(r.tag for call in sent for part in call for r in part.rows)
    places.update(left.tag for left in packed.leftovers)
    assert places == Counter(range(len(rows)))
    assert [left.tag for left in packed.leftovers] == sorted(left.tag for left in packed.leftovers)

    # nothing is left over but by the limit of calls, and the first row goes first
    assert len(sent) <= calls if calls is not None else not packed.leftovers
    assert not rows or any(r.tag == 0 for part in sent[0] for r in part.rows)

    for call in sent:
        assert 1 <= len(call) <= collections
        identities = [next(iter(r.fields.values())) for part in call for r in part.rows]
        assert len(set(identities)) == len(identities)
        for part in call:
            assert 1 <= len(part.rows) <= size
            assert {r.op for r in part.rows} == {part.op}
            assert part.op == "update" or not part.is_mixed
            accounts = [(r.sobject, r.account_id or "") for r in part.rows]
            assert accounts == sorted(accounts)

    assert_groups_share_nothing(packed.groups)


def assert_groups_share_nothing(groups: Sequence[Sequence[Call]]) -> None:
    """Groups that may be in flight side by side share no Account, no person, no record."""
    claims = [
        {
            claim
            for call in group
            for part in call
            for r in part.rows
            for claim in (r.account_id, next(iter(r.fields.values())), *r.people)
            if claim
        }
        for group in groups
    ]
    for place, claim in enumerate(claims):
        assert all(claim.isdisjoint(other) for other in claims[place + 1 :])


@given(rows_of_any_kind, st.lists(st.sampled_from([1, 2, 5, 200]), min_size=1, max_size=7))
def test_rows_packed_by_size_share_calls_and_none_is_lost(
    made: list[Any], sizes: list[int]
) -> None:
    by_size: dict[int, list[WriteRow]] = {}
    for place, (identity, sobject, op, account, people) in enumerate(made):
        fields = {"Id" if op == "update" else KEY_FIELD: f"{op}{identity}"}
        made_row = WriteRow(sobject, op, fields, account, people, place)
        by_size.setdefault(sizes[place % len(sizes)], []).append(made_row)
    groups = [
        group
        for size, rows in by_size.items()
        for group in pack(rows, PackLimits(rows=size)).groups
    ]
    merged = merge_groups(groups)
    before = [part for group in groups for call in group for part in call]
    after = [part for group in merged for call in group for part in call]
    assert Counter(map(id, after)) == Counter(map(id, before)), "a collection is lost or changed"
    assert sum(map(len, merged)) <= sum(map(len, groups))
    for call in (call for group in merged for call in group):
        assert 1 <= len(call) <= 5
        identities = [next(iter(r.fields.values())) for part in call for r in part.rows]
        assert len(set(identities)) == len(identities)
    assert_groups_share_nothing(merged)


def test_collections_of_several_sizes_go_in_one_call() -> None:
    groups = [
        group
        for size in (1, 2, 200)
        for group in pack(
            [row(1000 * size + number) for number in range(2)], PackLimits(rows=size)
        ).groups
    ]
    assert len(groups) == 3
    ((call,),) = merge_groups(groups)
    assert sorted(len(part.rows) for part in call) == [1, 1, 2, 2]


def part_of(size: int, number: int) -> tuple[Call, ...]:
    """A group of one call with `size` collections."""
    return (
        tuple(Collection("upsert", (row(100 * number + place, "Lead"),)) for place in range(size)),
    )


@pytest.mark.parametrize(
    ("sizes", "calls"),
    [
        ([1, 1, 1, 1, 1], [5]),
        ([1, 1, 1, 1, 1, 1], [1, 5]),
        # taken as they come, two of two would leave no room for either of three
        ([2, 2, 3, 3], [5, 5]),
        ([4, 2, 1], [2, 5]),
        ([5, 5], [5, 5]),
        ([], []),
    ],
)
def test_calls_that_share_nothing_are_merged_into_as_few_as_have_room(
    sizes: list[int], calls: list[int]
) -> None:
    merged = merge_groups(part_of(size, number) for number, size in enumerate(sizes))
    assert [len(group) for group in merged] == [1] * len(calls)
    assert sorted(len(call) for (call,) in merged) == calls


def test_calls_are_merged_within_the_limit_that_is_given() -> None:
    merged = merge_groups([part_of(1, number) for number in range(4)], 2)
    assert sorted(len(call) for (call,) in merged) == [2, 2]


def test_calls_of_one_group_stay_one_after_the_other_beside_merged_ones() -> None:
    (pair,) = pack([row(number, account="001") for number in range(3)], PackLimits(1, 2)).groups
    assert len(pair) == 2
    merged = merge_groups([part_of(1, 1), pair, part_of(2, 2)])
    assert pair in merged
    assert sorted(len(call) for group in merged if group != pair for call in group) == [3]


@pytest.mark.parametrize(
    "second",
    [
        WriteRow("Lead", "upsert", {KEY_FIELD: "g/1"}, tag=2),
        WriteRow("Contact", "update", {"Id": "other", KEY_FIELD: "g/1"}, tag=2),
        WriteRow("Contact", "update", {"Id": "record"}, tag=2),
        WriteRow("Contact", "upsert", {KEY_FIELD: "g/2"}, "001", tag=2),
        WriteRow("Contact", "upsert", {KEY_FIELD: "g/2"}, None, frozenset({"ada@x.example"}), 2),
    ],
)
def test_rows_of_one_key_record_account_or_person_are_never_in_flight_together(
    second: WriteRow,
) -> None:
    first = WriteRow(
        "Contact",
        "update",
        {"Id": "record", KEY_FIELD: "g/1"},
        "001",
        frozenset({"ada@x.example", "g/1"}),
        1,
    )
    free = WriteRow("Contact", "upsert", {KEY_FIELD: "g/9"}, "009", frozenset({"b@x.example"}), 3)
    for rows in ([first, second, free], [second, free, first]):
        groups = pack(rows, PackLimits(collections=1, rows=1)).groups
        found = [{r.tag for call in group for part in call for r in part.rows} for group in groups]
        assert sorted(found, key=len) == [{3}, {1, 2}]
    # a key, an Account and a person of the same text are three things
    alike = [
        WriteRow("Lead", "upsert", {KEY_FIELD: "x"}),
        WriteRow("Lead", "upsert", {KEY_FIELD: "y"}, "x"),
        WriteRow("Lead", "upsert", {KEY_FIELD: "z"}, None, frozenset({"x"})),
    ]
    assert len(pack(alike, PackLimits(collections=1, rows=1)).groups) == 3


@settings(max_examples=50)
@given(rows_of_any_kind)
def test_whatever_is_packed_can_be_sent(made: list[Any]) -> None:
    rows = [
        WriteRow(
            sobject, op, {"Id" if op == "update" else KEY_FIELD: f"{op}{identity}"}, account, people
        )
        for identity, sobject, op, account, people in made
    ]
    for group in pack(rows, PackLimits(rows=5)).groups:
        for call in group:
            composite_body(
                [collection_subrequest(part, f"r{n}") for n, part in enumerate(call)], "62.0"
            )


@given(st.lists(st.integers(1, 200), min_size=1, max_size=5), st.data())
def test_halving_isolates_a_poison_row_and_loses_none(
    sizes: list[int], data: st.DataObject
) -> None:
    call = tuple(
        Collection("upsert", tuple(row(1000 * place + number, "Lead") for number in range(size)))
        for place, size in enumerate(sizes)
    )
    everything = [r for part in call for r in part.rows]
    poison = data.draw(st.sampled_from(everything))
    others: list[WriteRow] = []
    steps = 0
    while sum(len(part.rows) for part in call) > 1:
        halves = halve(call)
        if len(call) > 1:
            first, second = map(len, halves)
            assert first - second in (0, 1)
        assert [r for half in halves for part in half for r in part.rows] == [
            r for part in call for r in part.rows
        ]
        (call,) = [half for half in halves if any(poison in part.rows for part in half)]
        others += [r for half in halves if half is not call for part in half for r in part.rows]
        steps += 1
    assert halve(call) == (call,)
    assert Counter(r.tag for r in [*others, poison]) == Counter(r.tag for r in everything)
    assert steps <= 11
