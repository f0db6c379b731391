"""Who is in Salesforce already: the queries for a batch of people, and which record each of them
is.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.salesforce.api.composite import KEY_FIELD
from connectors.salesforce.api.errors import VERSION_FIELD
from connectors.salesforce.field_paths import clean
from connectors.salesforce.field_values import cut, is_fallback
from connectors.salesforce.routing import Addresses, Route
from connectors.salesforce.schema import EMAIL_FIELDS

MAX_KEY = 255  # of a Salesforce text field


def record_key(key: str) -> str:
    """The contact key as Salesforce can hold it: hashed, never cut, where it is too long or would
    be trimmed.

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


def person(
    key: str, version: int, contact: Mapping[str, Any], found_by: Addresses, target: Route
) -> Person:
    name = _full_name(clean(contact.get("given_name")), clean(contact.get("surname")))
    return Person(key, version, contact, found_by, target, record_key(key), name)


def _full_name(first: str | None, last: str | None) -> str:
    """Comparable: as Salesforce cuts it, without case and repeated blanks."""
    return " ".join(f"{cut(first or '', 40)} {cut(last or '', 80)}".casefold().split())


@dataclass(slots=True, eq=False)
class SObjectRecord:
    """A Contact or an open Lead: as it stands (`stored`), and as the plan will leave it (`fields`).
    Without an ID it is to be created.

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
        return tuple(
            value.strip().lower() for value in found if isinstance(value, str) and value.strip()
        )

    @property
    def names(self) -> frozenset[str]:
        """Comparable; none where it says no more than a fallback, and also without a last name that
        may be one.
        """
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
        return {
            name: value for name, value in self.fields.items() if self.stored.get(name) != value
        }


@dataclass(frozen=True, slots=True)
class Match:
    """The record that a person is; None if there is none. `how` is key, email or converted_lead.

    `shared`: an address belongs to another person of the same address book. `converted`: a
    converted Lead is this person, and its Contact is gone. `keyless`: the record is a Lead, and
    cannot get the key that such a converted Lead holds.
    """

    record: SObjectRecord | None = None
    how: str | None = None
    ambiguous: bool = False
    shared: bool = False
    converted: bool = False
    keyless: bool = False


class CandidateIndex:
    """The records that came into question for a batch, and those that the batch will create."""

    def __init__(self, our_user: str | None) -> None:
        self._our_user = our_user
        self.records: dict[str, SObjectRecord] = {}
        self._by_key: dict[tuple[str, str], SObjectRecord] = {}
        self._by_address: dict[tuple[str, str], dict[SObjectRecord, None]] = {}
        self._converted_keys: dict[str, SObjectRecord | None] = {}
        self._converted_addresses: dict[str, dict[SObjectRecord, None]] = {}
        self._dead_leads: dict[
            str, list[SObjectRecord]
        ] = {}  # by address: converted Leads whose Contact is gone

    def add_rows(self, sobject: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows of a query. Contacts that a converted Lead leads to come with the Lead."""
        for row in rows:
            if sobject == "Lead" and row.get("IsConverted") is True:
                self._add_converted(row)
            else:
                self._add(sobject, row)

    def add_new(self, record: SObjectRecord) -> None:
        """A record that the plan creates."""
        self.index(record)

    def index(self, record: SObjectRecord) -> None:
        """To be called after a record's key or addresses changed."""
        if record.key:
            self._by_key[record.sobject, record.key] = record
        for address in (*record.addresses, *record.people):
            self._by_address.setdefault((record.sobject, address), {})[record] = None

    def released(self, record: SObjectRecord, key: str) -> None:
        if self._by_key.get((record.sobject, key)) is record:
            del self._by_key[record.sobject, key]

    def _add(self, sobject: str, row: Mapping[str, Any]) -> SObjectRecord | None:
        record_id = row.get("Id")
        if not isinstance(record_id, str):
            return None
        record = self.records.get(record_id[:15])
        if record is None:
            stored = {
                name: value
                for name, value in row.items()
                if name not in {"attributes", "ConvertedContact"}
            }
            ours = self._is_ours(row)
            record = self.records[record_id[:15]] = SObjectRecord(
                sobject, record_id, stored, dict(stored), ours
            )
            self.index(record)
        return record

    def _add_converted(self, lead: Mapping[str, Any]) -> None:
        nested = lead.get("ConvertedContact")
        contact = self._add("Contact", nested) if isinstance(nested, Mapping) else None
        if contact is not None and self._is_ours(lead):
            contact.ours = True
        if key := lead.get(KEY_FIELD):
            self._converted_keys[key] = contact
        converted = SObjectRecord("Lead", None, lead, dict(lead), ours=False)
        for address in converted.addresses:
            if contact is not None:
                self._converted_addresses.setdefault(address, {})[contact] = None
            else:
                self._dead_leads.setdefault(address, []).append(converted)

    def _is_ours(self, row: Mapping[str, Any]) -> bool:
        creator = row.get("CreatedById")
        return (
            isinstance(creator, str)
            and self._our_user is not None
            and creator[:15] == self._our_user[:15]
        )

    def of_key(self, key: str) -> list[SObjectRecord]:
        """The Contact and the open Lead that hold a record key."""
        return [record for name in ("Contact", "Lead") if (record := self._by_key.get((name, key)))]

    def knows(self, someone: Person) -> bool:
        """Whether any record comes into question by address."""
        return any(True for _ in self._near(someone))

    def names(self, someone: Person) -> bool:
        """Whether a record that comes into question by address has this person's name."""
        return any(someone.name in record.names for record in self._near(someone))

    def _near(self, someone: Person) -> Iterator[SObjectRecord]:
        for address in someone.addresses:
            for sobject in ("Contact", "Lead"):
                yield from self._by_address.get((sobject, address), ())
            yield from self._converted_addresses.get(address, ())

    def find(self, someone: Person) -> Match:
        """The record that this person is.

        By key on Contact, then Lead; then by any address on Contact, then Lead; a converted Lead is
        its Contact. Of several: one that has a key already, then the one modified last, then the
        oldest. A record whose key belongs to another contact of the same address book with another
        name is another person. One with a key of another address book and another name may be: it
        is taken where there is no other.
        """
        if held := self.of_key(someone.record_key):
            return Match(held[0], "key")
        taken = someone.record_key in self._converted_keys
        if taken and (contact := self._converted_keys[someone.record_key]) is not None:
            return Match(contact, "converted_lead")
        contacts = self._at("Contact", someone)
        leads = self._at("Lead", someone)
        converted = {
            record: None
            for address in someone.addresses
            for record in self._converted_addresses.get(address, ())
        }
        shared = False
        doubtful: Match | None = None
        for candidates, how in (
            (contacts, "email"),
            (converted, "converted_lead"),
            (leads, "email"),
        ):
            accepted = [record for record in candidates if self.acceptable(record, someone)]
            shared = shared or len(accepted) < len(candidates)
            if accepted:
                certain = [
                    one for one in accepted if one.key is None or not one.is_somebody_else(someone)
                ]
                record = min(certain or accepted, key=_preference)
                keyless = taken and record.sobject == "Lead"
                match = Match(record, how, ambiguous=len(accepted) > 1, keyless=keyless)
                if certain:
                    return match
                doubtful = doubtful or match
        return doubtful or Match(shared=shared, converted=taken or self._was_converted(someone))

    def _was_converted(self, someone: Person) -> bool:
        leads = (
            lead for address in someone.addresses for lead in self._dead_leads.get(address, ())
        )
        return any(not lead.is_somebody_else(someone) for lead in leads)

    def acceptable(self, record: SObjectRecord, someone: Person) -> bool:
        """Not so if two contacts of one address book share an address but not the name: a family, a
        shared mailbox.
        """
        grant = grant_of(someone.record_key)
        if someone.name and any(
            book == grant and name != someone.name for book, name in record.joined
        ):
            return False
        return (
            record.key is None
            or grant_of(record.key) != grant
            or not record.is_somebody_else(someone)
        )

    def join(self, record: SObjectRecord, someone: Person) -> None:
        """To be called after a person became one of those whom a record stands for."""
        record.people.update(someone.addresses)
        if someone.name:
            record.joined.add((grant_of(someone.record_key), someone.name))
        self.index(record)

    def _at(self, sobject: str, someone: Person) -> dict[SObjectRecord, None]:
        return {
            record: None
            for address in someone.addresses
            for record in self._by_address.get((sobject, address), ())
        }


def _preference(record: SObjectRecord) -> tuple[bool, tuple[int, ...], str, str]:
    modified = str(record.stored.get("LastModifiedDate") or "")
    return (
        record.key is None,
        tuple(-ord(letter) for letter in modified),
        str(record.stored.get("CreatedDate") or "~"),
        record.id or "~",
    )
