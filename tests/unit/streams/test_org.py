"""What the settings make of the org: the login, its audience, the reserve, the rules that only
alert.
"""

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from connectors.salesforce.api.auth import JwtBearer
from connectors.salesforce.api.budget import Usage
from streams.metrics import SinkMetrics
from streams.org import credentials, open_org, policy
from streams.settings import PeopleSettings, SalesforceSettings, load


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
        ("https://sandboxes.my.salesforce.com", "https://login.salesforce.com"),
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


async def test_the_sink_keeps_the_reserve_that_is_set() -> None:
    settings = load(
        SalesforceSettings,
        {
            "SALESFORCE_CLIENT_ID": "id",
            "SALESFORCE_CLIENT_SECRET": "secret",
            "SALESFORCE_CALL_RESERVE": "0.5",
        },
    )
    allowed = policy(settings, load(PeopleSettings, {}), ["address_book"])
    async with open_org(settings, allowed, SinkMetrics(CollectorRegistry())) as sync:
        budget = sync._client.budget
        budget.observe_usage(Usage(4_999, 10_000))
        assert not budget.exhausted
        budget.observe_usage(Usage(5_000, 10_000))
        assert budget.exhausted


@pytest.mark.parametrize("allow", [True, False])
def test_rules_that_only_alert_are_passed_unless_the_settings_say_otherwise(*, allow: bool) -> None:
    settings = load(SalesforceSettings, {} if allow else {"SALESFORCE_ALLOW_SAVE": "false"})
    assert policy(settings, load(PeopleSettings, {}), ["address_book"]).allow_save is allow


async def test_what_an_operator_has_to_mend_is_counted_and_logged() -> None:
    settings = load(
        SalesforceSettings, {"SALESFORCE_CLIENT_ID": "id", "SALESFORCE_CLIENT_SECRET": "secret"}
    )
    metrics = SinkMetrics(CollectorRegistry())
    allowed = policy(settings, load(PeopleSettings, {}), ["address_book"])
    async with open_org(settings, allowed, metrics) as sync:
        with capture_logs() as logs:
            sync._count("accounts_refused", "query_timeout")
            sync._count("cut", "Lead.Title")
    assert [(entry["what"], entry["where"]) for entry in logs] == [
        ("accounts_refused", "query_timeout")
    ]
    assert metrics.warnings.labels("accounts_refused", "query_timeout")._value.get() == 1


def test_names_of_functions_are_a_setting() -> None:
    people = load(PeopleSettings, {"PEOPLE_ROLE_NAMES": "kontakt,!hello"})
    roles = policy(load(SalesforceSettings, {}), people, ["address_book"]).exclusions.roles
    assert ("kontakt" in roles, "hello" in roles, "info" in roles) == (True, False, True)
