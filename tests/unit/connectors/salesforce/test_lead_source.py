"""The LeadSource of the settings: on created Leads, and nowhere else."""

from connectors.salesforce.mapping_file import parse_mapping
from connectors.salesforce.mapping_rules import FieldMapping, with_lead_source
from connectors.salesforce.outcome import ContactVersion
from connectors.salesforce.policy import Policy
from connectors.salesforce.simulator.schema import make_id
from streams.org import mapping, policy
from streams.settings import PeopleSettings, SalesforceSettings, load
from tests.support.salesforce_org import simulated_org

WORLD = {
    "accounts": [{"Id": make_id("001", 1), "Name": "Acme", "Website": "acme.example"}],
    "leads": [{"LastName": "Hopper", "Company": "Navy", "Email": "grace@navy.example"}],
}


def change(key: str, email: str, surname: str, version: int = 100) -> ContactVersion:
    contact = {"id": key, "emails": [{"email": email}], "surname": surname}
    return ContactVersion(key, version, contact)


async def test_a_created_lead_gets_it_and_a_contact_and_a_known_lead_do_not() -> None:
    allowed = Policy(mapping=with_lead_source(FieldMapping(), "Address book"))
    async with simulated_org(WORLD, policy=allowed) as org:
        await org.all(
            change("g/1", "ada@else.example", "Lovelace"),
            change("g/2", "bob@acme.example", "Babbage"),
            change("g/3", "grace@navy.example", "Hopper"),
        )
        sources = {row["LastName"]: row.get("LeadSource") for row in org.people()}
    assert sources == {"Lovelace": "Address book", "Babbage": None, "Hopper": None}


async def test_what_a_person_makes_of_it_stays() -> None:
    allowed = Policy(mapping=with_lead_source(FieldMapping(), "Address book"))
    async with simulated_org(policy=allowed) as org:
        await org.all(change("g/1", "ada@else.example", "Lovelace"))
        (lead,) = org.records("Lead")
        org.world.edit("Lead", lead["Id"], {"LeadSource": "Web"})
        await org.all(change("g/1", "ada@else.example", "King", version=200))
        (lead,) = org.records("Lead")
        assert (lead["LastName"], lead["LeadSource"]) == ("King", "Web")


def test_a_mapping_of_its_own_comes_first() -> None:
    own = parse_mapping('[lead]\nLeadSource = { constant = "Web" }\n')
    assert with_lead_source(own, "Address book") is own


def test_another_lead_source_makes_no_contact_news() -> None:
    settings = load(SalesforceSettings, {})
    people = load(PeopleSettings, {"PEOPLE_LEAD_SOURCE": "Address book"})
    assert mapping(settings).hash == FieldMapping().hash
    written = policy(settings, people, ["address_book"]).mapping
    assert written.hash == FieldMapping().hash, "dedupe, explain and replay compare it"
    assert [rule.constant for rule in written.lead if rule.field == "LeadSource"] == [
        "Address book"
    ]
