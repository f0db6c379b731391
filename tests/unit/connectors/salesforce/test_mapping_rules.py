"""The standard rules, and the hash by which a changed mapping is noticed."""

from connectors.salesforce.mapping_file import parse_mapping
from connectors.salesforce.mapping_rules import FieldMapping


def test_the_hash_of_a_mapping_never_changes_between_releases() -> None:
    assert FieldMapping().hash == FieldMapping().hash == parse_mapping("").hash
    assert FieldMapping().hash == "b3b631bcc5d976bc"  # stored fingerprints contain it
    changed = '[contact]\nTitle = { constant = "x" }\n[lead]\nPhone = false\n'
    assert parse_mapping(changed).hash == "69b30359252dc149"
