"""The settings: one frozen group for each part of the product, loaded once by each process.

A variable is the group's prefix and the field's name in capitals (`SINK_LINGER`, `NYLAS_API_KEY`).
Any variable may be given as a file instead (`NYLAS_API_KEY_FILE=/run/secrets/nylas`), which is the
recommended way for secrets. `CONTACTSTREAM_CONFIG` names a TOML file with a table for each group
(`[sink]`, `linger = 2.0`); the environment wins over it.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from connectors.nylas.webhook import LARGEST_NOTIFICATION
from streams.mailboxes import problem_of
from streams.tls_files import ca_fault, certificate_fault


class SettingsError(ValueError):
    """A setting that cannot be used. The text names the variable, the problem and the remedy."""


def _split_list(value: Any) -> Any:
    """Splits `a, b` as in an environment variable, or one value a line as in a file."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.replace("\n", ",").split(",") if part.strip()]


def split_secrets(value: Any) -> Any:
    """Splits a list of secrets, and leaves out what follows ` #` on a line: whose secret it is."""
    if isinstance(value, str):
        value = "\n".join(line.partition(" #")[0] for line in value.splitlines())
    return _split_list(value)


def _none_if_empty(value: Any) -> Any:
    """Without this, `SALESFORCE_MAPPING_FILE=` would name the current folder."""
    return None if value == "" else value


Listed = Annotated[tuple[str, ...], BeforeValidator(_split_list)]
SecretList = Annotated[tuple[SecretStr, ...], BeforeValidator(split_secrets)]
Address = Annotated[str, Field(pattern=r"^\S*:\d{1,5}$")]
Positive = Annotated[float, Field(gt=0)]
OptionalPath = Annotated[Path | None, BeforeValidator(_none_if_empty)]


class SettingsGroup(BaseModel):
    """A group of settings. It is frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    prefix: ClassVar[str]

    def problems(self) -> list[str]:
        """Why these settings cannot work together, each with its remedy. `load` asks for them."""
        return []


class KafkaSettings(SettingsGroup):
    """The cluster, and the names of our topics in it."""

    prefix = "KAFKA"
    bootstrap_servers: str = Field(
        "localhost:9092", description="host:port of one or more brokers, comma-separated"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "SCRAM-SHA-512", description="PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
    )
    sasl_username: str = Field("", description="user name for PLAIN and SCRAM")
    sasl_password: SecretStr = Field(SecretStr(""), description="password for PLAIN and SCRAM")
    ssl_ca_location: str = Field(
        "",
        description="PEM file of the CA certificates that brokers are checked with; without it the "
        "system's certificates are used",
    )
    ssl_certificate_location: str = Field(
        "",
        description="PEM file of our certificate and the ones between it and the CA, for brokers "
        "that ask clients for one",
    )
    ssl_key_location: str = Field(
        "", description="PEM file of the private key of KAFKA_SSL_CERTIFICATE_LOCATION"
    )
    ssl_key_password: SecretStr = Field(
        SecretStr(""), description="password of KAFKA_SSL_KEY_LOCATION, if it is encrypted"
    )
    oauth_token_endpoint_url: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="URL that issues tokens for OAUTHBEARER, by the client credentials grant",
    )
    oauth_client_id: str = Field("", description="client ID for the token endpoint")
    oauth_client_secret: SecretStr = Field(
        SecretStr(""), description="client secret for the token endpoint"
    )
    oauth_scope: str = Field(
        "", description="scope that is asked for at the token endpoint, if it wants one"
    )
    oauth_ca_location: str = Field(
        "",
        description="PEM file of the CA certificates that the token endpoint is checked with; "
        "without it the system's certificates are used",
    )
    topic_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="prefix of every topic and group name; a second org in the same cluster needs "
        "another one",
    )
    events_partitions: int = Field(
        4,
        ge=1,
        le=1000,
        description="partitions of contacts.events, which limit the number of dedupe workers",
    )
    events_retention_days: int = Field(
        14,
        ge=4,
        le=90,
        description="days for which contacts.events keeps what Nylas said, whole contacts with "
        "their notes; replays of events reach so far back, and dedupe must not be away for longer; "
        "for a topic that exists, see `topics check`",
    )
    replication_factor: int = Field(
        3, ge=1, le=9, description="replicas of the topics that `topics create` makes"
    )
    dedupe_generation: int = Field(
        1,
        ge=1,
        le=99,
        description="generation of dedupe: its group and its table; `contactstream dedupe-state` "
        "fills the table of another one and switches to it, and dedupe and the reader then need it",
    )

    @property
    def uses_tls(self) -> bool:
        """Whether connections to the brokers are encrypted."""
        return self.security_protocol.endswith("SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether we log in by a user name or a token."""
        return self.security_protocol.startswith("SASL")

    @property
    def uses_oauth(self) -> bool:
        """Whether we log in by a token."""
        return self.uses_sasl and self.sasl_mechanism == "OAUTHBEARER"

    def problems(self) -> list[str]:
        return [*_login_problems(self), *_certificate_problems(self), *_unused_problems(self)]


