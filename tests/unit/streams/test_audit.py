"""The records of the audit: what is written is read again."""

import pytest

from streams.audit import AuditEntry, AuditState, audit_record, parse_audit
from streams.events import UnreadableRecord
from streams.kafka.records import KafkaRecord

ENTRY = AuditEntry(
    "20261130T010203Z-abc",
    AuditState.BEGUN,
    1_760_000_000_000,
    "ada@host",
    "dead-letters redrive",
    "rule mended",
    {"reasons": ["string_too_long"]},
    12,
)


def test_an_entry_is_read_as_it_was_written() -> None:
    assert parse_audit(audit_record("audit", ENTRY)) == ENTRY


@pytest.mark.parametrize(
    "value", [None, b"", b"junk", b"[]", b"{}", b'{"schema":2}', b'{"schema":1,"state":"x"}']
)
def test_what_this_version_did_not_write_is_unreadable(value: bytes | None) -> None:
    with pytest.raises(UnreadableRecord):
        parse_audit(KafkaRecord("audit", b"k", value, []))
