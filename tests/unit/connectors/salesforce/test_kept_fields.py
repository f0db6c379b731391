"""Which part of a contact is kept, and why somebody is left out."""

import pytest

from connectors.salesforce.accounts import AccountDirectory
from connectors.salesforce.kept_fields import fields_read, kept_part, recorded_exclusion
from connectors.salesforce.mapping_rules import FieldMapping, Rule
from connectors.salesforce.outcome import ContactVersion
from connectors.salesforce.planner import person_of
from connectors.salesforce.policy import Policy
from connectors.salesforce.skip_reasons import SkipReason


def test_what_the_mapping_reads_is_kept_and_nothing_else() -> None:
    contact = {"grant_id": "g", "id": "c", "notes": "n", "birthday": "b", "surname": "L"}
    plain = kept_part(contact, fields_read(FieldMapping()))
    assert plain == {"grant_id": "g", "id": "c", "surname": "L"}
    more = FieldMapping(contact=(Rule("Birthdate", ("birthday",)),))
    assert kept_part(contact, fields_read(more)) == plain | {"birthday": "b"}


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        ("own_domain", SkipReason.OWN_DOMAIN),
        ("of_a_later_version", SkipReason.EXCLUDED),
        ("", SkipReason.EXCLUDED),
        (None, None),
        (["own_domain"], None),
    ],
)
def test_the_sink_skips_who_was_left_out_for_the_reason_that_was_kept(
    kept: object, reason: SkipReason | None
) -> None:
    contact = {"grant_id": "g", "id": "c", "excluded": kept}
    assert recorded_exclusion(contact) is reason
    change = ContactVersion("g/c", 1, contact)
    found = person_of(change, Policy(), AccountDirectory(None))
    assert (found is reason) if reason else not isinstance(found, SkipReason)
