"""The mapping file changes the standard rules; what cannot be understood is refused."""

import pytest

from connectors.salesforce.field_paths import MappingError
from connectors.salesforce.mapping_file import parse_mapping
from connectors.salesforce.mapping_rules import FieldPolicy, Rule


def test_a_table_adds_changes_and_removes_fields() -> None:
    mapping = parse_mapping(
        """
        [contact]
        MailingCity = "physical_addresses[work].city"
        Birthdate = { from = "birthday", policy = "fill" }
        LeadSource = { constant = "Address book" }
        Title = false
        Phone = { policy = "fill" }
        Email = { policy = "always" }
        [lead]
        City = ["physical_addresses[work].city", "physical_addresses[].city"]
        """
    )
    contact = {rule.field: rule for rule in mapping.contact}
    assert contact["MailingCity"] == Rule("MailingCity", ("physical_addresses[work].city",))
    assert contact["Birthdate"].policy is FieldPolicy.FILL
    assert contact["LeadSource"].policy is FieldPolicy.CREATE
    assert contact["Phone"].policy is FieldPolicy.FILL
    assert contact["Phone"].paths
    assert contact["Email"].policy is FieldPolicy.ALWAYS
    assert "Title" not in contact
    assert "City" in {rule.field for rule in mapping.lead}
    assert {"physical_addresses", "birthday"} <= set(mapping.reads)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[account]\nName = 'x'",
        "[contact]\nTitle = 7",
        "[contact]\nTitle = { from = 'job_title', policy = 'sometimes' }",
        "[contact]\nTitle = { from = 'job title' }",
        "[contact]\nTitle = { from = 'job_title', constant = 'x' }",
        "[contact]\nFax = {}",
        "[contact]\nTitle = { frm = 'job_title' }",
        "[contact]\nTitle = { from = 5 }",
        "[contact]\nTitle = { from = true }",
        "[contact]\nTitle = { from = [] }",
        "[contact]\nTitle = { from = [5] }",
        "contact = 1",
    ],
)
def test_a_table_that_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(MappingError):
        parse_mapping(text)


def test_a_constant_that_is_false_or_zero_takes_the_place_of_the_standard_paths() -> None:
    mapping = parse_mapping("[contact]\nTitle = { constant = 0 }")
    (title,) = (rule for rule in mapping.contact if rule.field == "Title")
    assert title == Rule("Title", (), FieldPolicy.CREATE, 0)
