"""Each mode against a simulated org: what it writes, what it withholds, who is offered again."""

from typing import Any

import pytest

from connectors.salesforce.outcome import ContactVersion, Outcome
from connectors.salesforce.write_mode import WriteMode, improved_outcomes
from connectors.salesforce.write_rules import IntendedWrite
from tests.support.salesforce_org import SimulatedOrg, simulated_org

KEY = "Nylas_Contact_Id__c"
ADA = {
    "LastName": "Lovelace",
    "FirstName": "Ada",
    "Email": "ada@known.example",
    "Company": "Known",
    "Title": "Countess",
}
WORLD: dict[str, Any] = {"leads": [ADA]}


class Rules:
    """A mode, and what is held for a test."""

    def __init__(self, mode: WriteMode, held: str = "") -> None:
        self.mode = mode
        self.held = held
        self.asked: list[IntendedWrite] = []

    def hold(self, write: IntendedWrite) -> str:
        self.asked.append(write)
        return self.held


def contact(name: str, *addresses: str, version: int = 100, **fields: Any) -> ContactVersion:
    person = {"given_name": "Ada", "surname": "Lovelace", "company_name": "Known"} | fields
    emails = [{"email": address} for address in addresses]
    return ContactVersion(f"g/{name}", version, {"id": name, "emails": emails} | person)


KNOWN = contact(
    "known",
    "ada@known.example",
    job_title="Analyst",
    phone_numbers=[{"number": "+44 20 1", "type": "work"}],
)
NEW = contact("new", "grace@new.example", given_name="Grace", surname="Hopper")


async def sync(
    org: SimulatedOrg, mode: WriteMode, *changes: ContactVersion, held: str = ""
) -> dict[str, Outcome]:
    found = await org.sync.sync(changes, rules=Rules(mode, held))
    return {outcome.key: outcome for outcome in found}


def lead(org: SimulatedOrg, address: str) -> dict[str, Any] | None:
    return next((one for one in org.people() if one["Email"] == address), None)


def said(outcome: Outcome) -> str:
    return f"{outcome.status.value}:{outcome.reason}"


async def test_report_only_writes_nothing_and_says_what_mirror_would_do() -> None:
    async with simulated_org(WORLD) as org:
        outcomes = await sync(org, WriteMode.REPORT_ONLY, KNOWN, NEW)
        assert said(outcomes["g/known"]) == "planned:update"
        assert said(outcomes["g/new"]) == "planned:create"
        assert outcomes["g/known"].record_id == (lead(org, "ada@known.example") or {})["Id"]
        assert org.calls["composite_write"] == 0
        assert len(org.people()) == 1
        assert not any(outcome.first for outcome in outcomes.values()), "counts when it is written"


async def test_report_only_plans_a_release_and_leaves_the_key() -> None:
    async with simulated_org(WORLD) as org:
        await sync(org, WriteMode.MIRROR, KNOWN)
        outcomes = await sync(
            org, WriteMode.REPORT_ONLY, ContactVersion("g/known", 200, None), KNOWN_AGAIN
        )
        assert said(outcomes["g/known"]) == "planned:release"
        assert (lead(org, "ada@known.example") or {})[KEY] == "g/known"


KNOWN_AGAIN = contact("other", "else@nowhere.example", surname="Else")


async def test_fill_blanks_fills_blanks_and_replaces_and_creates_nothing() -> None:
    async with simulated_org(WORLD) as org:
        outcomes = await sync(org, WriteMode.FILL_BLANKS, KNOWN, NEW)
        found = lead(org, "ada@known.example") or {}
        assert (found["Title"], found["Phone"]) == ("Countess", "+44 20 1")
        assert said(outcomes["g/known"]) == "updated:"
        assert said(outcomes["g/new"]) == "skipped:mode_creates_nobody"
        assert len(org.people()) == 1


async def test_fill_blanks_leaves_even_our_own_value_and_says_so() -> None:
    async with simulated_org(WORLD) as org:
        await sync(org, WriteMode.MIRROR, KNOWN)
        moved = contact(
            "known",
            "ada@known.example",
            version=200,
            job_title="Analyst",
            phone_numbers=[{"number": "+44 20 2", "type": "work"}],
        )
        outcomes = await sync(org, WriteMode.FILL_BLANKS, moved)
        assert (lead(org, "ada@known.example") or {})["Phone"] == "+44 20 1"
        assert outcomes["g/known"].reason == "blanks_only"
        assert said(outcomes["g/known"]) in improved_outcomes(WriteMode.MIRROR)
        outcomes = await sync(org, WriteMode.ENRICH_ONLY, moved)
        assert (lead(org, "ada@known.example") or {})["Phone"] == "+44 20 2"


