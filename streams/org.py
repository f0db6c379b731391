"""Opens the org that the sink writes to, as the settings say, with the sink's metrics."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from difflib import get_close_matches
from pathlib import Path

import structlog

from connectors.salesforce.account_rules import (
    AccountRuleError,
    AccountRules,
    parse_account_rules,
)
from connectors.salesforce.account_store import AccountStore
from connectors.salesforce.address_fields import AddressFieldError, parse_address_fields
from connectors.salesforce.api.auth import (
    AcceptOrg,
    ClientCredentials,
    Credentials,
    JwtBearer,
    RefreshToken,
    Session,
    any_org,
    jwt_audience,
)
from connectors.salesforce.api.budget import Budget
from connectors.salesforce.api.client import SalesforceClient, http_client
from connectors.salesforce.api.own_calls import OwnCalls
from connectors.salesforce.api.refresh_token_file import RefreshTokenFile
from connectors.salesforce.contact_domains import LEAST_SHARE
from connectors.salesforce.counting import CountCallback, SyncWarning
from connectors.salesforce.domains import FREE_MAIL
from connectors.salesforce.exclusions import Exclusions, role_names
from connectors.salesforce.field_paths import MappingError
from connectors.salesforce.mapping_file import load_mapping
from connectors.salesforce.mapping_rules import FieldMapping, with_lead_source
from connectors.salesforce.owner_rules import CHOSEN, OwnerPolicy, OwnerRule, UserMatch
from connectors.salesforce.owners import GrantAddress, no_addresses
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.routing import Create, Creation
from connectors.salesforce.suppression import GrowingSuppression, SuppressionFile
from connectors.salesforce.sync import Sync
from connectors.salesforce.unanswered_calls import UnansweredCalls
from streams.metrics import CALLS, SinkMetrics
from streams.runtime.traces import NO_TRACES, Traces
from streams.runtime.wall_clock import ClockWatch
from streams.settings import NO_OWN_DOMAINS, PeopleSettings, SalesforceSettings, SettingsError

log = structlog.get_logger()

# One question of a command to the org: a describe of many fields takes two or three seconds.
ORG_ANSWER_SECONDS = 20.0

# Warnings that an operator has to fix in the org. The others follow from single contacts.
LOGGED_WARNINGS = {
    SyncWarning.ACCOUNTS_REFUSED,
    SyncWarning.ADDRESS_FIELD_UNUSED,
    SyncWarning.BULK_LOAD_REFUSED,
    SyncWarning.BULK_QUERY_REFUSED,
    SyncWarning.CONTACT_DOMAINS_REFUSED,
    SyncWarning.DESCRIBE_REFUSED,
    SyncWarning.FIELD_MISSING,
    SyncWarning.FIELD_NOT_FILTERABLE,
    SyncWarning.LOOKUP_HALVED,
    SyncWarning.OWNER_REFUSED,
    SyncWarning.ACCOUNT_OWNERS_REFUSED,
    SyncWarning.USERS_REFUSED,
    SyncWarning.PERSON_ACCOUNT_REFUSED,
}


def credentials(settings: SalesforceSettings) -> Credentials:
    """The login that the settings describe. Raises SettingsError when they describe none."""
    if not settings.client_id:
        raise SettingsError(
            "SALESFORCE_CLIENT_ID is not set: the consumer key of the external client app"
        )
    if key := settings.private_key.get_secret_value():
        if not settings.username:
            raise SettingsError(
                "SALESFORCE_USERNAME is not set: the JWT bearer flow logs a user in"
            )
        return JwtBearer(
            settings.client_id,
            settings.username,
            key,
            settings.login_url,
            settings.audience or jwt_audience(settings.login_url),
        )
    secret = settings.client_secret.get_secret_value()
    if token := settings.refresh_token.get_secret_value():
        store = settings.refresh_token_store
        return RefreshToken(
            settings.client_id,
            token,
            secret or None,
            settings.login_url,
            RefreshTokenFile(store) if store else None,
        )
    if secret:
        return ClientCredentials(settings.client_id, secret, settings.login_url)
    raise SettingsError(
        "no Salesforce login: set SALESFORCE_PRIVATE_KEY_FILE with SALESFORCE_USERNAME "
        "(JWT bearer), SALESFORCE_CLIENT_SECRET_FILE (client credentials), "
        "or SALESFORCE_REFRESH_TOKEN_FILE"
    )


def mapping(settings: SalesforceSettings) -> FieldMapping:
    """The mapping of the settings' file, or the default of seven fields. Raises MappingError."""
    if settings.mapping_file is None:
        return FieldMapping()
    try:
        return load_mapping(settings.mapping_file)
    except MappingError as error:
        raise MappingError(
            f"SALESFORCE_MAPPING_FILE={settings.mapping_file} cannot be used: {error}"
        ) from error


