"""The directory of Accounts: which Account a domain belongs to, and how it is kept up to date."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.salesforce.account_rules import AccountEvidence
from connectors.salesforce.accounts import AccountDirectory, AccountMatch
from connectors.salesforce.domains import is_free_mail, registrable_domain, website_host
from tests.support.account_rows import ACME, account, directory, parsed


@given(st.text())
def test_no_website_breaks_the_directory(website: str) -> None:
    directory(account(1, website)).account_of(website)


@pytest.mark.parametrize(
    "domain", ["gmail.com", "hey.com", "privaterelay.appleid.com", "yahoo.co.uk", "linkedin.com"]
)
def test_domains_of_everybody_never_name_an_account(domain: str) -> None:
    assert is_free_mail(domain)
    accounts = directory(account(1, domain), **{domain.replace(".", "_"): ACME})
    assert accounts.find(domain) == AccountMatch(None)


def test_of_several_accounts_the_one_without_a_parent_then_the_oldest_is_taken() -> None:
    rows = [
        account(4, "acme.com", parent=ACME, created="2001"),
        account(3, "www.acme.com", created="2011"),
        account(2, "acme.com", created="2010"),
    ]
    for order in (rows, rows[::-1]):
        accounts = directory(*order)
        assert accounts.account_of("acme.com") == rows[2]["Id"]
        assert accounts.shared_hosts == 1


NO_ACCOUNT, CONFLICT = "no Account", "conflict"
ACME_AND_SHOP = ("acme.com", "shop.acme.com")
AGENCIES = ("dot.ca.gov", "dmv.ca.gov")


@pytest.mark.parametrize(
    ("websites", "mail", "expected"),
    [
        # the longest host first
        (("acme.com",), "acme.com", 1),
        (("acme.com",), "mail.eu.acme.com", 1),
        (ACME_AND_SHOP, "acme.com", 1),
        (ACME_AND_SHOP, "shop.acme.com", 2),
        (ACME_AND_SHOP, "de.shop.acme.com", 2),
        (ACME_AND_SHOP, "eu.acme.com", 1),
        (("acme.com", "www.acme.com", "shop.acme.com"), "eu.acme.com", 1),
        (("shop.acme.com", "www.acme.com", "acme.com"), "eu.acme.com", 2),
        (("eu.acme.com", "shop.acme.com"), "de.eu.acme.com", 1),
        # a part of its name that is no label of it
        (("acme.com",), "otheracme.com", NO_ACCOUNT),
        (("shop.acme.com", "acme.com"), "workshop.acme.com", 2),
        # only hosts below: one is enough, if it is below the domain that is asked for
        (("portal.acme.com",), "acme.com", 1),
        (("portal.acme.com", "www.portal.acme.com"), "acme.com", 1),
        (("de.eu.acme.com",), "eu.acme.com", 1),
        (("shop.acme.com", "portal.acme.com"), "acme.com", CONFLICT),
        (("shop.acme.com",), "eu.acme.com", CONFLICT),
        # agencies that share a registrable domain
        (("dot.ca.gov",), "dmv.ca.gov", CONFLICT),
        (AGENCIES, "dmv.ca.gov", 2),
        (AGENCIES, "water.ca.gov", CONFLICT),
        (AGENCIES, "ca.gov", CONFLICT),
        ((*AGENCIES, "ca.gov"), "water.ca.gov", 3),
        # public suffixes, and hosters
        (("acme.co.uk",), "globex.co.uk", NO_ACCOUNT),
        (("acme.co.uk",), "mail.acme.co.uk", 1),
        (("acme.github.io",), "acme.github.io", 1),
        (("acme.github.io",), "globex.github.io", NO_ACCOUNT),
        (("acme.wordpress.com",), "acme.wordpress.com", NO_ACCOUNT),
        (("acme.wordpress.com", "wordpress.com"), "wordpress.com", 2),
        (("acme.com",), "co.uk", NO_ACCOUNT),
        (("b\u00fccher.example",), "xn--bcher-kva.example", 1),
    ],
)
def test_the_account_of_a_mail_domain(
    websites: tuple[str, ...], mail: str, expected: int | str
) -> None:
    found = directory(*(account(n, one) for n, one in enumerate(websites, 1))).find(mail)
    if isinstance(expected, int):
        assert found == AccountMatch(account(expected, None)["Id"], by=AccountEvidence.WEBSITE)
    else:
        assert found == AccountMatch(None, expected == CONFLICT)


def test_deleted_accounts_and_changed_websites_are_forgotten() -> None:
    accounts = directory(
        account(1, "acme.com"), account(2, "globex.com"), account(3, "initech.com")
    )
    accounts.update(
        parsed(account(1, "acme.com", deleted=True), account(2, "globex.org"), account(3, None))
    )
    found = [
        accounts.account_of(name)
        for name in ("acme.com", "globex.com", "globex.org", "initech.com")
    ]
    assert found == [None, None, "001000000000002AAA", None]


def test_the_account_of_a_person_leads_nobody_to_it() -> None:
    assert (
        directory(account(1, "acme.com") | {"IsPersonAccount": True}).account_of("acme.com") is None
    )


def test_a_configured_domain_names_an_account_or_shares_one() -> None:
    accounts = directory(
        account(1, "acme.com"), acme_io="acme.com", globex_com="001000000000009AAA"
    )
    assert accounts.account_of("mail.acme.io") == ACME
    assert accounts.account_of("globex.com") == "001000000000009AAA"


@pytest.mark.parametrize(
    ("configured", "mail", "expected"),
    [
        ({"eu_acme_com": "001000000000009"}, "de.eu.acme.com", "001000000000009"),
        ({"eu_acme_com": "001000000000009"}, "us.acme.com", ACME),
        ({"acme_com": "001000000000009"}, "us.acme.com", ACME),
        ({"ca_gov": "001000000000009"}, "dmv.ca.gov", "001000000000009"),
        ({"dmv_ca_gov": "dot.ca.gov"}, "dmv.ca.gov", account(2, None)["Id"]),
        ({"acme_io": "ca.gov", "ca_gov": "001000000000009"}, "acme.io", "001000000000009"),
        ({"acme_io": "acme.net", "acme_net": "acme.com"}, "acme.io", None),
    ],
)
def test_a_configured_domain_stands_at_its_own_level(
    configured: dict[str, str], mail: str, expected: str | None
) -> None:
    accounts = directory(account(1, "acme.com"), account(2, "dot.ca.gov"), **configured)
    assert accounts.account_of(mail) == expected


def test_an_account_that_a_row_found_gone_is_forgotten_until_a_row_shows_it() -> None:
    accounts = directory(
        account(1, "acme.com"), account(2, "acme.com", created="2021"), globex_com="001000000000009"
    )
    accounts.forget(ACME)
    accounts.forget("001000000000009AAA")
    assert accounts.account_of("acme.com") == "001000000000002AAA"
    assert accounts.account_of("globex.com") is None
    assert accounts.gone == ("001000000000001", "001000000000009")
    assert [row.id for row in accounts.take_forgotten()] == [ACME]
    assert not accounts.take_forgotten()
    rows = parsed(account(1, "acme.com"), account(9, None))
    assert accounts.changed(rows) == rows
    accounts.update(rows)
    assert (accounts.account_of("acme.com"), accounts.account_of("globex.com")) == (
        ACME,
        "001000000000009",
    )
    assert not accounts.gone


def test_rows_that_say_nothing_new_are_not_changes() -> None:
    accounts = directory(account(1, "acme.com"))
    rows = parsed(account(1, "https://acme.com/"), account(2, None))
    assert accounts.changed(rows) == []
    assert accounts.changed(parsed(account(1, "acme.com"), generation=1))
    assert accounts.changed(parsed(account(1, "acme.com", created="2021")))


WEBSITES = st.sampled_from(
    [
        None,
        "gmail.com",
        *("a.com", "www.a.com", "b.a.com", "c.a.com", "d.c.a.com", "e.d.c.a.com"),
        *("a.co.uk", "b.a.co.uk", "co.uk", "other.org"),
    ]
)
MAIL = st.sampled_from(
    [
        *("a.com", "b.a.com", "c.a.com", "x.c.a.com", "d.c.a.com", "x.a.com", "e.d.c.a.com"),
        *("a.co.uk", "x.a.co.uk", "other.org", "gmail.com", "co.uk", "nobody.net"),
    ]
)
ACCOUNTS = st.builds(
    account,
    st.integers(1, 60),
    WEBSITES,
    parent=st.sampled_from([None, ACME]),
    created=st.sampled_from(["2019", "2020", "2021-02-03T04:05:06.000+0000"]),
    deleted=st.booleans(),
)


def expected_match(known: dict[str, dict[str, Any]], mail: str) -> AccountMatch:
    """The rules of `accounts`, as plainly as they can be written."""
    domain = registrable_domain(mail)
    if domain is None or is_free_mail(mail):
        return AccountMatch(None)
    hosts = {
        account_id: website_host(fields["Website"])
        for account_id, fields in known.items()
        if not fields["IsDeleted"]
    }
    within = {
        account_id: found.host
        for account_id, found in hosts.items()
        if found is not None and found.registrable == domain
    }
    above = [host for host in within.values() if mail == host or mail.endswith(f".{host}")]
    below = {host for host in within.values() if host.endswith(f".{mail}")}
    if above:
        winner = max(above, key=len)
    elif len(below) == 1:
        winner = below.pop()
    else:
        return AccountMatch(None, conflict=bool(within))
    ranked = [
        (bool(known[one]["ParentId"]), known[one]["CreatedDate"], one)
        for one, host in within.items()
        if host == winner
    ]
    return AccountMatch(min(ranked)[2], by=AccountEvidence.WEBSITE)


@settings(max_examples=100)
@given(st.lists(st.lists(ACCOUNTS, max_size=80), max_size=4), MAIL)
def test_the_directory_answers_as_the_rules_say(
    updates: list[list[dict[str, Any]]], mail: str
) -> None:
    accounts, known = AccountDirectory(), dict[str, dict[str, Any]]()
    for rows in updates:
        accounts.update(parsed(*rows))
        known.update((row["Id"], row) for row in rows)
        assert accounts.find(mail) == expected_match(known, mail)


def test_a_domain_with_thousands_of_accounts_is_as_fast_as_any_other() -> None:
    """Each Account was once put in order among all of its domain: seconds for this many."""
    rows = parsed(*(account(number, f"h{number % 97}.acme.com") for number in range(5_000)))
    accounts = AccountDirectory()
    accounts.update(rows)
    assert accounts.account_of("h5.acme.com") == account(5, None)["Id"]
    assert accounts.find("acme.com").conflict
    assert accounts.shared_hosts == 97
    accounts.update(row._replace(host="") for row in rows[1:])
    assert accounts.account_of("acme.com") == account(0, None)["Id"]
    assert (len(accounts), accounts.shared_hosts) == (1, 0)
