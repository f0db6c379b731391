"""Decides by a contact's addresses whether it is a Contact, a Lead or left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from connectors.salesforce.account_rules import AccountEvidence
from connectors.salesforce.accounts import AccountDirectory
from connectors.salesforce.domains import is_free_mail
from connectors.salesforce.emails import (
    MAX_TYPED_LENGTH,
    addresses,
    domain,
    raw_addresses,
    valid_addresses,
)
from connectors.salesforce.exclusions import Exclusions
from connectors.salesforce.skip_reasons import SkipReason

# the source that Nylas itself reads where none is named
ADDRESS_BOOK = frozenset({"address_book"})
# by which one contact is looked up: more would fill a query, and no person has so many
MAX_ADDRESSES = 50


class Create(StrEnum):
    """Which records may be created."""

    EVERYTHING = "everything"
    CONTACTS = "contacts"
    # Leads only, whatever Accounts there are: for orgs that sell to people, or hide Account
    LEADS = "leads"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Creation:
    """Which people may be created; people who are in Salesforce already are not affected.

    `free_mail`: people with free-mail addresses only. `addressless`: contacts without an address.
    """

    create: Create = Create.EVERYTHING
    free_mail: bool = True
    addressless: bool = False

    @property
    def uses_accounts(self) -> bool:
        """Whether anything depends on the org's Accounts."""
        return self.create in (Create.EVERYTHING, Create.CONTACTS)


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses by which a contact is found and written.

    `usable` are valid and not excluded, the primary one first. A missing name is made of
    `fallback`. `present`: there is text in the contact's `emails`, valid or not.
    """

    usable: tuple[str, ...]
    fallback: str | None
    present: bool

    @property
    def primary(self) -> str | None:
        return self.usable[0] if self.usable else None


def admit(
    contact: Mapping[str, Any], exclusions: Exclusions, sources: frozenset[str] = ADDRESS_BOOK
) -> Addresses | SkipReason:
    """The addresses by which a contact is found and written, or why it is skipped.

    Never raises on JSON.
    """
    if _of_other_source(contact, sources):
        return SkipReason.SOURCE
    valid = addresses(contact)
    usable, skip = exclusions.usable(valid)
    if skip:
        return skip
    usable = usable[:MAX_ADDRESSES]
    if usable:
        return Addresses(usable, usable[0], present=True)
    raw = next(raw_addresses(contact), None)
    typed = raw if raw and "@" in raw and len(raw) <= MAX_TYPED_LENGTH else None
    return Addresses((), typed, raw is not None)


def skipped(
    contact: Mapping[str, Any], exclusions: Exclusions, sources: frozenset[str] = ADDRESS_BOOK
) -> SkipReason | None:
    """Why `admit` skips a contact; None if it does not. For who needs no more than that."""
    if _of_other_source(contact, sources):
        return SkipReason.SOURCE
    return exclusions.skipped(valid_addresses(contact))


def _of_other_source(contact: Mapping[str, Any], sources: frozenset[str]) -> bool:
    source = contact.get("source")
    return (
        isinstance(source, str)
        and bool(source)
        and source not in sources
        and source.lower() not in sources
    )


@dataclass(frozen=True, slots=True)
class Route:
    """The record that a person would be created as."""

    sobject: str
    account_id: str | None = None
    conflict: bool = False
    """Whether it goes without an Account because an address fits none of several for certain."""
    by: AccountEvidence | None = None
    """Why it is that Account."""


def route(found: Addresses, accounts: AccountDirectory) -> Route:
    """A Contact of the first Account that an address belongs to; without an Account a Lead.

    The primary address is asked first.
    """
    conflict = False
    for address in found.usable:
        match = accounts.find(domain(address))
        if match.account_id:
            return Route("Contact", match.account_id, by=match.by)
        conflict |= match.conflict
    return Route("Lead", conflict=conflict)


def may_create(found: Addresses, target: Route, creation: Creation) -> SkipReason | None:
    """Why a person who is not in Salesforce may not be created; None if it may."""
    if not found.present and not creation.addressless:
        return SkipReason.NO_ADDRESS
    if creation.create is Create.NOTHING or (
        creation.create is Create.CONTACTS and target.sobject != "Contact"
    ):
        return SkipReason.NOT_CREATED
    if (
        not creation.free_mail
        and found.usable
        and all(is_free_mail(domain(address)) for address in found.usable)
    ):
        return SkipReason.FREE_MAIL
    return None
