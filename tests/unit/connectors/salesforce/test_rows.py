"""The subrequest of a collection of rows."""

import pytest

from connectors.salesforce.api.composite import WRITE_HEADERS, Subrequest
from connectors.salesforce.org_fields import KEY_FIELD, MARKER_FIELD
from connectors.salesforce.rows import Collection, Op, WriteRow, collection_subrequest
from tests.support.markers import marker_of


def row(
    number: int,
    sobject: str = "Contact",
    op: Op = "upsert",
    account: str | None = None,
    *people: str,
) -> WriteRow:
    identity = {"Id": f"record{number}"} if op == "update" else {KEY_FIELD: f"g/{number}"}
    return WriteRow(sobject, op, identity, account, frozenset(people), number)


@pytest.mark.parametrize(
    ("op", "url"),
    [("update", "/composite/sobjects"), ("upsert", f"/composite/sobjects/Lead/{KEY_FIELD}")],
)
def test_a_collection_of_updates_goes_by_id_and_one_of_upserts_by_key(op: Op, url: str) -> None:
    collection = Collection(op, (row(1, "Lead", op), row(2, "Lead", op)))
    body = {
        "allOrNone": False,
        "records": [{"attributes": {"type": "Lead"}, **each.fields} for each in collection.rows],
    }
    assert collection_subrequest(collection, "a") == Subrequest(
        "PATCH", url, "a", body, WRITE_HEADERS
    )
    headers = {"Sforce-Duplicate-Rule-Header": "allowSave=false"}
    assert collection_subrequest(collection, "b", headers) == Subrequest(
        "PATCH", url, "b", body, headers
    )


def test_a_row_without_a_field_has_no_marker_of_it_and_keeps_what_the_marker_said_before() -> None:
    before = marker_of(Title="Engineer")
    fields = {
        "Id": "record1",
        "Title": "Analyst",
        "Phone": "1",
        "LastName": "Byron",
        MARKER_FIELD: marker_of(Title="Analyst", Phone="1", LastName="Byron"),
    }
    row = WriteRow("Contact", "update", fields, stored={MARKER_FIELD: before})
    shorter = row.without(["Title", "Phone"])
    assert shorter.fields == {
        "Id": "record1",
        "LastName": "Byron",
        MARKER_FIELD: marker_of(Title="Engineer", LastName="Byron"),
    }
    assert row.without(["Title", "Phone", "LastName"]).fields == {"Id": "record1"}
