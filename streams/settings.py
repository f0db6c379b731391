"""What an operator can set: one frozen group for each concern, read once from the environment and a
TOML file.

A variable is the group's prefix and the field's name in capitals (`SINK_LINGER`, `NYLAS_API_KEY`).
Any variable may be given as a file instead (`NYLAS_API_KEY_FILE=/run/secrets/nylas`), which is how
secrets are meant to come. `CONTACTSTREAM_CONFIG` names a TOML file with a table for each group
(`[sink]`, `linger = 2.0`); the environment wins over it.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from connectors.nylas.webhook import LARGEST_NOTIFICATION


class SettingsError(ValueError):
    """A setting that cannot be used. The text names the variable, the value's fault and the remedy."""


def _listed(value: Any) -> Any:
    """`a, b` as it stands in an environment variable, or one a line as in a file."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.replace("\n", ",").split(",") if part.strip()]


def _unset_if_empty(value: Any) -> Any:
    """`SALESFORCE_MAPPING_FILE=` is no file, and not the present folder."""
    return None if value == "" else value


Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]
SecretList = Annotated[tuple[SecretStr, ...], BeforeValidator(_listed)]
Address = Annotated[str, Field(pattern=r"^\S*:\d{1,5}$")]
Positive = Annotated[float, Field(gt=0)]
OptionalPath = Annotated[Path | None, BeforeValidator(_unset_if_empty)]


class SettingsGroup(BaseModel):
    """A group of settings; frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    prefix: ClassVar[str]


class KafkaSettings(SettingsGroup):
    """The cluster, and what our topics in it are called."""

    prefix = "KAFKA"
    bootstrap_servers: str = Field("localhost:9092", description="host:port, comma-separated")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )
    sasl_username: str = Field("", description="the user of SASL")
    sasl_password: SecretStr = Field(SecretStr(""), description="its password")
    ssl_ca_location: str = Field(
        "", description="a file of CA certificates, instead of the system's"
    )
    topic_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="before every topic and group; set it for a second org in one cluster",
    )
    events_partitions: int = Field(
        4,
        ge=1,
        le=1000,
        description="of contacts.events: the most dedupe workers that can share it",
    )
    replication_factor: int = Field(
        3, ge=1, le=9, description="of the topics that `topics create` makes"
    )


class ProcessSettings(SettingsGroup):
    """What every process has."""

    prefix = "OPS"
    listen: Address = Field(
        "0.0.0.0:9100",
        description="host:port of /metrics, /livez and /readyz; never the public port",
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
        description="https://api.eu.nylas.com for an application in Europe",
    )
    api_key: SecretStr = Field(SecretStr(""), description="the application's API key")
    webhook_secrets: SecretList = Field(
        (), description="the webhook's secret, or old and new while it is rotated"
    )
    sources: Listed = Field(
        ("address_book",), description="which contacts are synced, of address_book, inbox, domain"
    )


class BridgeSettings(SettingsGroup):
    """The webhook's server."""

    prefix = "BRIDGE"
    listen: Address = Field("0.0.0.0:8080", description="host:port of the webhook")
    body_limit: int = Field(
        2 * 1024 * 1024,
        # less would answer 413 to a real one, which Nylas never sends again
        ge=LARGEST_NOTIFICATION,
        le=5 * 512 * 1024,  # the topics' records are of 3 MB at the most
        description="bytes of a notification, before and after inflation; Nylas sends up to 1 MB and an envelope",
    )
    accept_test_events: bool = Field(
        False, description="accept what Nylas signs with its public mock secret"
    )


class ReaderSettings(SettingsGroup):
    """Reading address books."""

    prefix = "READER"
    concurrent_grants: int = Field(
        4, ge=1, le=64, description="address books that are read side by side"
    )
    max_lag: int = Field(
        20_000,
        ge=1,
        description="records: bulk reading waits while dedupe and sink are further behind, so that live changes pass",
    )
    reconcile_every: float = Field(
        86_400.0,
        ge=0,
        description="seconds between two readings of everything; 0 leaves it to the command",
    )
    max_delete_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="of the contacts of a grant, or of a run: a reconcile that would delete more stops",
    )
    session_timeout: Positive = Field(10.0, description="seconds after which a standby takes over")


