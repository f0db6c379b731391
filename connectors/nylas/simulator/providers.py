"""Differences between providers: which changes are notified, how, and what contacts hold.

Sources: the OpenAPI description of the contact object, the SDK's WebhookTriggers docstring (Yahoo,
iCloud), the official command-line tool's contact poller (Google by poll, Microsoft at once). IMAP
and EWS are documented nowhere and play the silent part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Provider:
    """The rules of one provider.

    `emails` is the number of addresses that a contact may have (None: no limit known). `phones` is
    the number of phone numbers, for each type and in total. `groups`: whether there are contact
    groups, of which a contact may have `groups_of_contact` (None: no limit known).
    """

    notifies: bool
    source: str = ""
    polled: bool = False
    emails: int | None = None
    phones: int | None = None
    addresses: int | None = None
    typed_emails: bool = False
    sources: tuple[str, ...] = ("address_book", "inbox", "domain")
    several_sources: bool = False
    phone_filter: bool = True
    groups: bool = True
    groups_of_contact: int | None = None
    ends_with_null: bool = False


PROVIDERS: Mapping[str, Provider] = {
    "google": Provider(True, "/google/contacts/incremental", polled=True, typed_emails=True),
    "microsoft": Provider(
        True,
        "/microsoft/contacts/realtime",
        emails=3,
        phones=5,
        addresses=3,
        groups_of_contact=1,
        phone_filter=False,
        ends_with_null=True,
    ),
    "icloud": Provider(
        True,
        "/icloud/contacts/incremental",
        emails=1,
        phones=1,
        addresses=1,
        groups_of_contact=1,
        typed_emails=True,
        several_sources=True,
    ),
    "yahoo": Provider(False, emails=1, phones=1, addresses=1),
    "imap": Provider(
        False,
        emails=1,
        phones=1,
        addresses=1,
        groups_of_contact=1,
        typed_emails=True,
        several_sources=True,
    ),
    "ews": Provider(
        False,
        emails=3,
        phones=6,
        addresses=3,
        sources=("address_book", "domain"),
        groups=False,
        ends_with_null=True,
    ),
    # Grants without an address book, listed all the same.
    "virtual-calendar": Provider(False, sources=()),
    "zoom": Provider(False, sources=()),
    "nylas": Provider(False, sources=()),
}

_REST_ONLY = frozenset({"picture_url", "picture", "display_name", "metadata"})


def notified(contact: Mapping[str, Any]) -> dict[str, Any]:
    """The contact as a notification carries it: without the fields that only REST has."""
    return {name: value for name, value in contact.items() if name not in _REST_ONLY}


def excess(provider: Provider, contact: Mapping[str, Any]) -> str | None:
    """What the provider could not hold of this contact, in words, or None."""
    for field, limit in (
        ("emails", provider.emails),
        ("phone_numbers", provider.phones),
        ("physical_addresses", provider.addresses),
        ("groups", provider.groups_of_contact),
    ):
        values = contact.get(field)
        if limit is not None and isinstance(values, list) and len(values) > limit:
            return f"{field}: {len(values)} given, this provider holds {limit}"
    return None


def kept(provider: Provider, contact: Mapping[str, Any]) -> dict[str, Any]:
    """The contact as this provider stores it.

    Only Google, IMAP and iCloud keep the types of addresses.
    """
    stored = dict(contact)
    emails = stored.get("emails")
    if not provider.typed_emails and isinstance(emails, list):
        stored["emails"] = [
            {name: value for name, value in email.items() if name != "type"}
            if isinstance(email, dict)
            else email
            for email in emails
        ]
    return stored
