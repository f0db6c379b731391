"""The log of a partition as a broker keeps it on its disk: what stands at its end, and cutting it.

A cut of a stopped broker's log is what a power cut leaves: records that were acknowledged from the
page cache, and had not reached the disk.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiokafka.record.memory_records import MemoryRecords

from tests.faults.harness.evidence import StoredRecord

# The record batch of Kafka's documentation, "Message Format".
LENGTH, ATTRIBUTES, PRODUCER = slice(8, 12), slice(21, 23), slice(43, 51)
BEFORE_LENGTH_COUNTS = 12
HEADER_BYTES = 61
TRANSACTIONAL, CONTROL = 0x10, 0x20


@dataclass(frozen=True)
class Batch:
    """A record batch in a segment; `start` and `end` are positions in the file."""

    start: int
    end: int
    producer: int
    transactional: bool
    control: bool
    """Whether it is the end of a transaction, which holds no records of ours."""


@dataclass(frozen=True)
class End:
    """The last records of a log, which can be lost together: none of a transaction stays behind."""

    file: Path
    position: int
    records: tuple[StoredRecord, ...]


def batches(data: bytes) -> Iterator[Batch]:
    """The whole batches of a segment; one that is being written is left out."""
    at = 0
    while at + HEADER_BYTES <= len(data):
        header = data[at : at + HEADER_BYTES]
        end = at + BEFORE_LENGTH_COUNTS + int.from_bytes(header[LENGTH], "big")
        if end > len(data):
            return
        attributes = int.from_bytes(header[ATTRIBUTES], "big")
        producer = int.from_bytes(header[PRODUCER], "big", signed=True)
        yield Batch(at, end, producer, bool(attributes & TRANSACTIONAL), bool(attributes & CONTROL))
        at = end


def find_end(partition: Path) -> End | None:
    """The end of the log in a partition's folder: its last batch, or its last transactions.

    None when the newest segment holds nothing else.
    """
    file = max(partition.glob("*.log"))
    data = file.read_bytes()
    position, last, open_producers = 0, 0, set[int]()
    for batch in batches(data):
        if batch.control:
            open_producers.discard(batch.producer)
        else:
            if not open_producers:
                position = batch.start
            if batch.transactional:
                open_producers.add(batch.producer)
        last = batch.end
    return End(file, position, tuple(_records(data[position:last]))) if position else None


def cut(end: End) -> None:
    """Removes the end of a log. Only while its broker is stopped, which then reads the log anew."""
    with end.file.open("r+b") as log:
        log.truncate(end.position)
    for name in ("*.index", "*.timeindex", "*.snapshot"):
        for file in end.file.parent.glob(name):
            file.unlink()


def _records(data: bytes) -> Iterator[StoredRecord]:
    found = MemoryRecords(data)
    while found.has_next():
        batch = found.next_batch()
        if batch.is_control_batch:
            continue
        for record in batch:
            key = (record.key or b"").decode(errors="replace")
            headers = {
                name: (value or b"").decode(errors="replace") for name, value in record.headers
            }
            yield StoredRecord(0, record.offset, key, record.value, headers)