def policy(settings: SalesforceSettings, people: PeopleSettings, sources: Iterable[str]) -> Policy:
    """What the settings allow.

    Raises SettingsError, and SuppressionError or MappingError for a file that cannot be used.
    """
    if people.on_delete == "flag" and not people.flag_field:
        raise SettingsError(
            "PEOPLE_FLAG_FIELD is not set: PEOPLE_ON_DELETE=flag needs the checkbox's name"
        )
    rules = mapping(settings)
    return Policy(
        mapping=with_lead_source(rules, people.lead_source),
        exclusions=exclusions(people),
        suppression=_suppression(people.suppression_list),
        sources=frozenset(source.lower() for source in sources),
        creation=Creation(
            Create(people.create), people.create_free_mail, people.create_without_address
        ),
        owners=owner_policy(people),
        source_mailbox=people.source_mailbox,
        on_delete=OnDelete(people.on_delete),
        flag_field=people.flag_field or None,
        allow_save=settings.allow_save,
        address_fields=address_fields(settings, rules),
        account_rules=account_rules(settings),
        contact_share=_contact_share(settings),
        account_domains=dict(_pair(entry) for entry in people.account_domains),
    )


def exclusions(people: PeopleSettings) -> Exclusions:
    """Who is left out by an address."""
    free_mail = FREE_MAIL if people.preset == "business" else frozenset[str]()
    return Exclusions(
        own_domains=frozenset(people.own_domains) - {NO_OWN_DOMAINS},
        roles=role_names(people.role_names),
        addresses=frozenset(people.excluded_addresses),
        domains=Exclusions().domains | frozenset(people.excluded_domains) | free_mail,
        patterns=people.excluded_patterns,
    )


