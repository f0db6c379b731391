"""Values are read from a contact by their paths."""

from connectors.salesforce.field_paths import getter


def test_paths_choose_entries_by_type() -> None:
    contact = {
        "phone_numbers": [
            {"number": "1", "type": "Mobile"},
            {"number": "2"},
            {"number": 3, "type": "work"},
        ]
    }
    assert getter("phone_numbers[mobile].number")(contact) == "1"
    assert getter("phone_numbers[!mobile].number")(contact) == "2"
    assert getter("phone_numbers[work,home].number")(contact) == "3"
    assert getter("phone_numbers[].number")(contact) == "1"
    assert getter("phone_numbers[fax].number")(contact) is None
