"""Which fields of a record a contact changes: an owner's, and everybody else's."""

from connectors.salesforce.outcome import OutcomeStatus
from connectors.salesforce.policy import Policy
from tests.support.plain_org import KEY, PlainOrg, change, only


def test_values_that_people_typed_stay_and_blanks_are_filled() -> None:
    org = PlainOrg()
    org.add("Contact", FirstName="Ada", LastName="King", Title="Countess", Email="ada@acme.com")
    org.sync(
        change(
            "g/1",
            "ada@acme.com",
            first="A.",
            last="King-Noel",
            title="Engineer",
            phone_numbers=[{"number": "1"}],
        )
    )
    record = only(org)
    assert (record["FirstName"], record["LastName"], record["Title"], record["Phone"]) == (
        "Ada",
        "King",
        "Countess",
        "1",
    )
    assert record[KEY] == "g/1"


def test_the_owner_may_overwrite_what_others_created_where_configured() -> None:
    org = PlainOrg(Policy(overwrite_others=True))
    org.add("Contact", FirstName="Ada", LastName="King", Email="ada@acme.com")
    org.sync(change("g/1", "ada@acme.com", first="Ada Augusta", last="King-Noel"))
    assert (only(org)["FirstName"], only(org)["LastName"]) == ("Ada Augusta", "King-Noel")


def test_a_fallback_never_replaces_a_name_that_stands() -> None:
    org = PlainOrg()
    org.sync(
        change("g/1", "ada@acme.com", first="Ada", last="Lovelace", company="Acme", version=100)
    )
    org.sync(change("g/1", "ada@acme.com", version=200))
    assert (only(org)["LastName"], only(org)["Company"], only(org)["FirstName"]) == (
        "Lovelace",
        "Acme",
        "Ada",
    )


def test_a_name_like_the_local_part_is_no_fallback() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "lovelace@acme.com", last="Lovelace"))
    org.sync(change("h/1", "lovelace@acme.com", last="King"))
    assert only(org)["LastName"] == "Lovelace"


def test_a_first_name_is_not_put_beside_another_last_name() -> None:
    org = PlainOrg()
    org.add("Contact", LastName="Smith", Email="home@x.example")
    org.sync(change("g/1", "home@x.example", first="Ada", last="Lovelace"))
    assert only(org).get("FirstName") is None


def test_nothing_is_written_if_the_record_has_the_values_already() -> None:
    org = PlainOrg()
    made = change("g/1", "ada@acme.com", "ada@home.example", first="Ada", last="Lovelace")
    org.sync(made)
    org.records[only(org)["Id"]]["Email"] = "Ada@Acme.com"
    assert org.sync(made)["g/1"].status is OutcomeStatus.UNCHANGED
    assert org.written == 1


def test_a_change_of_the_primary_address_keeps_the_old_one() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com", last="Lovelace", version=100))
    org.sync(change("g/1", "ada@globex.com", last="Lovelace", version=200))
    assert (only(org)["Email"], only(org)["Nylas_Email_2__c"]) == ("ada@globex.com", "ada@acme.com")
    assert (
        org.sync(change("h/1", "ada@acme.com", last="Lovelace"))["h/1"].status
        is OutcomeStatus.FILLED
    )