def _login_problems(kafka: KafkaSettings) -> list[str]:
    """What is missing for the login by SASL."""
    if not kafka.uses_sasl:
        return []
    mechanism = f"KAFKA_SASL_MECHANISM={kafka.sasl_mechanism}"
    needed = (
        {
            "KAFKA_OAUTH_TOKEN_ENDPOINT_URL": kafka.oauth_token_endpoint_url,
            "KAFKA_OAUTH_CLIENT_ID": kafka.oauth_client_id,
            "KAFKA_OAUTH_CLIENT_SECRET": kafka.oauth_client_secret.get_secret_value(),
        }
        if kafka.uses_oauth
        else {
            "KAFKA_SASL_USERNAME": kafka.sasl_username,
            "KAFKA_SASL_PASSWORD": kafka.sasl_password.get_secret_value(),
        }
    )
    return [
        f"{variable} is not set: {mechanism} needs it; set {variable} or {variable}_FILE"
        for variable, value in needed.items()
        if not value.strip()
    ]


def _certificate_problems(kafka: KafkaSettings) -> list[str]:
    """What is wrong with the files of the certificates. Reads them."""
    problems = []
    for variable, path in {
        "KAFKA_SSL_CA_LOCATION": kafka.ssl_ca_location,
        "KAFKA_OAUTH_CA_LOCATION": kafka.oauth_ca_location,
    }.items():
        if path and (fault := ca_fault(path)):
            problems.append(
                f"{variable}={path} cannot be used: {fault}; name a PEM file of CA certificates "
                "that this process may read"
            )
    certificate, key = kafka.ssl_certificate_location, kafka.ssl_key_location
    if certificate and not key:
        problems.append(
            "KAFKA_SSL_CERTIFICATE_LOCATION is set without KAFKA_SSL_KEY_LOCATION: set it to the "
            "file of the certificate's private key"
        )
    elif key and not certificate:
        problems.append(
            "KAFKA_SSL_KEY_LOCATION is set without KAFKA_SSL_CERTIFICATE_LOCATION: set it to the "
            "file of our certificate, or remove the key"
        )
    elif certificate and (
        fault := certificate_fault(certificate, key, kafka.ssl_key_password.get_secret_value())
    ):
        problems.append(
            f"KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION cannot be used: {fault}"
        )
    return problems


def _unused_problems(kafka: KafkaSettings) -> list[str]:
    """Settings of a protocol that KAFKA_SECURITY_PROTOCOL does not use: a slip, and no protection.

    A CA file alone is no slip: it may be set for all environments.
    """
    problems = []
    protocol = f"KAFKA_SECURITY_PROTOCOL={kafka.security_protocol}"
    if kafka.ssl_certificate_location and not kafka.uses_tls:
        problems.append(
            f"KAFKA_SSL_CERTIFICATE_LOCATION is set, and {protocol} does not use it: set "
            "KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL, or remove the certificate"
        )
    if kafka.sasl_mechanism == "OAUTHBEARER" and not kafka.uses_sasl:
        problems.append(
            f"KAFKA_SASL_MECHANISM=OAUTHBEARER is set, and {protocol} does not log in: set "
            "KAFKA_SECURITY_PROTOCOL=SASL_SSL, or remove the mechanism"
        )
    elif kafka.oauth_token_endpoint_url and not kafka.uses_oauth:
        problems.append(
            f"KAFKA_OAUTH_TOKEN_ENDPOINT_URL is set, and {protocol} with "
            f"KAFKA_SASL_MECHANISM={kafka.sasl_mechanism} does not use it: set "
            "KAFKA_SECURITY_PROTOCOL=SASL_SSL and KAFKA_SASL_MECHANISM=OAUTHBEARER, or remove it"
        )
    if kafka.sasl_username and not kafka.uses_sasl:
        problems.append(
            f"KAFKA_SASL_USERNAME is set, and {protocol} does not use it: set "
            "KAFKA_SECURITY_PROTOCOL to SASL_SSL, or remove the user name"
        )
    return problems


