"""What contactstream.control says of mailboxes and of deleted grants, for the page Grants."""

from streams.control import ControlTable
from streams.kafka.records import KafkaRecord


class ControlState:
    """Takes the records of contactstream.control in their order."""

    def __init__(self) -> None:
        self.table = ControlTable()
        self._next_offset = 0

    def take(self, record: KafkaRecord) -> None:
        """Takes the next record in. One that cannot be read is logged and changes nothing."""
        if record.offset < self._next_offset:  # the log was lost, and is read again
            self.table = ControlTable()
        self._next_offset = record.offset + 1
        self.table.apply(record)
