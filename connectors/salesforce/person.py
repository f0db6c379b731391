"""A changed contact as a person to find in Salesforce: record key, name, addresses and target."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.salesforce.field_paths import clean
from connectors.salesforce.field_types import cut
from connectors.salesforce.org_fields import MAX_KEY_LENGTH
from connectors.salesforce.routing import Addresses, Route


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


def comparable_name(first: str | None, last: str | None) -> str:
    """A full name as Salesforce cuts it, without case and repeated blanks."""
    return " ".join(f"{cut(first or '', 40)} {cut(last or '', 80)}".casefold().split())


@dataclass(frozen=True, slots=True)
class Person:
    """A changed contact with everything by which its record is found or created.

    `found_by` are its addresses, `target` is what it would be created as. `name` is comparable,
    and empty if the contact has none.
    """

    key: str
    version: int
    contact: Mapping[str, Any]
    found_by: Addresses
    target: Route
    record_key: str
    name: str

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that may be used, the primary one first."""
        return self.found_by.usable


def person(
    key: str, version: int, contact: Mapping[str, Any], found_by: Addresses, target: Route
) -> Person:
    """The person of a contact; `key` is the contact key."""
    name = comparable_name(clean(contact.get("given_name")), clean(contact.get("surname")))
    return Person(key, version, contact, found_by, target, record_key(key), name)