class ProcessSettings(SettingsGroup):
    """Settings that every stage has."""

    prefix = "OPS"
    listen: Address = Field(
        "0.0.0.0:9100",
        description="host:port of /metrics, /livez and /readyz; must not be reachable from the "
        "internet",
    )
    log_format: Literal["json", "console"] = Field("json", description="json or console")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error"
    )


class NylasSettings(SettingsGroup):
    """The Nylas application."""

    prefix = "NYLAS"
    api_url: str = Field(
        "https://api.us.nylas.com",
        description="URL of the Nylas API; https://api.eu.nylas.com for an application in Europe",
    )
    api_key: SecretStr = Field(SecretStr(""), description="API key of the application")
    client_id: str = Field(
        "",
        description="client ID of the application; with NYLAS_REDIRECT_URI, for the links by which "
        "people sign in again",
    )
    redirect_uri: str = Field(
        "",
        description="callback URI of the application: of the program with which people connected "
        "their mailboxes, which completes a new sign-in as it did the first",
    )
    webhook_secrets: SecretList = Field(
        (),
        description="signing secret of the webhook; the new and the old one during a rotation",
    )
    sources: Listed = Field(
        ("address_book",),
        description="sources of the contacts to sync, out of address_book, inbox and domain",
    )


class BridgeSettings(SettingsGroup):
    """The webhook server."""

    prefix = "BRIDGE"
    listen: Address = Field("0.0.0.0:8080", description="host:port of the webhook server")
    body_limit: int = Field(
        2 * 1024 * 1024,
        # A lower limit would answer 413 to a real notification, which Nylas then never repeats.
        ge=LARGEST_NOTIFICATION,
        # The topics take records of up to 3 MB.
        le=5 * 512 * 1024,
        description="largest notification that is accepted, in bytes, both compressed and "
        "uncompressed; Nylas sends up to 1 MB plus an envelope",
    )
    accept_test_events: bool = Field(
        False,
        description="accept test events, which Nylas signs with a publicly known secret",
    )


class ReaderSettings(SettingsGroup):
    """Reading address books."""

    prefix = "READER"
    concurrent_grants: int = Field(
        4, ge=1, le=64, description="address books that are read at the same time"
    )
    max_lag: int = Field(
        20_000,
        ge=1,
        description="records; backfills and reconciles wait while dedupe or the sink lags by more, "
        "so that live changes are not delayed",
    )
    reconcile_every: float = Field(
        86_400.0,
        ge=0,
        description="seconds between two scheduled reconciles of everything; 0 switches the "
        "schedule off",
    )
    max_delete_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of contacts, 0 to 1; a reconcile that would delete more of a grant, or "
        "more of all its grants, stops",
    )
    session_timeout: Positive = Field(
        10.0, description="seconds without a heartbeat after which a standby takes over"
    )


class DedupeSettings(SettingsGroup):
    """The Faust worker."""

    prefix = "DEDUPE"
    session_timeout: Positive = Field(
        10.0,
        # Faust does not start with a longer one than its request time-out, which is 90 seconds.
        le=90.0,
        description="seconds without a heartbeat after which another worker takes over; a worker "
        "without an answer from the broker for half of it publishes nothing until it has one",
    )
    standby_copies: int = Field(
        0,
        ge=0,
        le=2,
        description="other workers that keep a copy of each partition of the table in memory; with "
        "one, a takeover restores only what the copy has not read yet",
    )


