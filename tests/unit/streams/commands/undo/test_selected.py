"""Which values an undo would restore, given the journal."""

from dataclasses import replace
from typing import Any

import click
import pytest

from streams.commands.undo.selected import (
    UndoChoice,
    UndoPlan,
    UndoReader,
    UnusableChoice,
    make_choice,
)
from streams.journal import EntryKind, JournalEntry

LEAD = "00Q5g00000000AAEAQ"
FIRST = JournalEntry(
    kind=EntryKind.REPLACED,
    sobject="Lead",
    record_id=LEAD,
    field="Title",
    old="Boss",
    new="Engineer",
    change="100-7",
    contact_key="g/1",
    run="backfill-1",
    origin="backfill",
    restored=False,
    version=100,
    at_ms=1_000,
)


def entry(**changed: Any) -> JournalEntry:
    """Another entry than FIRST, by another change if it is of another time."""
    if "at_ms" in changed:
        changed = {"change": f"100-{changed['at_ms']}", **changed}
    return replace(FIRST, **changed)


def planned(choice: UndoChoice, *entries: JournalEntry) -> UndoPlan:
    return UndoReader(choice).read(entries)


def values(plan: UndoPlan) -> list[tuple[str, Any, Any]]:
    return [(one.field, one.wanted, one.ours) for one in plan.values]


def test_all_conditions_must_hold() -> None:
    entries = [
        FIRST,
        entry(record_id="00Q2", run="backfill-2", at_ms=2_000),
        entry(record_id="00Q3", contact_key="h/1", at_ms=3_000),
        entry(field="Phone", old="1", new="2", at_ms=4_000),
        entry(sobject="Contact", record_id="0031", at_ms=5_000),
    ]

    def chosen(choice: UndoChoice) -> list[int]:
        return [place for place, one in enumerate(entries) if choice.takes(one)]

    assert chosen(UndoChoice(run="backfill-1")) == [0, 2, 3, 4]
    assert chosen(UndoChoice(grants=("g",))) == [0, 1, 3, 4]
    assert chosen(UndoChoice(fields=("title",))) == [0, 1, 2, 4]
    assert chosen(UndoChoice(fields=("Lead.Title", "phone"))) == [0, 1, 2, 3]
    assert chosen(UndoChoice(since_ms=2_000, until_ms=5_000)) == [1, 2, 3]
    assert chosen(UndoChoice(run="backfill-1", fields=("Phone",), grants=("g",))) == [3]
    assert chosen(UndoChoice()) == [0, 1, 2, 3, 4]


def test_of_writes_that_follow_one_another_the_value_before_the_first_comes_back() -> None:
    again = entry(old="Engineer", new="Analyst", run="", at_ms=2_000)
    assert values(planned(UndoChoice(), FIRST, again)) == [("Title", "Boss", "Analyst")]
    assert values(planned(UndoChoice(since_ms=2_000), FIRST, again)) == [
        ("Title", "Engineer", "Analyst")
    ], "only what was chosen is undone"


def test_an_entry_that_is_intended_and_then_replaced_counts_once() -> None:
    again = entry(old="Engineer", new="Analyst", at_ms=2_000)
    intended = replace(again, kind=EntryKind.INTENDED)
    for entries in ([FIRST, intended, again], [FIRST, intended], [FIRST, intended, intended]):
        assert values(planned(UndoChoice(), *entries)) == [("Title", "Boss", "Analyst")]


def test_a_change_that_is_sent_again_has_the_value_that_stood_there_last() -> None:
    intended = entry(kind=EntryKind.INTENDED, old="Engineer", new="Analyst", at_ms=2_000)
    typed_meanwhile = replace(intended, kind=EntryKind.REPLACED, old="Typed")
    assert values(planned(UndoChoice(), FIRST, intended, typed_meanwhile)) == [
        ("Title", "Typed", "Analyst")
    ]


def test_what_a_person_typed_between_two_writes_comes_back() -> None:
    over_a_person = entry(old="Typed", new="Analyst", at_ms=2_000)
    assert values(planned(UndoChoice(), FIRST, over_a_person)) == [("Title", "Typed", "Analyst")]


def test_a_field_that_was_written_again_by_another_run_is_left_alone() -> None:
    other = entry(old="Engineer", new="Analyst", run="backfill-2", at_ms=2_000)
    plan = planned(UndoChoice(run="backfill-1"), FIRST, other)
    assert (values(plan), plan.written_since, plan.undone) == ([], 1, 0)


def test_what_an_undo_restored_is_not_restored_twice_and_a_later_write_is() -> None:
    undone = entry(
        kind=EntryKind.RESTORED, old="Engineer", new="Boss", run="undo-1", origin="", at_ms=2_000
    )
    plan = planned(UndoChoice(), FIRST, undone)
    assert (values(plan), plan.written_since, plan.undone) == ([], 0, 1)
    later = entry(old="Boss", new="Analyst", run="replay-1", at_ms=3_000)
    assert values(planned(UndoChoice(), FIRST, undone, later)) == [("Title", "Boss", "Analyst")]


def test_created_records_are_listed_once_and_only_where_no_field_is_chosen() -> None:
    created = entry(kind=EntryKind.CREATED, field="", old=None, new=None)
    other = replace(created, contact_key="h/1")
    plan = planned(UndoChoice(run="backfill-1"), created, other)
    assert [(one.record_id, one.run) for one in plan.created] == [(LEAD, "backfill-1")]
    assert planned(UndoChoice(fields=("Title",)), created).created == []


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (UndoChoice(run="undo-1"), ["undo-1 is an undo", "contactstream replay changes --restore"]),
        (UndoChoice(run="backfil-1"), ["RUN backfil-1", "did you mean backfill-1?"]),
        (UndoChoice(run="x"), ["RUN x", "see contactstream runs"]),
        (UndoChoice(grants=("q",)), ["--grant q", "see contactstream grants list"]),
        (UndoChoice(fields=("Titel",)), ["--field Titel", "did you mean Title?"]),
        (UndoChoice(fields=("zzz",)), ["--field zzz", "Lead.Title"]),
    ],
)
def test_a_choice_of_something_unknown_is_refused_with_a_remedy(
    choice: UndoChoice, words: list[str]
) -> None:
    reader = UndoReader(choice)
    reader.read([FIRST, entry(kind=EntryKind.RESTORED, run="undo-1")])
    with pytest.raises(UnusableChoice) as refused:
        reader.check([])
    assert all(word in str(refused.value) for word in words)


def test_a_known_run_that_replaced_nothing_is_no_mistake() -> None:
    reader = UndoReader(UndoChoice(run="backfill-9"))
    assert not reader.read([FIRST]).values
    reader.check(["backfill-9"])


@pytest.mark.parametrize(
    ("since", "until", "words"),
    [
        ("1h", "2h", "reversed"),
        ("soon", None, "--since soon"),
        (None, "soon", "--until soon"),
        ("2999-01-01", None, "future"),
    ],
)
def test_times_that_hold_nothing_are_refused(
    since: str | None, until: str | None, words: str
) -> None:
    with pytest.raises(click.UsageError, match=words):
        make_choice(None, (), (), since, until, lambda: 1_790_000_000.0)
    choice = make_choice(None, (), ("Title",), "2h", "1h", lambda: 10_000.0)
    assert (choice.since_ms, choice.until_ms) == (2_800_000, 6_400_000)
