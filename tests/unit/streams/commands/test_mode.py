"""The command mode: which mode counts and why, and what setting another one writes."""

import json
from collections.abc import Iterable

import pytest
from click.testing import CliRunner, Result

from connectors.salesforce.write_mode import WriteMode
from streams.audit import parse_audit
from streams.cli import main
from streams.commands import breakers, mode, offer_again
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.control import ControlTable
from streams.control_mode import ModeChange, mode_in_force, mode_record
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import LogRange
from streams.runs import ReplaySource, RunLog
from tests.support.sink_harness import NAMES


class Topics:
    """The topics that the command reads and writes; outcomes end at `outcomes`."""

    def __init__(self) -> None:
        self.records: list[KafkaRecord] = []
        self.outcomes = 0
        self.refused = ""

    def publish(self, published: Iterable[KafkaRecord]) -> None:
        for record in published:
            if record.topic == self.refused:
                raise NotAcknowledged("no broker")
            self.records.append(record)

    def of(self, topic: str) -> list[KafkaRecord]:
        return [one for one in self.records if one.topic == topic]

    def log(self, _kafka: object, topic: str) -> dict[int, LogRange]:
        end = self.outcomes if topic == NAMES.outcomes.name else 40
        return {0: LogRange(0, 0, end)}

    @property
    def mode(self) -> ModeChange | None:
        table = ControlTable()
        for record in self.of(NAMES.control.name):
            table.apply(record)
        return table.mode


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Topics:
    topics = Topics()
    monkeypatch.setattr(breakers, "topic_records", lambda *_, **__: topics.of(NAMES.control.name))
    monkeypatch.setattr(CommandPublisher, "publish", lambda _, records: topics.publish(records))
    monkeypatch.setattr(mode, "topic_log", topics.log)
    monkeypatch.setattr(offer_again, "topic_log", topics.log)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("SALESFORCE_MODE", raising=False)
    return topics


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments])


def set_mode(*arguments: str) -> Result:
    return run("mode", "set", *arguments, "--why", "the first week", "--actor", "ada")


def shown() -> tuple[str | None, str]:
    found = json.loads(run("mode", "show", "--json").stdout)
    return found["mode"], found["origin"]


def test_without_a_mode_and_without_outcomes_a_person_has_to_choose(kafka: Topics) -> None:
    chosen, origin = shown()
    assert chosen is None
    assert "contactstream mode set report-only" in origin
    assert "contactstream mode set report-only" in " ".join(run("mode").output.split())


def test_a_deployment_of_before_the_modes_goes_on_as_mirror(kafka: Topics) -> None:
    kafka.outcomes = 7
    assert shown() == ("mirror", "nobody chose one, and there are outcomes already")


def test_the_setting_counts_until_somebody_sets_a_mode(
    kafka: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALESFORCE_MODE", "enrich-only")
    kafka.outcomes = 7
    assert shown() == ("enrich-only", "SALESFORCE_MODE")
    assert set_mode("mirror").exit_code == 0
    chosen, origin = shown()
    assert chosen == "mirror"
    assert origin.startswith("set by ada at ")
    assert origin.endswith(", the first week")
    assert "* mirror " in run("mode", "show").output


def test_a_mode_is_written_and_audited_and_withheld_contacts_are_offered_again(
    kafka: Topics,
) -> None:
    ended = set_mode("create-only")
    assert ended.exit_code == 0, ended.output
    assert "obeyed within 5 s" in ended.output
    assert kafka.mode is not None
    assert (kafka.mode.mode, kafka.mode.by) == (WriteMode.CREATE_ONLY, "ada")
    (entry,) = [parse_audit(one) for one in kafka.of(NAMES.audit.name)]
    assert (entry.action, entry.why) == ("mode set create-only", "the first week")
    runs = RunLog()
    for record in kafka.of(NAMES.runs.name):
        runs.apply(record.key or b"", record.value)
    ((run_id, asked),) = runs.runs.items()
    assert run_id in ended.output
    assert asked.replay is not None
    assert asked.replay.source is ReplaySource.CHANGES, "Nylas is not asked"
    assert asked.replay.selection.outcomes == ("planned", "skipped:mode_creates_nobody")
    assert asked.replay.ends == (40,)
    assert asked.not_before > asked.requested_at + 5, "the sink knows the mode by then"


def test_report_only_offers_nobody_again(kafka: Topics) -> None:
    assert set_mode("report-only").exit_code == 0
    assert not kafka.of(NAMES.runs.name)


def test_a_dry_run_says_what_would_follow_and_writes_nothing(kafka: Topics) -> None:
    ended = set_mode("mirror", "--dry-run")
    assert ended.exit_code == 0
    assert "planned, skipped:mode_creates_nobody" in ended.output
    assert not kafka.records


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("report", "did you mean report-only?"),
        ("Create_Only", "did you mean create-only?"),
        ("off", "it may be report-only, fill-blanks, enrich-only, create-only, mirror"),
    ],
)
def test_a_mode_that_does_not_exist_is_refused_with_the_one_that_was_meant(
    kafka: Topics, word: str, hint: str
) -> None:
    ended = set_mode(word)
    assert ended.exit_code == 2
    assert repr(word) in ended.output
    assert hint in " ".join(ended.output.split())
    assert not kafka.records


def test_an_empty_reason_is_refused(kafka: Topics) -> None:
    ended = run("mode", "set", "mirror", "--why", " ")
    assert ended.exit_code == 2
    assert not kafka.records


def test_a_mode_that_was_set_without_its_offering_says_that_the_command_is_to_be_repeated(
    kafka: Topics,
) -> None:
    kafka.refused = NAMES.runs.name
    ended = set_mode("mirror")
    assert ended.exit_code == 1
    assert "nobody is offered again yet; repeat the command" in " ".join(ended.output.split())
    assert kafka.mode is not None


def test_a_record_of_a_later_version_changes_no_mode() -> None:
    table = ControlTable()
    table.apply(mode_record(NAMES, ModeChange(WriteMode.REPORT_ONLY, "ada", "look", 1)))
    for value in (b'{"schema": 2, "mode": "mirror"}', b'{"schema": 1, "mode": "all"}', b"x"):
        table.apply(KafkaRecord(NAMES.control.name, b"mode", value, []))
    found = mode_in_force(table.mode, "", has_outcomes=False)
    assert found is not None
    assert found.mode is WriteMode.REPORT_ONLY
    table.apply(KafkaRecord(NAMES.control.name, b"mode", None, []))
    assert mode_in_force(table.mode, "", has_outcomes=False) is None