class SalesforceSettings(SettingsGroup):
    """The org, its login and its limits."""

    prefix = "SALESFORCE"
    login_url: str = Field(
        "https://login.salesforce.com",
        description="URL for the login; the My Domain URL for client credentials, "
        "https://test.salesforce.com for a sandbox",
    )
    api_version: str = Field(
        "62.0", pattern=r"^\d{2,3}\.0$", description="version of the Salesforce REST API"
    )
    client_id: str = Field("", description="consumer key of the external client app")
    client_secret: SecretStr = Field(
        SecretStr(""), description="consumer secret of the app, for the client credentials flow"
    )
    username: str = Field("", description="user to log in, for the JWT bearer flow")
    private_key: SecretStr = Field(
        SecretStr(""), description="private key in PEM format, for the JWT bearer flow"
    )
    refresh_token: SecretStr = Field(
        SecretStr(""),
        description="token for the refresh token flow; if the app rotates it, "
        "SALESFORCE_REFRESH_TOKEN_STORE is needed",
    )
    refresh_token_store: OptionalPath = Field(
        None,
        description="file in which a rotated refresh token is kept; it is read before "
        "SALESFORCE_REFRESH_TOKEN, and every process with this login needs the same file",
    )
    audience: str = Field(
        "",
        description="audience of the JWT; derived from SALESFORCE_LOGIN_URL for production, "
        "sandboxes and scratch orgs",
    )
    mapping_file: OptionalPath = Field(
        None,
        description="TOML file that maps contact fields to Salesforce fields, instead of the seven "
        "default ones, and says which of them are written over what people typed",
    )
    mode: Literal["", "report-only", "fill-blanks", "enrich-only", "create-only", "mirror"] = Field(
        "",
        description="what is written until `contactstream mode set` says otherwise: report-only "
        "(nothing), fill-blanks (blanks of existing records), enrich-only (existing records), "
        "create-only (who is missing) or mirror (everything); without one the sink does not start "
        "against an org that it has not written to",
    )
    address_fields: Listed = Field(
        (),
        description="further email fields of the org's own, as `Contact.Personal_Email__c`; people "
        "are found by them, and they are never written. Only indexed ones are used",
    )
    account_domain_fields: Listed = Field(
        (),
        description="fields of Account that name mail domains besides Website, as "
        "`Email_Domains__c`; a field may hold several domains",
    )
    account_filter: Listed = Field(
        (),
        description="which Accounts count, as `Type=Customer` or "
        "`RecordType.DeveloperName=Customer`; values of one field are alternatives, and an Account "
        "has to fit every field",
    )
    account_contact_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the Contacts of a mail domain, above 0.5 to 1, that has to belong to "
        "one Account so that new people of the domain do too; read once a day. 0: Contacts are no "
        "evidence",
    )
    call_reserve: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the org's daily API calls, 0 to 1, that is left to other "
        "integrations",
    )
    max_calls_per_day: int = Field(
        0,
        ge=0,
        description="calls that the sink makes in a day (UTC); bulk runs stop at 80 % of them, and "
        "live changes at all of them; 0 for no limit but that of the org and its reserve",
    )
    longest_call: Positive = Field(
        600.0,
        description="seconds after which the org has ended every call; after a call without an "
        "answer, records are neither released nor taken over for so long. Salesforce ends calls "
        "after 600",
    )
    allow_save: bool = Field(
        True,
        description="save despite duplicate rules that only alert; rules that block always block",
    )


NO_OWN_DOMAINS = "none"
"""The entry of PEOPLE_OWN_DOMAINS with which no domain is an own one."""


