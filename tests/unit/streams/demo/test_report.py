"""The demo says so when a number does not add up: a contact that vanished between two stages is
named with both counts.
"""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from streams.demo.report import Evidence, parse_samples, percentile, problems, report, table

PEOPLE = frozenset(f"g/{number}" for number in range(12))
GOOD = Evidence(
    broker="kafka",
    people=10,
    sent={
        "change": 2,
        "exact duplicate": 1,
        "same content, new event": 1,
        "nothing that we map": 2,
        "older after newer": 1,
        "bad signature": 1,
        "new person": 2,
        "deleted": 1,
    },
    answers={200: 10, 401: 1},
    records={
        "contacts.events": 20,
        "contacts.changes": 15,
        "contacts.outcomes": 14,
        "contacts.dead-letter": 0,
    },
    changed=PEOPLE,
    outcomes={
        "created": {"Contact": 4, "Lead": 5},
        "updated": {"Contact": 1, "Lead": 3},
        "released": {"Lead": 1},
    },
    answered=PEOPLE,
    titles={"g/1": ("Director 1", "Director 1"), "g/2": ("Director 2", "Director 2")},
    bridge={("bridge_requests", "published"): 10, ("bridge_requests", "bad_signature"): 1},
    reader={("reader_contacts", "backfill"): 10},
    dedupe={
        ("dedupe_events", ""): 20,
        ("dedupe_forwarded", "updated"): 14,
        ("dedupe_forwarded", "deleted"): 1,
        ("dedupe_dropped", "stale"): 1,
        ("dedupe_dropped", "duplicate"): 3,
        ("dedupe_dropped", "retry"): 1,
    },
    sink={
        ("sink_changes", ""): 15,
        ("sink_coalesced", ""): 1,
        ("sink_rows", "created"): 9,
        ("sink_rows", "updated"): 4,
        ("sink_rows", "released"): 1,
        ("sink_first_resolutions", "created"): 9,
        ("sink_first_resolutions", "found"): 1,
        ("salesforce_calls", "token"): 1,
        ("salesforce_calls", "composite_write"): 3,
    },
    nylas_calls=4,
    org_before={"Account": 2, "Contact": 1, "Lead": 0},
    org_after={"Account": 2, "Contact": 5, "Lead": 5},
    calls_first_sync={"token": 1, "composite_write": 2},
    calls_all={"token": 1, "composite_write": 3},
    refused=0,
    first_sync_seconds=3.0,
    live_latency=(0.5, 1.0, 2.0),
)


def dedupe(**other: int) -> Evidence:
    """GOOD with other counts of dedupe: `forwarded_updated=13`."""
    changed = {
        (f"dedupe_{name.partition('_')[0]}", name.partition("_")[2]): count
        for name, count in other.items()
    }
    return replace(GOOD, dedupe={**GOOD.dedupe, **changed})


def fewer_changes(evidence: Evidence, lost: int) -> Evidence:
    """What all that follows dedupe counts, when it did not forward so many."""
    records = {
        name: GOOD.records[name] - lost * (name in ("contacts.changes", "contacts.outcomes"))
        for name in GOOD.records
    }
    sink = {**GOOD.sink, ("sink_changes", ""): 15 - lost, ("sink_rows", "updated"): 4 - lost}
    outcomes = {**GOOD.outcomes, "updated": {"Contact": 1, "Lead": 3 - lost}}
    return replace(evidence, records=records, sink=sink, outcomes=outcomes)


def test_numbers_that_add_up_are_no_problem() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (
            replace(GOOD, answers={200: 11, 401: 1}),
            "answers of 200 ≠ notifications that the bridge published: 11 and 10",
        ),
        (
            replace(GOOD, answers={200: 9, 401: 1}),
            "good notifications sent ≠ answers of 200: 10 and 9",
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
            "changes of nothing sent ≠ dropped as duplicate: 3 and 4",
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
            replace(GOOD, answered=PEOPLE - {"g/3"}),
            "contacts with a change or an outcome, but not both ≠ none: 1 and 0",
        ),
        (replace(GOOD, answered=PEOPLE - {"g/3"} | {"g/x"}), "but not both ≠ none: 2 and 0"),
        (
            replace(GOOD, outcomes={**GOOD.outcomes, "updated": {"Contact": 1, "Lead": 2}}),
            "fates that are no failure ≠ contacts.outcomes: 14 and 13",
        ),
        (
            replace(GOOD, titles={**GOOD.titles, "g/2": ("Director 2", "Trainee")}),
            "the title of g/2 in the org ≠ its newest: Trainee and Director 2",
        ),
        (replace(GOOD, titles={"g/1": ("Director 1", None)}), "None and Director 1"),
        (replace(GOOD, titles={}), "nobody's title was read back from the org"),
    ],
)
def test_a_number_that_does_not_add_up_is_named_with_both_counts(
    spoiled: Evidence, said: str
) -> None:
    assert any(said in problem for problem in problems(spoiled)), problems(spoiled)


def test_what_nylas_sent_again_may_be_there_twice_and_nothing_else() -> None:
    again = replace(
        dedupe(events_=21, dropped_retry=2),
        answers={**GOOD.answers, 503: 1},
        records={**GOOD.records, "contacts.events": 21},
    )
    assert problems(again) == []
    assert problems(replace(again, answers=GOOD.answers)) != []


def test_the_report_holds_the_rates_and_can_be_shown() -> None:
    figures = report(GOOD)
    assert (figures["sink"]["match_rate"], figures["sink"]["error_rate"]) == (0.1, 0.0)
    assert figures["salesforce"]["calls_of_the_one_patch_per_contact_recipe"] == 20
    assert figures["sink"]["outcomes_by_object"]["created"] == {"Contact": 4, "Lead": 5}
    assert figures["broker"] == "kafka"


def shown(evidence: Evidence) -> str:
    """The table as a terminal shows it."""
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(table(report(evidence)))
    return console.export_text()


def test_the_table_says_what_became_of_contacts_and_of_leads() -> None:
    lines = [" ".join(line.replace("│", " ").split()) for line in shown(GOOD).splitlines()]
    for line in (
        "created: Contacts 4",
        "created: Leads 5",
        "updated: Leads 3",
        "released 1",
        "every number adds up",
    ):
        assert line in lines


def test_a_broker_that_proves_nothing_is_named_so_and_a_problem_is_shown() -> None:
    assert "proves nothing" not in shown(GOOD)
    assert "good for a look, proves nothing" in shown(replace(GOOD, broker="tansu"))
    assert "DOES NOT ADD UP: refused by the org ≠ nothing: 2 and 0" in shown(
        replace(GOOD, refused=2)
    )


def test_samples_are_read_by_name_and_label() -> None:
    text = '# TYPE contactstream_sink_rows counter\ncontactstream_sink_rows_total{outcome="created"} 3.0\n'
    assert parse_samples(text) == {("sink_rows", "created"): 3.0}


def test_a_percentile_of_nothing_is_nothing() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