async def test_enrich_only_follows_the_address_book_and_creates_nobody() -> None:
    async with simulated_org(WORLD) as org:
        outcomes = await sync(org, WriteMode.ENRICH_ONLY, KNOWN, NEW)
        assert said(outcomes["g/known"]) == "updated:"
        assert (lead(org, "ada@known.example") or {})["Phone"] == "+44 20 1"
        assert said(outcomes["g/new"]) == "skipped:mode_creates_nobody"
        assert lead(org, "grace@new.example") is None


async def test_create_only_creates_who_is_missing_and_leaves_records_of_others_alone() -> None:
    async with simulated_org(WORLD) as org:
        outcomes = await sync(org, WriteMode.CREATE_ONLY, KNOWN, NEW)
        assert said(outcomes["g/known"]) == "unchanged:create_only"
        assert outcomes["g/known"].matched == "email"
        found = lead(org, "ada@known.example") or {}
        assert (found.get("Phone"), found.get(KEY)) == (None, None)
        assert said(outcomes["g/new"]) == "created:"
        assert lead(org, "grace@new.example") is not None


async def test_create_only_updates_and_releases_what_it_created() -> None:
    async with simulated_org(WORLD) as org:
        await sync(org, WriteMode.CREATE_ONLY, NEW)
        newer = contact(
            "new",
            "grace@new.example",
            version=200,
            given_name="Grace",
            surname="Hopper",
            job_title="Admiral",
        )
        outcomes = await sync(org, WriteMode.CREATE_ONLY, newer)
        assert said(outcomes["g/new"]) == "updated:"
        assert (lead(org, "grace@new.example") or {})["Title"] == "Admiral"
        outcomes = await sync(org, WriteMode.CREATE_ONLY, ContactVersion("g/new", 300, None))
        assert outcomes["g/new"].status.value == "released"


async def test_create_only_keeps_the_key_on_a_record_that_others_created() -> None:
    async with simulated_org(WORLD) as org:
        await sync(org, WriteMode.MIRROR, KNOWN)
        gone = ContactVersion("g/known", 300, None)
        outcomes = await sync(org, WriteMode.CREATE_ONLY, gone)
        assert said(outcomes["g/known"]) == "unchanged:create_only"
        assert (lead(org, "ada@known.example") or {})[KEY] == "g/known"


@pytest.mark.parametrize("before", [mode for mode in WriteMode if mode is not WriteMode.MIRROR])
async def test_what_another_mode_withheld_is_offered_to_mirror_again_and_made_up_for(
    before: WriteMode,
) -> None:
    async with simulated_org(WORLD) as org:
        first = await sync(org, before, KNOWN, NEW)
        wanted = improved_outcomes(WriteMode.MIRROR)
        offered = [
            change
            for change in (KNOWN, NEW)
            if {said(first[change.key]), first[change.key].status.value} & {*wanted}
        ]
        if offered:
            await sync(org, WriteMode.MIRROR, *offered)
        async with simulated_org(WORLD) as other:
            await sync(other, WriteMode.MIRROR, KNOWN, NEW)
            fields = (KEY, "FirstName", "LastName", "Email", "Title", "Phone", "Company")
            assert sorted([[one.get(name) or "" for name in fields] for one in org.people()]) == (
                sorted([[one.get(name) or "" for name in fields] for one in other.people()])
            )


def test_report_only_offers_nobody_again_because_it_does_no_more_for_anybody() -> None:
    assert improved_outcomes(WriteMode.REPORT_ONLY) == ()


async def test_a_held_row_is_not_written_and_everybody_of_it_is_held() -> None:
    other = ContactVersion("h/new", 100, NEW.contact)
    async with simulated_org(WORLD) as org:
        rules = Rules(WriteMode.MIRROR, "creations_per_day")
        outcomes = await org.sync.sync([NEW, other], rules=rules)
        assert {said(outcome) for outcome in outcomes} == {"held:creations_per_day"}
        assert not any(outcome.first for outcome in outcomes)
        assert rules.asked == [IntendedWrite("g/new", creates=True, replaced=0)]
        assert org.calls["composite_write"] == 0
        again = await sync(org, WriteMode.MIRROR, NEW, other)
        assert {outcome.status.value for outcome in again.values()} == {"created", "filled"}


async def test_the_rules_are_asked_how_many_values_a_row_replaces() -> None:
    async with simulated_org(WORLD) as org:
        await sync(org, WriteMode.MIRROR, KNOWN)
        moved = contact(
            "known",
            "ada@known.example",
            version=200,
            job_title="Analyst",
            phone_numbers=[{"number": "+44 20 2", "type": "work"}],
        )
        rules = Rules(WriteMode.MIRROR)
        await org.sync.sync([moved], rules=rules)
        assert rules.asked == [IntendedWrite("g/known", creates=False, replaced=1)]
