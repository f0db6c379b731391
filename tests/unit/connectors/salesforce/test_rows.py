"""The subrequest of a collection of rows."""

from connectors.salesforce.org_fields import KEY_FIELD
from connectors.salesforce.rows import Collection, Op, WriteRow, collection_subrequest


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