class PeopleSettings(SettingsGroup):
    """Who is synced, and what may be done to their records."""

    prefix = "PEOPLE"
    mailboxes: Listed = Field(
        (),
        description="mailboxes that are synced, out of those connected with Nylas: addresses, "
        "globs like `*@sales.acme.com`, and `permission-set:API_NAME` for the users of a "
        "permission set in Salesforce; empty for all",
    )
    groups: Listed = Field(
        (),
        description="contact groups whose members are synced, by name or as globs like `Sales *`, "
        "in any case; empty for everybody. EWS has no groups, so that nobody of such a mailbox is",
    )
    excluded_groups: Listed = Field(
        (), description="contact groups whose members are not synced, by name or as globs"
    )
    on_group_leave: Literal["release", "keep"] = Field(
        "release",
        description="what happens to the record of a contact that leaves the synced groups, or "
        "joins an excluded one: release (what PEOPLE_ON_DELETE says of a deleted contact) or keep",
    )
    preset: Literal["", "business"] = Field(
        "",
        description="business: only people with an address at a company; the addresses of "
        "free-mail providers are neither written nor searched by, and whoever has no other one is "
        "left out",
    )
    own_domains: Listed = Field(
        (),
        description="domains of your own company; contacts with an address there are colleagues "
        "and are not synced; empty for those of the connected mailboxes, without free-mail "
        "providers; `none` for no domain",
    )
    excluded_addresses: Listed = Field((), description="addresses that are not synced")
    excluded_domains: Listed = Field(
        (), description="domains whose addresses are not synced, including their subdomains"
    )
    excluded_patterns: Listed = Field(
        (), description="addresses that are not synced, as globs like `*@*.gov.example`"
    )
    role_names: Listed = Field(
        (),
        description="further local parts of shared mailboxes, besides info, sales and the like, by "
        "whole words: `front-desk` covers front.desk and frontdesk; `!hello` removes one",
    )
    create: Literal["everything", "contacts", "leads", "nothing"] = Field(
        "everything",
        description="records that may be created: everything, contacts (only people of known "
        "Accounts), leads (whatever Accounts there are; they are not read) or nothing",
    )
    create_free_mail: bool = Field(
        True, description="create people who have only addresses of free-mail providers"
    )
    create_without_address: bool = Field(
        False, description="create people who have no email address"
    )
    lead_source: str = Field(
        "",
        max_length=255,
        description="LeadSource of created Leads, such as `Address book`; a mapping that has "
        "LeadSource comes first; empty leaves it to the org",
    )
    owner: Listed = Field(
        (),
        description="rules by which a created record gets its owner, the first that gives one: "
        "user (the Salesforce user with the address of the grant), account (of a Contact, the "
        "owner of its Account), configured (PEOPLE_OWNER_ID), assignment_rule (the org's, for "
        "Leads of live changes); empty, and where none gives one: the user of the sink",
    )
    owner_match: Literal["email", "username", "federation_identifier"] = Field(
        "email",
        description="field of a Salesforce user that the rule `user` compares with the address of "
        "the grant; a sandbox's `.invalid` is left out",
    )
    owner_id: str = Field(
        "",
        pattern=r"^((005|00G)[A-Za-z0-9]{12}([A-Za-z0-9]{3})?)?$",
        description="ID of the user or queue for the rule `configured`; a queue owns Leads only",
    )
    source_mailbox: bool = Field(
        False,
        description="fill the optional field Nylas_Source_Mailbox__c with the address of the "
        "address book; it shows everybody who sees the record whom a colleague knows",
    )
    on_delete: Literal["release", "flag", "keep"] = Field(
        "release",
        description="what happens to the record of a deleted contact: release (clear our key), "
        "flag (set a checkbox) or keep",
    )
    flag_field: str = Field(
        "", description="checkbox on Contact and Lead that PEOPLE_ON_DELETE=flag sets"
    )
    account_domains: Listed = Field(
        (),
        description="further domains of Accounts, as `acme.io=acme.com` or `acme.io=001...` (an "
        "Account ID); also for a subdomain, as `eu.acme.com=001...`",
    )
    suppression_list: OptionalPath = Field(
        None,
        description="deprecated: file with the salted hashes of people who must not be synced; "
        "`contactstream suppress` takes it into contactstream.suppression once",
    )

    @property
    def derives_own_domains(self) -> bool:
        """Whether the own domains are those of the connected mailboxes."""
        return not self.own_domains

    def problems(self) -> list[str]:
        """What in the lists cannot be used."""
        return (
            [
                f"PEOPLE_MAILBOXES: {problem}"
                for entry in self.mailboxes
                if (problem := problem_of(entry))
            ]
            + self._own_domain_problems()
            + self._group_problems()
            + self._preset_problems()
        )

    def _own_domain_problems(self) -> list[str]:
        named = {name.casefold() for name in self.own_domains}
        if NO_OWN_DOMAINS in named and self.own_domains != (NO_OWN_DOMAINS,):
            return [
                "PEOPLE_OWN_DOMAINS: `none` stands alone and in lower case, not among "
                f"{len(self.own_domains)} entries: remove it, or the domains"
            ]
        return []

    def _group_problems(self) -> list[str]:
        out = {name.casefold() for name in self.excluded_groups}
        return [
            f"PEOPLE_GROUPS and PEOPLE_EXCLUDED_GROUPS both name {name!r}: remove it from one"
            for name in self.groups
            if name.casefold() in out
        ]

    def _preset_problems(self) -> list[str]:
        if self.preset != "business":
            return []
        return [
            f"PEOPLE_{name.upper()}=true contradicts PEOPLE_PRESET=business: remove one of them"
            for name in ("create_free_mail", "create_without_address")
            if name in self.model_fields_set and getattr(self, name)
        ]


