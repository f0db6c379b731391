"""The subrequest of a collection of rows."""

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


def test_a_collection_of_updates_goes_by_id_and_one_of_upserts_by_key() -> None:
    assert (
        collection_subrequest(Collection("Lead", "update", (row(1, "Lead", "update"),)), "a").url
        == "/composite/sobjects"
    )
    assert collection_subrequest(Collection("Lead", "upsert", (row(1, "Lead"),)), "a").url.endswith(
        f"/Lead/{KEY_FIELD}"
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
    row = WriteRow("Contact", "update", fields, marker=before)
    shorter = row.without(["Title", "Phone"])
    assert shorter.fields == {
        "Id": "record1",
        "LastName": "Byron",
        MARKER_FIELD: marker_of(Title="Engineer", LastName="Byron"),
    }
    assert row.without(["Title", "Phone", "LastName"]).fields == {"Id": "record1"}
