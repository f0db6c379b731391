"""The candidate records of a batch, by key and by address: found in the org, or to be created."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.salesforce.deleted_records import DeletedRecord, DeletedRecords
from connectors.salesforce.moved_records import MovedRecord, remembered_move, row_move
from connectors.salesforce.person import Person
from connectors.salesforce.sobject_record import SObjectRecord

# Merges and conversions that are followed one after the other. Each takes a person who merges what
# was merged before; three are rare. Beyond it, and in a circle, the record counts as not found.
MAX_MOVES = 8
# Columns of a row that hold another record.
_NESTED = {"ConvertedContact", "MasterRecord"}


@dataclass(frozen=True, slots=True)
class FollowedRecord:
    """The living record that a converted Lead, or a record that people merged, became.

    `matched` is `converted_lead` or `merged`, whichever came first.
    """

    record: SObjectRecord
    matched: str


class CandidateIndex:
    """The records that a batch may match. `matching` decides which of them a person is.

    `records` holds the living ones of the org by the first 15 characters of their IDs. A converted
    Lead is represented by its Contact, and a merged record by the one that people kept. `deleted`
    is what is remembered of the org's deletions; `address_fields` are by object the org's own
    fields whose addresses count as well.
    """

    def __init__(
        self,
        deleted: DeletedRecords | None = None,
        address_fields: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._deleted = DeletedRecords() if deleted is None else deleted
        self._address_fields = address_fields or {}
        self.records: dict[str, SObjectRecord] = {}
        self._by_key: dict[tuple[str, str], SObjectRecord] = {}
        self._by_address: dict[tuple[str, str], dict[SObjectRecord, None]] = {}
        # converted, merged and deleted records
        self._moved: dict[str, MovedRecord] = {}
        self._moved_by_key: defaultdict[str, list[MovedRecord]] = defaultdict(list)
        self._moved_by_address: defaultdict[str, list[MovedRecord]] = defaultdict(list)
        self._asked: set[str] = set()

    # Adding the rows of queries.

    def add_rows(self, sobject: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds rows of a query.

        The Contact of a converted Lead, and the record that was kept in a merge, come with the row.
        They are absent where they are deleted themselves: see `unread_ids`.
        """
        address_fields = self._address_fields.get(sobject, ())
        for row in rows:
            for name in _NESTED:
                if isinstance(nested := row.get(name), Mapping):
                    self.add_rows("Contact" if name == "ConvertedContact" else sobject, [nested])
            move = row_move(sobject, row, address_fields)
            if move is None:
                self._add(sobject, row)
            else:
                self._add_move(move, move.addresses)

    def add_remembered(
        self, records: Iterable[DeletedRecord], addresses: Iterable[str] = ()
    ) -> None:
        """Adds what is remembered of deleted records that the recycle bin may know no more.

        `addresses` are those of the contact for which they were found. Call it after `add_rows`
        with the rows of these records and of those into which they were merged, if there are any.
        """
        for record in records:
            held = [
                each for each in addresses if self._deleted.hash_of(each) in record.address_hashes
            ]
            self._add_move(remembered_move(record), held)

    def note_read(self, ids: Iterable[str]) -> None:
        """Notes that these records were read by their IDs, whether they were found or not."""
        self._asked.update(record_id[:15] for record_id in ids)

    def _add_move(self, move: MovedRecord, addresses: Iterable[str]) -> None:
        if move.record_id is not None:
            if move.record_id[:15] in self.records:
                return  # it was brought back
            move = self._moved.setdefault(move.record_id[:15], move)
        if move.key and move not in self._moved_by_key[move.key]:
            self._moved_by_key[move.key].append(move)
        for address in addresses:
            if move not in self._moved_by_address[address]:
                self._moved_by_address[address].append(move)

    def unread_ids(self) -> dict[str, list[str]]:
        """IDs by sObject to which merges and conversions lead, and that no query has read yet.

        Each is returned once: what a query does not find then is purged, or hidden from our user.
        """
        found: dict[str, list[str]] = {}
        for moves in (*self._moved_by_key.values(), *self._moved_by_address.values()):
            for move in moves:
                last = self._last(move)
                if isinstance(last, SObjectRecord) or not last.next_id:
                    continue
                place = last.next_id[:15]
                if place not in self._moved and place not in self._asked:
                    self._asked.add(place)
                    found.setdefault(last.next_sobject, []).append(last.next_id)
        return found

    def ids_passed(self, key: str, addresses: Iterable[str]) -> tuple[str, ...]:
        """IDs of the records to which merges and conversions lead from this key and addresses."""
        passed: dict[str, None] = {}
        for move in self._moves_of(key, addresses):
            following: MovedRecord | None = move
            while following is not None and following.next_id and following.next_id not in passed:
                passed[following.next_id] = None
                following = self._moved.get(following.next_id[:15])
        return tuple(passed)

    def _moves_of(self, key: str, addresses: Iterable[str]) -> list[MovedRecord]:
        if not self._moved_by_key and not self._moved_by_address:
            return []
        found = (self._moved_by_address.get(address, ()) for address in addresses)
        return [*self._moved_by_key.get(key, ()), *(move for moves in found for move in moves)]

    def _last(self, move: MovedRecord) -> SObjectRecord | MovedRecord:
        """Where a record's moves end: at a living record, or at the last move that is known."""
        for _ in range(MAX_MOVES):
            place = (move.next_id or "")[:15]
            if living := self.records.get(place):
                return living
            following = self._moved.get(place)
            if following is None:
                return move
            move = following
        return move

    def _add(self, sobject: str, row: Mapping[str, Any]) -> SObjectRecord | None:
        record_id = row.get("Id")
        if not isinstance(record_id, str):
            return None
        record = self.records.get(record_id[:15])
        if record is None:
            stored = {
                name: value
                for name, value in row.items()
                if name not in _NESTED and name != "attributes"
            }
            own_fields = self._address_fields.get(sobject, ())
            record = SObjectRecord(
                sobject, record_id, stored, dict(stored), address_fields=own_fields
            )
            self.records[record_id[:15]] = record
            self._index(record)
        return record

    # Changes of the plan.

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
        for address in {*record.addresses, *record.people}:
            self._by_address.setdefault((record.sobject, address), {})[record] = None

    def remove_key(self, record: SObjectRecord, key: str) -> None:
        """Registers that a record no longer has this key."""
        if self._by_key.get((record.sobject, key)) is record:
            del self._by_key[record.sobject, key]

    # What matching reads.

    def with_key(self, key: str) -> list[SObjectRecord]:
        """The Contact and the open Lead that hold a record key."""
        return [record for name in ("Contact", "Lead") if (record := self._by_key.get((name, key)))]

    def holds_converted_key(self, key: str) -> bool:
        """Whether a converted Lead holds a record key, so that no other Lead can get it."""
        return any(move.is_converted_lead for move in self._moved_by_key.get(key, ()))

    def followed_with_key(self, key: str) -> FollowedRecord | None:
        """The living record that the holder of a record key became."""
        moves = self._moved_by_key.get(key)
        return next(self._followed(moves), None) if moves else None

    @property
    def is_empty(self) -> bool:
        """Whether nobody has any of the addresses: nothing was found, and nothing is planned."""
        return not self._by_address and not self._moved_by_address

    @property
    def follows_addresses(self) -> bool:
        """Whether any record with an address was converted, merged or deleted."""
        return bool(self._moved_by_address)

    def followed_with_address(self, addresses: Iterable[str]) -> list[FollowedRecord]:
        """The living records that holders of any of the addresses became, each once."""
        found: dict[SObjectRecord, FollowedRecord] = {}
        for address in addresses:
            for followed in self._followed(self._moved_by_address.get(address, ())):
                found.setdefault(followed.record, followed)
        return list(found.values())

    def _followed(self, moves: Iterable[MovedRecord]) -> Iterator[FollowedRecord]:
        for move in moves:
            last = self._last(move)
            if isinstance(last, SObjectRecord):
                yield FollowedRecord(last, move.matched)

    def is_deleted(self, key: str, addresses: Iterable[str]) -> bool:
        """Whether people deleted a record of this person that carried our key.

        It blocks a creation, never a match. A record counts that was merged into one that was
        deleted later, or that cannot be seen. A converted Lead whose Contact cannot be seen does
        not: see `orphaned_leads`.
        """
        return any(self._counts_as_deleted(move) for move in self._moves_of(key, addresses))

    def _counts_as_deleted(self, move: MovedRecord) -> bool:
        last = self._last(move)
        if isinstance(last, SObjectRecord) or not (move.key or last.key):
            return False
        if last.is_converted_lead or self.with_key(move.key or last.key or ""):
            return False
        return not any(
            self._deleted.is_lifted(each.key, each.addresses, each.deleted_at)
            for each in (move, last)
        )

    def with_address(self, addresses: Sequence[str]) -> list[SObjectRecord]:
        """The records that hold any of the addresses, each once.

        Also records that stand for a person of this batch with such an address, and have no room
        for it.
        """
        found: dict[SObjectRecord, None] = {}
        for address in addresses:
            for sobject in ("Contact", "Lead"):
                if records := self._by_address.get((sobject, address)):
                    found |= records
        return list(found)

    def orphaned_leads(self, addresses: Sequence[str]) -> Iterator[SObjectRecord]:
        """The converted Leads with any of the addresses whose Contact is gone."""
        for address in addresses:
            for move in self._moved_by_address.get(address, ()):
                if move.is_converted_lead and isinstance(self._last(move), MovedRecord):
                    row, own_fields = dict(move.row), self._address_fields.get("Lead", ())
                    yield SObjectRecord("Lead", None, move.row, row, address_fields=own_fields)
