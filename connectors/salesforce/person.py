"""A changed contact as a person to find in Salesforce: record key, name, addresses and target."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from connectors.salesforce.field_paths import clean
from connectors.salesforce.field_types import cut
from connectors.salesforce.field_values import is_fallback
from connectors.salesforce.names import PersonName
from connectors.salesforce.org_fields import MAX_KEY_LENGTH
from connectors.salesforce.routing import Addresses, Route

# What `person` reads of a contact besides `mapping_rules.ALWAYS_READ`.
PERSON_READS = ("company_name", "nickname", "suffix")
# Characters of FirstName and LastName of a Contact and of a Lead.
MAX_FIRST_NAME, MAX_LAST_NAME = 40, 80
# Record keys that are remembered: those of the batches in flight. Each is asked for several times.
MAX_REMEMBERED_KEYS = 32_768


@lru_cache(maxsize=MAX_REMEMBERED_KEYS)
def record_key(key: str) -> str:
    """The contact key as KEY_FIELD can hold it.

    A key that is too long, or that Salesforce would trim, is hashed and never cut. The grant stays
    readable, because two contacts of one address book are compared by name.
    """
    if (
        len(key) <= MAX_KEY_LENGTH
        and key == clean(key)
        and len(key.encode("utf-16-le")) <= 2 * MAX_KEY_LENGTH
    ):
        return key
    digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
    grant = clean(grant_of(key)) or ""
    return f"{grant}/sha256:{digest}" if len(grant) <= 100 else f"sha256:{digest}"


def grant_of(key: str) -> str:
    """The grant, and so the address book, that a contact key or a record key belongs to."""
    return key.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Person:
    """A changed contact with everything by which its record is found or created.

    `found_by` are its addresses, `target` is what it would be created as. `name` is empty where the
    contact has none, `company` is its company. `restore` are fields to write over anybody's value.
    """

    key: str
    version: int
    contact: Mapping[str, Any]
    found_by: Addresses
    target: Route
    record_key: str
    name: PersonName
    company: str | None = None
    restore: frozenset[str] = frozenset()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that may be used, the primary one first."""
        return self.found_by.usable

    def without(self, addresses: Collection[str]) -> "Person":
        """The same person with only the other addresses; `target` stays as it is."""
        kept = tuple(address for address in self.addresses if address not in addresses)
        return replace(self, found_by=replace(self.found_by, usable=kept))


def person(
    key: str, version: int, contact: Mapping[str, Any], found_by: Addresses, target: Route
) -> Person:
    """The person of a contact; `key` is the contact key."""
    name = _name(contact, found_by.usable)
    company = clean(contact.get("company_name"))
    return Person(key, version, contact, found_by, target, record_key(key), name, company)


def _name(contact: Mapping[str, Any], usable: tuple[str, ...]) -> PersonName:
    """The name by which the contact is compared, cut as Salesforce cuts it.

    A nickname in the contact is another first name. A suffix tells a father from his son.
    """
    first, last = clean(contact.get("given_name")), clean(contact.get("surname"))
    if last and not first and is_fallback("LastName", last, usable):
        last = None  # some address books make a missing name of the address
    first, last = first and cut(first, MAX_FIRST_NAME), last and cut(last, MAX_LAST_NAME)
    nickname, suffix = clean(contact.get("nickname")), clean(contact.get("suffix"))
    if first and nickname:
        first = f"{first} ({nickname})"
    if last and suffix:
        last = f"{last} {suffix}"
    return PersonName(first, last)
