"""A refusal of our own fields: one row's is that row's, and only a describe speaks for the org."""

from typing import Any

import pytest

from connectors.salesforce.counting import SyncWarning
from connectors.salesforce.org_metadata import DESCRIBE_INTERVAL_SECONDS
from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.schema import OrgNotPrepared
from tests.support.salesforce_org import simulated_org

KEY, VERSION = "Nylas_Contact_Id__c", "Nylas_Version__c"
OWN_FIELDS = pytest.mark.parametrize("field", [KEY, VERSION])
CODES = pytest.mark.parametrize("code", ["INVALID_FIELD", "INVALID_FIELD_FOR_INSERT_UPDATE"])


def person(number: int, version: int = 100, **more: Any) -> ContactVersion:
    emails = [{"email": f"p{number}@acme.example"}]
    contact = {"surname": f"Person {number}", "emails": emails, **more}
    return ContactVersion(f"g/{number}", version, contact)


@OWN_FIELDS
@CODES
async def test_one_row_that_may_not_have_our_field_does_not_stop_the_others(
    field: str, code: str
) -> None:
    async with simulated_org() as org:
        org.fault("rows", code=code, fields=[field], every=3)
        outcomes = await org.sync.sync([person(number) for number in range(5)])
        assert {outcome.key: outcome.status for outcome in outcomes} == {
            **{f"g/{number}": OutcomeStatus.CREATED for number in (0, 1, 3, 4)},
            "g/2": OutcomeStatus.RETRY,
        }
        assert next(one.reason for one in outcomes if one.key == "g/2") == code.lower()
        assert org.counts[SyncWarning.FIELD_REFUSED, f"Lead.{field}"] == 1
        described = org.calls["composite_start"]
        (again,) = await org.sync.sync([person(2)])
        assert again.status is OutcomeStatus.CREATED
        assert org.calls["composite_start"] == described + 1, "the org is described again"


@OWN_FIELDS
async def test_an_org_that_took_our_field_away_is_recognised_by_its_describe(field: str) -> None:
    async with simulated_org() as org:
        await org.sync.sync([person(1)])
        org.world.change_settings({"read_only_fields": [f"Lead.{field}"]})
        outcomes = await org.sync.sync([person(number) for number in (2, 3)])
        assert {outcome.status for outcome in outcomes} == {OutcomeStatus.RETRY}
        for _ in range(2):
            with pytest.raises(OrgNotPrepared, match=rf"Lead\.{field} cannot be written"):
                await org.sync.sync([person(2)])
            org.now += DESCRIBE_INTERVAL_SECONDS
        org.world.change_settings({"read_only_fields": []})
        (outcome,) = await org.sync.sync([person(2)])
        assert outcome.status is OutcomeStatus.CREATED


@OWN_FIELDS
async def test_a_start_says_which_of_our_fields_may_not_be_written(field: str) -> None:
    settings = {"read_only_fields": [f"Contact.{field}"]}
    async with simulated_org({"settings": settings}) as org:
        with pytest.raises(OrgNotPrepared, match=rf"Contact\.{field} cannot be written"):
            await org.sync.start()
