"""The command deletions lists what people deleted in Salesforce, and lifts one deletion."""

import pytest
from click.testing import CliRunner, Result

from connectors.salesforce.deleted_records import DeletedRecord, DeletedRecords
from connectors.salesforce.simulator.schema import make_id
from streams.cli import main
from streams.commands import deletions
from streams.commands.deletions import NothingToLift, plan_lift
from streams.kafka.records import KafkaRecord
from streams.sink.deleted_topic import Entry, SweepCursor, apply_entry, entries, entry_record
from tests.support.sink_harness import NAMES

A, B, LEAD = make_id("003", 1), make_id("003", 2), make_id("00Q", 1)
SALT = b"s" * 16


def hash_of(address: str) -> int:
    known = DeletedRecords()
    known.salt = SALT
    return known.hash_of(address)


JUNK = DeletedRecord("g/2", LEAD, None, 1_750_000_000, (hash_of("junk@x.example"),))
MERGED = DeletedRecord("g/1", A, B, 1_750_000_060, (hash_of("ada@x.example"),))
CURSOR = SweepCursor(1_750_100_000, {"Contact": 0, "Lead": 0})
FULL: list[Entry] = [SALT, JUNK, MERGED, CURSOR]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[KafkaRecord]:
    """The records of the topic: the command reads and writes them."""
    records: list[KafkaRecord] = []
    monkeypatch.setattr(deletions, "_topic_records", lambda _kafka: records)
    monkeypatch.setattr(
        deletions, "write_record", lambda _kafka, record, _within: records.append(record)
    )
    return records


def fill(written: list[KafkaRecord], filled: list[Entry]) -> None:
    written.extend(entry_record(NAMES, entry) for entry in filled)


def known_of(written: list[KafkaRecord]) -> DeletedRecords:
    known = DeletedRecords()
    for entry in entries(written):
        apply_entry(entry, known)
    return known


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["deletions", *arguments])


def test_the_list_names_keys_and_records_and_counts_them(written: list[KafkaRecord]) -> None:
    fill(written, FULL)
    for arguments in ((), ("list",)):
        ended = run(*arguments)
        assert ended.exit_code == 0
        assert ended.stdout.splitlines() == [
            f"g/2\t{LEAD}\tdeleted\t2025-06-15 15:06Z",
            f"g/1\t{A}\tmerged into {B}\t2025-06-15 15:07Z",
        ]
        assert "1 deleted, 1 merged; the recycle bin was read last at 2025-06-16" in ended.stderr


def test_a_lift_writes_nothing_without_execute(written: list[KafkaRecord]) -> None:
    fill(written, FULL)
    ended = run("lift", "--key", "g/2")
    assert ended.exit_code == 0
    assert f"{LEAD} of contact g/2: deleted" in ended.output
    assert "--execute" in ended.output
    assert len(written) == len(FULL)


@pytest.mark.parametrize("option", [("--key", "g/2"), ("--email", " Junk@X.example ")])
def test_a_lift_lets_the_key_and_the_address_be_created_again(
    written: list[KafkaRecord], option: tuple[str, str]
) -> None:
    fill(written, FULL)
    ended = run("lift", *option, "--execute")
    assert ended.exit_code == 0
    assert "within 60 s" in ended.output
    known = known_of(written)
    assert known.found("g/2", ["junk@x.example"]) == []
    assert known.found("h/2", ["junk@x.example"]) == []
    assert [each.key for each in known.found("g/1", [])] == ["g/1"]
    again = DeletedRecord("g/2", LEAD, None, 2**40, JUNK.address_hashes)
    known.remember(again)
    assert known.found("g/2", []) == [again], "a later deletion counts again"


def test_an_address_can_be_lifted_before_the_first_sweep(written: list[KafkaRecord]) -> None:
    ended = run("lift", "--email", "junk@x.example", "--execute")
    assert ended.exit_code == 0
    assert "Nothing is remembered of it" in ended.output
    known = known_of(written)
    assert known.is_lifted(None, ["junk@x.example"], 1_750_000_000)


@pytest.mark.parametrize(
    ("key", "address", "named"),
    [
        (None, None, "either --key"),
        ("g/1", "a@x.example", "either --key"),
        ("nonsense", None, "no contact key"),
        (None, "nonsense", "no email address"),
    ],
)
def test_what_cannot_be_lifted_is_named(key: str | None, address: str | None, named: str) -> None:
    with pytest.raises(NothingToLift, match=named):
        plan_lift(DeletedRecords(), key, address, 1)
