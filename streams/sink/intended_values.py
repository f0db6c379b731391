"""Writes to the journal what the rows of a batch are about to replace, before they are sent."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from connectors.salesforce.api.errors import WriterFenced
from connectors.salesforce.replaced_values import owner_of, values_replaced_by
from connectors.salesforce.rows import WriteRow
from streams.journal import EntryKind, journal_records, value_entries
from streams.kafka.records import KafkaRecord
from streams.sink.batch import Batch
from streams.sink.batching import PendingChange
from streams.sink.outcome_publisher import OutcomePublisher


class IntendedValues:
    """Finds the change of each contact of the batches in flight, for the journal's entries."""

    def __init__(
        self,
        publishing: OutcomePublisher,
        journal: str,
        flag_field: Callable[[], str | None],
        attempting: Callable[[], None],
    ) -> None:
        """`journal` is the topic. `flag_field` returns that of deleted contacts.

        `attempting` is called before each attempt to publish.
        """
        self._publishing = publishing
        self._journal = journal
        self._flag_field = flag_field
        self._attempting = attempting
        # by contact key: no two batches in flight hold the same contact
        self._in_flight: dict[str, tuple[Batch, PendingChange]] = {}

    @contextmanager
    def of(self, batch: Batch) -> Iterator[None]:
        """While it is entered, `note` finds the changes of the batch."""
        for row in batch.rows:
            self._in_flight[row.key] = batch, row
        try:
            yield
        finally:
            for row in batch.rows:
                self._in_flight.pop(row.key, None)

    async def note(self, rows: Sequence[WriteRow]) -> None:
        """Writes to the journal what rows are about to replace; returns once the broker has it.

        Raises WriterFenced where the broker cannot take it: then the rows must not be sent.
        """
        records: list[KafkaRecord] = []
        of_batch: Batch | None = None
        for row in rows:
            values = values_replaced_by(row, self._flag_field())
            if not values:
                continue
            of_batch, pending = self._in_flight[owner_of(row).change.key]
            entries = value_entries(EntryKind.INTENDED, values, pending.record, pending.change)
            records += journal_records(self._journal, entries)
        if of_batch is not None and not await self._publishing.acknowledged(
            records, of_batch.assignment, self._attempting
        ):
            raise WriterFenced("the journal of replaced values was not acknowledged")
