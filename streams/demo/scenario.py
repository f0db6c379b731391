"""The demo's data: address books, an org that knows some of the people, and live notifications."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.nylas.simulator.people import address_books

API_KEY = "nyk_demo"
# Between two deliveries of a notification that the bridge did not accept. Nylas waits for five
# minutes, which is too long for a demo on a machine so busy that the bridge answers 503.
REDELIVERY_SECONDS = 1.0
# For the bridge to answer. Nylas waits for 10 s and the bridge answers within 8 s, but on a busy
# machine it may wait longer than that for a processor.
WEBHOOK_TIMEOUT_SECONDS = 60.0
# The time of a call to a real org, and of each row that it writes.
ORG_CALL_MS, ORG_ROW_MS = 150, 2

Contact = Mapping[str, Any]


def initial_data(people: int, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The initial state of the two simulators: three address books, and an org.

    The org knows a fifth of the people already. Some are Contacts, some are Leads, and some are
    Leads that were converted into a Contact which has another address by now. A third of their
    addresses is in capitals.
    """
    choose = random.Random(seed)  # noqa: S311  chooses people, protects nothing
    books = {
        "api_key": API_KEY,
        "settings": {"retry_delay": REDELIVERY_SECONDS, "timeout": WEBHOOK_TIMEOUT_SECONDS},
        **address_books(seed, people),
    }
    contacts = all_contacts(books)
    companies = sorted({domain(one) for one in contacts if one.get("company_name")} - {""})
    account_domains = companies[::2]
    accounts = [
        {
            "Id": salesforce_id("001", number),
            "Name": company.partition(".")[0].title(),
            "Website": f"https://www.{company}/",
        }
        for number, company in enumerate(account_domains)
    ]
    account_ids = {
        company: account["Id"] for company, account in zip(account_domains, accounts, strict=True)
    }
    org: dict[str, Any] = {
        "settings": {"latency_ms_call": ORG_CALL_MS, "latency_ms_row": ORG_ROW_MS},
        "accounts": accounts,
        "contacts": [],
        "leads": [],
    }
    seen: set[str] = set()
    for number, contact in enumerate(choose.sample(contacts, k=len(contacts) // 5)):
        own = addresses(contact)
        if not own or own[0] in seen:
            continue
        seen.add(own[0])
        name = {"LastName": contact.get("surname") or "Unknown"}
        record = name | {"Email": own[0].upper() if number % 3 == 0 else own[0]}
        account = account_ids.get(domain(contact))
        if account is None or number % 10 == 0:
            org["leads"].append(record | {"Company": contact.get("company_name") or "Unknown"})
        elif number % 10 == 5:
            converted_into = {
                "Id": salesforce_id("003", number),
                "AccountId": account,
                "Email": f"moved-{number}@old.example",
            }
            org["contacts"].append(name | converted_into)
            conversion = {
                "Company": contact["company_name"],
                "ConvertedAccountId": account,
                "IsConverted": True,
                "Status": "Closed - Converted",
                "ConvertedContactId": converted_into["Id"],
            }
            org["leads"].append(record | conversion)
        else:
            org["contacts"].append(record | {"AccountId": account})
    return books, org


def webhook(url: str, secret: str) -> dict[str, Any]:
    """A part of the initial state of Nylas: a destination that answered its challenge already."""
    triggers = ["contact.updated", "contact.deleted"]
    return {"webhook": {"url": url, "secret": secret, "trigger_types": triggers}}


def all_contacts(books: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The contacts of all address books, in the form of a notification."""
    return [
        contact | {"grant_id": grant["id"], "object": "contact"}
        for grant in books["grants"]
        for contact in grant["contacts"]
    ]


def addresses(contact: Contact) -> list[str]:
    """The addresses of a contact in their order, in lower case."""
    return [str(email["email"]).lower() for email in contact.get("emails") or ()]


def domain(contact: Contact) -> str:
    """The domain of a contact's first address; empty without an address."""
    return next(iter(addresses(contact)), "").rpartition("@")[2]


def salesforce_id(prefix: str, number: int) -> str:
    """A 15-character record ID."""
    return f"{prefix}{number:012d}"


@dataclass(frozen=True, slots=True)
class Roles:
    """The contacts that notifications are sent about; no contact is in two of the lists.

    The addresses of `deleted` and `owned` are in no other contact. So each of them owns its record,
    which is released with its contact, and by no other contact.
    """

    owned: Sequence[Contact]
    """The org learns about these only from the first sync, so their title may be overwritten."""
    changed: Sequence[Contact]
    noted: Sequence[Contact]
    """Only their notes change, which no field mapping uses."""
    deleted: Sequence[Contact]


def assign_roles(books: Mapping[str, Any], org: Mapping[str, Any], seed: int) -> Roles:
    """Chooses the contacts of each role. Small address books make some of the lists shorter."""
    choose = random.Random(seed + 1)  # noqa: S311
    contacts = all_contacts(books)
    choose.shuffle(contacts)
    holders = Counter(address for contact in contacts for address in set(addresses(contact)))
    known_to_org = {
        str(record.get("Email", "")).lower()
        for name in ("contacts", "leads")
        for record in org[name]
    }
    unshared = [
        one
        for one in contacts
        if (own := addresses(one)) and all(holders[address] == 1 for address in own)
    ]
    owned = [one for one in unshared if known_to_org.isdisjoint(addresses(one))][:9]
    deleted = [one for one in unshared if one not in owned][:5]
    others = [one for one in contacts if one not in owned and one not in deleted]
    return Roles(owned, changed=others[:31], noted=others[31:51], deleted=deleted)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Live notifications, and what the org has to hold after them."""

    notifications: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]
    """Each kind of notification with its notifications, in the order of sending."""
    titles: Mapping[str, str]
    """The expected title of each `owned` contact, by contact key.

    To most of them something older, or something forged, is sent after the change of the title.
    """


def make_scenario(roles: Roles, grant: str, now: int) -> Scenario:
    """The notifications that the Nylas simulator sends.

    `now` is in seconds since the epoch; new contacts appear in the address book of `grant`.
    """
    promotions = [
        _updated(contact, now, f"promotion-{number}", job_title=f"Director {number}")
        | {"gzip": number % 2 == 0}
        for number, contact in enumerate([*roles.owned, *roles.changed])
    ]
    return Scenario(
        notifications=[
            ("change", promotions),
            ("exact duplicate", promotions[:15]),
            (
                "same content, new event",
                [{**one, "id": f"again-{one['id']}", "time": now + 1} for one in promotions[15:20]],
            ),
            (
                "no mapped field changed",
                [
                    _updated(contact, now, f"note-{number}", notes="Met at the fair.")
                    for number, contact in enumerate(roles.noted)
                ],
            ),
            (
                "older after newer",
                [
                    _updated(contact, now - 30, f"older-{number}", job_title="Trainee")
                    for number, contact in enumerate(roles.owned[1:])
                ],
            ),
            (
                "bad signature",
                [
                    _updated(contact, now + 2, f"forged-{number}", job_title="Mallory")
                    | {"signature": "bad"}
                    for number, contact in enumerate(roles.owned[-3:])
                ],
            ),
            (
                "new person",
                [
                    _updated(contact, now, f"new-{contact['id']}")
                    for contact in _new_contacts(grant, 10)
                ],
            ),
            (
                "deleted",
                [
                    _deleted(contact, now, f"deletion-{number}")
                    for number, contact in enumerate(roles.deleted)
                ],
            ),
        ],
        titles={
            f"{one['grant_id']}/{one['id']}": f"Director {number}"
            for number, one in enumerate(roles.owned)
        },
    )


def _updated(contact: Contact, at: int, event_id: str, **fields: Any) -> dict[str, Any]:
    """A notification that the contact changed; `fields` are its new values."""
    changed = {**contact, **fields}
    return {"object": changed, "type": "contact.updated", "time": at, "id": event_id}


def _deleted(contact: Contact, at: int, event_id: str) -> dict[str, Any]:
    identity = {"id": contact["id"], "grant_id": contact["grant_id"], "object": "contact"}
    return {"object": identity, "type": "contact.deleted", "time": at, "id": event_id}


def _new_contacts(grant: str, number_of_contacts: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"new-{number}",
            "grant_id": grant,
            "given_name": "Nora",
            "surname": f"Newman{number}",
            "object": "contact",
            "emails": [{"email": f"nora.newman{number}@newcomers.example", "type": "work"}],
            "company_name": "Newcomers",
        }
        for number in range(number_of_contacts)
    ]