class DedupeSettings(SettingsGroup):
    """The Faust worker."""

    prefix = "DEDUPE"
    session_timeout: Positive = Field(
        10.0, description="seconds; a takeover waits this long, a fence is half of it"
    )


class SalesforceSettings(SettingsGroup):
    """The org, and what may be done there."""

    prefix = "SALESFORCE"
    login_url: str = Field(
        "https://login.salesforce.com",
        description="My Domain for client credentials; test.salesforce.com for a sandbox",
    )
    api_version: str = Field("62.0", pattern=r"^\d{2,3}\.0$", description="of the REST API")
    client_id: str = Field("", description="the consumer key of the external client app")
    client_secret: SecretStr = Field(
        SecretStr(""), description="its secret: the client credentials flow"
    )
    username: str = Field("", description="with private_key: the JWT bearer flow")
    private_key: SecretStr = Field(SecretStr(""), description="PEM; the JWT bearer flow")
    refresh_token: SecretStr = Field(
        SecretStr(""),
        description="the refresh token flow; a token that the app rotates is kept until the next start only",
    )
    audience: str = Field(
        "", description="of the JWT; follows from login_url for production and sandboxes"
    )
    mapping_file: OptionalPath = Field(
        None, description="TOML: which field goes where, instead of the seven standard ones"
    )
    call_reserve: float = Field(
        0.1, ge=0, lt=1, description="of the org's daily calls, the share that is left to others"
    )
    allow_save: bool = Field(
        True, description="save past duplicate rules that only alert; rules that block, block"
    )


class PeopleSettings(SettingsGroup):
    """Who is synced, and what may be done to their records."""

    prefix = "PEOPLE"
    own_domains: Listed = Field(
        (),
        description="our own domains: whoever has an address there is a colleague and is left out",
    )
    excluded_addresses: Listed = Field((), description="addresses that are passed over")
    excluded_domains: Listed = Field(
        (), description="domains that are passed over, with those below them"
    )
    excluded_patterns: Listed = Field(
        (), description="addresses that are passed over, as globs: `*@*.gov.example`"
    )
    role_names: Listed = Field(
        (),
        description="more names of functions beside info, sales and the like; `!hello` takes one away",
    )
    create: Literal["everything", "contacts", "nothing"] = Field(
        "everything",
        description="what may be created: everything, contacts (people of known Accounts) or nothing",
    )
    create_free_mail: bool = Field(
        True, description="create people whose only domains are free-mail ones"
    )
    create_without_address: bool = Field(False, description="create people without any address")
    overwrite_others: bool = Field(
        False,
        description="also overwrite records that other users created; otherwise only their blanks are filled",
    )
    on_delete: Literal["release", "flag", "keep"] = Field(
        "release",
        description="the record of a deleted contact: release (clear our key), flag (set a checkbox) or keep",
    )
    flag_field: str = Field("", description="the checkbox for on_delete=flag, on Contact and Lead")
    account_domains: Listed = Field(
        (),
        description="further domains of Accounts: `acme.io=acme.com` or `acme.io=001...` (an Account ID)",
    )
    suppression_list: OptionalPath = Field(
        None,
        description="the list of erased people, as salted hashes; `contactstream suppress FILE` adds to it",
    )


class SinkSettings(SettingsGroup):
    """The Salesforce writer."""

    prefix = "SINK"
    batch_size: int = Field(
        1000, ge=1, le=1000, description="contacts for a pair of Composite calls"
    )
    linger: Positive = Field(
        2.0, description="seconds that an incomplete batch with a live change waits for more"
    )
    bulk_linger: Positive = Field(
        10.0, description="the same for a batch of changes that were read in bulk"
    )
    in_flight: int = Field(
        8,
        ge=1,
        le=20,
        description="batches at work side by side; Salesforce allows 25 long requests",
    )
    max_uncommitted: int = Field(
        10_000, ge=1000, description="rows taken ahead of the oldest unfinished one"
    )
    session_timeout: Positive = Field(
        10.0, description="seconds; a standby takes over after this long"
    )


