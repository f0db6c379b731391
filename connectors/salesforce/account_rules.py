"""What of an Account says that a mail domain is its: the fields with domains, and a filter.

A setting names further fields with domains besides Website, and which Accounts count at all. Both
decide what is stored of each Account, so that a change of them makes every Account be read again.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from connectors.salesforce.domains import WEBSITE_RULES, website_host

# Of one Account, in all its fields together. Each takes 0.1 kB in memory.
MAX_FURTHER_HOSTS = 5
# Names of fields, of a parent's too: RecordType.DeveloperName.
_PATH = re.compile(r"[A-Za-z]\w*(?:\.[A-Za-z]\w*)?", re.ASCII)
_SEPARATORS = re.compile(r"[\s,;|]+")


class AccountEvidence(StrEnum):
    """Why a mail domain belongs to an Account; the values appear in outcomes."""

    WEBSITE = "website"  # it is the domain of the Account's Website
    DOMAIN_FIELD = "domain_field"  # a field of SALESFORCE_ACCOUNT_DOMAIN_FIELDS names it
    SETTING = "setting"  # PEOPLE_ACCOUNT_DOMAINS names it
    CONTACTS = "contacts"  # nearly all Contacts with such an address belong to the Account


class AccountRuleError(ValueError):
    """A setting about Accounts that cannot be used; the text names the value and the remedy."""


@dataclass(frozen=True, slots=True)
class AccountRules:
    """Which Accounts count, and which of their fields name mail domains.

    `conditions`: by field, the values of which an Account has to have one; case is ignored.
    """

    domain_fields: tuple[str, ...] = ()
    conditions: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields to query besides those that are always read."""
        return tuple(dict.fromkeys((*self.domain_fields, *self.conditions)))

    @property
    def fingerprint(self) -> str:
        """Changes whenever an Account may be stored differently than before."""
        conditions = [f"{name}={sorted(self.conditions[name])}" for name in sorted(self.conditions)]
        own = " ".join((*self.domain_fields, *conditions))
        return f"{WEBSITE_RULES} {own}" if own else WEBSITE_RULES

    def counts(self, account: Mapping[str, Any]) -> bool:
        """Whether an Account passes the filter; `account` is a row of a query."""
        return all(
            value_at(account, path).casefold() in wanted for path, wanted in self.conditions.items()
        )

    def further_hosts(self, account: Mapping[str, Any]) -> tuple[str, ...]:
        """The hosts that the domain fields of an Account name, each once, without its Website's."""
        website = website_host(account.get("Website"))
        known = {website.host} if website else set()
        found = dict.fromkeys(
            host.host
            for name in self.domain_fields
            for text in _parts(account.get(name))
            if (host := website_host(text)) and host.host not in known
        )
        return tuple(found)[:MAX_FURTHER_HOSTS]


NO_RULES = AccountRules()


def _parts(value: object) -> Iterator[str]:
    """The domains in a field, which may hold several; `@acme.com` is acme.com."""
    if isinstance(value, str):
        yield from (part.lstrip("@") for part in _SEPARATORS.split(value) if part.strip("@"))


def value_at(row: Mapping[str, Any], path: str) -> str:
    """The value of a field or of a parent's field as text; empty where there is none.

    A query nests the parent, a bulk query names the path.
    """
    value: Any = row.get(path)
    if value is None and "." in path:
        parent, _, name = path.partition(".")
        nested = row.get(parent)
        value = nested.get(name) if isinstance(nested, Mapping) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value).strip()


def parse_account_rules(domain_fields: Iterable[str], conditions: Iterable[str]) -> AccountRules:
    """The rules of the two settings. Raises AccountRuleError."""
    names = tuple(dict.fromkeys(name.strip().removeprefix("Account.") for name in domain_fields))
    for name in names:
        if "." in name or not _PATH.fullmatch(name):
            raise AccountRuleError(
                f"SALESFORCE_ACCOUNT_DOMAIN_FIELDS: {name!r} is no field of Account; name fields "
                "as Email_Domain__c"
            )
        if name == "Website":
            raise AccountRuleError(
                "SALESFORCE_ACCOUNT_DOMAIN_FIELDS: Website is read in any case: leave it out"
            )
    wanted: dict[str, set[str]] = {}
    for entry in conditions:
        path, equals, value = entry.partition("=")
        path = path.strip().removeprefix("Account.")
        if not equals or not value.strip() or not _PATH.fullmatch(path):
            raise AccountRuleError(
                f"SALESFORCE_ACCOUNT_FILTER: {entry!r} is not of the form Type=Customer or "
                "RecordType.DeveloperName=Customer"
            )
        wanted.setdefault(path, set()).add(value.strip().casefold())
    return AccountRules(names, {path: frozenset(values) for path, values in wanted.items()})
