"""The org as the settings open it: login, audience, reserve, policy and warnings."""

import re

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from connectors.salesforce.api.auth import JwtBearer
from connectors.salesforce.api.budget import Usage
from connectors.salesforce.counting import SyncWarning
from connectors.salesforce.owner_rules import OwnerPolicy, OwnerRule
from connectors.salesforce.skip_reasons import SkipReason
from streams.metrics import SinkMetrics
from streams.org import credentials, open_client, policy, warning_counter
from streams.settings import PeopleSettings, SalesforceSettings, SettingsError, load


@pytest.mark.parametrize(
    ("url", "audience"),
    [
        ("https://login.salesforce.com", "https://login.salesforce.com"),
        ("https://login.salesforce.com/", "https://login.salesforce.com"),
        ("https://test.salesforce.com", "https://test.salesforce.com"),
        ("https://test.salesforce.com/", "https://test.salesforce.com"),
        ("https://Test.Salesforce.com/", "https://test.salesforce.com"),
        ("https://acme--dev.sandbox.my.salesforce.com", "https://test.salesforce.com"),
        ("https://acme.my.salesforce.com", "https://login.salesforce.com"),
        ("https://acme-dev-ed.scratch.my.salesforce.com", "https://test.salesforce.com"),
    ],
)
def test_a_jwt_is_for_production_or_for_the_sandboxes(url: str, audience: str) -> None:
    environ = {"CLIENT_ID": "id", "USERNAME": "me@acme.com", "PRIVATE_KEY": "pem", "LOGIN_URL": url}
    settings = load(
        SalesforceSettings, {f"SALESFORCE_{name}": value for name, value in environ.items()}
    )
    login = credentials(settings)
    assert isinstance(login, JwtBearer)
    assert login.audience == audience


def test_the_audience_of_the_settings_wins() -> None:
    environ = {
        "SALESFORCE_CLIENT_ID": "id",
        "SALESFORCE_USERNAME": "me@acme.com",
        "SALESFORCE_PRIVATE_KEY": "pem",
        "SALESFORCE_LOGIN_URL": "https://acme-dev-ed.scratch.my.salesforce.com",
        "SALESFORCE_AUDIENCE": "https://login.example",
    }
    login = credentials(load(SalesforceSettings, environ))
    assert isinstance(login, JwtBearer)
    assert login.audience == "https://login.example"


async def test_the_sink_keeps_the_reserve_that_is_set() -> None:
    settings = load(
        SalesforceSettings,
        {
            "SALESFORCE_CLIENT_ID": "id",
            "SALESFORCE_CLIENT_SECRET": "secret",
            "SALESFORCE_CALL_RESERVE": "0.5",
        },
    )
    async with open_client(settings, SinkMetrics(CollectorRegistry())) as client:
        budget = client.budget
        budget.observe_usage(Usage(4_999, 10_000))
        assert not budget.exhausted
        budget.observe_usage(Usage(5_000, 10_000))
        assert budget.exhausted


@pytest.mark.parametrize("allow", [True, False])
def test_rules_that_only_alert_are_passed_unless_the_settings_say_otherwise(*, allow: bool) -> None:
    settings = load(SalesforceSettings, {} if allow else {"SALESFORCE_ALLOW_SAVE": "false"})
    assert policy(settings, load(PeopleSettings, {}), ["address_book"]).allow_save is allow


def test_what_an_operator_has_to_fix_is_counted_and_logged() -> None:
    registry = CollectorRegistry()
    count = warning_counter(SinkMetrics(registry))
    with capture_logs() as logs:
        count(SyncWarning.ACCOUNTS_REFUSED, "query_timeout")
        count(SyncWarning.TRUNCATED, "Lead.Title")
    assert [(entry["warning"], entry["detail"]) for entry in logs] == [
        ("accounts_refused", "query_timeout")
    ]
    for warning, detail in (("accounts_refused", "query_timeout"), ("truncated", "Lead.Title")):
        labels = {"warning": warning, "detail": detail}
        assert registry.get_sample_value("contactstream_sink_warnings_total", labels) == 1


QUEUE = "00G5g0000000001AAA"


def owners(**environ: str) -> OwnerPolicy:
    people = load(PeopleSettings, {f"PEOPLE_{name}": value for name, value in environ.items()})
    return policy(load(SalesforceSettings, {}), people, ["address_book"]).owners


def test_by_default_our_user_owns_what_is_created() -> None:
    assert owners().rules == ()


