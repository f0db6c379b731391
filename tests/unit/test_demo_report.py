"""The demo says so when a number does not add up: a contact that vanished between two stages is named with both counts."""

from dataclasses import replace

import pytest

from streams.demo_report import Evidence, parse_samples, percentile, problems, report, table

GOOD = Evidence(
    people=10,
    sent={"change": 2, "bad signature": 1, "older after newer": 1, "exact duplicate": 1, "deleted": 1},
    answers={200: 5, 401: 1},
    records={"contacts.events": 15, "contacts.changes": 13, "contacts.outcomes": 12, "contacts.dead-letter": 0},
    bridge={("bridge_requests", "published"): 5, ("bridge_requests", "bad_signature"): 1},
    reader={("reader_contacts", "backfill"): 10},
    dedupe={
        ("dedupe_events", ""): 15,
        ("dedupe_forwarded", "updated"): 12,
        ("dedupe_forwarded", "deleted"): 1,
        ("dedupe_dropped", "stale"): 1,
        ("dedupe_dropped", "retry"): 1,
    },
    sink={
        ("sink_changes", ""): 13,
        ("sink_coalesced", ""): 1,
        ("sink_rows", "created"): 9,
        ("sink_rows", "updated"): 2,
        ("sink_rows", "released"): 1,
        ("sink_first_resolutions", "created"): 9,
        ("sink_first_resolutions", "found"): 1,
        ("salesforce_calls", "token"): 1,
        ("salesforce_calls", "composite_write"): 3,
    },
    nylas_calls=4,
    org_before={"Contact": 1, "Lead": 0},
    org_after={"Contact": 5, "Lead": 5},
    calls_first_sync={"token": 1, "composite_write": 2},
    calls_all={"token": 1, "composite_write": 3},
    refused=0,
    first_sync_seconds=3.0,
    live_latency=(0.5, 1.0, 2.0),
)


def test_numbers_that_add_up_are_no_problem() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (replace(GOOD, answers={200: 6, 401: 1}), "6 and 5"),
        (replace(GOOD, records={**GOOD.records, "contacts.changes": 12}), "12 and 13"),
        (replace(GOOD, records={**GOOD.records, "contacts.dead-letter": 1}), "1 and 0"),
        (replace(GOOD, org_after={"Contact": 5, "Lead": 6}), "11 and 10"),
        (replace(GOOD, refused=2), "2 and 0"),
        (replace(GOOD, calls_first_sync={"composite_write": 13}), "took 13 Salesforce calls, more than 12"),
    ],
)
def test_a_number_that_does_not_add_up_is_named_with_both_counts(spoiled: Evidence, said: str) -> None:
    assert any(said in problem for problem in problems(spoiled)), problems(spoiled)


def test_the_report_holds_the_rates_and_can_be_shown() -> None:
    figures = report(GOOD)
    assert (figures["sink"]["match_rate"], figures["sink"]["error_rate"]) == (0.1, 0.0)
    assert figures["salesforce"]["calls_of_the_one_patch_per_contact_recipe"] == 15
    assert table(figures) is not None


def test_samples_are_read_by_name_and_label() -> None:
    text = '# TYPE contactstream_sink_rows counter\ncontactstream_sink_rows_total{outcome="created"} 3.0\n'
    assert parse_samples(text) == {("sink_rows", "created"): 3.0}


def test_a_percentile_of_nothing_is_nothing() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
