"""What `contactstream status` shows, and what it says needs a person."""

from collections import Counter
from dataclasses import replace

import orjson
import pytest

from connectors.salesforce.api.budget import Usage
from connectors.salesforce.write_mode import WriteMode
from streams.commands.status.collect import backfill_figures
from streams.commands.status.figures import (
    BackfillFigures,
    BulkLoadFigures,
    CallFigures,
    LetterFigures,
    OutcomeFigures,
    StageFigures,
    Status,
    duration,
    needs_a_person,
    outcome_figures,
)
from streams.commands.status.limits import LimitUse, limit_uses
from streams.commands.status.report import as_json, text
from streams.control import FailureBreaker, FailuresSeen, Stops
from streams.control_mode import ModeInForce
from streams.control_org import OrgPin
from streams.kafka.records import KafkaRecord
from streams.runs import Run, RunKind, RunState
from streams.settings import SinkSettings, load
from streams.sink.spent import Spent

NOW = 1_760_000_000_000
CREATIONS = LimitUse("creations of today (UTC)", 0, 10_000, "SINK_CREATIONS_PER_DAY", "raise it")
PIN = OrgPin("00D000000000001AAA", "sink", NOW)
FINE = Status(
    NOW,
    (
        StageFigures("bridge", rate=12.0),
        StageFigures("dedupe", 2, 1_204, NOW - 3_000, NOW + 14 * 86_400_000, 11.8),
        StageFigures("reader", 2, 0),
        StageFigures("sink", 2, 12_034, NOW - 72_000, None, 11.2),
    ),
    OutcomeFigures(NOW - 600_000, Counter({"created": 200, "updated": 295, "failed": 5}), 52, 148),
    CallFigures(68_000, 100_000),
    (),
    LetterFigures({"string_too_long": 5}, NOW - 3_600_000),
    (),
    mode=ModeInForce(WriteMode.MIRROR, "SALESFORCE_MODE"),
)


STOPPED = FailureBreaker("apex_error", Stops.BULK, NOW, FailuresSeen(12, 400))


def test_a_page_fits_into_80_columns_and_says_that_all_is_well() -> None:
    page = text(FINE)
    assert "nothing needs a person" in page
    assert max(map(len, page.splitlines())) <= 80
    assert "mirror (SALESFORCE_MODE)" in page
    assert "1 min" in page
    assert "26.0% of 200 contacts" in page
    assert "68,000 of 100,000 daily Salesforce calls" in page
    assert "5 string_too_long" in page


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (replace(FINE, stages=[StageFigures("sink", 0, 0)]), "no sink runs"),
        (
            replace(FINE, pin=PIN, org_of_login="00D000000000002AAA"),
            "writes to org 00D000000000001AAA, and the login leads to 00D000000000002AAA",
        ),
        (
            replace(FINE, outcomes=replace(FINE.outcomes, held=12)),
            "12 of the newest contacts are held by a limit; see contactstream held",
        ),
        (
            replace(FINE, outcomes=replace(FINE.outcomes, fell_back=3)),
            "3 records of the last day fell back to our user as their owner; see contactstream "
            "doctor",
        ),
        (
            replace(FINE, limits=[replace(CREATIONS, used=8_000)]),
            "creations of today (UTC): 8,000 of 10,000 (80%), by SINK_CREATIONS_PER_DAY; raise it",
        ),
        (replace(FINE, limits=[replace(CREATIONS, used=10_050)]), "10,050 of 10,000 (100%)"),
        (
            replace(
                FINE,
                bulk_load=BulkLoadFigures(deployed=True, held=False, may_assign=False),
                backfills=BackfillFigures(at_work=True),
            ),
            "our user waits for Contactstream_Bulk_Load",
        ),
        (
            replace(
                FINE,
                stages=[StageFigures("sink", 1, 0)],
                bulk_load=BulkLoadFigures(deployed=True, held=True, may_assign=True),
                backfills=BackfillFigures(ended_ms=NOW - 601_000),
            ),
            "our user still has Contactstream_Bulk_Load",
        ),
        (replace(FINE, mode=None), "nobody has chosen what may be written; see contactstream mode"),
        (
            replace(FINE, stages=[StageFigures("sink", 1, 5, NOW - 7_500_000)]),
            "sink is 2 h 5 min behind",
        ),
        (
            replace(FINE, stages=[StageFigures("dedupe", 1, 5, NOW, NOW + 86_400_000)]),
            "expire in 1 d: raise retention.ms",
        ),
        (
            replace(FINE, outcomes=OutcomeFigures(NOW, Counter({"failed": 10, "updated": 90}))),
            "10.0% of the newest contacts failed",
        ),
        (replace(FINE, calls=CallFigures(9_999, 100_000)), "9,999 of 100,000"),
        (replace(FINE, breakers=(STOPPED,)), "apex_error"),
        (
            replace(FINE, letters=LetterFigures({"x": 1}, NOW - 2 * 86_400_000)),
            "a dead letter is 2 d old",
        ),
    ],
)
def test_what_needs_a_person_comes_first_with_what_to_do(status: Status, problem: str) -> None:
    (found,) = needs_a_person(status)
    assert problem in found
    first = text(status).splitlines()
    assert "1 thing needs a person" in first[0]
    assert first[1].startswith("! ")
    assert as_json(status)["needs_a_person"] == [found]


