"""Fields that a query cannot filter, as Shield Platform Encryption makes them."""

from typing import Any

import pytest

from connectors.salesforce.counting import SyncWarning
from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.schema import OrgNotPrepared
from connectors.salesforce.simulator.schema import altered
from tests.support.salesforce_org import SimulatedOrg, simulated_org

KEY, SECOND = "Nylas_Contact_Id__c", "Nylas_Email_2__c"
NOT_FILTERABLE = {"filterable": False}
LEAD = {"LastName": "Lovelace", "Company": "x"}


def change(key: str, *addresses: str, version: int = 100) -> ContactVersion:
    emails = [{"email": address} for address in addresses]
    return ContactVersion(key, version, {"surname": "Lovelace", "emails": emails})


async def only(org: SimulatedOrg, made: ContactVersion) -> Any:
    (outcome,) = await org.sync.sync([made])
    return outcome


async def test_an_encrypted_address_field_is_not_searched_and_is_counted() -> None:
    document = {
        "fields": {"Lead": {SECOND: NOT_FILTERABLE}},
        "leads": [
            {**LEAD, "Email": "ada@work.example"},
            {**LEAD, "LastName": "Byron", SECOND: "byron@home.example"},
        ],
    }
    async with simulated_org(document) as org:
        assert (await only(org, change("g/1", "ada@work.example"))).matched == "email"
        # not found by the field that cannot be searched
        assert (await only(org, change("g/2", "byron@home.example"))).matched is None
        assert org.counts[SyncWarning.FIELD_NOT_FILTERABLE, f"Lead.{SECOND}"] == 1
        # the field is kept and filled as before
        await only(org, change("g/1", "ada@work.example", "ada@home.example", version=200))
        assert org.records("Lead")[0][SECOND] == "ada@home.example"


async def test_a_record_with_our_key_is_found_though_no_address_can_be_searched() -> None:
    encrypted = dict.fromkeys(("Email", SECOND, "Nylas_Email_3__c"), NOT_FILTERABLE)
    async with simulated_org({"fields": {"Lead": encrypted, "Contact": encrypted}}) as org:
        made = await only(org, change("g/1", "ada@work.example"))
        again = await only(org, change("g/1", "ada@work.example", version=200))
        assert (again.matched, again.record_id) == ("key", made.record_id)
        assert org.counts[SyncWarning.FIELD_NOT_FILTERABLE, "Contact.Email"] == 1


async def test_a_field_that_is_encrypted_while_the_sink_runs_does_not_pause_it() -> None:
    async with simulated_org({"leads": [{**LEAD, "Email": "ada@work.example"}]}) as org:
        await org.sync.start()
        leads = org.world.org.tables["Lead"]
        leads.define(altered(leads.sobject, {SECOND: NOT_FILTERABLE}))
        assert (await only(org, change("g/1", "ada@work.example"))).matched == "email"


async def test_a_key_field_that_cannot_be_searched_stops_the_start_with_what_to_do() -> None:
    async with simulated_org({"fields": {"Lead": {KEY: NOT_FILTERABLE}}}) as org:
        with pytest.raises(OrgNotPrepared, match=rf"Lead\.{KEY} .*encrypt"):
            await org.sync.start()
        assert (await _started(org)) is OutcomeStatus.CREATED


async def _started(org: SimulatedOrg) -> OutcomeStatus:
    """The outcome of a contact once the field is no longer encrypted."""
    leads = org.world.org.tables["Lead"]
    leads.define(altered(leads.sobject, {KEY: {"filterable": True}}))
    status: OutcomeStatus = (await only(org, change("g/1", "ada@work.example"))).status
    return status
