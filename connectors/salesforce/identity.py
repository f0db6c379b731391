"""Who is in Salesforce already: the queries for a batch of people, and which record each of them is."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.salesforce.composite import KEY_FIELD
from connectors.salesforce.describe import ObjectDescribe
from connectors.salesforce.errors import VERSION_FIELD, SalesforceError
from connectors.salesforce.routing import Addresses, Route
from connectors.salesforce.sources import clean
from connectors.salesforce.wishes import ObjectMapping, cut, is_fallback

EMAIL_FIELDS = ("Email", "Nylas_Email_2__c", "Nylas_Email_3__c")
MAX_STATEMENT = 95_000  # SOQL takes 100,000 characters
MAX_KEY = 255  # of a Salesforce text field
GROUPS = 2  # a group of people takes a statement on Contact and one on Lead, and the fifth place is for the Accounts
_SYSTEM = ("Id", KEY_FIELD, VERSION_FIELD, *EMAIL_FIELDS, "CreatedById", "CreatedDate", "LastModifiedDate")
_NAMES = ("FirstName", "LastName")
_OWN = {"Contact": ("AccountId",), "Lead": ("IsConverted", "ConvertedContactId")}


class OrgNotPrepared(SalesforceError):
    """The org lacks what contactstream needs there; `contactstream doctor` says what and how to get it."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What of an sObject is read and written. `flag` is the field that marks a deleted contact, if it is used."""

    sobject: str
    described: ObjectDescribe
    mapped: ObjectMapping
    flag: str | None = None

    @property
    def emails(self) -> tuple[str, ...]:
        """The address fields that this org has."""
        return tuple(name for name in EMAIL_FIELDS if name in self.described.fields)

    @property
    def select(self) -> tuple[str, ...]:
        wanted = (*_SYSTEM, *_NAMES, *_OWN[self.sobject], *self.mapped.fields, *([self.flag] if self.flag else ()))
        return tuple(name for name in dict.fromkeys(wanted) if name in self.described.fields)

    def writable(self, name: str, *, new: bool) -> bool:
        there = self.described.fields.get(name)
        return there is not None and (there.createable if new else there.updateable)


def schema(described: ObjectDescribe, mapped: ObjectMapping, flag: str | None = None) -> Schema:
    """Raises OrgNotPrepared where people could not be found again."""
    for name in (KEY_FIELD, VERSION_FIELD, "Email"):
        if name not in described.fields:
            raise OrgNotPrepared(
                f"{described.name}.{name} is missing, or hidden from our user; see contactstream doctor"
            )
    return Schema(described.name, described, mapped, flag if flag in described.fields else None)


def record_key(key: str) -> str:
    """The contact key as Salesforce can hold it: hashed, never cut, where it is too long or would be trimmed.

    The grant stays readable, because two contacts of one address book are compared by name.
    """
    if len(key) <= MAX_KEY and key == clean(key) and len(key.encode("utf-16-le")) <= 2 * MAX_KEY:
        return key
    digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
    grant = clean(grant_of(key)) or ""
    return f"{grant}/sha256:{digest}" if len(grant) <= 100 else f"sha256:{digest}"


def grant_of(key: str) -> str:
    return key.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Person:
    """A changed contact, as far as its identity goes."""

    key: str
    version: int
    contact: Mapping[str, Any]
    found_by: Addresses
    target: Route
    record_key: str
    name: str

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.found_by.usable


def person(key: str, version: int, contact: Mapping[str, Any], found_by: Addresses, target: Route) -> Person:
    name = _full_name(clean(contact.get("given_name")), clean(contact.get("surname")))
    return Person(key, version, contact, found_by, target, record_key(key), name)


def _full_name(first: str | None, last: str | None) -> str:
    """Comparable: as Salesforce cuts it, without case and repeated blanks."""
    return " ".join(f"{cut(first or '', 40)} {cut(last or '', 80)}".casefold().split())


@dataclass(frozen=True, slots=True)
class Lookup:
    """The statements that find the first `taken` of the people and of the keys, each with its sObject."""

    statements: tuple[tuple[str, str], ...]
    taken: int


def lookup(
    people: Sequence[tuple[str, Sequence[str]]],
    contact: Schema,
    lead: Schema,
    limit: int = MAX_STATEMENT,
) -> Lookup:
    """Statements of at most `limit` characters for (record key, addresses) pairs, four at most; the rest has to wait."""
    head = max(len(_statement(shape, contact, ("",), ("",))) for shape in (contact, lead))
    emails = max(len(contact.emails), len(lead.emails))
    groups: list[tuple[dict[str, None], dict[str, None]]] = [({}, {})]
    room, taken = limit - head, 0
    for key, addresses in people:
        cost = len(soql_text(key)) + 1 + emails * sum(len(soql_text(address)) + 1 for address in addresses)
        if cost > room:
            if len(groups) == GROUPS:
                break
            groups.append(({}, {}))
            room = limit - head
        room -= cost
        taken += 1
        groups[-1][0][soql_text(key)] = None
        groups[-1][1].update(dict.fromkeys(map(soql_text, addresses)))
    return Lookup(
        tuple(
            (shape.sobject, _statement(shape, contact, tuple(keys), tuple(addresses)))
            for keys, addresses in groups
            if keys
            for shape in (contact, lead)
        ),
        taken,
    )


