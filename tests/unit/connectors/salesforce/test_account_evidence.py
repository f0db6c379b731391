"""Which Account a mail domain belongs to: by fields of the org's own, and only some Accounts."""

from typing import Any

import pytest

from connectors.salesforce.account_rules import (
    MAX_FURTHER_HOSTS,
    AccountEvidence,
    AccountRuleError,
    AccountRules,
    parse_account_rules,
)
from connectors.salesforce.account_store import MemoryAccountStore
from connectors.salesforce.accounts import AccountDirectory, account_row
from connectors.salesforce.api import bulk_query
from connectors.salesforce.counting import SyncWarning
from connectors.salesforce.outcome import ContactVersion, Outcome
from connectors.salesforce.policy import Policy
from connectors.salesforce.simulator.schema import make_id
from tests.support.salesforce_org import SimulatedOrg, simulated_org

DOMAINS = "Email_Domains__c"
FIELDS = {"Account": {DOMAINS: {"type": "string", "length": 255}}}
RULES = AccountRules(domain_fields=(DOMAINS,))
CUSTOMERS = parse_account_rules([], ["Type=Customer - Direct"])


def account(number: int, website: str | None = None, **fields: Any) -> dict[str, Any]:
    found = {"Id": make_id("001", number), "Name": f"A{number}", **fields}
    return found if website is None else found | {"Website": website}


def change(number: int, address: str, version: int = 100) -> ContactVersion:
    contact = {"surname": f"P{number}", "emails": [{"email": address}]}
    return ContactVersion(f"g/{number}", version, contact)


async def only(org: SimulatedOrg, made: ContactVersion) -> Outcome:
    (outcome,) = await org.sync.sync([made])
    return outcome


async def account_of(org: SimulatedOrg, number: int, address: str) -> tuple[str | None, str]:
    """The Account of a new person with this address, and by which evidence."""
    outcome = await only(org, change(number, address))
    found = [row for row in org.records("Contact") if row["Id"] == outcome.record_id]
    return (found[0]["AccountId"] if found else None), outcome.account_by


async def test_a_field_of_the_org_names_the_domains_of_an_account() -> None:
    document = {
        "fields": FIELDS,
        "accounts": [account(1, "acme.com", **{DOMAINS: "@acme.io; acme-mail.example, gmail.com"})],
    }
    async with simulated_org(document, Policy(account_rules=RULES)) as org:
        acme = make_id("001", 1)
        assert await account_of(org, 1, "a@acme.com") == (acme, "website")
        assert await account_of(org, 2, "b@acme.io") == (acme, "domain_field")
        assert await account_of(org, 3, "c@eu.acme-mail.example") == (acme, "domain_field")
        # free mail is nobody's domain, whatever a field says
        assert await account_of(org, 4, "d@gmail.com") == (None, "")


async def test_an_account_without_a_website_is_found_by_its_field_alone() -> None:
    document = {"fields": FIELDS, "accounts": [account(1, **{DOMAINS: "acme.io"})]}
    async with simulated_org(document, Policy(account_rules=RULES)) as org:
        assert await account_of(org, 1, "a@acme.io") == (make_id("001", 1), "domain_field")


async def test_a_website_wins_over_a_field_and_a_field_over_the_setting() -> None:
    document = {
        "fields": FIELDS,
        "accounts": [
            account(1, **{DOMAINS: "acme.io,acme.net"}),
            account(2, "acme.io"),
            account(3, "other.example"),
        ],
    }
    third = make_id("001", 3)
    policy = Policy(
        account_rules=RULES, account_domains={"acme.net": third, "acme.org": "other.example"}
    )
    async with simulated_org(document, policy) as org:
        assert await account_of(org, 1, "a@acme.io") == (make_id("001", 2), "website")
        assert await account_of(org, 2, "b@acme.net") == (make_id("001", 1), "domain_field")
        assert await account_of(org, 3, "c@acme.org") == (third, "setting")


async def test_only_accounts_that_fit_the_filter_count_and_a_change_is_noticed() -> None:
    document = {
        "accounts": [
            account(1, "acme.com", Type="Prospect"),
            account(2, "globex.com", Type="Customer - Direct"),
        ]
    }
    async with simulated_org(document, Policy(account_rules=CUSTOMERS)) as org:
        assert await account_of(org, 1, "a@acme.com") == (None, "")
        assert await account_of(org, 2, "b@globex.com") == (make_id("001", 2), "website")
        org.world.edit("Account", make_id("001", 1), {"Type": "Customer - Direct"})
        org.world.edit("Account", make_id("001", 2), {"Type": "Prospect"})
        org.now += 3600
        await only(org, change(3, "c@else.example"))  # the refresh goes along with it
        assert await account_of(org, 4, "d@acme.com") == (make_id("001", 1), "website")
        assert await account_of(org, 5, "e@globex.com") == (None, "")


@pytest.mark.parametrize("page_size", [2000, 1])
async def test_the_filter_reads_record_types_of_pages_and_of_a_bulk_query(
    page_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_query, "POLL_SECONDS", (0.0,) * 20)
    kinds = [{"name": "Customer"}, {"name": "Supplier"}]
    customer, supplier = make_id("012", 1), make_id("012", 2)
    document = {
        "settings": {"page_size": page_size},
        "record_types": {"Account": kinds},
        "accounts": [
            account(number, f"c{number}.example", RecordTypeId=kind)
            for number, kind in enumerate((customer, supplier) * 8, 1)
        ],
    }
    rules = parse_account_rules([], ["RecordType.DeveloperName=customer"])
    async with simulated_org(document, Policy(account_rules=rules)) as org:
        assert (await account_of(org, 1, "a@c1.example"))[0] == make_id("001", 1)
        assert await account_of(org, 2, "b@c2.example") == (None, "")
        assert (org.calls["bulk_query"] > 0) == (page_size == 1)