def test_the_rules_of_owners_are_asked_in_the_order_of_the_settings() -> None:
    found = owners(OWNER="assignment_rule,user,configured", OWNER_ID=QUEUE, OWNER_MATCH="username")
    assert found.rules == (OwnerRule.ASSIGNMENT_RULE, OwnerRule.USER, OwnerRule.CONFIGURED)
    assert (found.match.field, found.configured_queue) == ("Username", True)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"OWNER": "acount"}, "there is no rule 'acount'; did you mean account?"),
        ({"OWNER": "nobody"}, "it knows user, account, configured, assignment_rule"),
        ({"OWNER": "fallback"}, "there is no rule 'fallback'"),
        ({"OWNER": "configured"}, "PEOPLE_OWNER_ID"),
        ({"OWNER_ID": QUEUE}, "PEOPLE_OWNER does not name the rule configured"),
        ({"OWNER": "configured", "OWNER_ID": "sales"}, "PEOPLE_OWNER_ID"),
    ],
)
def test_unusable_owners_are_refused_with_the_value(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        owners(**environ)


def test_names_of_role_mailboxes_are_a_setting() -> None:
    people = load(PeopleSettings, {"PEOPLE_ROLE_NAMES": "kontakt,!hello"})
    roles = policy(load(SalesforceSettings, {}), people, ["address_book"]).exclusions.roles
    assert ("kontakt" in roles, "hello" in roles, "info" in roles) == (True, False, True)


def test_the_address_fields_of_the_settings_are_read_by_object() -> None:
    listed = "Contact.npe01__HomeEmail__c, Lead.Personal__c"
    settings = load(SalesforceSettings, {"SALESFORCE_ADDRESS_FIELDS": listed})
    allowed = policy(settings, load(PeopleSettings, {}), [])
    assert allowed.address_fields == {
        "Contact": ("npe01__HomeEmail__c",),
        "Lead": ("Personal__c",),
    }


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("Contacts.Home__c", "did you mean Contact.Home__c"),
        ("Contact.Title", "Contact.Title is mapped as well"),
    ],
)
def test_an_address_field_that_cannot_be_one_is_refused_by_its_name(listed: str, said: str) -> None:
    settings = load(SalesforceSettings, {"SALESFORCE_ADDRESS_FIELDS": listed})
    with pytest.raises(SettingsError, match=f"SALESFORCE_ADDRESS_FIELDS: .*{said}"):
        policy(settings, load(PeopleSettings, {}), [])


def test_the_rules_for_accounts_come_from_two_settings() -> None:
    environ = {
        "SALESFORCE_ACCOUNT_DOMAIN_FIELDS": "Email_Domains__c",
        "SALESFORCE_ACCOUNT_FILTER": "Type=Customer, Type=Partner",
    }
    allowed = policy(load(SalesforceSettings, environ), load(PeopleSettings, {}), [])
    assert allowed.account_rules.domain_fields == ("Email_Domains__c",)
    assert allowed.account_rules.conditions == {"Type": frozenset({"customer", "partner"})}
    wrong = load(SalesforceSettings, {"SALESFORCE_ACCOUNT_FILTER": "Type"})
    with pytest.raises(SettingsError, match="SALESFORCE_ACCOUNT_FILTER: 'Type' is not of the form"):
        policy(wrong, load(PeopleSettings, {}), [])


@pytest.mark.parametrize(("share", "fits"), [("0", True), ("0.9", True), ("0.5", False)])
def test_contacts_are_evidence_only_with_more_than_half(share: str, fits: bool) -> None:
    settings = load(SalesforceSettings, {"SALESFORCE_ACCOUNT_CONTACT_SHARE": share})
    if fits:
        allowed = policy(settings, load(PeopleSettings, {}), [])
        assert allowed.contact_share == float(share)
    else:
        with pytest.raises(SettingsError, match=r"SALESFORCE_ACCOUNT_CONTACT_SHARE=0\.5: at half"):
            policy(settings, load(PeopleSettings, {}), [])


@pytest.mark.parametrize(
    ("addresses", "used", "skipped"),
    [
        (["ada@gmail.com"], (), SkipReason.EXCLUDED),
        (["ada@gmail.com", "ada@acme.example"], ("ada@acme.example",), None),
        (["info@acme.example"], (), SkipReason.ROLE_ADDRESS),
        (["ada@acme.example"], ("ada@acme.example",), None),
    ],
)
def test_the_business_preset_takes_addresses_at_companies_alone(
    addresses: list[str], used: tuple[str, ...], skipped: SkipReason | None
) -> None:
    people = load(PeopleSettings, {"PEOPLE_PRESET": "business"})
    allowed = policy(load(SalesforceSettings, {}), people, ["address_book"])
    assert allowed.exclusions.usable(addresses) == (used, skipped)
    without = policy(load(SalesforceSettings, {}), load(PeopleSettings, {}), ["address_book"])
    assert without.exclusions.usable(["ada@gmail.com"]) == (("ada@gmail.com",), None)


@pytest.mark.parametrize("name", ["PEOPLE_CREATE_FREE_MAIL", "PEOPLE_CREATE_WITHOUT_ADDRESS"])
def test_a_setting_that_contradicts_the_preset_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}=true contradicts PEOPLE_PRESET=business"):
        load(PeopleSettings, {"PEOPLE_PRESET": "business", name: "true"})
    load(PeopleSettings, {"PEOPLE_PRESET": "business", name: "false"})
