"""Which values of the org a row replaces."""

from connectors.salesforce.mapping_file import parse_mapping
from connectors.salesforce.outcome import ReplacedValue
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.replaced_values import values_replaced_by
from tests.support.plain_org import EMAILS, KEY, PlainOrg, change, gone, only


def replaced(org: PlainOrg) -> set[ReplacedValue]:
    """What the last sync replaced."""
    flag = org.policy.flag_field
    return {value for row in org.last_rows for value in values_replaced_by(row, flag)}


def test_a_changed_value_is_named_with_the_one_before_and_a_filled_blank_is_not() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com", last="Lovelace", title="Engineer"))
    assert replaced(org) == set(), "a new record replaces nothing"
    record = only(org)["Id"]
    later = change("g/1", "a@acme.com", first="Ada", last="Lovelace", title="Analyst", version=101)
    org.sync(later)
    assert replaced(org) == {
        ReplacedValue("Lead", record, "Title", "Engineer", "Analyst"),
        ReplacedValue("Lead", record, "Email", "ada@acme.com", "a@acme.com"),
    }, "FirstName was blank; key, version and marker are our own"
    org.sync(later)
    assert replaced(org) == set()


def test_a_value_that_a_person_typed_is_replaced_only_where_the_mapping_says_always() -> None:
    mapping = parse_mapping("[lead]\nTitle = { policy = 'always' }")
    for policy, found in ((Policy(), []), (Policy(mapping=mapping), ["Boss"])):
        org = PlainOrg(policy)
        org.sync(change("g/1", "ada@acme.com", last="Lovelace", title="Engineer"))
        org.records[only(org)["Id"]]["Title"] = "Boss"
        org.sync(change("g/1", "ada@acme.com", last="Lovelace", title="Analyst", version=101))
        assert [value.old for value in replaced(org)] == found


def test_a_row_without_a_refused_field_does_not_replace_its_value() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com", last="Lovelace", title="Engineer"))
    org.sync(change("g/1", "ada@acme.com", last="Byron", title="Analyst", version=101))
    (row,) = org.last_rows
    left = values_replaced_by(row.without(["Title"]))
    assert [(value.field, value.old, value.new) for value in left] == [
        ("LastName", "Lovelace", "Byron")
    ]


def test_releasing_or_flagging_a_record_replaces_nothing() -> None:
    released = PlainOrg()
    flagged = PlainOrg(Policy(on_delete=OnDelete.FLAG, flag_field="Gone__c"))
    for org in (released, flagged):
        org.sync(change("g/1", "ada@acme.com", last="Lovelace"))
        org.sync(gone("g/1"))
        assert replaced(org) == set()
    assert (only(released)[KEY], only(flagged)["Gone__c"]) == (None, True)
    flagged.sync(change("g/1", "ada@acme.com", last="Lovelace", version=300))
    assert replaced(flagged) == set(), "the checkbox was ours"
    assert (only(flagged)["Gone__c"], only(flagged)[EMAILS[0]]) == (False, "ada@acme.com")
