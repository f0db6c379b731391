"""The suppression list: nothing is written about a person from the moment of being listed."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.policy import Policy
from connectors.salesforce.skip_reasons import SkipReason
from connectors.salesforce.suppression import (
    FILE_CHECK_SECONDS,
    GrowingSuppression,
    Suppression,
    SuppressionError,
    SuppressionFile,
    load_suppression,
)
from streams.cli import main
from streams.commands.suppress.lift import (
    LiftReceipt,
    current_entries,
    entries_of,
    made_together,
    receipt_lines,
)
from streams.commands.suppress.people import NotAPerson, read, split
from streams.commands.suppress.receipt import CLEANING_MS, clean_at, mentions
from streams.kafka.records import KafkaRecord
from streams.suppression import apply_record, entries_of_file, entry_record, new_entries
from tests.support.salesforce_org import simulated_org
from tests.support.sink_harness import NAMES


def add(path: Path, values: list[str]) -> None:
    """Adds to a list in a file, as earlier versions did."""
    known = load_suppression(path) if path.exists() else Suppression()
    path.write_text(known.adding(values).dump())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def ada(key: str = "g/ada", version: int = 100, **fields: Any) -> ContactVersion:
    return ContactVersion(
        key, version, {"surname": "Lovelace", "emails": [{"email": "Ada@Acme.example"}], **fields}
    )


def test_the_file_is_checked_once_a_second_and_read_again_when_it_changed(tmp_path: Path) -> None:
    path, clock = tmp_path / "list.json", Clock()
    add(path, ["bob@acme.example"])
    listed = SuppressionFile(path, clock)
    assert (listed.holds(["bob@acme.example"]), listed.holds(["ada@acme.example"])) == (True, False)
    first = listed.current()
    clock.now += FILE_CHECK_SECONDS
    assert listed.current() is first, "an unchanged file is not read again"
    add(path, ["ada@acme.example"])
    clock.now += FILE_CHECK_SECONDS / 2
    assert not listed.holds(["ada@acme.example"])
    clock.now += FILE_CHECK_SECONDS
    assert listed.holds(["ada@acme.example"])
    assert listed.holds(["bob@acme.example"])


def test_a_list_that_cannot_be_read_lets_nothing_through(tmp_path: Path) -> None:
    path, clock = tmp_path / "list.json", Clock()
    add(path, ["ada@acme.example"])
    listed = SuppressionFile(path, clock)
    assert listed.hashes
    text = path.read_text()
    for broken in ("{", None):
        path.write_text(broken) if broken else path.unlink()
        clock.now += FILE_CHECK_SECONDS
        for _ in range(2):
            with pytest.raises(SuppressionError):
                listed.holds(["somebody@else.example"])
    path.write_text(text)
    assert listed.holds(["ada@acme.example"])


def test_what_operators_typed_is_counted_once_for_each_action_and_run() -> None:
    begun = KafkaRecord("t", b"1", b'{"selection":{"addresses":["Ada@Acme.example"]}}', [])
    by_key = KafkaRecord("t", b"2", b'{"selection":{"keys":["g/ada"]}}', [])
    another = KafkaRecord("t", b"3", b'{"selection":{"keys":["g/ADA","g/bob"]}}', [])
    erased = KafkaRecord("t", b"4", None, [])
    records = [begun, begun, by_key, another, erased]
    assert mentions(records, ["ada@acme.example"], ["g/ada"]) == 2
    assert mentions(records, [], []) == 0


async def test_a_suppressed_person_is_never_written_again(
    tmp_path: Path,
) -> None:
    path, clock = tmp_path / "list.json", Clock()
    path.write_text(Suppression().dump())
    async with simulated_org(policy=Policy(suppression=SuppressionFile(path, clock))) as org:
        assert (await org.all(ada()))["g/ada"].status is OutcomeStatus.CREATED
        (record,) = org.people()
        before = dict(record)
        plan = await org.sync.resolve([ada(version=200, job_title="Countess")])
        assert plan.rows
        add(path, ["ada@acme.example"])
        clock.now += FILE_CHECK_SECONDS
        (outcome,) = await org.sync.write(plan)  # listed between the query and the write
        assert (outcome.status, outcome.reason) == (
            OutcomeStatus.SKIPPED,
            SkipReason.SUPPRESSED.value,
        )
        for number, again in enumerate(
            (ada(version=300), ada("h/other", 400), ada("g/new", 500, job_title="Boss"))
        ):
            (outcome,) = await org.sync.sync([again])
            assert outcome.reason == SkipReason.SUPPRESSED.value, number
        assert [dict(record) for record in org.people()] == [before]
    async with simulated_org(
        policy=Policy(suppression=SuppressionFile(path))
    ) as org:  # another process, an empty org
        assert (await org.all(ada(version=600)))["g/ada"].reason == SkipReason.SUPPRESSED.value
        assert org.people() == []


def suppress(text: str, *options: str) -> Any:
    return CliRunner().invoke(main, ["suppress", *options, "--file", "-"], input=text, env=NOTHING)


NOTHING = {"PEOPLE_SUPPRESSION_LIST": "", "KAFKA_BOOTSTRAP_SERVERS": ""}


def test_an_unreadable_line_is_reported_by_its_number() -> None:
    ended = suppress("ada@acme.example\nnot an address\n")
    assert ended.exit_code == 2
    assert "line 2" in ended.output
    assert "not an address" not in ended.output
    for line in ("/contact", "grant/", "x"):
        with pytest.raises(NotAPerson, match="line 1"):
            read([line])


def test_nobody_and_a_file_instead_of_a_person_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "people"
    file.write_text("ada@acme.example\n")
    for arguments, said in (
        (["suppress"], "nobody is named"),
        (["export"], "nobody is named"),
        (["suppress", str(file)], "give it with --file"),
        (["export", "-"], "give it with --file"),
        (["suppress", "ada"], "ada is neither an email address nor a contact key"),
    ):
        ended = CliRunner().invoke(main, arguments, env=NOTHING)
        assert ended.exit_code == 2, ended.output
        assert said in ended.output


def test_a_list_of_the_topic_holds_addresses_and_keys_under_one_salt() -> None:
    listed = GrowingSuppression()
    first = new_entries(listed, ["ada@acme.example", "g/ada", "ada@acme.example"])
    assert len(first) == 2
    for entry in first:
        apply_record(listed, entry_record(NAMES, entry, 1))
    assert listed.holds(["ada@acme.example"])
    assert listed.holds(["other@acme.example", "g/ada"])
    assert not listed.holds(["g/bob"])
    (second,) = new_entries(listed, ["ada@acme.example", "bob@acme.example"])
    assert second.salt == first[0].salt
    record = entry_record(NAMES, second, 1)
    assert not any(word in repr(record) for word in ("bob", "acme"))


def test_a_list_in_a_file_is_taken_into_the_topic_once_with_its_own_salt() -> None:
    listed, file = GrowingSuppression(), Suppression().adding(["ada@acme.example", "g/old"])
    for entry in new_entries(listed, ["bob@acme.example"]):
        apply_record(listed, entry_record(NAMES, entry, 1))
    for entry in entries_of_file(listed, file):
        apply_record(listed, entry_record(NAMES, entry, 2))
    for value in ("ada@acme.example", "g/old", "bob@acme.example"):
        assert listed.holds([value])
    assert list(entries_of_file(listed, file)) == []
    assert listed.size == 3


def test_a_tombstone_takes_an_entry_off_and_leaves_the_others() -> None:
    listed = GrowingSuppression()
    ada, bob = new_entries(listed, ["ada@acme.example", "bob@acme.example"])
    for entry in (ada, bob):
        apply_record(listed, entry_record(NAMES, entry, 1))
    for key in (ada.key, b"unknown/hash", b"", ada.key):
        apply_record(listed, KafkaRecord(NAMES.suppression.name, key, None, []))
    assert not listed.holds(["ada@acme.example"])
    assert listed.holds(["bob@acme.example"])
    apply_record(listed, KafkaRecord(NAMES.suppression.name, bob.key, None, []))
    assert not listed.hashes, "nobody is listed, as in the beginning"
    (again,) = new_entries(listed, ["ada@acme.example"])
    assert again.salt == ada.salt, "the salt stays that of the topic"


def listed_entries(*erasures: tuple[list[str], dict[str, list[str]]]) -> list[KafkaRecord]:
    """The records of erasures: each of people and keys, and for whom a key was found."""
    listed, records = GrowingSuppression(), list[KafkaRecord]()
    for at_ms, (values, found_for) in enumerate(erasures, 1):
        for entry in new_entries(listed, values, found_for):
            record = entry_record(NAMES, entry, at_ms)
            apply_record(listed, record)
            records.append(record)
    return records


def left_of(records: list[KafkaRecord], *lifted: str) -> GrowingSuppression:
    """The list after a lift."""
    keys = entries_of(current_entries(records), lifted)
    listed = GrowingSuppression()
    for record in (*records, *(KafkaRecord(NAMES.suppression.name, key, None, []) for key in keys)):
        apply_record(listed, record)
    return listed


def test_with_a_person_go_the_contact_keys_that_were_listed_for_them() -> None:
    records = listed_entries(
        (
            ["ada@acme.example", "bob@acme.example", "g/ada", "h/ada", "g/bob"],
            {
                "g/ada": ["ada@acme.example"],
                "h/ada": ["ada@acme.example"],
                "g/bob": ["bob@acme.example"],
            },
        )
    )
    left = left_of(records, "ada@acme.example")
    assert not any(left.holds([value]) for value in ("ada@acme.example", "g/ada", "h/ada"))
    assert all(left.holds([value]) for value in ("bob@acme.example", "g/bob"))
    assert not any(word in repr(records) for word in ("ada@", "bob@", "g/ada", "acme"))
    assert left_of(records, "g/ada").holds(["ada@acme.example"]), "a key goes alone"


def test_keys_of_an_earlier_version_stay_and_the_receipt_counts_them() -> None:
    """Their entries do not say for whom they were made."""
    records = listed_entries((["ada@acme.example", "g/ada"], {}), (["eve@acme.example"], {}))
    listed = current_entries(records)
    lifted = entries_of(listed, ["ada@acme.example"])
    assert len(made_together(listed, lifted)) == 1
    assert made_together(listed, entries_of(listed, ["ada@acme.example", "g/ada"])) == []
    told = " ".join(receipt_lines(LiftReceipt(True, 1, 1, 0, 1)))
    assert "lift the contact key too" in told
    assert "contactstream reconcile --all" in told


def test_a_lift_without_a_person_or_a_reason_is_refused() -> None:
    for arguments, said in (
        (["--lift"], "nobody is named"),
        (["--lift", "ada@acme.example"], "--why is empty"),
        (["--lift", "ada@acme.example", "--why", " "], "--why is empty"),
        (["ada@acme.example", "--why", "asked"], "--why is for --lift"),
    ):
        ended = CliRunner().invoke(main, ["suppress", *arguments], env=NOTHING)
        assert ended.exit_code == 2, ended.output
        assert said in ended.output


def test_a_list_in_a_file_counts_until_it_is_taken_over() -> None:
    listed = GrowingSuppression(Suppression().adding(["ada@acme.example"]))
    assert listed.hashes
    assert listed.holds(["ada@acme.example"])


@pytest.mark.parametrize("value", [b"{", b"{}", b'{"schema": 1}', b'{"schema": 1, "salt": "xy"}'])
def test_an_entry_that_cannot_be_read_is_skipped(value: bytes) -> None:
    listed = GrowingSuppression()
    apply_record(listed, KafkaRecord(NAMES.suppression.name, b"salt/hash", value, []))
    assert listed.size == 0


DAY = 86_400_000


@pytest.mark.parametrize(
    ("config", "days"),
    [
        ({"cleanup.policy": "delete", "retention.ms": str(14 * DAY), "segment.ms": str(DAY)}, 13),
        ({"cleanup.policy": "compact", "max.compaction.lag.ms": str(DAY)}, 1),
        (
            {
                "cleanup.policy": "compact,delete",
                "max.compaction.lag.ms": str(14 * DAY),
                "retention.ms": str(30 * DAY),
            },
            14,
        ),
        ({"cleanup.policy": "delete", "retention.ms": "-1"}, None),
    ],
)
def test_the_receipt_says_when_a_topic_is_clean_at_the_latest(
    config: dict[str, str], days: int | None
) -> None:
    newest, now = 100 * DAY, 102 * DAY
    clean = clean_at(config, newest, now)
    assert clean == (None if days is None else now + days * DAY + CLEANING_MS)


async def test_an_erasure_clears_what_only_contactstream_wrote_and_deletes_nothing() -> None:
    further = [{"email": "ada@acme.example"}, {"email": "ada@home.example"}]
    async with simulated_org() as org:
        assert (await org.all(ada(emails=further)))["g/ada"].status is OutcomeStatus.CREATED
        (outcome,) = await org.sync.sync([ContactVersion("g/ada", 50, None, erase=True)])
        assert (outcome.status, outcome.reason) == (OutcomeStatus.RELEASED, "erased")
        assert outcome.replaced == (), "a journal would keep the further addresses"
        (record,) = org.people()
    ours = ("Nylas_Contact_Id__c", "Nylas_Version__c", "Nylas_Field_Hashes__c", "Nylas_Email_2__c")
    assert [record.get(name) for name in ours] == [None] * 4
    assert (record["LastName"], record["Email"]) == ("Lovelace", "ada@acme.example")


def test_addresses_and_contact_keys_are_told_apart() -> None:
    people = read(["Ada@Acme.example", "g/ada@acme.example", "g/c"])
    both = "g/ada@acme.example"
    assert split(people) == (["ada@acme.example", both], [both, "g/c"])
