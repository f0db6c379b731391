"""What an operator can set: one frozen group for each concern, read once from the environment and a TOML file.

A variable is the group's prefix and the field's name in capitals (`SINK_LINGER`, `NYLAS_API_KEY`). Any variable may be given as
a file instead (`NYLAS_API_KEY_FILE=/run/secrets/nylas`), which is how secrets are meant to come. `CONTACTSTREAM_CONFIG` names a TOML
file with a table for each group (`[sink]`, `linger = 2.0`); the environment wins over it.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
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


Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]
SecretList = Annotated[tuple[SecretStr, ...], BeforeValidator(_listed)]
Address = Annotated[str, Field(pattern=r"^\S*:\d{1,5}$")]
Positive = Annotated[float, Field(gt=0)]


class Group(BaseModel):
    """A group of settings; frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    prefix: ClassVar[str]


class KafkaSettings(Group):
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
    ssl_ca_location: str = Field("", description="a file of CA certificates, instead of the system's")
    topic_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="before every topic and group; set it for a second org in one cluster",
    )
    events_partitions: int = Field(
        4, ge=1, le=1000, description="of contacts.events: the most dedupe workers that can share it"
    )
    replication_factor: int = Field(3, ge=1, le=9, description="of the topics that `topics create` makes")


class ProcessSettings(Group):
    """What every process has."""

    prefix = "OPS"
    listen: Address = Field(
        "0.0.0.0:9100", description="host:port of /metrics, /livez and /readyz; never the public port"
    )
    log_format: Literal["json", "console"] = Field("json", description="json or console")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")


class NylasSettings(Group):
    """The Nylas application."""

    prefix = "NYLAS"
    api_url: str = Field(
        "https://api.us.nylas.com", description="https://api.eu.nylas.com for an application in Europe"
    )
    api_key: SecretStr = Field(SecretStr(""), description="the application's API key")
    webhook_secrets: SecretList = Field((), description="the webhook's secret, or old and new while it is rotated")
    sources: Listed = Field(("address_book",), description="which contacts are synced, of address_book, inbox, domain")


class BridgeSettings(Group):
    """The webhook's server."""

    prefix = "BRIDGE"
    listen: Address = Field("0.0.0.0:8080", description="host:port of the webhook")
    body_limit: int = Field(
        2 * 1024 * 1024,
        ge=LARGEST_NOTIFICATION,  # less would answer 413 to a real one, which Nylas never sends again
        le=5 * 512 * 1024,  # the topics' records are of 3 MB at the most
        description="bytes of a notification, before and after inflation; Nylas sends up to 1 MB and an envelope",
    )
    accept_test_events: bool = Field(False, description="accept what Nylas signs with its public mock secret")


class ReaderSettings(Group):
    """Reading address books."""

    prefix = "READER"
    grants_at_once: int = Field(4, ge=1, le=64, description="address books that are read side by side")
    max_lag: int = Field(
        20_000,
        ge=1,
        description="records: bulk reading waits while dedupe and sink are further behind, so that live changes pass",
    )
    reconcile_every: float = Field(
        86_400.0, ge=0, description="seconds between two readings of everything; 0 leaves it to the command"
    )
    max_delete_share: float = Field(
        0.2, ge=0, le=1, description="of the contacts of a grant, or of a run: a reconcile that would delete more stops"
    )
    session_timeout: Positive = Field(10.0, description="seconds after which a standby takes over")


class DedupeSettings(Group):
    """The Faust worker."""

    prefix = "DEDUPE"
    session_timeout: Positive = Field(10.0, description="seconds; a takeover waits this long, a fence is half of it")