@pytest.mark.parametrize(
    "status",
    [
        FINE,
        replace(FINE, pin=PIN, org_of_login=PIN.org_id),
        replace(FINE, pin=PIN, calls=None),
        replace(FINE, calls=None, outcomes=OutcomeFigures(), letters=LetterFigures({})),
        replace(FINE, outcomes=OutcomeFigures(NOW, Counter({"failed": 99}))),
        replace(FINE, stages=[StageFigures("sink", None, None, None, None, None)]),
        replace(FINE, limits=[replace(CREATIONS, used=7_999)]),
        replace(
            FINE,
            bulk_load=BulkLoadFigures(deployed=True, held=True, may_assign=False),
            backfills=BackfillFigures(at_work=True),
        ),
        replace(
            FINE,
            bulk_load=BulkLoadFigures(deployed=False, held=False, may_assign=False),
            backfills=BackfillFigures(at_work=True),
        ),
        # the sink still writes what the backfill read
        replace(FINE, bulk_load=BulkLoadFigures(deployed=True, held=True, may_assign=True)),
        # it takes the permission away two minutes after the last row
        replace(
            FINE,
            stages=[StageFigures("sink", 1, 0)],
            bulk_load=BulkLoadFigures(deployed=True, held=True, may_assign=True),
            backfills=BackfillFigures(ended_ms=NOW - 60_000),
        ),
    ],
)
def test_what_is_unknown_or_too_little_needs_nobody(status: Status) -> None:
    assert needs_a_person(status) == []
    assert max(map(len, text(status).splitlines())) <= 80
    orjson.dumps(as_json(status))


def outcome(status: str, **fields: object) -> KafkaRecord:
    value = {"outcome": status, "at_ms": NOW, "origin": "webhook", "matched": None, **fields}
    return KafkaRecord("contacts.outcomes", b"g/c", orjson.dumps(value), [])


def test_outcomes_are_counted_without_replays_and_what_is_no_outcome() -> None:
    found = outcome_figures(
        [
            outcome("created", first=True, at_ms=NOW - 5),
            outcome("updated", first=True, matched="email"),
            outcome("updated", matched="key"),
            outcome("failed"),
            outcome("updated", origin="replay", first=True),
            KafkaRecord("contacts.outcomes", b"g/c", b"junk", []),
            KafkaRecord("contacts.outcomes", b"g/c", None, []),
        ]
    )
    assert found.by_status == {"created": 1, "updated": 2, "failed": 1}
    assert (found.found, found.created, found.since_ms) == (1, 1, NOW - 5)
    assert (found.match_rate, found.error_rate) == (0.5, 0.25)


def test_owners_that_fell_back_count_for_a_day() -> None:
    old = NOW - 86_400_001
    records = [
        outcome("created", owner_rule="fallback"),
        outcome("created", owner_rule="fallback", origin="replay"),
        outcome("created", owner_rule="user"),
        outcome("created", owner_rule="fallback", at_ms=old),
    ]
    assert outcome_figures(records, NOW).fell_back == 2


def test_each_limit_that_is_set_is_shown_with_the_fullest_grant() -> None:
    spent = Spent(creations=900, of_grant=Counter({"a": 300, "b": 600}), replaced=7)
    settings = load(SinkSettings, {"SINK_REPLACED_VALUES_PER_HOUR": "0"})
    uses = limit_uses(settings, spent, 5_000, 4_100, Usage(980, 1_000))
    assert [(use.setting, use.used, use.limit) for use in uses] == [
        ("SINK_CREATIONS_PER_DAY", 900, 10_000),
        ("SINK_CREATIONS_PER_GRANT", 600, 2_000),
        ("SALESFORCE_MAX_CALLS_PER_DAY", 4_100, 5_000),
        ("SINK_STORAGE_SHARE", 980, 950),
    ]
    assert "from grant b" in str(uses[1])
    page = text(replace(FINE, limits=uses))
    assert "2 things need a person" in page
    assert "SALESFORCE_MAX_CALLS_PER_DAY; bulk runs wait for tomorrow from 80 % on" in " ".join(
        page.split()
    )
    assert max(map(len, page.splitlines())) <= 80
    entries = as_json(replace(FINE, limits=uses))["limits"]
    assert entries[0]["setting"] == "SINK_CREATIONS_PER_DAY"


def test_without_limits_nothing_is_shown_of_them() -> None:
    names = ("CREATIONS_PER_DAY", "CREATIONS_PER_GRANT", "REPLACED_VALUES_PER_HOUR")
    settings = load(SinkSettings, {f"SINK_{name}": "0" for name in names})
    spent = Spent(creations=900, of_grant=Counter({"a": 300}), replaced=7)
    assert limit_uses(settings, spent, 0, 0, None) == []
    assert "limits" not in text(FINE)


def test_a_backfill_is_at_work_until_it_ends_and_a_dry_run_is_none() -> None:
    run = Run(RunKind.BACKFILL, None, 1, "command", state=RunState.RUNNING)
    done = replace(run, state=RunState.DONE, finished_at=9)
    assert backfill_figures([run, done]) == BackfillFigures(at_work=True, ended_ms=9_000)
    assert backfill_figures([replace(run, dry_run=True)]) == BackfillFigures()
    assert backfill_figures([replace(run, kind=RunKind.RECONCILE)]) == BackfillFigures()


def test_only_contacts_whose_last_outcome_is_held_count_as_held() -> None:
    def of(key: bytes, status: str, **fields: object) -> KafkaRecord:
        return outcome(status, **fields)._replace(key=key)

    records = [
        of(b"g/a", "held"),
        of(b"g/b", "held"),
        of(b"g/c", "held"),
        of(b"g/b", "created", origin="replay"),
        of(b"g/c", "held"),
    ]
    assert outcome_figures(records).held == 2


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_600, "1 h"),
        (7_500, "2 h 5 min"),
        (86_400, "1 d"),
        (97_200, "1 d 3 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
