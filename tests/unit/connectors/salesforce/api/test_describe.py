"""Describes: what the mapping and the doctor need to know about an object."""

from typing import Any

import pytest

from connectors.salesforce.api.composite import SubAnswer, composite_body, query_subrequest
from connectors.salesforce.api.describe import describe_answer, describe_subrequest, parse_describe
from connectors.salesforce.api.errors import OrgUnavailable, RequestRejected, UnexpectedAnswer

DESCRIBE: dict[str, Any] = {
    "name": "Lead",
    "label": "Lead",
    "createable": True,
    "updateable": True,
    "queryable": True,
    "fields": [
        {
            "name": "LastName",
            "label": "Last Name",
            "type": "string",
            "length": 80,
            "byteLength": 240,
            "createable": True,
            "updateable": True,
            "nillable": False,
            "defaultedOnCreate": False,
            "unique": False,
            "externalId": False,
            "caseSensitive": False,
            "picklistValues": [],
            "restrictedPicklist": False,
            "referenceTo": [],
        },
        {
            "name": "Status",
            "label": "Status",
            "type": "picklist",
            "length": 255,
            "createable": True,
            "updateable": True,
            "nillable": False,
            "defaultedOnCreate": True,
            "restrictedPicklist": True,
            "picklistValues": [
                {
                    "active": True,
                    "defaultValue": True,
                    "label": "Open",
                    "validFor": None,
                    "value": "Open",
                },
                {
                    "active": False,
                    "defaultValue": False,
                    "label": "Old",
                    "validFor": None,
                    "value": "Old",
                },
            ],
        },
        {
            "name": "Nylas_Contact_Id__c",
            "label": "Nylas Contact Id",
            "type": "string",
            "length": 255,
            "createable": True,
            "updateable": True,
            "nillable": True,
            "externalId": True,
            "unique": True,
            "caseSensitive": True,
            "idLookup": True,
        },
        {
            "name": "Nylas_Version__c",
            "type": "double",
            "length": 0,
            "precision": 18,
            "scale": 0,
            "createable": True,
            "updateable": True,
            "nillable": True,
        },
        {
            "name": "ConvertedContactId",
            "type": "reference",
            "length": 18,
            "createable": False,
            "updateable": False,
            "nillable": True,
            "referenceTo": ["Contact"],
        },
    ],
}


def test_a_describe_says_what_the_mapping_needs() -> None:
    lead = parse_describe(DESCRIBE)
    assert (lead.name, lead.createable, lead.updateable, lead.queryable) == (
        "Lead",
        True,
        True,
        True,
    )
    assert lead.fields["LastName"].length == 80
    assert lead.required == {"LastName"}
    assert lead.fields["Status"].picklist == {"Open"}
    assert lead.fields["Status"].restricted_picklist
    key = lead.fields["Nylas_Contact_Id__c"]
    assert (key.external_id, key.unique, key.case_sensitive, key.type, key.length) == (
        True,
        True,
        True,
        "string",
        255,
    )
    assert (lead.fields["Nylas_Version__c"].precision, lead.fields["Nylas_Version__c"].scale) == (
        18,
        0,
    )
    assert lead.fields["ConvertedContactId"].reference_to == ("Contact",)
    assert not lead.fields["ConvertedContactId"].updateable


def test_a_field_that_is_hidden_from_the_user_is_absent() -> None:
    assert "MobilePhone" not in parse_describe(DESCRIBE).fields


def test_two_describes_and_five_queries_are_one_call() -> None:
    queries = [query_subrequest("SELECT Id FROM Account", f"q{number}") for number in range(5)]
    body = composite_body(
        [describe_subrequest("Contact", "c"), describe_subrequest("Lead", "l"), *queries], "62.0"
    )
    assert body["compositeRequest"][0]["url"] == "/services/data/v62.0/sobjects/Contact/describe"


@pytest.mark.parametrize(
    "body", [None, [], {}, {"name": "Lead"}, {"fields": []}, {"name": "Lead", "fields": {}}]
)
def test_what_is_no_describe_is_an_error(body: Any) -> None:
    with pytest.raises(UnexpectedAnswer):
        parse_describe(body)


def test_an_object_that_the_user_may_not_see_is_a_refusal() -> None:
    missing = [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}]
    with pytest.raises(RequestRejected):
        describe_answer(SubAnswer("l", 404, missing))
    with pytest.raises(OrgUnavailable):
        describe_answer(SubAnswer("l", 503, [{"errorCode": "SERVER_UNAVAILABLE", "message": "…"}]))
    assert describe_answer(SubAnswer("l", 200, DESCRIBE)).name == "Lead"