def owner_policy(people: PeopleSettings) -> OwnerPolicy:
    """Who owns created records. Raises SettingsError naming the value."""
    rules: list[OwnerRule] = []
    for name in people.owner:
        if name not in CHOSEN:
            close = get_close_matches(name.lower(), CHOSEN, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it knows {', '.join(CHOSEN)}"
            raise SettingsError(f"PEOPLE_OWNER: there is no rule {name!r}; {hint}")
        rules.append(OwnerRule(name))
    if (OwnerRule.CONFIGURED in rules) != bool(people.owner_id):
        raise SettingsError(
            "PEOPLE_OWNER: the rule configured needs the ID of a user or queue in PEOPLE_OWNER_ID"
            if OwnerRule.CONFIGURED in rules
            else "PEOPLE_OWNER_ID is set, but PEOPLE_OWNER does not name the rule configured"
        )
    return OwnerPolicy(tuple(dict.fromkeys(rules)), UserMatch(people.owner_match), people.owner_id)


def address_fields(settings: SalesforceSettings, rules: FieldMapping) -> dict[str, tuple[str, ...]]:
    """The org's own address fields by object, that are read for matching. Raises SettingsError."""
    try:
        found = parse_address_fields(settings.address_fields)
    except AddressFieldError as error:
        raise SettingsError(f"SALESFORCE_ADDRESS_FIELDS: {error}") from error
    for sobject, names in found.items():
        mapped = {rule.field for rule in rules.rules(sobject)}
        for name in names:
            if name in mapped:
                raise SettingsError(
                    f"SALESFORCE_ADDRESS_FIELDS: {sobject}.{name} is mapped as well, and a field "
                    "is either written or only read: take it out of SALESFORCE_MAPPING_FILE, or "
                    "out of this setting"
                )
    return found


def _contact_share(settings: SalesforceSettings) -> float:
    share = settings.account_contact_share
    if 0 < share <= LEAST_SHARE:
        raise SettingsError(
            f"SALESFORCE_ACCOUNT_CONTACT_SHARE={share}: at half and below, two Accounts could have "
            "it at once; take more than 0.5, such as 0.9, or 0 to switch it off"
        )
    return share


def account_rules(settings: SalesforceSettings) -> AccountRules:
    """Which Accounts count, and by which fields. Raises SettingsError."""
    try:
        return parse_account_rules(settings.account_domain_fields, settings.account_filter)
    except AccountRuleError as error:
        raise SettingsError(str(error)) from error


def _suppression(path: Path | None) -> GrowingSuppression:
    """The list in the file, if there is one, to which a process adds that of its topic."""
    if path is None:
        return GrowingSuppression()
    listed = SuppressionFile(path)
    listed.current()  # a file that cannot be read is an error at the start
    log.warning(
        "PEOPLE_SUPPRESSION_LIST is deprecated: run contactstream suppress once, which takes the "
        "file into the topic, and then unset it"
    )
    return GrowingSuppression(listed)


def _pair(entry: str) -> tuple[str, str]:
    domain, separator, target = entry.partition("=")
    if not separator or not domain.strip() or not target.strip():
        raise SettingsError(
            f"PEOPLE_ACCOUNT_DOMAINS: {entry!r} is not of the form "
            "domain=domain or domain=AccountId"
        )
    return domain.strip().lower(), target.strip()


def open_client(
    settings: SalesforceSettings,
    metrics: SinkMetrics,
    unanswered: UnansweredCalls | None = None,
    traces: Traces = NO_TRACES,
    daily_calls: Callable[[int], None] = lambda _: None,
    accept_org: AcceptOrg = any_org,
    own_calls: OwnCalls | None = None,
) -> SalesforceClient:
    """The client of the org, for `async with`; its calls are counted. Raises SettingsError.

    `unanswered` notes the calls that write and end without an answer. `daily_calls` is told how
    many calls the org allows in 24 hours, each time it says so. `accept_org` may refuse the org
    that a login leads to. `own_calls` counts our own, and may have a limit.
    """
    own = own_calls or OwnCalls()

    def on_call(kind: str, status: int | None, seconds: float) -> None:
        # a proxy that gives up answers for an org that may go on
        if unanswered and kind == "composite_write" and (status is None or status >= 500):
            unanswered.note()
        if kind != "token":  # a login counts for another limit of the org
            own.note_call()
        known = kind if kind in CALLS else "other"
        metrics.calls.labels(known).inc()
        metrics.call_seconds.labels(known).observe(seconds, traces.exemplar())
        traces.call_ended(f"salesforce {known}", status, seconds)
        if (usage := client.budget.usage) is not None:
            metrics.api_used.set(usage.used)
            metrics.api_limit.set(usage.allowed)
            daily_calls(usage.allowed)

    login = credentials(settings)
    http = http_client(ClockWatch("Salesforce", metrics.clock_ahead).on_date)
    client = SalesforceClient(
        Session(login, http, on_call, accept_org=accept_org),
        http,
        settings.api_version,
        on_call,
        Budget(settings.call_reserve, own=own),
    )
    return client


def command_client(settings: SalesforceSettings) -> SalesforceClient:
    """The client of a command for which a person waits, for `async with`. Raises SettingsError."""
    http = http_client()
    return SalesforceClient(
        Session(credentials(settings), http),
        http,
        settings.api_version,
        budget=Budget(settings.call_reserve),
        answer_seconds=ORG_ANSWER_SECONDS,
    )


def warning_counter(metrics: SinkMetrics) -> CountCallback:
    """Counts the warnings of a sync, and logs those that an operator has to fix in the org."""

    def count(warning: SyncWarning, detail: str) -> None:
        metrics.warnings.labels(warning, detail).inc()
        if warning in LOGGED_WARNINGS:
            log.warning(
                "Salesforce lacks or refused something; see contactstream doctor",
                warning=warning.value,
                detail=detail,
            )

    return count


@asynccontextmanager
async def open_org(
    settings: SalesforceSettings,
    allowed: Policy,
    metrics: SinkMetrics,
    accounts: AccountStore,
    traces: Traces = NO_TRACES,
    daily_calls: Callable[[int], None] = lambda _: None,
    accept_org: AcceptOrg = any_org,
    own_calls: OwnCalls | None = None,
    grant_address: GrantAddress = no_addresses,
) -> AsyncIterator[Sync]:
    """The org's Sync; nothing is sent before its first use. Raises SettingsError.

    For `daily_calls`, `accept_org` and `own_calls` see `open_client`. `grant_address` says whose
    address book a grant is.
    """
    unanswered = UnansweredCalls(settings.longest_call)
    count = warning_counter(metrics)
    client = open_client(settings, metrics, unanswered, traces, daily_calls, accept_org, own_calls)
    async with client:
        yield Sync(
            client,
            allowed,
            count,
            accounts=accounts,
            unanswered=unanswered,
            grant_address=grant_address,
        )