class SinkSettings(SettingsGroup):
    """The Salesforce writer."""

    prefix = "SINK"
    batch_size: int = Field(
        1000, ge=1, le=1000, description="contacts in a batch, which takes two Composite calls"
    )
    linger: Positive = Field(
        2.0,
        description="seconds that live changes gather at most while other batches are in flight; "
        "with none in flight they go at once, as long as SINK_LIVE_CALL_SHARE lasts",
    )
    live_call_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="share of the org's daily API calls, 0 to 1, that live changes may take in "
        "batches that are not full; the more of it is spent, the longer they gather",
    )
    bulk_linger: Positive = Field(
        10.0,
        description="seconds at most that an incomplete batch waits when all its changes come from "
        "a backfill, reconcile or replay; it goes earlier when the run is complete",
    )
    in_flight: int = Field(
        8,
        ge=1,
        le=20,
        description="batches that are written at the same time; Salesforce allows 25 long requests",
    )
    max_unfinished: int = Field(
        10_000,
        ge=1000,
        description="contacts whose changes are held at once, besides those that wait for a time "
        "of their own; at least one batch more than SINK_IN_FLIGHT",
    )
    max_held_bytes: int = Field(
        256 * 2**20,
        ge=16 * 2**20,
        description="memory of the changes that are held at once; the process takes some 200 MB "
        "more",
    )
    breaker_bulk_share: float = Field(
        0.01,
        gt=0,
        le=1,
        description="share of the contacts of bulk runs, 0 to 1; when more fail for one reason, of "
        "at least 500, backfills, reconciles and replays pause until an operator releases them",
    )
    breaker_all_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="share of all contacts, 0 to 1; when more fail for one reason, of at least "
        "500, or 1,000 fail in a row, nothing is written until an operator releases it",
    )
    # Creations: an address book that somebody keeps has some hundreds of people; more are a shared
    # directory, or a list that was imported by mistake. 10,000 records take 20 MB of the org's
    # storage, and are as many as a person can still look through and merge.
    creations_per_day: int = Field(
        10_000,
        ge=0,
        description="Contacts and Leads that are created in a day (UTC); people beyond it are held "
        "until an operator releases them (`contactstream held`); 0 for no limit",
    )
    creations_per_grant: int = Field(
        2000,
        ge=0,
        description="the same for the people of one mailbox; 0 for no limit",
    )
    # More than the address books of some hundred people drift in a day: a reconcile that replaces
    # more of them follows a changed mapping, or a directory that somebody overwrote.
    replaced_values_per_hour: int = Field(
        2000,
        ge=0,
        description="values that are not blank and that are replaced in an hour (UTC); what bulk "
        "runs would replace beyond it is held, live changes are not; 0 for no limit",
    )
    storage_share: float = Field(
        0.95,
        gt=0,
        le=1,
        description="share of the org's data storage, 0 to 1; when more is used, people who would "
        "be created are held; 1 for no limit. It is looked at after each 2,000 creations",
    )
    session_timeout: Positive = Field(
        10.0, description="seconds without a heartbeat after which a standby takes over"
    )


class ConsoleSettings(SettingsGroup):
    """The operators' web page."""

    prefix = "CONSOLE"
    listen: Address = Field(
        "127.0.0.1:8765",
        description="host:port of the page; another host than this machine needs CONSOLE_TOKEN or "
        "CONSOLE_IDENTITY_HEADER",
    )
    token: SecretStr = Field(
        SecretStr(""),
        description="what people type to get in, at least 16 characters; `generate` makes one at "
        "each start and prints it once",
    )
    hosts: Listed = Field(
        (),
        description="further names by which browsers reach the page, as in the address line, with "
        "the port if it is shown there",
    )
    identity_header: str = Field(
        "",
        pattern=r"^[A-Za-z0-9-]*$",
        description="header in which the proxy in front says who a person is; the token then only "
        "reads",
    )
    trusted_proxies: Listed = Field(
        (),
        description="addresses or networks of the proxies whose identity header counts, as "
        "10.1.0.0/16",
    )
    actors: Listed = Field(
        (),
        description="identities that may act, and not only read; `*` for everybody whom the proxy "
        "lets in",
    )
    prometheus_url: str = Field(
        "",
        description="URL of the Prometheus that has the history; without it the page keeps its own",
    )
    stages: Listed = Field(
        (),
        description="host:port of the operations ports of the stages, for their versions and for "
        "the history without Prometheus",
    )


