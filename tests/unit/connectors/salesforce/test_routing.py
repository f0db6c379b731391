"""Who becomes a Contact of which Account, who a Lead, and who is left out, by reason."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.accounts import AccountDirectory
from connectors.salesforce.domains import is_free_mail, website_domain
from connectors.salesforce.exclusions import Exclusions, is_role, role_names
from connectors.salesforce.routing import (
    Addresses,
    Create,
    Creation,
    Route,
    admit,
    may_create,
    route,
)
from connectors.salesforce.skip_reasons import SkipReason
from connectors.salesforce.suppression import Suppression, SuppressionError, load_suppression

ACME = "001000000000001AAA"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def account(
    number: int,
    website: object,
    *,
    parent: str | None = None,
    created: str = "2020",
    deleted: bool = False,
) -> dict[str, Any]:
    return {
        "Id": f"00100000000000{number}AAA",
        "Website": website,
        "ParentId": parent,
        "CreatedDate": created,
        "IsDeleted": deleted,
    }


def directory(*rows: dict[str, Any], **configured: str) -> AccountDirectory:
    accounts = AccountDirectory(
        {name.replace("_", "."): value for name, value in configured.items()}
    )
    accounts.update(rows)
    return accounts


def contact(*emails: str, **more: Any) -> dict[str, Any]:
    return {"emails": [{"email": email} for email in emails]} | more


def admitted(made: dict[str, Any], exclusions: Exclusions | None = None) -> Addresses:
    found = admit(made, exclusions or Exclusions())
    assert isinstance(found, Addresses)
    return found


@pytest.mark.parametrize(
    ("website", "domain"),
    [
        ("https://www.acme.co.uk/about?x=1", "acme.co.uk"),
        ("acme.com", "acme.com"),
        ("WWW.Shop.ACME.com:8080/", "acme.com"),
        ("acme.com, acme.de", "acme.com"),
        ("http://bücher.example", "xn--bcher-kva.example"),
        ("https://www.linkedin.com/company/acme", None),
        ("https://sites.google.com/view/acme", None),
        ("maps.google.de/?cid=7", None),
        ("https://www.google.com/maps/place/Acme", None),
        ("https://www.google.com", "google.com"),
        ("https://acme.wordpress.com", None),
        ("www.wordpress.com", "wordpress.com"),
        ("https://goo.gl/maps/x", None),
        ("www.acme.com.", "acme.com"),
        ("gmail.com", None),
        ("http://[broken", None),
        ("acme", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_an_accounts_domain_is_read_however_it_was_typed(
    website: object, domain: str | None
) -> None:
    assert website_domain(website) == domain


@given(st.text())
def test_no_website_breaks_the_directory(website: str) -> None:
    directory(account(1, website)).account_of(website)


def test_a_person_of_a_known_domain_becomes_a_contact_of_its_account() -> None:
    accounts = directory(account(1, "www.acme.com"))
    assert route(admitted(contact("ada@mail.acme.com")), accounts) == Route("Contact", ACME)
    assert route(admitted(contact("ada@other.com")), accounts) == Route("Lead")


def test_another_address_decides_where_the_primary_one_is_unknown() -> None:
    accounts = directory(account(1, "acme.com"), account(2, "globex.com"))
    assert route(admitted(contact("ada@gmail.com", "ada@acme.com")), accounts) == Route(
        "Contact", ACME
    )
    assert route(admitted(contact("ada@acme.com", "ada@globex.com")), accounts) == Route(
        "Contact", ACME
    )


@pytest.mark.parametrize(
    "domain", ["gmail.com", "hey.com", "privaterelay.appleid.com", "yahoo.co.uk", "linkedin.com"]
)
def test_domains_of_everybody_never_name_an_account(domain: str) -> None:
    assert is_free_mail(domain)
    accounts = directory(account(1, domain), **{domain.replace(".", "_"): ACME})
    assert accounts.account_of(domain) is None


def test_of_several_accounts_the_one_without_a_parent_then_the_oldest_is_taken() -> None:
    rows = [
        account(4, "acme.com", parent=ACME, created="2001"),
        account(3, "acme.com", created="2011"),
        account(2, "acme.com", created="2010"),
    ]
    for order in (rows, rows[::-1]):
        accounts = directory(*order)
        assert accounts.account_of("acme.com") == rows[2]["Id"]
        assert accounts.shared_domains == 1


def test_deleted_accounts_and_changed_websites_are_forgotten() -> None:
    accounts = directory(
        account(1, "acme.com"), account(2, "globex.com"), account(3, "initech.com")
    )
    accounts.update(
        [account(1, "acme.com", deleted=True), account(2, "globex.org"), account(3, None)]
    )
    found = [
        accounts.account_of(name)
        for name in ("acme.com", "globex.com", "globex.org", "initech.com")
    ]
    assert found == [None, None, "001000000000002AAA", None]


def test_a_configured_domain_names_an_account_or_shares_one() -> None:
    accounts = directory(
        account(1, "acme.com"), acme_io="acme.com", globex_com="001000000000009AAA"
    )
    assert accounts.account_of("mail.acme.io") == ACME
    assert accounts.account_of("globex.com") == "001000000000009AAA"


def test_a_refresh_asks_for_what_changed_since_the_last_with_an_overlap() -> None:
    accounts = AccountDirectory()
    first = unquote(accounts.request("a", NOW).url)
    accounts.update([], NOW)
    again = unquote(accounts.request("a", NOW + timedelta(hours=1)).url)
    assert first.startswith("/query?")
    assert "Website != null" in first
    assert again.startswith("/queryAll?")
    assert again.endswith("SystemModstamp >= 2026-03-01T11:50:00Z")


def test_an_account_that_a_row_found_gone_is_forgotten_until_a_refresh_has_seen_it() -> None:
    accounts = directory(
        account(1, "acme.com"), account(2, "acme.com", created="2021"), globex_com="001000000000009"
    )
    accounts.update([], NOW)
    accounts.forget(ACME)
    accounts.forget("001000000000009AAA")
    assert accounts.account_of("acme.com") == "001000000000002AAA"
    assert accounts.account_of("globex.com") is None
    statement = unquote(accounts.request("a", NOW).url)
    assert statement.endswith(" OR Id IN ('001000000000001','001000000000009')")
    accounts.update([account(1, "acme.com"), account(9, None)], NOW)
    assert (accounts.account_of("acme.com"), accounts.account_of("globex.com")) == (
        ACME,
        "001000000000009",
    )
    assert unquote(accounts.request("a", NOW).url).endswith("Z")


def test_a_hidden_field_is_left_out_where_it_can_be_missed() -> None:
    accounts = AccountDirectory()
    assert accounts.drop_fields(("ParentId",))
    assert unquote(accounts.request("a", NOW).url).startswith(
        "/query?q=SELECT Id, Website, CreatedDate, SystemModstamp "
    )
    assert not accounts.drop_fields(("ParentId",))
    assert not accounts.drop_fields(("Website",))


@pytest.mark.parametrize(
    ("made", "exclusions", "reason"),
    [
        (
            contact("ada@acme.com", "bob@own.com"),
            Exclusions(own_domains=frozenset({"own.com"})),
            SkipReason.OWN_DOMAIN,
        ),
        (
            contact("ada@eu.own.com"),
            Exclusions(own_domains=frozenset({"Own.com"})),
            SkipReason.OWN_DOMAIN,
        ),
        (contact("no-reply@acme.com"), Exclusions(), SkipReason.ROLE_ADDRESS),
        (contact("support+4711@acme.com", "info@acme.com"), Exclusions(), SkipReason.ROLE_ADDRESS),
        (
            contact("ada@acme.com"),
            Exclusions(addresses=frozenset({"Ada@acme.com"})),
            SkipReason.EXCLUDED,
        ),
        (
            contact("ada@sub.acme.com"),
            Exclusions(domains=frozenset({"acme.com"})),
            SkipReason.EXCLUDED,
        ),
        (contact("ada-ext@acme.com"), Exclusions(patterns=("*-ext@*",)), SkipReason.EXCLUDED),
        (contact("room@resource.calendar.google.com"), Exclusions(), SkipReason.EXCLUDED),
        (contact("ada@acme.com", source="inbox"), Exclusions(), SkipReason.SOURCE),
    ],
)
def test_who_is_left_out_and_why(
    made: dict[str, Any], exclusions: Exclusions, reason: SkipReason
) -> None:
    assert admit(made, exclusions) is reason


def test_role_and_excluded_addresses_are_passed_over_for_the_next() -> None:
    found = admitted(contact("info@acme.com", "not an address", "Ada@Acme.com", "ada@home.example"))
    assert found.primary == "ada@acme.com"
    assert found.usable == ("ada@acme.com", "ada@home.example")


@pytest.mark.parametrize(
    ("address", "role"),
    [
        ("donotreply@x.com", True),
        ("no_reply-eu@x.com", True),
        ("bounces@x.com", True),
        ("sales@x.com", True),
        ("salesman@x.com", False),
        ("infante@x.com", False),
        ("bouncer@x.com", False),
        ("ada@x.com", False),
    ],
)
def test_role_addresses_are_told_from_people(address: str, role: bool) -> None:
    assert is_role(address) is role


def test_names_of_functions_are_added_and_taken_away() -> None:
    roles = role_names(["Kontakt", "front-desk", "!Hello", "!no-such"])
    found = [is_role(f"{name}@x.com", roles) for name in ("kontakt", "front.desk", "hello", "info")]
    assert found == [True, True, False, True]


@pytest.mark.parametrize(
    ("made", "creation", "reason"),
    [
        (contact(), Creation(), SkipReason.NO_ADDRESS),
        ({"emails": None}, Creation(), SkipReason.NO_ADDRESS),
        (contact(), Creation(addressless=True), None),
        (contact("not an address"), Creation(), None),
        (contact("ada@gmail.com"), Creation(), None),
        (contact("ada@gmail.com"), Creation(free_mail=False), SkipReason.FREE_MAIL),
        (contact("ada@gmail.com", "ada@other.com"), Creation(free_mail=False), None),
        (contact("ada@other.com"), Creation(create=Create.CONTACTS), SkipReason.NOT_CREATED),
        (contact("ada@acme.com"), Creation(create=Create.CONTACTS), None),
        (contact("ada@acme.com"), Creation(create=Create.NOTHING), SkipReason.NOT_CREATED),
    ],
)
def test_who_may_be_created(
    made: dict[str, Any], creation: Creation, reason: SkipReason | None
) -> None:
    found = admitted(made)
    assert may_create(found, route(found, directory(account(1, "acme.com"))), creation) is reason


def test_the_suppression_list_names_nobody_and_survives_being_written(tmp_path: Path) -> None:
    listed = Suppression().adding(["ada@acme.com"]).adding(["grant/1"])
    path = tmp_path / "suppressed.json"
    path.write_text(listed.dump())
    read = load_suppression(path)
    assert "ada@" not in path.read_text()
    assert read.holds(["bob@acme.com", "ada@acme.com"])
    assert read.holds(["grant/1"])
    assert not read.holds(["bob@acme.com"])
    assert Suppression(b"another salt", read.hashes).holds(["ada@acme.com"]) is False


def test_a_suppression_list_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SuppressionError):
        load_suppression(tmp_path / "missing.json")
