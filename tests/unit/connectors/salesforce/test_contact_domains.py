"""A domain belongs to the Account of nearly all its Contacts, where nothing else says more."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.account_rules import NO_RULES, parse_account_rules
from connectors.salesforce.account_store import MemoryAccountStore
from connectors.salesforce.api.client import no_fence
from connectors.salesforce.contact_domain_loading import READ_EVERY_SECONDS, RETRY_SECONDS
from connectors.salesforce.contact_domains import (
    MIN_CONTACTS,
    ContactDomain,
    DomainCounts,
    changed_domains,
    contact_query,
)
from connectors.salesforce.counting import SyncWarning
from connectors.salesforce.outcome import ContactVersion
from connectors.salesforce.policy import Policy
from connectors.salesforce.simulator.schema import make_id
from tests.support.salesforce_org import SimulatedOrg, simulated_org

ONE, TWO = make_id("001", 1), make_id("001", 2)
POLICY = Policy(contact_share=0.8)


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a job."""
    monkeypatch.setattr("connectors.salesforce.api.bulk_query.POLL_SECONDS", (0.0,) * 4)


def world(*groups: tuple[str, str, int], **more: Any) -> dict[str, Any]:
    """Accounts, and of each group (Account, domain, number) so many Contacts."""
    contacts = [
        {"LastName": f"L{place}", "Email": f"l{place}@{domain}", "AccountId": account}
        for place, (account, domain) in enumerate(
            (account, domain) for account, domain, number in groups for _ in range(number)
        )
    ]
    accounts = [{"Id": ONE, "Name": "One", "Type": "Prospect"}, {"Id": TWO, "Name": "Two"}]
    return {"accounts": accounts, "contacts": contacts, **more}


def change(number: int, address: str) -> ContactVersion:
    contact = {"surname": f"New{number}", "emails": [{"email": address}]}
    return ContactVersion(f"g/{number}", 100, contact)


async def account_of(org: SimulatedOrg, number: int, address: str) -> tuple[str | None, str]:
    (outcome,) = await org.sync.sync([change(number, address)])
    found = [row for row in org.records("Contact") if row["Id"] == outcome.record_id]
    return (found[0]["AccountId"] if found else None), outcome.account_by


async def test_new_people_of_a_domain_join_the_account_of_nearly_all_its_contacts() -> None:
    document = world(
        (ONE, "acme.com", 8), (TWO, "acme.com", 2), (ONE, "split.com", 5), (TWO, "split.com", 5)
    )
    async with simulated_org(document, POLICY) as org:
        assert await account_of(org, 1, "a@acme.com") == (ONE, "contacts")
        assert await account_of(org, 2, "b@split.com") == (None, "")
        # exactly the domain: a subdomain may be another company
        assert await account_of(org, 3, "c@eu.acme.com") == (None, "")
        assert org.sync.contact_domains == 1


async def test_it_is_off_unless_a_share_is_set_and_costs_nothing_then() -> None:
    async with simulated_org(world((ONE, "acme.com", 9))) as org:
        assert await account_of(org, 1, "a@acme.com") == (None, "")
        await org.sync.read_contact_domains(no_fence)
        assert (org.calls["composite_query"], org.calls["query"]) == (1, 0)


async def test_free_mail_and_few_contacts_are_no_evidence() -> None:
    document = world((ONE, "gmail.com", 20), (ONE, "few.com", MIN_CONTACTS - 1))
    async with simulated_org(document, POLICY) as org:
        assert await account_of(org, 1, "a@gmail.com") == (None, "")
        assert await account_of(org, 2, "b@few.com") == (None, "")


async def test_a_website_wins_and_a_conflict_of_websites_is_settled() -> None:
    document = world((ONE, "acme.com", 9), (ONE, "ca.gov", 9)) | {
        "accounts": [
            {"Id": ONE, "Name": "One"},
            {"Id": TWO, "Name": "Two", "Website": "acme.com"},
            {"Name": "A", "Website": "dot.ca.gov"},
            {"Name": "B", "Website": "dmv.ca.gov"},
        ]
    }
    async with simulated_org(document, POLICY) as org:
        assert await account_of(org, 1, "a@acme.com") == (TWO, "website")
        assert await account_of(org, 2, "b@ca.gov") == (ONE, "contacts")


@pytest.mark.parametrize("page_size", [2000, 1])
async def test_accounts_that_the_filter_leaves_out_are_no_evidence(page_size: int) -> None:
    document = world((ONE, "acme.com", 20), settings={"page_size": page_size})
    filtered = Policy(contact_share=0.8, account_rules=parse_account_rules([], ["Type=Partner"]))
    async with simulated_org(document, filtered) as org:
        assert await account_of(org, 1, "a@acme.com") == (None, "")
        assert (org.calls["bulk_query"] > 0) == (page_size == 1)
    kept = Policy(contact_share=0.8, account_rules=parse_account_rules([], ["Type=prospect"]))
    async with simulated_org(document, kept) as org:
        assert await account_of(org, 1, "a@acme.com") == (ONE, "contacts")