class TracesSettings(SettingsGroup):
    """Traces of OpenTelemetry."""

    prefix = "TRACES"
    enabled: bool = Field(
        False,
        description="send traces to the collector of OTEL_EXPORTER_OTLP_ENDPOINT; needs the "
        "packages of `contactstream[traces]`",
    )
    ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="share of the traces that are kept, 0 to 1; one that came with a traceparent "
        "is kept or not as its sender decided",
    )


GroupT = TypeVar("GroupT", bound=SettingsGroup)


def load(group: type[GroupT], environ: Mapping[str, str] | None = None) -> GroupT:
    """Loads one group from the environment and the TOML file.

    Raises SettingsError, also for settings that cannot work together and for files that cannot be
    read.
    """
    environ = os.environ if environ is None else environ
    values = dict(_file_table(group, environ))
    for name in group.model_fields:
        variable = f"{group.prefix}_{name}".upper()
        if variable in environ:
            values[name] = environ[variable]
        elif f"{variable}_FILE" in environ:
            values[name] = _read_file(f"{variable}_FILE", environ[f"{variable}_FILE"])
    try:
        loaded = group.model_validate(values)
    except ValidationError as error:
        # pydantic's own text would print secrets.
        raise SettingsError(_explain(group, error)) from None
    if problems := loaded.problems():
        raise SettingsError("; ".join(problems))
    return loaded


def require_api_key(nylas: NylasSettings, environ: Mapping[str, str] | None = None) -> None:
    """Raises SettingsError when NYLAS_API_KEY is not set, before the first call to Nylas."""
    if nylas.api_key.get_secret_value().strip():
        return
    environ = os.environ if environ is None else environ
    file = environ.get("NYLAS_API_KEY_FILE", "")
    found = f"NYLAS_API_KEY_FILE={file} is empty" if file else "NYLAS_API_KEY is not set"
    raise SettingsError(
        f"{found}: create an API key in the dashboard of the Nylas application, in the region of "
        f"NYLAS_API_URL ({nylas.api_url}), and set NYLAS_API_KEY or NYLAS_API_KEY_FILE"
    )


def _file_table(group: type[SettingsGroup], environ: Mapping[str, str]) -> Mapping[str, Any]:
    path = environ.get("CONTACTSTREAM_CONFIG")
    if not path:
        return {}
    try:
        tables = tomllib.loads(_read_file("CONTACTSTREAM_CONFIG", path))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"CONTACTSTREAM_CONFIG={path} is not TOML: {error}") from error
    known = [each.prefix.lower() for each in GROUPS]
    if unknown := [f"[{name}]{_suggestion(name, known)}" for name in tables if name not in known]:
        raise SettingsError(f"CONTACTSTREAM_CONFIG={path} has unknown tables: {', '.join(unknown)}")
    table = tables.get(group.prefix.lower(), {})
    if not isinstance(table, dict):
        raise SettingsError(f"CONTACTSTREAM_CONFIG={path}: {group.prefix.lower()} must be a table")
    return table


def given_files(
    groups: Iterable[type[SettingsGroup]], environ: Mapping[str, str] | None = None
) -> list[str]:
    """The files that settings of these groups are read from, and those of Kafka's certificates.

    Neither the TOML file is among them, nor what SALESFORCE_REFRESH_TOKEN_STORE names. Raises
    SettingsError.
    """
    environ = os.environ if environ is None else environ
    found = []
    for group in groups:
        for name in group.model_fields:
            variable = f"{group.prefix}_{name}".upper()
            if variable not in environ and f"{variable}_FILE" in environ:
                found.append(environ[f"{variable}_FILE"])
    if KafkaSettings in groups:
        kafka = load(KafkaSettings, environ)
        found += [
            kafka.ssl_ca_location,
            kafka.ssl_certificate_location,
            kafka.ssl_key_location,
            kafka.oauth_ca_location,
        ]
    return [path for path in dict.fromkeys(found) if path]


def _read_file(variable: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}={path} cannot be read: {error}") from error


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def cannot_listen(variable: str, address: str, error: Exception) -> SettingsError:
    """The error for a server that cannot listen at the address of a setting."""
    return SettingsError(
        f"{variable}={address} cannot be used: {error}. "
        f"Each process on a machine needs its own port: set {variable} to a free port"
    )