def _statement(shape: Schema, contact: Schema, keys: tuple[str, ...], addresses: tuple[str, ...]) -> str:
    terms = [f"{KEY_FIELD} IN ({','.join(keys)})"]
    if addresses:
        terms += [f"{name} IN ({','.join(addresses)})" for name in shape.emails]
    return f"SELECT {_select(shape, contact)} FROM {shape.sobject} WHERE {' OR '.join(terms)}"  # noqa: S608


def by_id(shape: Schema, contact: Schema, ids: Iterable[str]) -> str:
    """The statement for known records."""
    return f"SELECT {_select(shape, contact)} FROM {shape.sobject} WHERE Id IN ({','.join(map(soql_text, ids))})"  # noqa: S608


def _select(shape: Schema, contact: Schema) -> str:
    """Of a Lead also the Contact that it was converted to: one query instead of two calls."""
    fields = shape.select
    if shape.sobject == "Lead" and "ConvertedContactId" in fields:
        fields += tuple(f"ConvertedContact.{name}" for name in contact.select)
    return ", ".join(fields)


_ESCAPES = str.maketrans(
    {"\\": r"\\", "'": r"\'", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\b": r"\b", "\f": r"\f", '"': r"\""}
)


def soql_text(value: str) -> str:
    """A string literal of SOQL."""
    return f"'{value.translate(_ESCAPES)}'"


@dataclass(slots=True, eq=False)
class Record:
    """A Contact or an open Lead: as it stands (`stored`), and as the plan will leave it (`fields`). Without an ID it is to be created.

    `ours`: created by our user, or converted from a Lead that was.
    """

    sobject: str
    id: str | None
    stored: Mapping[str, Any]
    fields: dict[str, Any]
    ours: bool
    people: set[str] = field(default_factory=set)
    """Addresses of those whom it stands for, beyond the three that it can hold."""
    joined: set[tuple[str, str]] = field(default_factory=set)
    """Address book and name of those who joined it in this batch."""

    @property
    def key(self) -> str | None:
        return self.fields.get(KEY_FIELD) or None

    @property
    def version(self) -> int | None:
        value = self.fields.get(VERSION_FIELD)
        return int(value) if isinstance(value, int | float) else None

    @property
    def addresses(self) -> tuple[str, ...]:
        found = (self.fields.get(name) for name in EMAIL_FIELDS)
        return tuple(value.strip().lower() for value in found if isinstance(value, str) and value.strip())

    @property
    def names(self) -> frozenset[str]:
        """Comparable; none where it says no more than a fallback, and also without a last name that may be one."""
        first, last = clean(self.fields.get("FirstName")), clean(self.fields.get("LastName"))
        whole = _full_name(first, last)
        if last and is_fallback("LastName", last, self.addresses):
            return frozenset({whole, _full_name(first, None)}) if first else frozenset()
        return frozenset({whole} if whole else ())

    def is_somebody_else(self, someone: Person) -> bool:
        """Whether both names are known, and differ."""
        names = self.names
        return bool(names and someone.name) and someone.name not in names

    @property
    def changes(self) -> dict[str, Any]:
        return {name: value for name, value in self.fields.items() if self.stored.get(name) != value}


@dataclass(frozen=True, slots=True)
class Match:
    """The record that a person is; None if there is none. `how` is key, email or converted_lead.

    `shared`: an address belongs to another person of the same address book. `converted`: a converted Lead is this person, and its
    Contact is gone. `keyless`: the record is a Lead, and cannot get the key that such a converted Lead holds.
    """

    record: Record | None = None
    how: str | None = None
    ambiguous: bool = False
    shared: bool = False
    converted: bool = False
    keyless: bool = False


class Census:
    """The records that came into question for a batch, and those that the batch will create."""

    def __init__(self, our_user: str | None) -> None:
        self._our_user = our_user
        self.records: dict[str, Record] = {}
        self._by_key: dict[tuple[str, str], Record] = {}
        self._by_address: dict[tuple[str, str], dict[Record, None]] = {}
        self._converted_keys: dict[str, Record | None] = {}
        self._converted_addresses: dict[str, dict[Record, None]] = {}
        self._dead_leads: dict[str, list[Record]] = {}  # by address: converted Leads whose Contact is gone

    def add_rows(self, sobject: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows of a query. Contacts that a converted Lead leads to come with the Lead."""
        for row in rows:
            if sobject == "Lead" and row.get("IsConverted") is True:
                self._add_converted(row)
            else:
                self._add(sobject, row)

    def add_new(self, record: Record) -> None:
        """A record that the plan creates."""
        self.index(record)

    def index(self, record: Record) -> None:
        """To be called after a record's key or addresses changed."""
        if record.key:
            self._by_key[record.sobject, record.key] = record
        for address in (*record.addresses, *record.people):
            self._by_address.setdefault((record.sobject, address), {})[record] = None

    def released(self, record: Record, key: str) -> None:
        if self._by_key.get((record.sobject, key)) is record:
            del self._by_key[record.sobject, key]

    def _add(self, sobject: str, row: Mapping[str, Any]) -> Record | None:
        record_id = row.get("Id")
        if not isinstance(record_id, str):
            return None
        record = self.records.get(record_id[:15])
        if record is None:
            stored = {name: value for name, value in row.items() if name not in {"attributes", "ConvertedContact"}}
            ours = self._is_ours(row)
            record = self.records[record_id[:15]] = Record(sobject, record_id, stored, dict(stored), ours)
            self.index(record)
        return record

    def _add_converted(self, lead: Mapping[str, Any]) -> None:
        nested = lead.get("ConvertedContact")
        contact = self._add("Contact", nested) if isinstance(nested, Mapping) else None
        if contact is not None and self._is_ours(lead):
            contact.ours = True
        if key := lead.get(KEY_FIELD):
            self._converted_keys[key] = contact
        converted = Record("Lead", None, lead, dict(lead), ours=False)
        for address in converted.addresses:
            if contact is not None:
                self._converted_addresses.setdefault(address, {})[contact] = None
            else:
                self._dead_leads.setdefault(address, []).append(converted)

    def _is_ours(self, row: Mapping[str, Any]) -> bool:
        creator = row.get("CreatedById")
        return isinstance(creator, str) and self._our_user is not None and creator[:15] == self._our_user[:15]

    def of_key(self, key: str) -> list[Record]:
        """The Contact and the open Lead that hold a record key."""
        return [record for name in ("Contact", "Lead") if (record := self._by_key.get((name, key)))]

    def knows(self, someone: Person) -> bool:
        """Whether any record comes into question by address."""
        return any(True for _ in self._near(someone))

    def names(self, someone: Person) -> bool:
        """Whether a record that comes into question by address has this person's name."""
        return any(someone.name in record.names for record in self._near(someone))

    def _near(self, someone: Person) -> Iterator[Record]:
        for address in someone.addresses:
            for sobject in ("Contact", "Lead"):
                yield from self._by_address.get((sobject, address), ())
            yield from self._converted_addresses.get(address, ())

    def find(self, someone: Person) -> Match:
        """The record that this person is.

        By key on Contact, then Lead; then by any address on Contact, then Lead; a converted Lead is its Contact. Of several: one that
        has a key already, then the one modified last, then the oldest. A record whose key belongs to another contact of the same
        address book with another name is another person. One with a key of another address book and another name may be: it is
        taken where there is no other.
        """
        if held := self.of_key(someone.record_key):
            return Match(held[0], "key")
        taken = someone.record_key in self._converted_keys
        if taken and (contact := self._converted_keys[someone.record_key]) is not None:
            return Match(contact, "converted_lead")
        contacts = self._at("Contact", someone)
        leads = self._at("Lead", someone)
        converted = {
            record: None for address in someone.addresses for record in self._converted_addresses.get(address, ())
        }
        shared = False
        doubtful: Match | None = None
        for candidates, how in ((contacts, "email"), (converted, "converted_lead"), (leads, "email")):
            accepted = [record for record in candidates if self.acceptable(record, someone)]
            shared = shared or len(accepted) < len(candidates)
            if accepted:
                certain = [one for one in accepted if one.key is None or not one.is_somebody_else(someone)]
                record = min(certain or accepted, key=_preference)
                keyless = taken and record.sobject == "Lead"
                match = Match(record, how, ambiguous=len(accepted) > 1, keyless=keyless)
                if certain:
                    return match
                doubtful = doubtful or match
        return doubtful or Match(shared=shared, converted=taken or self._was_converted(someone))

    def _was_converted(self, someone: Person) -> bool:
        leads = (lead for address in someone.addresses for lead in self._dead_leads.get(address, ()))
        return any(not lead.is_somebody_else(someone) for lead in leads)

    def acceptable(self, record: Record, someone: Person) -> bool:
        """Not so if two contacts of one address book share an address but not the name: a family, a shared mailbox."""
        grant = grant_of(someone.record_key)
        if someone.name and any(book == grant and name != someone.name for book, name in record.joined):
            return False
        return record.key is None or grant_of(record.key) != grant or not record.is_somebody_else(someone)

    def join(self, record: Record, someone: Person) -> None:
        """To be called after a person became one of those whom a record stands for."""
        record.people.update(someone.addresses)
        if someone.name:
            record.joined.add((grant_of(someone.record_key), someone.name))
        self.index(record)

    def _at(self, sobject: str, someone: Person) -> dict[Record, None]:
        return {
            record: None for address in someone.addresses for record in self._by_address.get((sobject, address), ())
        }


def _preference(record: Record) -> tuple[bool, tuple[int, ...], str, str]:
    modified = str(record.stored.get("LastModifiedDate") or "")
    return (
        record.key is None,
        tuple(-ord(letter) for letter in modified),
        str(record.stored.get("CreatedDate") or "~"),
        record.id or "~",
    )
