"""Synthetic people for demos and tests, deterministic by seed.

They work at fictional companies and have addresses in reserved domains only.

No network, no state, no part in the simulator's HTTP. Everything that looks like a person or a
company is combined from the lists here.
"""

from __future__ import annotations

import base64
import random
import unicodedata
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from connectors.nylas.simulator.providers import PROVIDERS, kept

Contact = dict[str, Any]


def _words(text: str, between: str | None = None) -> tuple[str, ...]:
    return tuple(" ".join(word.split()) for word in text.split(between))


GIVEN = _words(
    """
    Aaliyah Abigail Adrián Aisha Alejandro Amelia Amir Ana Anders Anna António Arjun Astrid
    Beatriz Benjamin Björn Camila Carlos Charlotte Chen Chloé Daniel Daria David Diego Elena Elif
    Emeka Emil Emma Erik Ethan Fatima Felix Fiona François Freya Gabriel Grace Hana Hannah Henrik
    Hiroshi Hugo Ibrahim Ines Ingrid Isabella Ivan Jack James Jana Javier Jonas José Julia Kai
    Karim Katarzyna Kenji Kofi Lara Lars Laura Leila Leo Lin Lucía Luka Lukas Magnus Malik Marco
    Maria Marta Mateo Maya Mei Mia Miguel Mila Mohammed Nadia Naomi Nikolai Noah Nora Olga Oliver
    Olivia Omar Oscar Paulo Pedro Petra Priya Rafael Raj Rosa Samir Sara Sebastian Sofia Søren
    Stefan Tariq Teresa Thomas Tomás Valentina Viktor Wei Yara Yuki Yusuf Zoe Zofia
    """
)
SURNAMES = _words(
    """
    Abdullah Adeyemi Agarwal Almeida Andersson Aydın Bakker Banerjee Barros Becker Bergström
    Bianchi Blanc Bondarenko Brennan Brown Castillo Chaudhry Chen Christensen Costa Cruz Dąbrowski
    Da_Silva De_Vries Delgado Desai Diaz Dubois Eklund Eriksen Fernández Ferrari Fischer
    Fitzgerald Fontaine Fraser García Gómez González Goldberg Grant Gupta Haddad Hansen Hashimoto
    Hayes Hernández Hoffmann Horvat Hughes Ibrahim Ito Ivanova Jackson Jansen Jensen Johansson
    Jung Kaplan Karlsson Kaur Keller Khan Kim Klein Kobayashi Koch Kovács Kowalski Kumar Lambert
    Larsen Laurent Le Lee Lehmann Li Lindberg Lopez MacDonald Mancini Martin Martínez Mbeki Mehta
    Mendes Meyer Mitchell Moreau Morgan Müller Murphy Nakamura Nguyen Nielsen Novak Nowak O'Brien
    O'Connor Okafor Olsen Osei Park Patel Pereira Petrov Pham Popescu Quinn Ramos Reyes Ricci
    Rossi Roux Ruiz Saito Sánchez Santos Schmidt Schneider Schröder Sharma Silva Singh Smith
    Sokolov Sørensen Svensson Taylor Teixeira Thompson Torres Tran Van_den_Berg Vargas Vasquez
    Wagner Walsh Wang Weber White Williams Wilson Wójcik Wright Wu Yamamoto Yılmaz Young Zhang
    Zimmermann
    """
)
FIRST_WORDS = _words(
    """
    Amber Anchor Aspen Atlas Aurora Baltic Beacon Birch Bluestone Bright Cedar Cinder Clear Cobalt
    Copper Coral Crescent Delta Eastgate Elm Ember Evergreen Falcon Fern Fjord Flint Forge
    Foxglove Garnet Glacier Granite Harbour Hazel Heron Highland Horizon Indigo Iron Ivory Jasper
    Juniper Keystone Lantern Larch Lighthouse Linden Lumen Maple Marble Meridian Mistral Monarch
    Moss Northern Oak Onyx Opal Orchard Osprey Paragon Pebble Pine Polar Prairie Quartz Quill
    Raven Redwood Ridge River Rowan Saffron Sage Sierra Silver Slate Solstice Sparrow Spruce
    Summit Sycamore Teal Thistle Timber Topaz Umber Union Vale Vertex Violet Walnut Westfield
    Willow Zephyr
    """
)
SECOND_WORDS = _words(
    """
    Advisory Aerospace Analytics Bank Biotech Brewing Building Capital Ceramics Chemicals Clinics
    Consulting Dental Design Energy Engineering Farms Films Foods Freight Furniture Games Health
    Homes Hotels Insurance Instruments Interiors Kitchens Labs Legal Logistics Marine Media Metals
    Mobility Motors Networks Optics Paper Partners Pharma Plastics Press Property Publishing Rail
    Recycling Research Robotics Roofing Security Shipping Software Solar Studios Systems Telecom
    Textiles Tools Toys Trading Travel Tyres Ventures Water Wind Works
    """
)
FORMS = ("", " Ltd", " Inc.", " GmbH", " AB", " S.A.", " BV", " & Co.")
TITLES = _words(
    """
    Account Executive, Accountant, Buyer, Chief Executive, Chief Financial Officer, Chief
    Operating Officer, Controller, Customer Success Manager, Data Analyst, Designer, Director of
    Sales, Engineer, Facilities Manager, Founder, General Counsel, Head of Marketing, Head of
    People, IT Manager, Managing Director, Office Manager, Operations Manager, Partner,
    Procurement Lead, Product Manager, Project Manager, Sales Manager, Senior Engineer, Solutions
    Architect, Supply Chain Manager, Treasurer, VP Engineering, VP Sales
    """,
    between=",",
)
# Numbers that no one is ever given: fictional ranges of the United States and the United Kingdom.
PHONES = ("+1 {0}-555-01{1:02}", "+44 20 7946 0{1:02}{2}")
CITIES = (
    ("Springfield", "US", "00001"),
    ("Hillvalley", "US", "00002"),
    ("Borchester", "UK", "BX1 1LT"),
    ("Entenhausen", "DE", "00003"),
)
PRIVATE_DOMAINS = ("mail.example", "post.example", "inbox.example")


