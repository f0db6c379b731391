"""An org with Person Accounts: none is a target, their Contacts are filled, Leads stay people."""

from typing import Any

import pytest

from connectors.salesforce.counting import SyncWarning
from connectors.salesforce.mapping_file import parse_mapping
from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.policy import Policy
from connectors.salesforce.simulator.person_accounts import person_contact_refusal
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


def person_world(**settings: Any) -> dict[str, Any]:
    return {
        "person_accounts": True,
        "accounts": [PERSON_ACCOUNT],
        "contacts": [PERSON_CONTACT],
        "settings": settings,
    }


ADA = {
    "given_name": "Ada",
    "surname": "Lovelace",
    "job_title": "Engineer",
    "emails": [{"email": "ada@lovelace.example"}, {"email": "ada@home.example"}],
}


async def test_what_is_filled_through_the_contact_shows_in_the_person_account() -> None:
    async with simulated_org(person_world()) as org:
        assert await only(org, ContactVersion("g/1", 100, ADA)) is OutcomeStatus.UPDATED
        (account,) = org.records("Account")
        (contact,) = org.records("Contact")
        assert account["PersonContactId"] == contact["Id"]
        assert (account["PersonTitle"], account["PersonEmail"]) == (
            "Engineer",
            "ada@lovelace.example",
        )
        assert contact["Nylas_Email_2__c"] == "ada@home.example"


async def test_name_account_and_record_type_of_a_person_account_are_never_written() -> None:
    rules = parse_mapping(
        """
        [contact]
        FirstName = { from = "given_name", policy = "always" }
        LastName = { from = "surname", policy = "always" }
        RecordTypeId = { from = "office_location", policy = "always" }
        """
    )
    document = person_world() | {
        "fields": {"Contact": {"RecordTypeId": {"type": "string", "length": 18}}}
    }
    renamed = ADA | {"given_name": "Augusta Ada", "office_location": "012000000000001AAA"}
    async with simulated_org(document, Policy(mapping=rules)) as org:
        assert await only(org, ContactVersion("g/1", 100, ADA)) is OutcomeStatus.UPDATED
        status = await only(org, ContactVersion("g/1", 200, renamed))
        assert status is OutcomeStatus.UNCHANGED
        (contact,) = org.records("Contact")
        assert (contact["FirstName"], contact.get("RecordTypeId")) == ("Ada", None)
        assert contact["AccountId"] == PERSON
        assert org.world.services.refusals == []


async def test_a_person_account_that_may_not_be_changed_is_skipped_and_no_dead_letter() -> None:
    async with simulated_org(person_world(person_accounts_editable=False)) as org:
        other = change("g/2", "new@else.example", surname="New")
        outcomes = await org.sync.sync([ContactVersion("g/1", 100, ADA), other])
        found = {outcome.key: outcome for outcome in outcomes}
        assert (found["g/1"].status, found["g/1"].reason) == (
            OutcomeStatus.SKIPPED,
            "person_account",
        )
        assert found["g/1"].errors[0].code == "INSUFFICIENT_ACCESS_OR_READONLY"
        assert found["g/2"].status is OutcomeStatus.CREATED
        refused = (SyncWarning.PERSON_ACCOUNT_REFUSED, "INSUFFICIENT_ACCESS_OR_READONLY")
        assert org.counts[refused] == 1
        (contact,) = org.records("Contact")
        assert "Nylas_Contact_Id__c" not in contact


async def test_a_person_account_is_never_created() -> None:
    async with simulated_org({"person_accounts": True}) as org:
        await org.all(*(change(f"g/{number}", f"p{number}@gmail.com") for number in range(5)))
        assert org.records("Account") == []
        assert not any(row.get("IsPersonAccount") for row in org.people())


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"AccountId": COMPANY}, "INVALID_FIELD_FOR_INSERT_UPDATE"),
        ({"FirstName": "Augusta"}, "INVALID_FIELD_FOR_INSERT_UPDATE"),
        ({"Title": "Engineer"}, None),
    ],
)
async def test_the_simulator_refuses_what_salesforce_refuses(
    fields: dict[str, Any], code: str | None
) -> None:
    company = {"Id": COMPANY, "Name": "Acme", "Website": "acme.example"}
    document = person_world() | {"accounts": [PERSON_ACCOUNT, company]}
    async with simulated_org(document) as org:
        (contact,) = org.records("Contact")
        refusal = person_contact_refusal(org.world.org, fields, contact)
        assert (refusal and refusal["statusCode"]) == code


async def test_the_simulator_lets_no_second_contact_join_a_person_account() -> None:
    async with simulated_org(person_world()) as org:
        refusal = person_contact_refusal(org.world.org, {"AccountId": PERSON}, None)
        assert refusal is not None
        assert "cannot be associated" in refusal["message"]
