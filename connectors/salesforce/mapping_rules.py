"""The mapping: which value of a Nylas contact goes to which field of a Contact or Lead."""

import hashlib
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import orjson

from connectors.salesforce.field_paths import Json, top_level_field

Scalar = str | bool | int | float

# a path of its own: which address is the primary one depends on the exclusions as well
PRIMARY_ADDRESS = "primary_address"
# needed to identify and route a contact, mapped or not
ALWAYS_READ = ("emails", "given_name", "source", "surname")


class FieldPolicy(StrEnum):
    """When a mapped value may be written over the value in Salesforce."""

    # over the value that we left there; what people and other systems wrote stays
    OVERWRITE = "overwrite"
    # over any value, so that the field mirrors the contact
    ALWAYS = "always"
    # only if the field is blank and we never wrote it
    FILL = "fill"
    # only when the record is created: the default for constants
    CREATE = "create"


@dataclass(frozen=True, slots=True)
class Rule:
    """The mapping of one Salesforce field: the first path with a value, or a constant."""

    field: str
    paths: tuple[str, ...] = ()
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
    """The rules of both objects.

    By default they map the seven standard fields: first and last name, email, phone, mobile phone,
    title and, on Leads, company (the company of a Contact is its Account). `hash` changes exactly
    when the rules do, except by `with_lead_source`. `reads` are the top-level fields of a Nylas
    contact that decide what is written.
    """

    contact: tuple[Rule, ...] = STANDARD_CONTACT
    lead: tuple[Rule, ...] = STANDARD_LEAD
    hash: str = field(init=False)
    reads: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        rules = {"Contact": _hashable(self.contact), "Lead": _hashable(self.lead)}
        text = orjson.dumps(rules)
        object.__setattr__(self, "hash", hashlib.blake2b(text, digest_size=8).hexdigest())
        mapped = {
            top_level_field(path) for rule in (*self.contact, *self.lead) for path in rule.paths
        }
        reads = mapped.difference({PRIMARY_ADDRESS}).union(ALWAYS_READ)
        object.__setattr__(self, "reads", tuple(sorted(reads)))

    def rules(self, sobject: str) -> tuple[Rule, ...]:
        return self.contact if sobject == "Contact" else self.lead

    def projection(self, contact: Json) -> dict[str, Any]:
        """The part of a contact that is read; absent, null, "" and [] are the same."""
        return {name: value for name in self.reads if (value := contact.get(name))}


def with_lead_source(mapping: FieldMapping, source: str) -> FieldMapping:
    """The mapping that also gives created Leads this LeadSource; unchanged where it maps one.

    It keeps the hash: what Leads are created with does not make a contact news, and an org's
    contacts are not sent again when the source changes.
    """
    if not source or any(rule.field == "LeadSource" for rule in mapping.lead):
        return mapping
    rule = Rule("LeadSource", policy=FieldPolicy.CREATE, constant=source)
    made = replace(mapping, lead=(*mapping.lead, rule))
    object.__setattr__(made, "hash", mapping.hash)
    return made


def _hashable(rules: tuple[Rule, ...]) -> list[dict[str, Any]]:
    """The rules in the form that is hashed; the order and the names of the entries are part of it.

    Stored fingerprints contain the hash, so another form would send every contact once more.
    """
    return [
        {
            "field": rule.field,
            "sources": rule.paths,
            "policy": rule.policy,
            "constant": rule.constant,
        }
        for rule in rules
    ]