async def test_changed_rules_read_every_account_again_and_the_store_keeps_the_domains() -> None:
    kept = MemoryAccountStore()
    document = {"fields": FIELDS, "accounts": [account(1, **{DOMAINS: "acme.io"}), account(2)]}
    async with simulated_org(document) as org:
        for policy, expected in (
            (Policy(), None),
            (Policy(account_rules=RULES), make_id("001", 1)),
            (Policy(account_rules=RULES), make_id("001", 1)),
            (Policy(), None),
        ):
            kept.loaded = 0
            sync = org.new_sync(org.client, policy, kept)
            await sync.restore()
            await sync.start()
            directory = sync._metadata.accounts.directory
            assert directory.account_of("acme.io") == expected
        finished = [
            page.cursor.generation for page in kept.pages if page.cursor and page.cursor.known_until
        ]
        assert sorted(set(finished)) == [1, 2, 3], "the same rules read nothing again"


async def test_a_missing_domain_field_is_left_out_and_a_missing_filter_field_pauses() -> None:
    document = {"accounts": [account(1, "acme.com")]}
    async with simulated_org(document, Policy(account_rules=RULES)) as org:
        assert await account_of(org, 1, "a@acme.com") == (make_id("001", 1), "website")
        assert org.counts[SyncWarning.FIELD_MISSING, f"Account.{DOMAINS}"] == 1
    rules = parse_account_rules([], ["Missing__c=yes"])
    async with simulated_org(document, Policy(account_rules=rules)) as org:
        with pytest.raises(Exception, match="SALESFORCE_ACCOUNT_FILTER"):
            await org.sync.start()


async def test_an_account_with_a_domain_field_never_leads_to_a_person_account() -> None:
    person = account(1, "x.example", **{DOMAINS: "acme.io"}, IsPersonAccount=True)
    document = {"fields": FIELDS, "person_accounts": True, "accounts": [person]}
    async with simulated_org(document, Policy(account_rules=RULES)) as org:
        assert await account_of(org, 1, "a@acme.io") == (None, "")


def directory(*rows: dict[str, Any], rules: AccountRules = RULES) -> AccountDirectory:
    accounts = AccountDirectory()
    accounts.update([found for row in rows if (found := account_row(row, 1, rules))])
    return accounts


def test_of_several_accounts_one_that_names_the_domain_first_wins() -> None:
    accounts = directory(
        account(1, **{DOMAINS: "acme.io acme.net", "CreatedDate": "2019"}),
        account(2, **{DOMAINS: "acme.net", "CreatedDate": "2020"}),
        account(3, **{DOMAINS: "acme.net", "CreatedDate": "2021"}),
    )
    assert accounts.account_of("acme.net") == make_id("001", 2)
    assert accounts.find("acme.io").by is AccountEvidence.DOMAIN_FIELD


def test_a_domain_that_goes_from_the_field_goes_from_the_directory() -> None:
    accounts = directory(account(1, **{DOMAINS: "acme.io acme.net"}))
    changed = account_row(account(1, **{DOMAINS: "acme.net"}), 1, RULES)
    assert changed is not None
    assert accounts.changed([changed]) == [changed]
    accounts.update([changed])
    assert accounts.account_of("acme.io") is None
    assert accounts.account_of("acme.net") == make_id("001", 1)
    assert accounts.changed([changed]) == []
    accounts.forget(make_id("001", 1))
    assert accounts.account_of("acme.net") is None
    assert [row.id for row in accounts.take_forgotten()] == [make_id("001", 1)]


def test_accounts_that_a_full_load_did_not_show_are_found_by_their_domains_too() -> None:
    accounts = directory(account(1, **{DOMAINS: "acme.io"}), account(2, "globex.com"))
    gone = accounts.of_other_generations(2, 0, accounts.places)
    assert {row.id for row in gone} == {make_id("001", 1), make_id("001", 2)}


def test_an_account_names_a_bounded_number_of_domains() -> None:
    many = " ".join(f"d{number}.example" for number in range(20))
    row = account_row(account(1, **{DOMAINS: many}), 0, RULES)
    assert row is not None
    assert len(row.further_hosts) == MAX_FURTHER_HOSTS


@pytest.mark.parametrize(
    ("fields", "conditions", "said"),
    [
        (["Owner.Name"], [], "'Owner.Name' is no field of Account"),
        (["Website"], [], "read in any case"),
        ([], ["Type"], "'Type' is not of the form"),
        ([], ["Type="], "'Type=' is not of the form"),
        ([], ["a b=c"], "not of the form"),
    ],
)
def test_a_rule_that_cannot_be_used_says_what_is_wrong(
    fields: list[str], conditions: list[str], said: str
) -> None:
    with pytest.raises(AccountRuleError, match=said):
        parse_account_rules(fields, conditions)


def test_values_of_one_field_are_alternatives_and_every_field_has_to_fit() -> None:
    rules = parse_account_rules([], ["Type=a", "Type=B", "Active__c=true"])
    assert rules.counts({"Type": "A", "Active__c": True})
    assert rules.counts({"Type": "b", "Active__c": "true"})
    assert not rules.counts({"Type": "c", "Active__c": True})
    assert not rules.counts({"Type": "a", "Active__c": False})
    assert not rules.counts({"Type": "a"})
