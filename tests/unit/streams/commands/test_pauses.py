"""The commands pause and resume."""

import json
from collections.abc import Iterable

import pytest
from click.testing import CliRunner, Result

from streams.audit import parse_audit
from streams.cli import main
from streams.commands import breakers, pauses
from streams.commands.publishing import CommandPublisher
from streams.control import ControlTable, Pause, PausedPart, pause_record
from streams.events import now_ms
from streams.kafka.records import KafkaRecord
from tests.support.sink_harness import NAMES

DAY_MS = 86_400_000
KEPT = {
    (NAMES.changes.name, "min.compaction.lag.ms"): str(3 * DAY_MS),
    (NAMES.refetch.name, "retention.ms"): str(7 * DAY_MS),
}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[KafkaRecord]:
    """What the commands read from contactstream.control, and all that they write."""
    records: list[KafkaRecord] = []
    monkeypatch.setattr(breakers, "topic_records", lambda *_, **__: control(records))

    def publish(_publisher: CommandPublisher, published: Iterable[KafkaRecord]) -> None:
        records.extend(published)

    monkeypatch.setattr(CommandPublisher, "publish", publish)
    monkeypatch.setattr(pauses, "topic_setting", lambda _admin, *setting: KEPT[setting])
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return records


def control(log: Iterable[KafkaRecord]) -> list[KafkaRecord]:
    return [one for one in log if one.topic == NAMES.control.name]


def table(log: Iterable[KafkaRecord]) -> ControlTable:
    found = ControlTable()
    for record in control(log):
        found.apply(record)
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments])


def begin(*arguments: str) -> Result:
    return run("pause", *arguments, "--why", "a migration", "--actor", "ada")


def test_a_pause_is_written_with_who_why_and_until_when_and_is_audited(
    log: list[KafkaRecord],
) -> None:
    before = now_ms()
    ended = begin("writes", "--until", "2h")
    assert ended.exit_code == 0, ended.output
    assert "nothing is written to Salesforce; obeyed within 5 s" in ended.output
    assert "contactstream resume writes" in ended.output
    pause = table(log).pause_of(PausedPart.WRITES, now_ms())
    assert pause is not None
    assert (pause.by, pause.why) == ("ada", "a migration")
    assert 0 <= pause.until_ms - before - 7_200_000 < 60_000
    (entry,) = [parse_audit(one) for one in log if one.topic == NAMES.audit.name]
    assert (entry.actor, entry.action, entry.why) == ("ada", "pause writes", "a migration")
    assert [one.topic for one in log] == [NAMES.audit.name, NAMES.control.name], (
        "what could not be audited is not done"
    )


def test_the_list_says_what_is_paused_and_how_it_ends(log: list[KafkaRecord]) -> None:
    assert run("pause").output == "nothing is paused\n"
    assert json.loads(run("pause", "--json").stdout) == []
    begin("reading", "--until", "2030-01-31T18:00Z")  # too long: nothing is written
    assert run("pause").output == "nothing is paused\n"
    begin("reading", "--until", "6d")
    shown = " ".join(run("pause").output.split())
    assert "reading: paused by ada at " in shown
    assert "a migration; to end it: contactstream resume reading" in shown
    (one,) = json.loads(run("pause", "--json").stdout)
    assert (one["part"], one["by"], one["why"]) == ("reading", "ada", "a migration")


def test_a_second_pause_moves_the_end_and_says_what_it_was(log: list[KafkaRecord]) -> None:
    begin("writes", "--until", "2h")
    first = table(log).pauses[PausedPart.WRITES].until_ms
    ended = begin("writes", "--until", "1h")
    assert "it was paused by ada until " in ended.output
    assert first - table(log).pauses[PausedPart.WRITES].until_ms > 3_000_000


def test_a_resume_ends_the_pause(log: list[KafkaRecord]) -> None:
    begin("writes", "--until", "2h")
    ended = run("resume", "writes", "--actor", "grace")
    assert ended.exit_code == 0, ended.output
    assert "resumed writes, which ada had paused; it goes on within 5 s" in ended.output
    assert table(log).pauses == {}
    assert parse_audit(log[-2]).action == "resume writes"


def test_what_is_over_needs_no_resume(log: list[KafkaRecord]) -> None:
    log.append(pause_record(NAMES, Pause(PausedPart.WRITES, "ada", "why", 0, now_ms() - 1)))
    ended = run("resume", "writes", "--actor", "grace")
    assert ended.exit_code == 1
    assert "writes is not paused. See: contactstream pause" in ended.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("writes", "--until", "soon"), "--until soon: neither a date and time like"),
        (("writes", "--until", "2020-01-01T00:00Z"), "--until 2020-01-01T00:00Z is over; it is "),
        (("writes", "--until", "0s"), "--until 0s is over"),
        (("writes", "--until", "3d"), "because of min.compaction.lag.ms of contacts.changes"),
        (("reading", "--until", "7d"), "because of retention.ms of contacts.refetch"),
        (("writes", "--until", "1h", "--why", " "), "--why is empty"),
        (("writes", "--until", "1h", "--actor", " "), "--actor NAME"),
        (("everything", "--until", "1h"), "No such command 'everything'"),
        (("writes",), "Missing option '--until'"),
    ],
)
def test_what_cannot_be_a_pause_is_refused_with_what_to_do(
    log: list[KafkaRecord], arguments: tuple[str, ...], said: str
) -> None:
    ended = run("pause", *arguments, *(() if "--why" in arguments else ("--why", "a reason")))
    assert ended.exit_code == 2, ended.output
    assert said in " ".join(ended.output.split())
    assert log == []


def test_the_longest_pause_that_is_allowed_leaves_time_to_catch_up(
    log: list[KafkaRecord],
) -> None:
    assert begin("writes", "--until", "60h").exit_code == 0
    assert begin("writes", "--until", "61h").exit_code == 2
    assert begin("reading", "--until", "156h").exit_code == 0
    assert begin("reading", "--until", "157h").exit_code == 2


def test_a_topic_that_keeps_everything_allows_any_pause(
    log: list[KafkaRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KEPT, (NAMES.refetch.name, "retention.ms"), "-1")
    assert begin("reading", "--until", "90d").exit_code == 0