GroupT = TypeVar("GroupT", bound=SettingsGroup)


def load(group: type[GroupT], environ: Mapping[str, str] | None = None) -> GroupT:
    """One group, from the environment and the TOML file. Raises SettingsError."""
    environ = os.environ if environ is None else environ
    values = dict(_file_table(group, environ))
    for name in group.model_fields:
        variable = f"{group.prefix}_{name}".upper()
        if variable in environ:
            values[name] = environ[variable]
        elif f"{variable}_FILE" in environ:
            values[name] = _read(f"{variable}_FILE", environ[f"{variable}_FILE"])
    try:
        return group.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(group, error)) from None  # its own text would print secrets


def _file_table(group: type[SettingsGroup], environ: Mapping[str, str]) -> Mapping[str, Any]:
    path = environ.get("CONTACTSTREAM_CONFIG")
    if not path:
        return {}
    try:
        tables = tomllib.loads(_read("CONTACTSTREAM_CONFIG", path))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"CONTACTSTREAM_CONFIG={path} is not TOML: {error}") from error
    known = [each.prefix.lower() for each in GROUPS]
    if unknown := [f"[{name}]{_meant(name, known)}" for name in tables if name not in known]:
        raise SettingsError(f"CONTACTSTREAM_CONFIG={path} has unknown tables: {', '.join(unknown)}")
    table = tables.get(group.prefix.lower(), {})
    if not isinstance(table, dict):
        raise SettingsError(f"CONTACTSTREAM_CONFIG={path}: {group.prefix.lower()} must be a table")
    return table


def _read(variable: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}={path} cannot be read: {error}") from error


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def cannot_listen(variable: str, address: str, error: Exception) -> SettingsError:
    """The address of a port that cannot be had."""
    return SettingsError(
        f"{variable}={address} cannot be used: {error}. Processes on one machine need an address each: set {variable} to a free port"
    )


def _explain(group: type[SettingsGroup], error: ValidationError) -> str:
    lines = []
    for fault in error.errors(include_input=False, include_url=False):
        name = str(fault["loc"][0])
        variable = f"{group.prefix}_{name}".upper()
        if fault["type"] == "extra_forbidden":
            lines.append(
                f"[{group.prefix.lower()}] has no setting {name}{_meant(name, group.model_fields)}"
            )
        else:
            described = group.model_fields[name].description
            lines.append(f"{variable}: {fault['msg']}" + (f" ({described})" if described else ""))
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
)


_OF_A_SERVICE = re.compile(r"[A-Z0-9]+_(SERVICE_(HOST|PORT.*)|PORT(_\d+_.*)?)")
"""What Kubernetes sets in every container for a service that is called `sink` or `kafka`."""


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """A line for each variable that looks like one of ours and is none: misspelt, or another
    program's (`KAFKA_HEAP_OPTS`).
    """
    known = {
        f"{group.prefix}_{name}{end}".upper()
        for group in GROUPS
        for name in group.model_fields
        for end in ("", "_FILE")
    } | {"CONTACTSTREAM_CONFIG"}
    prefixes = (*(f"{group.prefix}_" for group in GROUPS), "CONTACTSTREAM_")
    return [
        f"{variable} is no setting{_meant(variable, known)}"
        for variable in sorted(os.environ if environ is None else environ)
        if variable.startswith(prefixes)
        and variable not in known
        and not _OF_A_SERVICE.fullmatch(variable)
    ]


def reference() -> str:
    """The table of every setting, in Markdown, as the README shows it."""
    lines = ["| variable | default | what it is |", "|---|---|---|"]
    for group in GROUPS:
        for name, field in group.model_fields.items():
            default = field.default
            if isinstance(default, SecretStr) or default in ("", (), None):
                shown = ""
            else:
                shown = f"`{','.join(default) if isinstance(default, tuple) else default}`"
            lines.append(f"| `{group.prefix}_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines)