@dataclass(frozen=True, slots=True)
class Company:
    """A fictional company and its domain, which is below a reserved name."""

    name: str
    domain: str


def companies(seed: int, n: int) -> list[Company]:
    """`n` companies, each with a domain of its own.

    Raises ValueError beyond what the word lists can tell apart.
    """
    pairs = [(first, second) for first in FIRST_WORDS for second in SECOND_WORDS]
    if n > len(pairs):
        raise ValueError(f"{n} companies asked for, there are names for {len(pairs)}")
    rng = random.Random(f"companies {seed}")
    return [
        Company(f"{first} {second}{rng.choice(FORMS)}", f"{first}-{second}.example".lower())
        for first, second in rng.sample(pairs, n)
    ]


def people(
    seed: int, n: int, provider: str = "google", at: Sequence[Company] | None = None
) -> list[Contact]:
    """`n` contacts of an address book as Nylas shows them, without the grant ID.

    No two share an ID or a first address.

    `at` are the companies that employ them (one for every eight people if not given); a tenth is
    employed nowhere. What a contact holds stays within what `provider` can hold.
    """
    rng = random.Random(f"people {seed} {provider}")
    employers = (
        companies(seed, max(1, min(n // 8, len(FIRST_WORDS) * len(SECOND_WORDS))))
        if at is None
        else list(at)
    )
    taken: set[str] = set()
    return [_person(rng, number, provider, employers, taken) for number in range(n)]


def books(seed: int, n: int, providers: Sequence[str], overlap: float = 0.1) -> list[list[Contact]]:
    """`n` contacts over one address book for each provider, as even as can be.

    `overlap` of each but the first are people of the first.

    A person of two books has the same name, company and first address in both, under another
    contact ID, as two colleagues know the same customer. Raises ValueError for an overlap that is
    not between 0 and 1.
    """
    if not 0 <= overlap <= 1:
        raise ValueError(f"overlap {overlap} is not between 0 and 1")
    sizes = [
        n // len(providers) + (number < n % len(providers)) for number in range(len(providers))
    ]
    employers = companies(seed, max(1, n // 8))
    everyone = people(seed, n, "google", employers)
    rng = random.Random(f"books {seed}")
    first, found, start = everyone[: sizes[0]], [], sizes[0]
    for number, (provider, size) in enumerate(zip(providers, sizes, strict=True)):
        shared = min(len(first), int(size * overlap)) if number else 0
        own = everyone[start : start + size - shared] if number else first
        start += size - shared if number else 0
        book = [*own, *rng.sample(first, shared)]
        found.append(
            [
                fitted(provider, {**one, "id": contact_id(rng, provider, index)})
                for index, one in enumerate(book)
            ]
        )
    return found


def address_books(seed: int, n: int) -> dict[str, Any]:
    """A world with `n` contacts in three grants of a team: Google, Microsoft and Yahoo.

    A tenth of the contacts is in two of the address books.
    """
    team = (("google", "Robin Vale"), ("microsoft", "Sasha Linden"), ("yahoo", "Toni Rowan"))
    filled = books(seed, n, [provider for provider, _ in team])
    return {
        "grants": [
            {
                "id": str(
                    uuid.UUID(
                        int=random.Random(f"grant {seed} {number}").getrandbits(128), version=4
                    )
                ),
                "email": f"{name.split()[0].lower()}@our-team.example",
                "name": name,
                "provider": provider,
                "created_at": 1_700_000_000 + number,
                "contacts": book,
            }
            for number, ((provider, name), book) in enumerate(zip(team, filled, strict=True))
        ]
    }


def fitted(provider: str, contact: Contact) -> Contact:
    """The contact cut to what the provider can hold."""
    rules = PROVIDERS[provider]
    cut = dict(contact)
    for name, limit in (
        ("emails", rules.emails),
        ("phone_numbers", rules.phones),
        ("physical_addresses", rules.addresses),
    ):
        if name in cut and limit is not None:
            cut[name] = cut[name][:limit]
    return kept(rules, cut)


def contact_id(rng: random.Random, provider: str, number: int) -> str:
    """An ID in the form of the provider, unique by `number`.

    Google IDs have a slash; Microsoft IDs are long and case-sensitive.
    """
    if provider == "google":
        return f"people/c{rng.randrange(10**12, 10**13)}{number:06}"
    if provider in ("microsoft", "ews"):
        return f"AAMkAG{base64.urlsafe_b64encode(rng.randbytes(48)).decode()}{number:06}="
    return f"{rng.getrandbits(96):024x}#{number:06}"


def _person(
    rng: random.Random, number: int, provider: str, employers: Sequence[Company], taken: set[str]
) -> Contact:
    given, surname = rng.choice(GIVEN), rng.choice(SURNAMES).replace("_", " ")
    company = rng.choice(employers) if employers and rng.random() < 0.9 else None
    domain = company.domain if company else rng.choice(PRIVATE_DOMAINS)
    local = rng.choice(
        (
            f"{_ascii(given)}.{_ascii(surname)}",
            f"{_ascii(given)[:1]}{_ascii(surname)}",
            _ascii(given),
        )
    )
    address = f"{local}@{domain}"
    if address in taken:
        address = f"{local}{number}@{domain}"
    taken.add(address)
    contact: Contact = {
        "id": contact_id(rng, provider, number),
        "object": "contact",
        "source": "address_book",
        "given_name": given,
        "surname": surname,
        "emails": [{"email": address, "type": "work" if company else "home"}],
    }
    if rng.random() < 0.15:
        private = f"{_ascii(given)}.{_ascii(surname)}{number}@{rng.choice(PRIVATE_DOMAINS)}"
        contact["emails"].append({"email": private, "type": "home"})
    if company:
        contact["company_name"] = company.name
        contact["job_title"] = rng.choice(TITLES)
    if rng.random() < 0.6:
        line = rng.choice(PHONES).format(
            rng.randrange(201, 990), rng.randrange(100), rng.randrange(10)
        )
        contact["phone_numbers"] = [{"number": line, "type": "work"}]
    if rng.random() < 0.3:
        city, country, code = rng.choice(CITIES)
        street = f"{rng.randrange(1, 200)} {rng.choice(FIRST_WORDS)} Street"
        contact["physical_addresses"] = [
            {
                "street_address": street,
                "city": city,
                "postal_code": code,
                "country": country,
                "type": "work",
            }
        ]
    if rng.random() < 0.1:
        contact["notes"] = "Met at the trade fair."
    return fitted(provider, contact)


def _ascii(name: str) -> str:
    """A name as the local part of an address: lower case, letters and digits of ASCII only."""
    replaced = name.lower().translate({ord("ø"): "o", ord("ł"): "l", ord("ı"): "i", ord("ß"): "ss"})
    plain = unicodedata.normalize("NFKD", replaced).encode("ascii", "ignore").decode()
    return "".join(letter for letter in plain if letter.isalnum())
