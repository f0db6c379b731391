"""Three address books and an org that knows some of the people, labelled with who is who.

No person is there twice, no two people are merged, and every person that could be found is found.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.simulator.schema import make_id
from tests.support.salesforce_org import SimulatedOrg, simulated_org

pytestmark = pytest.mark.slow

KEY = "Nylas_Contact_Id__c"
EMAILS = ("Email", "Nylas_Email_2__c", "Nylas_Email_3__c")
GRANTS = (
    "3f0e6c1a-8a51-4b6e-9c55-0d4f9d3a7b01",
    "7c2b9f44-15d6-4a7e-8b1f-6e5c2a9d8c02",
    "b81d3e70-92c4-4f0a-a3d7-1f6b8e4c5d03",
)
FIRST = ["Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Frances", "Ken", "Radia", "Tony"]
LAST = [
    "Lovelace",
    "Hopper",
    "Turing",
    "Dijkstra",
    "Liskov",
    "Knuth",
    "Allen",
    "Thompson",
    "Perlman",
    "Hoare",
]


@dataclass
class World:
    """The labelled data.

    `person_of` gives the person of each contact key, `known` the person of each record ID in the
    org, `families` the contact keys of people who share a mailbox.
    """

    document: dict[str, Any]
    changes: list[ContactVersion] = field(default_factory=list)
    person_of: dict[str, int] = field(default_factory=dict)
    names: dict[int, tuple[str, str]] = field(default_factory=dict)
    addresses: dict[int, tuple[str, ...]] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    families: set[str] = field(default_factory=set)


def any_case(random: Random, address: str) -> str:
    return "".join(random.choice((letter.lower(), letter.upper())) for letter in address)


def labelled_world(people: int, seed: int) -> World:
    """Makes people with a main address and two aliases each.

    Every address book has the main one, in any place and case, or an alias of a person whom the org
    knows by all three. Some people share the main address with a relative who is in one book; then
    it is the first one in every book that has it, because nothing else links the two.
    """
    random = Random(seed)
    accounts = [
        {
            "Id": make_id("001", number + 1),
            "Name": f"Company {number}",
            "Website": f"https://www.company{number}.example/about",
        }
        for number in range(people // 8)
    ]
    world = World({"accounts": accounts, "contacts": [], "leads": []})
    for person in range(people):
        first, last = random.choice(FIRST), f"{random.choice(LAST)}-{person}"
        domain = f"company{random.randrange(people // 4)}.example"
        main = f"{first}.{last}@{domain}".lower()
        addresses = (
            main,
            f"{first[0]}.{last}@mail.{domain}".lower(),
            f"{last}{person}@gmail.com".lower(),
        )
        world.names[person], world.addresses[person] = (first, last), addresses
        complete = _into_org(world, random, person)
        books = random.sample(GRANTS, random.choice((1, 1, 2, 3)))
        has_relative = random.random() < 0.15
        for grant in books:
            key = f"{grant}/c{random.randrange(10**9):09d}-{person}"
            known = (
                list(addresses)
                if complete
                else [main, *random.sample(addresses[1:], random.randrange(3))]
            )
            if complete:
                known = random.sample(known, random.choice((1, 2, 3)))
            random.shuffle(known)
            if has_relative:
                known.sort(key=lambda address: address != main)
            _into_book(world, random, key, person, first, last, known)
        if has_relative:
            relative = -person - 1
            world.addresses[relative] = (main, f"zoe{person}@elsewhere.example")
            key = f"{random.choice(GRANTS)}/c{random.randrange(10**9):09d}-{person}-family"
            known = list(world.addresses[relative][: random.choice((1, 2))])
            _into_book(world, random, key, relative, "Zoe", f"Other-{person}", known)
            world.families |= {
                key for key, other in world.person_of.items() if other in {person, relative}
            }
    random.shuffle(world.changes)
    _known_people_first(world)
    return world


def _known_people_first(world: World) -> None:
    """Puts the person that the org knows before its relative.

    A record without a key is taken over by the first contact with its address.
    """
    places = {change.key: place for place, change in enumerate(world.changes)}
    own = {
        world.person_of[key]: places[key]
        for key in world.families
        if world.person_of[key] in world.known.values()
    }
    for key in world.families:
        first, place = own.get(-world.person_of[key] - 1, -1), places[key]
        if place < first:
            world.changes[first], world.changes[place] = world.changes[place], world.changes[first]


def _into_book(
    world: World, random: Random, key: str, person: int, first: str, last: str, known: list[str]
) -> None:
    contact = {
        "id": key.partition("/")[2],
        "grant_id": key.partition("/")[0],
        "given_name": first,
        "surname": last,
        "company_name": "Company",
        "job_title": random.choice((None, "Engineer", "Director")),
        "emails": [{"email": any_case(random, address), "type": "work"} for address in known],
        "phone_numbers": [{"number": f"+1 555 {person:06d}", "type": "work"}],
        "source": "address_book",
    }
    world.person_of[key] = person
    world.changes.append(ContactVersion(key, 1_700_000_000 + random.randrange(1000), contact))


def _into_org(world: World, random: Random, person: int) -> bool:
    """Puts some of the people into the org, each in one of the ways in which orgs hold people.

    Returns whether the record has all addresses of the person.
    """
    main, second, third = world.addresses[person]
    first, last = world.names[person]
    names: dict[str, Any] = {"FirstName": first, "LastName": last}
    contacts, leads = world.document["contacts"], world.document["leads"]
    contact_id, lead_id = make_id("003", person + 1), make_id("00Q", person + 1)
    match random.randrange(16):
        case 0:  # typed by a person, in whatever case
            contacts.append({"Id": contact_id, **names, "Email": any_case(random, main)})
        case 1:
            leads.append({"Id": lead_id, **names, "Company": "x", "Email": any_case(random, main)})
        case 2:  # an alias is the address that the org knows first
            contacts.append(
                {"Id": contact_id, **names, "Email": third, EMAILS[1]: main, EMAILS[2]: second}
            )
        case 3:
            leads.append(
                {
                    "Id": lead_id,
                    **names,
                    "Company": "x",
                    "Email": second,
                    EMAILS[1]: third,
                    EMAILS[2]: main,
                }
            )
        case 4:  # under the key of a contact in an address book that is no longer connected
            contacts.append(
                {
                    "Id": contact_id,
                    **names,
                    "Email": main,
                    KEY: f"gone/{person}",
                    "Nylas_Version__c": 1,
                    "CreatedById": "integration",
                }
            )
        case 5:  # converted: the Contact has a new address, the Lead the one that we know
            contacts.append({"Id": contact_id, **names, "Email": f"new.{main}"})
            leads.append(
                {
                    "Id": lead_id,
                    **names,
                    "Company": "x",
                    "Email": main,
                    "IsConverted": True,
                    "ConvertedContactId": contact_id,
                }
            )
        case _:
            return False
    world.known[
        lead_id
        if leads and leads[-1]["Id"] == lead_id and "IsConverted" not in leads[-1]
        else contact_id
    ] = person
    return bool(
        contacts and contacts[-1]["Id"] == contact_id and EMAILS[2] in contacts[-1]
    ) or bool(leads and leads[-1]["Id"] == lead_id and EMAILS[2] in leads[-1])


def persons_in(org: SimulatedOrg, world: World) -> dict[int, list[str]]:
    """The records of each person, found by the last name, which is unique."""
    named = {last: person for person, (_, last) in world.names.items()}
    found: dict[int, list[str]] = defaultdict(list)
    for record in org.people():
        last = record["LastName"]
        person = named[last] if last in named else -int(last.removeprefix("Other-")) - 1
        found[person].append(record["Id"])
        addresses = {str(record[name]).lower() for name in EMAILS if record.get(name)}
        own = world.addresses[person]
        assert addresses <= {*own, f"new.{own[0]}"}, "an address of another person"
        assert record.get("FirstName") == (world.names[person][0] if person >= 0 else "Zoe"), (
            "a part of another person's name"
        )
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_no_person_is_there_twice_or_merged_and_known_people_are_found(
    seed: int,
) -> None:
    world = labelled_world(2000, seed)
    async with simulated_org(world.document) as org:
        outcomes = await org.all(*world.changes)
        found = persons_in(org, world)

        assert all(len(records) == 1 for records in found.values()), "a duplicate"
        covered = {
            key for key, outcome in outcomes.items() if outcome.status is OutcomeStatus.COVERED
        }
        assert covered <= world.families
        assert found.keys() == {
            person for key, person in world.person_of.items() if key not in covered
        } | set(world.known.values())
        for record_id, person in world.known.items():
            assert found[person] == [record_id]
        for key, person in world.person_of.items():
            if key in covered:
                assert person not in world.known.values(), (
                    "a person that the org knows was not found"
                )
                assert -person - 1 in found, "covered although no relative was found"
                continue
            assert outcomes[key].status not in {OutcomeStatus.SKIPPED, OutcomeStatus.AMBIGUOUS}
            assert found[person] == [outcomes[key].record_id], "found as another person"
            if person in world.known.values():
                assert outcomes[key].matched is not None
        assert org.calls["composite_query"] == org.calls["composite_write"]
        assert len(world.changes) / org.calls["composite_query"] >= 600

        again = await org.all(*world.changes)
        assert {outcome.status for outcome in again.values()} <= {
            OutcomeStatus.UNCHANGED,
            OutcomeStatus.FILLED,
            OutcomeStatus.COVERED,
        }
        assert persons_in(org, world) == found
