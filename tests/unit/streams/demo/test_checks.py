"""The demo reports a number that does not add up: a lost contact is named with both counts."""

from dataclasses import replace

import pytest

from streams.demo.checks import problems
from streams.demo.evidence import Evidence
from tests.support.demo_evidence import GOOD, KEYS


def dedupe(**other: int) -> Evidence:
    """GOOD with other counts of dedupe: `forwarded_updated=13`."""
    changed = {
        (f"dedupe_{name.partition('_')[0]}", name.partition("_")[2]): count
        for name, count in other.items()
    }
    return replace(GOOD, dedupe={**GOOD.dedupe, **changed})


def fewer_changes(evidence: Evidence, lost: int) -> Evidence:
    """The evidence when dedupe forwarded so many changes less."""
    records = {
        name: GOOD.records[name] - lost * (name in ("contacts.changes", "contacts.outcomes"))
        for name in GOOD.records
    }
    sink = {**GOOD.sink, ("sink_changes", ""): 15 - lost, ("sink_rows", "updated"): 4 - lost}
    outcomes = {**GOOD.outcomes, "updated": {"Contact": 1, "Lead": 3 - lost}}
    return replace(evidence, records=records, sink=sink, outcomes=outcomes)


def test_there_is_no_problem_when_all_numbers_add_up() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("evidence", "problem"),
    [
        (
            replace(GOOD, answers={200: 11, 401: 1}),
            "answers of 200 ≠ notifications that the bridge published: 11 and 10",
        ),
        (
            replace(GOOD, answers={200: 9, 401: 1}),
            "valid notifications sent ≠ answers of 200: 10 and 9",
        ),
        (
            replace(GOOD, records={**GOOD.records, "contacts.changes": 14}),
            "forwarded ≠ contacts.changes: 15 and 14",
        ),
        (replace(GOOD, records={**GOOD.records, "contacts.dead-letter": 1}), "1 and 0"),
        (
            replace(GOOD, records={**GOOD.records, "contacts.events": 21}),
            "what bridge and reader published: 21 and 20",
        ),
        (
            replace(GOOD, org_after={**GOOD.org_after, "Lead": 6}),
            "Leads before, and created ≠ Leads in the org: 5 and 6",
        ),
        (replace(GOOD, org_after={**GOOD.org_after, "Account": 3}), "2 and 3"),
        (
            replace(GOOD, org_after={"Account": 2, "Contact": 6, "Lead": 4}),
            "Contacts before, and created ≠ Contacts in the org: 5 and 6",
        ),
        (replace(GOOD, refused=2), "2 and 0"),
        (
            replace(GOOD, calls_first_sync={"composite_write": 13}),
            "took 13 Salesforce calls, more than 12",
        ),
        (
            dedupe(dropped_stale=0, forwarded_updated=15),
            "dropped as stale ≠ older events sent: 0 and 1",
        ),
        (
            dedupe(dropped_retry=2, dropped_duplicate=2),
            "dropped as retry ≠ exact duplicates sent: 2 and 1",
        ),
        (
            fewer_changes(dedupe(forwarded_updated=13, dropped_duplicate=4), 1),
            "notifications without a change ≠ dropped as duplicate: 3 and 4",
        ),
        (
            fewer_changes(dedupe(forwarded_updated=13, dropped_duplicate=4), 1),
            "people read, changed and new ≠ forwarded as updated: 14 and 13",
        ),
        (
            dedupe(forwarded_updated=15, forwarded_deleted=0),
            "contacts deleted ≠ forwarded as deleted: 1 and 0",
        ),
        (
            replace(GOOD, outcome_keys=KEYS - {"g/3"}),
            "contacts with a change or an outcome, but not both ≠ none: 1 and 0",
        ),
        (replace(GOOD, outcome_keys=KEYS - {"g/3"} | {"g/x"}), "but not both ≠ none: 2 and 0"),
        (
            replace(GOOD, outcomes={**GOOD.outcomes, "updated": {"Contact": 1, "Lead": 2}}),
            "outcomes that are no failure ≠ contacts.outcomes: 14 and 13",
        ),
        (
            replace(GOOD, titles={**GOOD.titles, "g/2": ("Director 2", "Trainee")}),
            "the title of g/2 in the org ≠ its newest: Trainee and Director 2",
        ),
        (replace(GOOD, titles={"g/1": ("Director 1", None)}), "None and Director 1"),
        (
            replace(GOOD, reader={**GOOD.reader, ("reader_reoffered", ""): 1}),
            "contacts.events ≠ what bridge and reader published: 20 and 21",
        ),
        (replace(GOOD, titles={}), "no title was read back from the org"),
    ],
)
def test_a_number_that_does_not_add_up_is_named_with_both_counts(
    evidence: Evidence, problem: str
) -> None:
    assert any(problem in found for found in problems(evidence)), problems(evidence)


def test_only_a_notification_that_nylas_repeated_may_be_there_twice() -> None:
    again = replace(
        dedupe(events_=21, dropped_retry=2),
        answers={**GOOD.answers, 503: 1},
        records={**GOOD.records, "contacts.events": 21},
    )
    assert problems(again) == []
    assert problems(replace(again, answers=GOOD.answers)) != []
