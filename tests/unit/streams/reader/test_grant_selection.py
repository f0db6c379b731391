"""Which grants a run reads, and why it skips others."""

from dataclasses import replace

import pytest

from connectors.nylas.grants import Grant
from streams.reader.grant_selection import select_grants
from streams.runs import Run, RunKind

EVERYTHING = Run(RunKind.RECONCILE, None, 100, "schedule")
ONE = Run(RunKind.BACKFILL, ("g1",), 100, "command")


def test_a_run_reads_the_grants_that_it_names_and_skips_unreadable_ones() -> None:
    listed = [
        Grant("g1", "google", "a@x"),
        Grant("g2", "zoom"),
        Grant("g3", "yahoo", "c@x", valid=False),
    ]
    everything = select_grants(EVERYTHING, listed)
    assert [grant.id for grant in everything.read] == ["g1"]
    assert everything.skipped == {"g2": "no_contacts", "g3": "expired"}
    named = select_grants(replace(ONE, grants=("a@x", "g3", "g9", "nobody@x")), listed)
    assert [grant.id for grant in named.read] == ["g1", "g9"]
    assert named.skipped == {"g3": "expired"}
    assert named.unknown_addresses == ("nobody@x",)


def test_the_case_of_an_address_does_not_matter_and_that_of_an_id_does() -> None:
    listed = [Grant("g1", "google", "Ann.Lee@Acme.example"), Grant("G2", "google", "b@x")]
    chosen = select_grants(replace(ONE, grants=("ann.lee@ACME.example", "g2")), listed)
    assert [grant.id for grant in chosen.read] == ["g1", "g2"]
    assert chosen.read[1] == Grant("g2"), (
        "of another case it is another grant, which the listing lacks"
    )
    assert chosen.unknown_addresses == ()


@pytest.mark.parametrize(
    ("by", "reads"), [("grant.updated", True), ("grant.created", True), ("command", False)]
)
def test_a_grant_that_has_just_signed_in_is_read_although_it_is_listed_as_invalid(
    by: str, reads: bool
) -> None:
    listed = [Grant("g1", "google", valid=False)]
    chosen = select_grants(replace(ONE, grants=("g1",), by=by), listed)
    assert bool(chosen.read) is reads
    assert chosen.skipped == ({} if reads else {"g1": "expired"})
    blocked = [Grant("g1", "google", valid=False, blocked=True)]
    assert select_grants(replace(ONE, grants=("g1",), by=by), blocked).skipped == {"g1": "blocked"}


def test_a_grant_whose_mailbox_is_not_synced_is_skipped_however_it_was_named() -> None:
    listed = [Grant("g1", "google", "a@x"), Grant("g2", "google", "b@x")]

    def not_synced(grant: Grant) -> str:
        return "" if grant.email == "a@x" else "not_selected"

    everything = select_grants(EVERYTHING, listed, not_synced)
    assert [grant.id for grant in everything.read] == ["g1"]
    assert everything.skipped == {"g2": "not_selected"}
    named = select_grants(replace(ONE, grants=("g1", "b@x", "g9")), listed, not_synced)
    assert [grant.id for grant in named.read] == ["g1"]
    assert named.skipped == {"g2": "not_selected", "g9": "not_selected"}
