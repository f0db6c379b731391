"""The candidate records of a batch, by key and by address: found in the org, or to be created."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from connectors.salesforce.org_fields import KEY_FIELD
from connectors.salesforce.person import Person, grant_of
from connectors.salesforce.sobject_record import SObjectRecord


class CandidateIndex:
    """The records that a batch may match. `matching` decides which of them a person is.

    `records` holds those of the org by the first 15 characters of their IDs. A converted Lead is
    represented by its Contact.
    """

    def __init__(self) -> None:
        self.records: dict[str, SObjectRecord] = {}
        self._by_key: dict[tuple[str, str], SObjectRecord] = {}
        self._by_address: dict[tuple[str, str], dict[SObjectRecord, None]] = {}
        # keys and addresses of converted Leads; None where the Contact is gone
        self._converted_keys: dict[str, SObjectRecord | None] = {}
        self._converted_addresses: dict[str, dict[SObjectRecord, None]] = {}
        # by address: converted Leads whose Contact is gone
        self._orphaned_leads: dict[str, list[SObjectRecord]] = {}

    def add_rows(self, sobject: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds rows of a query. The Contact of a converted Lead comes with the row of the Lead."""
        for row in rows:
            if sobject == "Lead" and row.get("IsConverted") is True:
                self._add_converted(row)
            else:
                self._add(sobject, row)

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
            record = SObjectRecord(sobject, record_id, stored, dict(stored))
            self.records[record_id[:15]] = record
            self._index(record)
        return record

    def _add_converted(self, lead: Mapping[str, Any]) -> None:
        nested = lead.get("ConvertedContact")
        contact = self._add("Contact", nested) if isinstance(nested, Mapping) else None
        if key := lead.get(KEY_FIELD):
            self._converted_keys[key] = contact
        converted = SObjectRecord("Lead", None, lead, dict(lead))
        for address in converted.addresses:
            if contact is not None:
                self._converted_addresses.setdefault(address, {})[contact] = None
            else:
                self._orphaned_leads.setdefault(address, []).append(converted)

    def join(self, record: SObjectRecord, person: Person) -> None:
        """Registers that a record, found or new, stands for a person.

        Call it after the record's key or addresses changed for the person.
        """
        record.people.update(person.addresses)
        if person.name:
            record.joined.add((grant_of(person.record_key), person.name))
        self._index(record)

    def add(self, record: SObjectRecord) -> None:
        """Adds a record of the org as it is planned."""
        if record.id is not None:
            self.records[record.id[:15]] = record
        self._index(record)

    def _index(self, record: SObjectRecord) -> None:
        if record.key:
            self._by_key[record.sobject, record.key] = record
        for address in (*record.addresses, *record.people):
            self._by_address.setdefault((record.sobject, address), {})[record] = None

    def remove_key(self, record: SObjectRecord, key: str) -> None:
        """Registers that a record no longer has this key."""
        if self._by_key.get((record.sobject, key)) is record:
            del self._by_key[record.sobject, key]

    def with_key(self, key: str) -> list[SObjectRecord]:
        """The Contact and the open Lead that hold a record key."""
        return [record for name in ("Contact", "Lead") if (record := self._by_key.get((name, key)))]

    def holds_converted_key(self, key: str) -> bool:
        """Whether a converted Lead holds a record key."""
        return key in self._converted_keys

    def converted_with_key(self, key: str) -> SObjectRecord | None:
        """The Contact of the converted Lead that holds a record key."""
        return self._converted_keys.get(key)

    def with_address(self, sobject: str, addresses: Sequence[str]) -> list[SObjectRecord]:
        """The records of an sObject that hold any of the addresses, each once, in their order."""
        found = (self._by_address.get((sobject, address), ()) for address in addresses)
        return list(dict.fromkeys(record for records in found for record in records))

    def converted_with_address(self, addresses: Sequence[str]) -> list[SObjectRecord]:
        """The Contacts of converted Leads that hold any of the addresses, each once."""
        found = (self._converted_addresses.get(address, ()) for address in addresses)
        return list(dict.fromkeys(record for records in found for record in records))

    def orphaned_leads(self, addresses: Sequence[str]) -> Iterator[SObjectRecord]:
        """The converted Leads with any of the addresses whose Contact is gone."""
        for address in addresses:
            yield from self._orphaned_leads.get(address, ())

    def has_address_of(self, person: Person) -> bool:
        """Whether any record holds an address of the person."""
        return any(True for _ in self._sharing_address(person))

    def has_address_and_name_of(self, person: Person) -> bool:
        """Whether any record holds an address of the person, and the person's name."""
        return any(person.name in record.names for record in self._sharing_address(person))

    def _sharing_address(self, person: Person) -> Iterator[SObjectRecord]:
        for address in person.addresses:
            for sobject in ("Contact", "Lead"):
                yield from self._by_address.get((sobject, address), ())
            yield from self._converted_addresses.get(address, ())
