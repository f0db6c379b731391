"""Who is in the demo and what happens to whom: address books, what the org knows of them, and a
working day in notifications.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.nylas.simulator.people import address_books

API_KEY = "nyk_demo"
# Nylas waits five minutes; on a machine so busy that the bridge answers 503, nobody wants to
RETRY_SECONDS = 1.0
# Nylas waits 10 s for an answer, and the bridge gives one within 8 s of a processor that it may
# have to wait for
ANSWER_SECONDS = 60.0
ORG_LATENCY_MS, ORG_ROW_MS = 150, 2  # what a call of a real org takes, and each row that it writes

Contact = Mapping[str, Any]


def worlds(people: int, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the stand-ins hold at first: three address books, and an org that knows some of the
    people already.

    Of those that the org knows, some are Contacts, some Leads, some Leads that were converted into
    a Contact which has another address by now; some are written in capitals.
    """
    choose = random.Random(seed)
    books = {
        "api_key": API_KEY,
        "settings": {"retry_delay": RETRY_SECONDS, "timeout": ANSWER_SECONDS},
        **address_books(seed, people),
    }
    contacts = everyone(books)
    companies = sorted(
        {domain_of(contact) for contact in contacts if contact.get("company_name")} - {""}
    )
    accounts = [
        {
            "Id": salesforce_id("001", number),
            "Name": domain.partition(".")[0].title(),
            "Website": f"https://www.{domain}/",
        }
        for number, domain in enumerate(companies[::2])
    ]
    account_of = {
        domain: account["Id"] for domain, account in zip(companies[::2], accounts, strict=True)
    }
    org: dict[str, Any] = {
        "settings": {"latency_ms_call": ORG_LATENCY_MS, "latency_ms_row": ORG_ROW_MS},
        "accounts": accounts,
        "contacts": [],
        "leads": [],
    }
    seen: set[str] = set()
    for number, contact in enumerate(choose.sample(contacts, k=len(contacts) // 5)):
        if not (addresses := addresses_of(contact)) or addresses[0] in seen:
            continue
        seen.add(addresses[0])
        name = {"LastName": contact.get("surname") or "Unknown"}
        record = name | {"Email": addresses[0].upper() if number % 3 == 0 else addresses[0]}
        account = account_of.get(domain_of(contact))
        if account is None or number % 10 == 0:
            org["leads"].append(record | {"Company": contact.get("company_name") or "Unknown"})
        elif number % 10 == 5:
            became = {
                "Id": salesforce_id("003", number),
                "AccountId": account,
                "Email": f"moved-{number}@old.example",
            }
            org["contacts"].append(name | became)
            converted = {
                "IsConverted": True,
                "Status": "Closed - Converted",
                "ConvertedContactId": became["Id"],
            }
            org["leads"].append(
                record
                | {"Company": contact["company_name"], "ConvertedAccountId": account}
                | converted
            )
        else:
            org["contacts"].append(record | {"AccountId": account})
    return books, org


def everyone(books: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The contacts of all address books, as a notification names them."""
    return [
        contact | {"grant_id": grant["id"], "object": "contact"}
        for grant in books["grants"]
        for contact in grant["contacts"]
    ]


def addresses_of(contact: Contact) -> list[str]:
    """A contact's addresses in their order, in lower case."""
    return [str(email["email"]).lower() for email in contact.get("emails") or ()]


def domain_of(contact: Contact) -> str:
    """The domain of a contact's first address, or nothing."""
    return next(iter(addresses_of(contact)), "").rpartition("@")[2]


def salesforce_id(prefix: str, number: int) -> str:
    """A 15-character record ID."""
    return f"{prefix}{number:012d}"


@dataclass(frozen=True, slots=True)
class Cast:
    """To whom something happens; nobody has two parts.

    `gone` and `ours` are in no other book, so that each owns its record: it is released with its
    contact, and never by another. Of `ours` the org learns from us alone, so that the title that it
    has there is ours to change.
    """

    ours: Sequence[Contact]
    changed: Sequence[Contact]
    noted: Sequence[Contact]
    gone: Sequence[Contact]


def cast(books: Mapping[str, Any], org: Mapping[str, Any], seed: int) -> Cast:
    """Who plays which part. In small address books some parts are smaller."""
    choose = random.Random(seed + 1)
    contacts = everyone(books)
    choose.shuffle(contacts)
    holders = Counter(address for contact in contacts for address in set(addresses_of(contact)))
    known = {
        str(record.get("Email", "")).lower()
        for name in ("contacts", "leads")
        for record in org[name]
    }
    alone = [
        one
        for one in contacts
        if (own := addresses_of(one)) and all(holders[address] == 1 for address in own)
    ]
    ours = [one for one in alone if known.isdisjoint(addresses_of(one))][:9]
    gone = [one for one in alone if one not in ours][:5]
    others = [one for one in contacts if one not in ours and one not in gone]
    return Cast(ours, changed=others[:31], noted=others[31:51], gone=gone)


@dataclass(frozen=True, slots=True)
class Story:
    """A working day: notifications by what they tell, in their order, and the titles that the org
    has to hold in the end.
    """

    chapters: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]
    titles: Mapping[str, str]
    """By contact key: of one who changed, and of some to whom something older came afterwards, or
    something forged.
    """


def story(parts: Cast, grant: str, now: int) -> Story:
    """What Nylas' stand-in is to send: `now` in seconds since the epoch, new people come to the
    book of `grant`.
    """

    def updated(contact: Contact, at: int, identity: str, **fields: Any) -> dict[str, Any]:
        return {
            "object": {**contact, **fields},
            "type": "contact.updated",
            "time": at,
            "id": identity,
        }

    def promoted() -> Iterator[dict[str, Any]]:
        for number, contact in enumerate([*parts.ours, *parts.changed]):
            told = updated(contact, now, f"promotion-{number}", job_title=f"Director {number}")
            yield told | {"gzip": number % 2 == 0}

    promotions = list(promoted())
    again = [{**one, "id": f"again-{one['id']}", "time": now + 1} for one in promotions[15:20]]
    notes = [
        updated(contact, now, f"note-{place}", notes="Met at the fair.")
        for place, contact in enumerate(parts.noted)
    ]
    older = [
        updated(contact, now - 30, f"older-{place}", job_title="Trainee")
        for place, contact in enumerate(parts.ours[1:])
    ]
    forged = [
        updated(contact, now + 2, f"forged-{place}", job_title="Mallory") | {"signature": "bad"}
        for place, contact in enumerate(parts.ours[-3:])
    ]
    strangers = [
        {"id": f"new-{number}", "grant_id": grant, "given_name": "Nora", "surname": f"Newman{number}", "object": "contact",
         "emails": [{"email": f"nora.newman{number}@newcomers.example", "type": "work"}], "company_name": "Newcomers"}
        for number in range(10)
    ]  # fmt: skip
    ids = [
        {"id": contact["id"], "grant_id": contact["grant_id"], "object": "contact"}
        for contact in parts.gone
    ]
    deleted = [
        {"object": one, "type": "contact.deleted", "time": now, "id": f"deletion-{place}"}
        for place, one in enumerate(ids)
    ]
    return Story(
        chapters=[
            ("change", promotions),
            ("exact duplicate", promotions[:15]),
            ("same content, new event", again),
            ("nothing that we map", notes),
            ("older after newer", older),
            ("bad signature", forged),
            (
                "new person",
                [updated(contact, now, f"new-{contact['id']}") for contact in strangers],
            ),
            ("deleted", deleted),
        ],
        titles={
            f"{one['grant_id']}/{one['id']}": f"Director {number}"
            for number, one in enumerate(parts.ours)
        },
    )
