"""What a labelled world is made of: people, address books, records, and what is right.

The labels say what a Salesforce administrator would say. Nothing here knows how the product
decides. Every value of a person (title, phone, address, contact key) belongs to that person alone,
unless people share it on purpose: a value in the record of another person gives itself away.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Any

from connectors.salesforce.outcome import ContactVersion
from connectors.salesforce.simulator.schema import make_id

if TYPE_CHECKING:
    from tests.support.labelled_world.play import Stage

KEY = "Nylas_Contact_Id__c"
EMAILS = ("Email", "Nylas_Email_2__c", "Nylas_Email_3__c")
GRANTS = (
    "3f0e6c1a-8a51-4b6e-9c55-0d4f9d3a7b01",
    "7c2b9f44-15d6-4a7e-8b1f-6e5c2a9d8c02",
    "b81d3e70-92c4-4f0a-a3d7-1f6b8e4c5d03",
)
DAYS = (1, 2, 3, 4)
_FIRST_NAMES = """
Ada Grace Alan Edsger Barbara Donald Frances Radia Linus Hedy Niels Ingrid Omar Priya Yuki Carlos
Fatima Sven
"""
FIRST_NAMES = tuple(_FIRST_NAMES.split())
_BEGINNINGS = """
Hart Brad Ash Wind Stan Mor Kings Lang Thorn Black Red Green Whit Hol Ell Fair Glen Rock Sher
Wood Mil Nor Old Pem Quin Ravens Silver Tam Up West
"""
_ENDINGS = """
well ford ley more ton combe worth field dale bridge brook shaw stead wick ham gate
"""


class Verdict(StrEnum):
    """The lists of what went wrong."""

    WRONG_PERSON = "a record got a value, key or address of another person"
    MISSED = "findable, but not found"
    DUPLICATE = "two living records of one person, one of them ours"
    REVERTED = "what people typed was overwritten"
    RESURRECTED = "what people deleted came back"
    NOT_FOLLOWED = "a merge was not followed"
    WRONG_TARGET = "created as the wrong object, under the wrong Account or with the wrong company"
    NOT_UPDATED = "our own value was not kept up to date, or a blank one not filled"
    WRONG_OUTCOME = "another outcome than the right one"
    REWRITTEN = "written although nothing changed"


class Right(StrEnum):
    """The kinds of right outcomes."""

    RECORD = "the record of this person"
    COVERED = "covered"
    AMBIGUOUS = "ambiguous"
    SKIPPED = "skipped"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Target:
    """What somebody who is not in Salesforce is created as."""

    sobject: str
    account: str | None = None
    company: str | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """The one right outcome of a contact in a day.

    `record` is the ID of the right record, where it is known beforehand. `target` is set for people
    who are to be created. Of the contacts of a `group`, exactly one has its record, whichever comes
    first, and the others are covered by it. A wrong outcome belongs into the list `wrong`.
    """

    right: Right = Right.RECORD
    reason: str = ""
    record: str | None = None
    target: Target | None = None
    group: str = ""
    wrong: Verdict = Verdict.MISSED


COVERED = Expected(Right.COVERED, wrong=Verdict.WRONG_OUTCOME)
AMBIGUOUS = Expected(Right.AMBIGUOUS, wrong=Verdict.WRONG_OUTCOME)
DELETED = Expected(Right.SKIPPED, "deleted_in_salesforce", wrong=Verdict.RESURRECTED)
ROLE = Expected(Right.SKIPPED, "role_address", wrong=Verdict.WRONG_OUTCOME)


def ascii_lower(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub("[^a-z]", "", plain.lower())


def words(text: str) -> set[str]:
    """The words of a name, as far as it matters whose name it is."""
    return {word for word in re.split(r"[\s.,@_-]+", text.casefold()) if word}


@dataclass(slots=True, eq=False)
class Person:
    """Somebody with everything that is true of them."""

    kind: str
    number: int
    first: str
    last: str
    domain: str
    account: str | None = None
    values: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    @property
    def main(self) -> str:
        return f"{ascii_lower(self.first)}.{ascii_lower(self.last)}@{self.domain}"

    @property
    def alias(self) -> str:
        return f"{ascii_lower(self.last)}{self.number}@mail-{self.number}.example"

    @property
    def private(self) -> str:
        return f"{ascii_lower(self.first)}{self.number}@gmail.com"

    @property
    def title(self) -> str:
        return f"Engineer {self.number}"

    @property
    def phone(self) -> str:
        return f"+1 555 {self.number:06d} 0"

    @property
    def target(self) -> Target:
        return Target("Contact", self.account) if self.account else Target("Lead")

    def __str__(self) -> str:
        return f"{self.first} {self.last} ({self.kind})"


@dataclass(slots=True)
class Entry:
    """A contact of an address book as it is now."""

    key: str
    person: Person
    contact: dict[str, Any]
    version: int
    expected: Expected


Act = Callable[["Stage"], object]
"""What people do in the org between two days of changes."""


@dataclass(slots=True)
class LabelledWorld:
    """The labelled data, and the functions with which kinds add people to it."""

    seed: int
    lead_mapping: bool = True
    """Whether a conversion carries our fields from the Lead to the Contact."""
    person_accounts: bool = False
    random: Random = field(init=False)
    document: dict[str, Any] = field(
        default_factory=lambda: {"accounts": [], "contacts": [], "leads": []}
    )
    people: list[Person] = field(default_factory=list)
    person_of_record: dict[str, Person] = field(default_factory=dict)
    person_of_key: dict[str, Person] = field(default_factory=dict)
    typed: dict[tuple[str, str], Any] = field(default_factory=dict)
    """What people typed, by record ID and field."""
    changes: dict[int, dict[str, ContactVersion]] = field(default_factory=lambda: defaultdict(dict))
    expected: dict[int, dict[str, Expected]] = field(default_factory=lambda: defaultdict(dict))
    acts: dict[int, list[tuple[Person, Act]]] = field(default_factory=lambda: defaultdict(list))
    held: list[tuple[Person, str, str | None]] = field(default_factory=list)
    """Person, field and value that the person's record has in the end. For the field `address`, it
    is in any of the address fields.
    """
    _surnames: list[str] = field(init=False)
    _more_surnames: int = 0
    _recorded: set[Person] = field(default_factory=set)
    _entered: set[Person] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        if not self.lead_mapping:
            self.document["settings"] = {"lead_mapping": False}
        if self.person_accounts:
            self.document["person_accounts"] = True
        self._surnames = [
            beginning + ending for beginning in _BEGINNINGS.split() for ending in _ENDINGS.split()
        ]
        self.random.shuffle(self._surnames)

    def surname(self) -> str:
        """A surname that nobody has yet."""
        if not self._surnames:
            self._more_surnames += 1
            digits = f"{self._more_surnames:05d}"
            return "Mac" + "".join("abcdefghij"[int(digit)] for digit in digits)
        return self._surnames.pop()

    def person(
        self,
        kind: str,
        first: str | None = None,
        last: str | None = None,
        *,
        account: bool = False,
        domain: str | None = None,
    ) -> Person:
        """Somebody new; `account` makes a company for the domain of the person's main address."""
        number = len(self.people) + 1
        first = first or self.random.choice(FIRST_NAMES)
        surname = last or self.surname()
        domain = domain or f"{ascii_lower(surname)}-{number}.example"
        person = Person(kind, number, first, surname, domain)
        if account:
            person.account = self.account(f"Company {number}", f"https://www.{domain}/about")
        person.values |= {person.title.lower(), person.phone}
        person.names |= words(first) | words(surname)
        self.people.append(person)
        return person

    def account(self, name: str, website: str | None, **fields: Any) -> str:
        account_id = make_id("001", len(self.document["accounts"]) + 1)
        self.document["accounts"].append(
            {"Id": account_id, "Name": name, "Website": website, **fields}
        )
        return account_id

    def contact(self, person: Person, **fields: Any) -> str:
        """Somebody typed in this Contact. Returns its ID."""
        return self._record("contacts", "003", person, fields)

    def lead(self, person: Person, **fields: Any) -> str:
        """Somebody typed in this Lead. Returns its ID."""
        return self._record("leads", "00Q", person, {"Company": "Typed", **fields})

    def _record(self, table: str, prefix: str, person: Person, fields: dict[str, Any]) -> str:
        record_id = make_id(prefix, len(self.document[table]) + 1)
        names = {"FirstName": person.first, "LastName": person.last}
        whole = {name: value for name, value in {**names, **fields}.items() if value is not None}
        self.document[table].append({"Id": record_id, **whole})
        self.person_of_record[record_id] = person
        self._recorded.add(person)
        self.belongs(person, whole)
        if whole.get("CreatedById") != "integration" and not whole.get("IsDeleted"):
            for name in ("FirstName", "LastName", "Title", "Phone", "MobilePhone", "Email"):
                if name in whole:
                    self.typed[record_id, name] = whole[name]
        return record_id

    def belongs(self, person: Person, fields: dict[str, Any]) -> None:
        """Takes the values of a record or an edit for true of the person."""
        for name in ("Title", "Phone", "MobilePhone", *EMAILS):
            if isinstance(fields.get(name), str):
                person.values.add(fields[name].lower())
        for name in ("FirstName", "LastName"):
            person.names |= words(fields.get(name) or "")

    def any_case(self, address: str) -> str:
        letters = ((letter.lower(), letter.upper()) for letter in address)
        return "".join(map(self.random.choice, letters))

    def entry(
        self,
        person: Person,
        emails: Sequence[str],
        expected: Expected | None = None,
        *,
        book: int | None = None,
        day: int = 1,
        foreign: Iterable[str] = (),
        **fields: Any,
    ) -> Entry:
        """Puts somebody into an address book.

        `foreign` are the addresses among `emails` that are those of somebody else. Without
        `expected`, the person is found if the org has a record of them, and created otherwise.
        """
        grant = GRANTS[self.random.randrange(len(GRANTS)) if book is None else book]
        key = f"{grant}/c{len(self.person_of_key):05d}-{self.random.randrange(10**6):06d}"
        entered_before = person in self._entered
        self._entered.add(person)
        self.person_of_key[key] = person
        person.values |= {email.lower() for email in emails if email not in set(foreign)}
        for email in emails:
            if email not in set(foreign):
                person.names |= words(email.partition("@")[0])
        contact: dict[str, Any] = {
            "id": key.partition("/")[2],
            "grant_id": grant,
            "given_name": person.first,
            "surname": person.last,
            "job_title": person.title,
            "company_name": f"Company {person.number}",
            "emails": [{"email": self.any_case(email), "type": "work"} for email in emails],
            "phone_numbers": [{"number": person.phone, "type": "work"}],
            "source": "address_book",
        }
        if expected is None:
            known = person in self._recorded or (day > 1 and entered_before)
            expected = Expected() if known else Expected(target=person.target)
        entry = Entry(key, person, contact, 0, expected)
        self.change(entry, day, **fields)
        return entry

    def change(
        self, entry: Entry, day: int, expected: Expected | None = None, **fields: Any
    ) -> None:
        """The entry changes, and is delivered in the day. A field that is None goes away.

        `phone` is short for the list of phone numbers.
        """
        if phone := fields.pop("phone", None):
            fields["phone_numbers"] = [{"number": phone, "type": "work"}]
        merged = {**entry.contact, **fields}
        entry.contact = {name: value for name, value in merged.items() if value is not None}
        entry.version = 1_700_000_000 + 100_000 * day + self.random.randrange(1000)
        self.belongs_contact(entry.person, entry.contact)
        entry.expected = expected or entry.expected
        self._deliver(entry, day, dict(entry.contact))
        entry.expected = replace(entry.expected, target=None)

    def again(self, entry: Entry, day: int, expected: Expected | None = None) -> None:
        """The entry is offered again as it is."""
        entry.expected = expected or entry.expected
        self._deliver(entry, day, dict(entry.contact))

    def gone(self, entry: Entry, day: int) -> None:
        """The entry is deleted in its address book."""
        entry.version = 1_700_000_000 + 100_000 * day + self.random.randrange(1000)
        entry.expected = Expected(Right.ANY)
        self._deliver(entry, day, None)

    def _deliver(self, entry: Entry, day: int, contact: dict[str, Any] | None) -> None:
        self.changes[day][entry.key] = ContactVersion(entry.key, entry.version, contact)
        self.expected[day][entry.key] = entry.expected

    def belongs_contact(self, person: Person, contact: dict[str, Any]) -> None:
        for phone in contact.get("phone_numbers", ()):
            person.values.add(phone["number"].lower())
        if contact.get("job_title"):
            person.values.add(contact["job_title"].lower())
        person.names |= words(contact.get("given_name") or "") | words(contact.get("surname") or "")

    def act(self, day: int, person: Person, act: Act) -> None:
        """People do this before the changes of the day arrive."""
        self.acts[day].append((person, act))

    def holds(self, person: Person, address: str | None = None, **fields: str | None) -> None:
        """In the end the person's record has these values."""
        self.held += [(person, name, value) for name, value in fields.items()]
        if address is not None:
            self.held.append((person, "address", address))

    def owners(self) -> dict[str, set[Person]]:
        """The people of whom each value is true."""
        found: dict[str, set[Person]] = defaultdict(set)
        for person in self.people:
            for value in person.values:
                found[value].add(person)
        return found

    def last_changes(self) -> dict[str, ContactVersion]:
        """Every contact as it was delivered last."""
        found: dict[str, ContactVersion] = {}
        for day in sorted(self.changes):
            found |= self.changes[day]
        return found

    def last_expected(self) -> dict[str, Expected]:
        """What is right for every contact that is offered again in the end."""
        found: dict[str, Expected] = {}
        for day in sorted(self.expected):
            found |= self.expected[day]
        return {key: replace(expected, target=None) for key, expected in found.items()}
