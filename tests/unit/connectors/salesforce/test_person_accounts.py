"""An org with Person Accounts: none is a target, their Contacts are filled, Leads stay people."""

from typing import Any

import pytest

from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.simulator.schema import make_id
from tests.support.salesforce_org import SimulatedOrg, simulated_org

PERSON, COMPANY = make_id("001", 90), make_id("001", 91)
SITE = "https://lovelace.example"
PERSON_ACCOUNT = {
    "Id": PERSON,
    "Name": "Ada Lovelace",
    "Website": SITE,
    "CreatedDate": "2020-01-01T00:00:00Z",
    "IsPersonAccount": True,
}
PERSON_CONTACT = {
    "LastName": "Lovelace",
    "FirstName": "Ada",
    "Email": "ada@lovelace.example",
    "AccountId": PERSON,
    "IsPersonAccount": True,
}


def change(key: str, address: str, version: int = 100, **contact: Any) -> ContactVersion:
    return ContactVersion(key, version, {"emails": [{"email": address}], **contact})


async def only(org: SimulatedOrg, made: ContactVersion) -> OutcomeStatus:
    (outcome,) = await org.sync.sync([made])
    return outcome.status


async def test_a_person_account_is_never_the_account_of_another_person() -> None:
    document = {"person_accounts": True, "accounts": [PERSON_ACCOUNT]}
    async with simulated_org(document) as org:
        assert await only(org, change("g/1", "byron@lovelace.example")) is OutcomeStatus.CREATED
        assert org.records("Contact") == []
        assert [lead["Email"] for lead in org.records("Lead")] == ["byron@lovelace.example"]


async def test_a_company_wins_over_an_older_person_account_with_its_website() -> None:
    company = {"Id": COMPANY, "Name": "Lovelace Ltd", "Website": SITE}
    document = {"person_accounts": True, "accounts": [PERSON_ACCOUNT, company]}
    async with simulated_org(document) as org:
        assert await only(org, change("g/1", "byron@lovelace.example")) is OutcomeStatus.CREATED
        assert [contact["AccountId"] for contact in org.records("Contact")] == [COMPANY]


async def test_an_account_that_becomes_a_person_account_is_a_target_no_longer() -> None:
    company = {"Id": COMPANY, "Name": "Lovelace Ltd", "Website": SITE}
    async with simulated_org({"person_accounts": True, "accounts": [company]}) as org:
        await org.sync.start()
        org.world.edit("Account", COMPANY, {"IsPersonAccount": True})
        org.now += 3600
        await only(org, change("g/1", "first@lovelace.example"))
        await only(org, change("g/2", "second@lovelace.example"))
        assert "second@lovelace.example" in {lead["Email"] for lead in org.records("Lead")}


async def test_the_contact_of_a_person_account_is_found_and_its_blanks_are_filled() -> None:
    document = {
        "person_accounts": True,
        "accounts": [PERSON_ACCOUNT, {"Id": COMPANY, "Name": "Acme", "Website": "acme.example"}],
        "contacts": [PERSON_CONTACT],
    }
    made = ContactVersion(
        "g/1",
        100,
        {
            "given_name": "Ada",
            "surname": "Lovelace",
            "job_title": "Engineer",
            "emails": [{"email": "ada@lovelace.example"}, {"email": "ada@acme.example"}],
        },
    )
    async with simulated_org(document) as org:
        assert await only(org, made) is OutcomeStatus.UPDATED
        (contact,) = org.records("Contact")
        assert (contact["Title"], contact["AccountId"]) == ("Engineer", PERSON)


@pytest.mark.parametrize("person_accounts", [True, False])
async def test_an_org_without_person_accounts_is_asked_in_one_call(person_accounts: bool) -> None:
    async with simulated_org({"person_accounts": person_accounts}) as org:
        await org.sync.start()
        asked = org.calls["composite_start"] + org.calls["composite_query"]
        assert asked == (2 if person_accounts else 1)
        assert not org.counts


@pytest.mark.parametrize(
    ("person_accounts", "address", "company"),
    [
        (False, "ada@gmail.com", "[not provided]"),
        (False, "ada@else.example", "else.example"),
        (True, "ada@gmail.com", None),
        (True, "ada@else.example", "else.example"),
    ],
)
async def test_the_company_of_a_new_lead_is_no_free_mail_domain(
    person_accounts: bool, address: str, company: str | None
) -> None:
    async with simulated_org({"person_accounts": person_accounts}) as org:
        assert await only(org, change("g/1", address)) is OutcomeStatus.CREATED
        (lead,) = org.records("Lead")
        assert lead.get("Company") == company


async def test_a_lead_without_a_company_stays_one_when_it_is_filled() -> None:
    lead = {"LastName": "Lovelace", "Email": "ada@else.example"}
    async with simulated_org({"person_accounts": True, "leads": [lead]}) as org:
        made = change("g/1", "ada@else.example", surname="Lovelace", job_title="Engineer")
        assert await only(org, made) is OutcomeStatus.UPDATED
        (found,) = org.records("Lead")
        assert (found["Title"], found.get("Company")) == ("Engineer", None)
        contact = org.world.convert(found["Id"], None)
        assert contact["IsPersonAccount"] is True