def _explain(group: type[SettingsGroup], error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0])
        variable = f"{group.prefix}_{name}".upper()
        if problem["type"] == "extra_forbidden":
            removed = REMOVED_SETTINGS.get(variable)
            hint = f": {removed}" if removed else _suggestion(name, group.model_fields)
            lines.append(f"[{group.prefix.lower()}] has no setting {name}{hint}")
        else:
            description = group.model_fields[name].description
            meaning = f" ({description})" if description else ""
            lines.append(f"{variable}: {problem['msg']}{meaning}")
    return "; ".join(lines)


GROUPS: tuple[type[SettingsGroup], ...] = (
    KafkaSettings,
    ProcessSettings,
    NylasSettings,
    BridgeSettings,
    ReaderSettings,
    DedupeSettings,
    SalesforceSettings,
    PeopleSettings,
    SinkSettings,
    ConsoleSettings,
    TracesSettings,
)


# Settings of earlier versions that have no successor, with what to do instead.
REMOVED_SETTINGS = {
    "PEOPLE_OVERWRITE_OTHERS": "what people typed stays in every record, whoever created it; for a "
    'field that has to mirror the contact set policy = "always" in SALESFORCE_MAPPING_FILE',
}

# Kubernetes sets these in every container for a service that is called `sink` or `kafka`.
_SERVICE_VARIABLE = re.compile(r"[A-Z0-9]+_(SERVICE_(HOST|PORT.*)|PORT(_\d+_.*)?)")


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """A line for each variable that has one of our prefixes but is not a setting.

    It may be misspelt, or belong to another program (`KAFKA_HEAP_OPTS`). Its value is not shown.
    """
    known = {
        f"{group.prefix}_{name}{end}".upper()
        for group in GROUPS
        for name in group.model_fields
        for end in ("", "_FILE")
    } | {"CONTACTSTREAM_CONFIG"}
    prefixes = (*(f"{group.prefix}_" for group in GROUPS), "CONTACTSTREAM_")
    return [
        f"{variable} is not a setting{_suggestion(variable, known)}"
        if variable not in REMOVED_SETTINGS
        else f"{variable} was removed: {REMOVED_SETTINGS[variable]}"
        for variable in sorted(os.environ if environ is None else environ)
        if variable.startswith(prefixes)
        and variable not in known
        and not _SERVICE_VARIABLE.fullmatch(variable)
    ]


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """A setting of this process for a person. No secret is in it."""

    variable: str
    value: str
    """Of a secret: whether there is one."""
    origin: str
    """`default`, or where it was given."""


def shown_settings(environ: Mapping[str, str] | None = None) -> list[ShownSetting]:
    """Every setting with its origin, in the order of the documentation.

    The settings of a group that cannot be used are left out: `doctor` names them.
    """
    environ = os.environ if environ is None else environ
    shown = []
    for group in GROUPS:
        try:
            loaded = load(group, environ)
            in_file = _file_table(group, environ)
        except SettingsError:
            continue
        for name in group.model_fields:
            variable = f"{group.prefix}_{name}".upper()
            origin = "default"
            if variable in environ:
                origin = "environment"
            elif f"{variable}_FILE" in environ:
                origin = f"file {environ[f'{variable}_FILE']}"
            elif name in in_file:
                origin = f"file {environ['CONTACTSTREAM_CONFIG']}"
            shown.append(ShownSetting(variable, _shown(getattr(loaded, name)), origin))
    return shown


# The password in an address such as https://user:password@host.
_PASSWORD = re.compile(r"(://[^/@\s]*:)[^/@\s]*@")


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return "set (hidden)" if value.get_secret_value() else ""
    if isinstance(value, tuple):
        secret = bool(value) and isinstance(value[0], SecretStr)
        return f"{len(value)} set (hidden)" if secret else ", ".join(map(str, value))
    return "" if value is None else _PASSWORD.sub(r"\1…@", str(value))


def reference() -> str:
    """A Markdown table of every setting, for the documentation."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for group in GROUPS:
        for name, field in group.model_fields.items():
            default = field.default
            if isinstance(default, SecretStr) or default in ("", (), None):
                shown = ""
            else:
                shown = f"`{','.join(default) if isinstance(default, tuple) else default}`"
            lines.append(f"| `{group.prefix}_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines)
