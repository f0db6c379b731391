"""What `contactstream status` shows, and what it says needs a person."""

from collections import Counter
from dataclasses import replace

import orjson
import pytest

from connectors.salesforce.write_mode import WriteMode
from streams.commands.status.figures import (
    CallFigures,
    LetterFigures,
    OutcomeFigures,
    StageFigures,
    Status,
    duration,
    needs_a_person,
    outcome_figures,
)
from streams.commands.status.report import as_json, text
from streams.control_mode import ModeInForce
from streams.control_org import OrgPin
from streams.kafka.records import KafkaRecord

NOW = 1_760_000_000_000
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
        (replace(FINE, paused=("bulk runs are stopped: apex_error",)), "contactstream breakers"),
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


def test_only_contacts_whose_last_outcome_is_held_count_as_held() -> None:
    def of(key: bytes, status: str, **fields: object) -> KafkaRecord:
        return replace(outcome(status, **fields), key=key)

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
