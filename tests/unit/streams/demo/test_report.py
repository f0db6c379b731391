"""The demo's report as plain data and as a table."""

import io
from dataclasses import replace

from rich.console import Console

from streams.demo.evidence import Evidence
from streams.demo.report import percentile, report, table
from tests.support.demo_evidence import GOOD


def test_the_report_holds_the_rates() -> None:
    figures = report(GOOD)
    assert (figures["sink"]["match_rate"], figures["sink"]["error_rate"]) == (0.1, 0.0)
    assert figures["salesforce"]["calls_of_the_one_patch_per_contact_recipe"] == 20
    assert figures["sink"]["outcomes_by_object"]["created"] == {"Contact": 4, "Lead": 5}
    assert figures["broker"] == "kafka"


def shown(evidence: Evidence) -> str:
    """The table as a terminal of 80 columns shows it."""
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(table(report(evidence)))
    return console.export_text()


def test_the_table_shows_outcomes_of_contacts_and_leads() -> None:
    lines = [" ".join(line.replace("│", " ").split()) for line in shown(GOOD).splitlines()]
    for line in (
        "created: Contacts 4",
        "created: Leads 5",
        "updated: Leads 3",
        "released 1",
        "every number adds up",
    ):
        assert line in lines


def test_the_table_names_a_stand_in_broker_and_shows_problems() -> None:
    assert "proves nothing" not in shown(GOOD)
    assert "fine for a first look, proves nothing" in shown(replace(GOOD, broker="tansu"))
    assert "DOES NOT ADD UP: refused by the org ≠ nothing: 2 and 0" in shown(
        replace(GOOD, refused=2)
    )


def test_there_is_no_percentile_without_values() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
