"""Which contacts become a Contact, which a Lead, and which are skipped, by reason."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.account_rules import AccountEvidence
from connectors.salesforce.exclusions import Exclusions
from connectors.salesforce.routing import (
    Addresses,
    Create,
    Creation,
    Route,
    admit,
    may_create,
    route,
    skipped,
)
from connectors.salesforce.skip_reasons import SkipReason
from tests.support.account_rows import ACME, account, directory


def contact(*emails: str, **more: Any) -> dict[str, Any]:
    return {"emails": [{"email": email} for email in emails]} | more


TO_ACME = Route("Contact", ACME, by=AccountEvidence.WEBSITE)


def admitted(made: dict[str, Any], exclusions: Exclusions | None = None) -> Addresses:
    found = admit(made, exclusions or Exclusions())
    assert isinstance(found, Addresses)
    return found


def test_a_person_of_a_known_domain_becomes_a_contact_of_its_account() -> None:
    accounts = directory(account(1, "www.acme.com"))
    assert route(admitted(contact("ada@mail.acme.com")), accounts) == TO_ACME
    assert route(admitted(contact("ada@other.com")), accounts) == Route("Lead")


def test_another_address_decides_where_the_primary_one_is_unknown() -> None:
    accounts = directory(account(1, "acme.com"), account(2, "globex.com"))
    assert route(admitted(contact("ada@gmail.com", "ada@acme.com")), accounts) == TO_ACME
    assert route(admitted(contact("ada@acme.com", "ada@globex.com")), accounts) == TO_ACME


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
def test_a_contact_is_skipped_for_its_addresses_or_source(
    made: dict[str, Any], exclusions: Exclusions, reason: SkipReason
) -> None:
    assert admit(made, exclusions) is reason
    assert skipped(made, exclusions) is reason


@given(
    st.lists(
        st.sampled_from(
            ["ada@acme.com", "info@acme.com", "Bob@own.com", "no address", "", "x@sub.out.com"]
        ),
        max_size=4,
    ),
    st.sampled_from([None, "", "inbox", "Address_Book", "address_book", ["inbox"], 5]),
    st.sampled_from([frozenset[str](), frozenset({"own.com"})]),
)
def test_who_is_skipped_is_the_same_for_who_asks_only_that(
    emails: list[str], source: object, own: frozenset[str]
) -> None:
    exclusions = Exclusions(own_domains=own, domains=frozenset({"out.com"}))
    found = admit(contact(*emails, source=source), exclusions)
    expected = found if isinstance(found, SkipReason) else None
    assert skipped(contact(*emails, source=source), exclusions) is expected


def test_role_and_excluded_addresses_are_skipped_for_the_next() -> None:
    found = admitted(contact("info@acme.com", "not an address", "Ada@Acme.com", "ada@home.example"))
    assert found.primary == "ada@acme.com"
    assert found.usable == ("ada@acme.com", "ada@home.example")


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