async def test_the_contacts_of_person_accounts_are_no_evidence() -> None:
    document = world() | {
        "person_accounts": True,
        "accounts": [
            {"Id": make_id("001", 10 + number), "Name": "P", "IsPersonAccount": True}
            for number in range(9)
        ],
        "contacts": [
            {
                "LastName": f"L{number}",
                "Email": f"l{number}@acme.com",
                "AccountId": make_id("001", 10 + number),
                "IsPersonAccount": True,
            }
            for number in range(9)
        ],
    }
    async with simulated_org(document, POLICY) as org:
        assert await account_of(org, 1, "a@acme.com") == (None, "")
        assert not org.counts


async def test_it_is_read_once_a_day_and_what_changed_is_stored() -> None:
    kept = MemoryAccountStore()
    async with simulated_org(world((ONE, "acme.com", 9), (TWO, "globex.com", 9))) as org:
        org.sync = org.new_sync(org.client, POLICY, kept)
        await org.sync.start()
        read = org.calls["composite_query"]
        await org.sync.read_contact_domains(no_fence)
        assert org.calls["composite_query"] == read
        for contact in org.records("Contact"):
            if contact["Email"].endswith("globex.com"):
                org.world.edit("Contact", contact["Id"], {"Email": "x@gmail.com"})
        org.now += READ_EVERY_SECONDS
        await org.sync.read_contact_domains(no_fence)
        assert org.calls["composite_query"] == read + 1
        assert await account_of(org, 1, "a@globex.com") == (None, "")
        stored = [page for page in kept.pages if page.contact_cursor]
        assert [len(page.contact_domains) for page in stored] == [2, 1]
        kept.loaded = 0
        again = org.new_sync(org.client, POLICY, kept)
        await again.restore()
        before = org.calls["composite_query"]
        await again.start()
        assert org.calls["composite_query"] == before, "what the store holds is not read again"
        assert again.contact_domains == 1


async def test_a_refused_reading_is_counted_and_tried_again_later() -> None:
    hidden = {"settings": {"hidden_fields": ["Contact.AccountId"]}}
    async with simulated_org(world((ONE, "acme.com", 9)) | hidden, POLICY) as org:
        assert await account_of(org, 1, "a@acme.com") == (None, "")
        assert org.counts[SyncWarning.CONTACT_DOMAINS_REFUSED, "invalid_field"] == 1
        org.world.change_settings({"hidden_fields": []})
        await org.sync.read_contact_domains(no_fence)
        assert org.sync.contact_domains == 0
        org.now += RETRY_SECONDS
        await org.sync.read_contact_domains(no_fence)
        assert org.sync.contact_domains == 1


def test_no_statement_searches_for_a_domain() -> None:
    rules = parse_account_rules([], ["RecordType.DeveloperName=Customer"])
    soql, fields = contact_query(rules, person_accounts=True)
    assert "LIKE" not in soql
    assert "GROUP BY" not in soql
    assert fields == ("Email", "AccountId", "Account.RecordType.DeveloperName")
    assert soql.endswith("AND IsPersonAccount = false")


def test_beyond_the_bound_contacts_are_counted_as_uncounted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connectors.salesforce.contact_domains.MAX_PAIRS", 2)
    counts = DomainCounts(NO_RULES)
    counts.add({"Email": f"a@d{number}.com", "AccountId": ONE} for number in (1, 2, 3, 1, 3))
    assert counts.uncounted == 2


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([ONE, TWO])), max_size=60),
    st.floats(0.51, 1.0),
)
def test_a_domain_leads_to_an_account_only_with_the_share(
    contacts: list[tuple[str, str]], share: float
) -> None:
    counts = DomainCounts(NO_RULES)
    counts.add({"Email": f"x@{name}.com", "AccountId": account} for name, account in contacts)
    for name, found in counts.domains(share).items():
        of_domain = [account for letter, account in contacts if f"{letter}.com" == name]
        assert found.of == len(of_domain)
        assert found.contacts == of_domain.count(found.account_id) >= MIN_CONTACTS
        assert found.contacts >= share * found.of


def test_only_what_changed_is_stored() -> None:
    same, moved = ContactDomain("a.com", ONE, 9, 9), ContactDomain("b.com", ONE, 9, 9)
    after = {"a.com": same, "b.com": moved._replace(account_id=TWO)}
    assert changed_domains({"a.com": same, "b.com": moved, "c.com": same}, after) == [
        after["b.com"],
        ContactDomain("c.com"),
    ]