class SalesforceSettings(Group):
    """The org, and what may be done there."""

    prefix = "SALESFORCE"
    login_url: str = Field(
        "https://login.salesforce.com",
        description="My Domain for client credentials; test.salesforce.com for a sandbox",
    )
    api_version: str = Field("62.0", pattern=r"^\d{2,3}\.0$", description="of the REST API")
    client_id: str = Field("", description="the consumer key of the external client app")
    client_secret: SecretStr = Field(SecretStr(""), description="its secret: the client credentials flow")
    username: str = Field("", description="with private_key: the JWT bearer flow")
    private_key: SecretStr = Field(SecretStr(""), description="PEM; the JWT bearer flow")
    refresh_token: SecretStr = Field(SecretStr(""), description="the refresh token flow")
    audience: str = Field("", description="of the JWT; follows from login_url for production and sandboxes")
    mapping_file: Path | None = Field(
        None, description="TOML: which field goes where, instead of the seven standard ones"
    )


class PeopleSettings(Group):
    """Who is synced, and what may be done to their records."""

    prefix = "PEOPLE"
    own_domains: Listed = Field(
        (), description="our own domains: whoever has an address there is a colleague and is left out"
    )
    excluded_addresses: Listed = Field((), description="addresses that are passed over")
    excluded_domains: Listed = Field((), description="domains that are passed over, with those below them")
    excluded_patterns: Listed = Field((), description="addresses that are passed over, as globs: `*@*.gov.example`")
    create: Literal["everything", "contacts", "nothing"] = Field(
        "everything", description="what may be created: everything, contacts (people of known Accounts) or nothing"
    )
    create_free_mail: bool = Field(True, description="create people whose only domains are free-mail ones")
    create_addressless: bool = Field(False, description="create people without any address")
    overwrite_others: bool = Field(
        False, description="also overwrite records that other users created; otherwise only their blanks are filled"
    )
    on_delete: Literal["release", "flag", "keep"] = Field(
        "release", description="the record of a deleted contact: release (clear our key), flag (set a checkbox) or keep"
    )
    flag_field: str = Field("", description="the checkbox for on_delete=flag, on Contact and Lead")
    account_domains: Listed = Field(
        (), description="further domains of Accounts: `acme.io=acme.com` or `acme.io=001...` (an Account ID)"
    )
    suppression_list: Path | None = Field(None, description="the list of erased people, as salted hashes")


class SinkSettings(Group):
    """The Salesforce writer."""

    prefix = "SINK"
    batch_size: int = Field(1000, ge=1, le=1000, description="contacts for a pair of Composite calls")
    linger: Positive = Field(2.0, description="seconds that an incomplete batch with a live change waits for more")
    bulk_linger: Positive = Field(10.0, description="the same for a batch of changes that were read in bulk")
    in_flight: int = Field(
        8, ge=1, le=20, description="batches at work side by side; Salesforce allows 25 long requests"
    )
    max_ahead: int = Field(10_000, ge=1000, description="rows taken ahead of the oldest unfinished one")
    session_timeout: Positive = Field(10.0, description="seconds; a standby takes over after this long")


GroupT = TypeVar("GroupT", bound=Group)


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


def _file_table(group: type[Group], environ: Mapping[str, str]) -> Mapping[str, Any]:
    path = environ.get("CONTACTSTREAM_CONFIG")
    if not path:
        return {}
    try:
        table = tomllib.loads(_read("CONTACTSTREAM_CONFIG", path)).get(group.prefix.lower(), {})
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"CONTACTSTREAM_CONFIG={path} is not TOML: {error}") from error
    if not isinstance(table, dict):
        raise SettingsError(f"CONTACTSTREAM_CONFIG={path}: {group.prefix.lower()} must be a table")
    return table


def _read(variable: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}={path} cannot be read: {error}") from error


def _explain(group: type[Group], error: ValidationError) -> str:
    lines = []
    for fault in error.errors(include_input=False, include_url=False):
        name = str(fault["loc"][0])
        variable = f"{group.prefix}_{name}".upper()
        if fault["type"] == "extra_forbidden":
            close = difflib.get_close_matches(name, group.model_fields, n=1)
            lines.append(
                f"[{group.prefix.lower()}] has no setting {name}" + (f"; did you mean {close[0]}?" if close else "")
            )
        else:
            described = group.model_fields[name].description
            lines.append(f"{variable}: {fault['msg']}" + (f" ({described})" if described else ""))
    return "; ".join(lines)


GROUPS: tuple[type[Group], ...] = (
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
