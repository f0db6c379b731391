"""The candidate records of a batch, by key and by address: found in the org, or to be created."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.salesforce.org_fields import KEY_FIELD
from connectors.salesforce.person import Person
from connectors.salesforce.sobject_record import SObjectRecord


@dataclass(frozen=True, slots=True)
class FollowedRecord:
    """A living record that another one became; `matched` says how: `converted_lead`."""

    record: SObjectRecord
    matched: str


class CandidateIndex:
    """The records that a batch may match. `matching` decides which of them a person is.

    `records` holds those of the org by the first 15 characters of their IDs. A converted Lead is
    represented by its Contact.
    """

    def __init__(self, our_user: str | None) -> None:
        self._our_user = our_user
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
            ours = self._is_ours(row)
            record = SObjectRecord(sobject, record_id, stored, dict(stored), ours)
            self.records[record_id[:15]] = record
            self._index(record)
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
                self._orphaned_leads.setdefault(address, []).append(converted)

    def _is_ours(self, row: Mapping[str, Any]) -> bool:
        creator = row.get("CreatedById")
        return (
            isinstance(creator, str)
            and self._our_user is not None
            and creator[:15] == self._our_user[:15]
        )

    def join(self, record: SObjectRecord, person: Person) -> None:
        """Registers that a record, found or new, stands for a person.

        Call it after the record's key or addresses changed for the person.
        """
        record.people.update(person.addresses)
        record.joined.add(person.name)
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

    def followed_with_key(self, key: str) -> FollowedRecord | None:
        """The living record that a converted Lead with this record key became."""
        contact = self._converted_keys.get(key)
        return FollowedRecord(contact, "converted_lead") if contact is not None else None

    def holds_converted_key(self, key: str) -> bool:
        """Whether a converted Lead holds a record key."""
        return key in self._converted_keys

    def with_address(self, addresses: Sequence[str]) -> list[SObjectRecord]:
        """The records that hold any of the addresses, each once.

        Also records that stand for a person of this batch with such an address, and have no room
        for it.
        """
        found = (
            self._by_address.get((sobject, address), ())
            for address in addresses
            for sobject in ("Contact", "Lead")
        )
        return list(dict.fromkeys(record for records in found for record in records))

    def followed_with_address(self, addresses: Sequence[str]) -> list[FollowedRecord]:
        """The living records that converted Leads with any of the addresses became, each once."""
        found = (self._converted_addresses.get(address, ()) for address in addresses)
        contacts = dict.fromkeys(record for records in found for record in records)
        return [FollowedRecord(contact, "converted_lead") for contact in contacts]

    def orphaned_leads(self, addresses: Sequence[str]) -> list[SObjectRecord]:
        """The converted Leads with any of the addresses whose Contact is gone, each once."""
        found = (self._orphaned_leads.get(address, ()) for address in addresses)
        return list(dict.fromkeys(lead for leads in found for lead in leads))
