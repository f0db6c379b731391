"""The command org: what an adoption clears, and what doctor says of the pinned org."""

import pytest

from connectors.salesforce.account_store import AccountCursor
from connectors.salesforce.account_table import AccountRow
from connectors.salesforce.checkup.findings import CheckupStatus
from connectors.salesforce.deleted_records import DeletedRecord
from streams.commands.doctor.pinned_org import pin_finding
from streams.control_org import OrgPin
from streams.kafka.records import KafkaRecord
from streams.sink.account_topic import CURSOR_KEY, decode_cursor, encode_cursor, encode_row
from streams.sink.deleted_topic import Forgotten, Lift, SweepCursor, entries, entry_record
from streams.sink.former_org import clear_accounts, clear_deleted_records, clear_values
from tests.support.sink_harness import NAMES

OURS, THEIRS = "00D000000000001AAA", "00D000000000002AAA"


def test_each_outcome_gets_a_tombstone_and_tombstones_get_none() -> None:
    said = [
        KafkaRecord("contacts.outcomes", b"g/ada", b'{"id": "00Q1"}', []),
        KafkaRecord("contacts.outcomes", b"g/bob", None, []),
    ]
    assert [(one.key, one.value) for one in clear_values(said)] == [(b"g/ada", None)]


def test_the_accounts_are_read_anew_after_their_cursor_was_reset() -> None:
    row = AccountRow("001000000000001AAA", "acme.example", 12, False, 1, 1)
    said = [
        KafkaRecord("sink.accounts", row.id.encode(), encode_row(row), []),
        KafkaRecord("sink.accounts", CURSOR_KEY, encode_cursor(AccountCursor(generation=3)), []),
    ]
    tombstone, cursor = clear_accounts(said)
    assert (tombstone.key, tombstone.value) == (row.id.encode(), None)
    assert decode_cursor(cursor.value) == AccountCursor()
    assert list(clear_accounts([])) == []


def test_deletions_are_forgotten_and_the_salt_of_the_hashes_stays() -> None:
    known = [
        entry_record(NAMES, b"s" * 16),
        entry_record(NAMES, Lift(5, address_hash=7)),
        entry_record(NAMES, DeletedRecord("g/ada", "00Q1", None, 3, (7,))),
        entry_record(NAMES, SweepCursor(9, {"Lead": 8})),
    ]
    cleared = list(entries(clear_deleted_records(known)))
    assert cleared == [Forgotten("g/ada"), Forgotten("cursor")]


@pytest.mark.parametrize(
    ("pin", "status"),
    [
        (None, CheckupStatus.OK),
        (OrgPin(OURS, "sink", 1), CheckupStatus.OK),
        (OrgPin(THEIRS, "sink", 1), CheckupStatus.FAIL),
        (OrgPin(OURS, "ada", 1, adopting=True, former=THEIRS), CheckupStatus.OK),
    ],
)
def test_doctor_compares_the_login_with_the_pinned_org(
    pin: OrgPin | None, status: CheckupStatus
) -> None:
    found = pin_finding(pin, OURS)
    assert found.status is status
    assert bool(found.remedy) is (status is not CheckupStatus.OK)
