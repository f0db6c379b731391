"""Which field of a Nylas contact goes to which field of a Contact or Lead, and the fingerprint of
what is read for it.
"""

import hashlib
import tomllib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from connectors.salesforce.field_paths import Json, MappingError, getter, top

Scalar = str | bool | int | float

PRIMARY_ADDRESS = (
    "primary_address"  # a source of its own: it depends on the exclusions, not on the contact alone
)
ALWAYS_READ = (
    "emails",
    "given_name",
    "source",
    "surname",
)  # identity and routing need them, mapped or not


class FieldPolicy(StrEnum):
    """What may happen to a value that stands in Salesforce."""

    OVERWRITE = "overwrite"
    FILL = "fill"  # only where Salesforce is blank
    CREATE = "create"  # only when we create the record: the default of constants


@dataclass(frozen=True, slots=True)
class Rule:
    """One Salesforce field: the first source that has a value, or a constant."""

    field: str
    sources: tuple[str, ...] = ()
    policy: FieldPolicy = FieldPolicy.OVERWRITE
    constant: Scalar | None = None


_PHONE = "phone_numbers[!*mobile,*fax,*pager].number"
_MOBILE = "phone_numbers[*mobile].number"
_COMMON = (
    Rule("FirstName", ("given_name",)),
    Rule("LastName", ("surname",)),
    Rule("Email", (PRIMARY_ADDRESS,)),
    Rule("Phone", (_PHONE,)),
    Rule("MobilePhone", (_MOBILE,)),
    Rule("Title", ("job_title",)),
)
STANDARD_CONTACT = _COMMON
STANDARD_LEAD = (*_COMMON, Rule("Company", ("company_name",)))


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """The rules of both objects. By default the seven standard fields: first and last name, email,
    phone, mobile phone, title and, on Leads, company (a Contact's company is its Account).

    `hash` names the rules: it changes exactly when a contact could be mapped otherwise. `reads` are
    the top-level fields of a Nylas contact that decide what is written.
    """

    contact: tuple[Rule, ...] = STANDARD_CONTACT
    lead: tuple[Rule, ...] = STANDARD_LEAD
    hash: str = field(init=False)
    reads: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        rules = {"Contact": self.contact, "Lead": self.lead}
        text = orjson.dumps(rules, option=orjson.OPT_SORT_KEYS)
        object.__setattr__(self, "hash", hashlib.blake2b(text, digest_size=8).hexdigest())
        tops = {top(source) for rule in (*self.contact, *self.lead) for source in rule.sources}
        object.__setattr__(
            self, "reads", tuple(sorted(tops.difference({PRIMARY_ADDRESS}).union(ALWAYS_READ)))
        )

    def rules(self, sobject: str) -> tuple[Rule, ...]:
        return self.contact if sobject == "Contact" else self.lead

    def projection(self, contact: Json) -> dict[str, Any]:
        """What is read of the contact; absent, null, "" and [] are the same."""
        return {name: value for name in self.reads if (value := contact.get(name))}


def fingerprint(mapping: FieldMapping, contact: Json) -> bytes:
    """16 bytes that are equal for two states of a contact exactly when the mapping sees no
    difference. Never raises on JSON.
    """
    seen = mapping.projection(contact)
    try:
        text = orjson.dumps(seen, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, an integer beyond 64 bits, nesting beyond 254
        text = b"\n".join(_portable(name, value) for name, value in seen.items())
    return hashlib.blake2b(mapping.hash.encode() + text, digest_size=16).digest()


def _portable(name: str, value: object) -> bytes:
    try:
        return f"{name}:{_canonical(value)}".encode(errors="surrogatepass")
    except RecursionError:
        return f"{name}:".encode()  # nested so deeply that nothing in it can be mapped


def _canonical(value: object) -> str:
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(f"{key!r}:{_canonical(value[key])}" for key in sorted(value, key=str))
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    return repr(value)


def load(path: Path) -> FieldMapping:
    """The mapping of a TOML file. Raises MappingError."""
    try:
        return parse(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise MappingError(f"{path}: {error}") from error


def parse(text: str) -> FieldMapping:
    """The standard fields, changed by a TOML text with the tables `contact` and `lead`. Raises
    MappingError.

    ```toml
    [contact]
    MailingCity = "physical_addresses[work].city"
    Birthdate = { from = "birthday", policy = "fill" }
    Department = { from = ["office_location", "company_name"] }
    LeadSource = { constant = "Address book" }
    Title = false                                     # not this one
    ```
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MappingError(f"the mapping is not TOML: {error}") from error
    if unknown := set(tables) - {"contact", "lead"}:
        raise MappingError(f"unknown table {sorted(unknown)[0]!r}: expected contact and lead")
    return FieldMapping(
        contact=_changed(STANDARD_CONTACT, tables.get("contact", {})),
        lead=_changed(STANDARD_LEAD, tables.get("lead", {})),
    )


def _changed(standard: tuple[Rule, ...], table: object) -> tuple[Rule, ...]:
    if not isinstance(table, dict):
        raise MappingError("contact and lead must be tables")
    rules = {rule.field: rule for rule in standard}
    for name, entry in table.items():
        if entry is False:
            rules.pop(name, None)
        else:
            rules[name] = _rule(name, entry, rules.get(name))
    return tuple(rules.values())


def _rule(name: str, entry: object, standard: Rule | None) -> Rule:
    if isinstance(entry, str | list):
        entry = {"from": entry}
    if not isinstance(entry, dict) or set(entry) - {"from", "policy", "constant"}:
        raise MappingError(
            f"{name}: expected a source, false, or a table of from, policy and constant"
        )
    constant, sources = entry.get("constant"), entry.get("from")
    if (constant is None) == (sources is None) and not (
        standard and sources is None and constant is None
    ):
        raise MappingError(f"{name}: either from or constant")
    if constant is not None and not isinstance(constant, Scalar):
        raise MappingError(f"{name}: a constant is text, a number, true or false")
    names = (
        (sources,)
        if isinstance(sources, str)
        else tuple(sources or (standard.sources if standard and not constant else ()))
    )
    for source in names:
        if not isinstance(source, str):
            raise MappingError(f"{name}: a source is text")
        getter(source)
    default = FieldPolicy.OVERWRITE if constant is None else FieldPolicy.CREATE
    try:
        policy = FieldPolicy(entry.get("policy", default))
    except ValueError:
        raise MappingError(f"{name}: policy must be one of {', '.join(FieldPolicy)}") from None
    return Rule(name, names, policy, constant)
