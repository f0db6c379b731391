"""Records as plans that nobody writes would leave them, for the plans of later batches.

`contactstream plan` looks at many batches and writes none. Without this, a person of two batches
would be created twice, and a record without a key would be taken over twice.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from connectors.salesforce.outcome import OutcomeStatus
from connectors.salesforce.planner import PlannedOutcome
from connectors.salesforce.sobject_record import SObjectRecord

Row = Mapping[str, Any]

# Planned records in memory, of 2.4 KB each with ten fields, so 250 MB. When there are more, the
# oldest are forgotten: whoever meets one of them again is planned as if it had not been.
MAX_PLANNED_RECORDS = 100_000
# The length of an ID without its suffix of three characters.
_ID_LENGTH = 15
_NEW = "new"


class PlannedRecords:
    """The planned state of records, by their IDs; those to be created have IDs of their own kind.

    Reading them costs nothing: the rows are added to those that a batch reads from the org.
    """

    def __init__(self, most: int = MAX_PLANNED_RECORDS) -> None:
        self.forgotten = 0
        """Planned records that had no room."""
        self._most = most
        self._created = 0
        # by the first 15 characters of the ID, in the order of the plans
        self._rows: dict[str, tuple[str, Row]] = {}
        self._values: dict[str, tuple[str, ...]] = {}
        self._by_value: dict[tuple[str, str], dict[str, None]] = {}
        self._creators: dict[str, str] = {}

    def add(self, decisions: Iterable[PlannedOutcome]) -> None:
        """Takes over what the plan of a batch changes."""
        contacts: dict[SObjectRecord, str] = {}
        for decision in decisions:
            created = decision.outcome.status is OutcomeStatus.CREATED
            if decision.record is not None and (created or decision.record not in contacts):
                contacts[decision.record] = decision.change.key
        for record, contact_key in contacts.items():
            if record.changes:
                self._add(record, contact_key)

    def _add(self, record: SObjectRecord, contact_key: str) -> None:
        now = datetime.now(UTC).isoformat()
        row = {**record.fields, "LastModifiedDate": now}
        if record.id is None:
            self._created += 1
            record_id = f"{_NEW}{self._created:0{_ID_LENGTH - len(_NEW)}d}"
            row |= {"Id": record_id, "CreatedDate": now}
            self._creators[record_id] = contact_key
        else:
            record_id = record.id[:_ID_LENGTH]
            self._remove(record_id)
        self._rows[record_id] = (record.sobject, row)
        self._values[record_id] = _search_values(record)
        for value in self._values[record_id]:
            self._by_value.setdefault((record.sobject, value), {})[record_id] = None
        while len(self._rows) > self._most:
            self.forgotten += 1
            oldest = next(iter(self._rows))
            self._remove(oldest)
            self._creators.pop(oldest, None)

    def _remove(self, record_id: str) -> None:
        if record_id not in self._rows:
            return
        sobject, _ = self._rows.pop(record_id)
        for value in self._values.pop(record_id):
            holders = self._by_value[sobject, value]
            del holders[record_id]
            if not holders:
                del self._by_value[sobject, value]

    def creator(self, record_id: str | None) -> str | None:
        """The contact for which an earlier batch creates the record; None for one of the org."""
        return self._creators.get(record_id or "")

    def rows(self, sobject: str, values: Iterable[str]) -> list[Row]:
        """The planned records of an sObject with any of the keys or addresses, as query rows."""
        found = {
            record_id: None
            for value in values
            for record_id in self._by_value.get((sobject, value), ())
        }
        return [self._rows[record_id][1] for record_id in found]

    def newest(self, row: Row) -> Row:
        """A row of the org as the plans so far leave it; of a converted Lead, with its Contact."""
        record_id = row.get("Id")
        if isinstance(record_id, str) and record_id[:_ID_LENGTH] in self._rows:
            return self._rows[record_id[:_ID_LENGTH]][1]
        nested = row.get("ConvertedContact")
        if isinstance(nested, Mapping):
            return {**row, "ConvertedContact": self.newest(nested)}
        return row


def _search_values(record: SObjectRecord) -> tuple[str, ...]:
    """By what a query finds the record: its key and its addresses."""
    found = (record.key, *record.addresses)
    return tuple(dict.fromkeys(value for value in found if value))
