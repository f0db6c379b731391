"""The data map names every topic, every field that is read, and why each permission is needed."""

from dataclasses import fields
from xml.etree import ElementTree

from connectors.salesforce.kept_fields import EXCLUDED, fields_read
from connectors.salesforce.mapping_rules import FieldMapping
from streams.topics import Topics
from tests.support.data_map import (
    CONTACT_FIELDS,
    OF_A_PERSON,
    SALESFORCE_REASONS,
    WHY_READ,
    permission_set_files,
    permissions,
    reason,
)
from tests.support.docs import block

MAP = "deploy/docs/data-map.md"


def given() -> set[str]:
    """Every permission of every permission set."""
    return {
        permission
        for path in permission_set_files()
        for permission in permissions(ElementTree.parse(path).getroot())
    }


def test_every_topic_says_what_it_holds_of_a_person() -> None:
    assert OF_A_PERSON.keys() == {field.name for field in fields(Topics)}


def test_every_field_that_is_read_is_a_field_of_the_map_with_its_reason() -> None:
    read = fields_read(FieldMapping()) - {EXCLUDED}
    assert read <= set(CONTACT_FIELDS)
    assert WHY_READ.keys() <= read


def test_private_fields_are_on_contacts_events_alone() -> None:
    rows = block(MAP, "data-fields").splitlines()
    for name in ("notes", "birthday", "physical_addresses", "im_addresses", "web_pages"):
        (row,) = (row for row in rows if row.startswith(f"| `{name}` |"))
        assert row == f"| `{name}` | yes | no |  |  |"


def test_the_permission_sets_of_the_optional_fields_are_in_the_map() -> None:
    rows = block(MAP, "salesforce-permissions").splitlines()
    can_write = "| `Contactstream_Optional_Fields` | `Lead.Nylas_Why__c: edit` |"
    can_read = "| `Contactstream_Optional_Fields_Reader` | `Lead.Nylas_Why__c: read` |"
    assert [row for row in rows if row.startswith(can_write)]
    assert [row for row in rows if row.startswith(can_read)]


def test_every_permission_has_a_reason_and_no_reason_is_left_over() -> None:
    permitted = given()
    assert all(map(reason, permitted))
    used = {*permitted} | {each.rpartition(".")[2].partition(":")[0] for each in permitted}
    used |= {each.partition(":")[0] for each in permitted}
    assert not SALESFORCE_REASONS.keys() - used


def test_no_permission_lets_contactstream_delete_or_modify_everything() -> None:
    assert not [each for each in given() if "delete" in each or "modify all" in each]
