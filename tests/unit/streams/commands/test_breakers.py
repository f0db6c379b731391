"""The command breakers lists the open failure breakers, and releases one."""

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result

from connectors.salesforce.checkup.findings import CheckupStatus
from streams.cli import main
from streams.commands import breakers
from streams.commands.breakers import masked
from streams.commands.doctor.kafka import breaker_findings
from streams.commands.follow import pause_hint, why_runs_wait
from streams.commands.publishing import CommandPublisher
from streams.control import (
    ControlTable,
    FailureBreaker,
    FailuresSeen,
    Pause,
    PausedPart,
    Stops,
    breaker_record,
    pause_record,
    released,
)
from streams.events import now_ms
from streams.kafka.records import KafkaRecord
from tests.support.sink_harness import NAMES

AT = 1_796_000_000_000
BULK = FailureBreaker(
    "string_too_long", Stops.BULK, AT, FailuresSeen(7, 612, False, AT - 60_000, AT, "g1/contact-42")
)
ROW = FailureBreaker(
    "unknown_code", Stops.ALL, AT + 1, FailuresSeen(400, 1000, True, AT, AT, "g1/contact-43")
)


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> list[KafkaRecord]:
    """The records of contactstream.control: the command reads and writes them."""
    records: list[KafkaRecord] = []
    monkeypatch.setattr(breakers, "topic_records", lambda *_, **__: records)

    def publish(_publisher: CommandPublisher, published: Iterable[KafkaRecord]) -> None:
        records.extend(one for one in published if one.topic == NAMES.control.name)

    monkeypatch.setattr(CommandPublisher, "publish", publish)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return records


def write(topic: list[KafkaRecord], *written: FailureBreaker) -> None:
    topic.extend(breaker_record(NAMES, one) for one in written)


def table(topic: list[KafkaRecord]) -> ControlTable:
    found = ControlTable()
    for record in topic:
        found.apply(record)
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["breakers", *arguments])


def test_the_list_says_what_is_stopped_and_why_and_how_to_release_it(
    topic: list[KafkaRecord],
) -> None:
    write(topic, BULK, ROW)
    ended = run()
    assert ended.exit_code == 0
    assert ended.stdout.splitlines() == [
        "unknown_code stops all writing to Salesforce since 2026-11-30T00:53:20Z",
        "    1000 contacts failed in a row, 400 of them for this reason, from "
        "2026-11-30T00:53:20Z to 2026-11-30T00:53:20Z",
        "    one of them is g1/cont...",
        "    correct the cause, which the dead letters of this reason name; then: "
        "contactstream breakers release unknown_code",
        "string_too_long stops bulk runs since 2026-11-30T00:53:20Z",
        "    7 of the last 612 contacts of bulk runs failed for it, from 2026-11-30T00:52:20Z to "
        "2026-11-30T00:53:20Z",
        "    one of them is g1/cont...",
        "    correct the cause, which the dead letters of this reason name; then: "
        "contactstream breakers release string_too_long",
    ]


def test_nothing_open_is_said(topic: list[KafkaRecord]) -> None:
    ended = run()
    assert (ended.exit_code, ended.stdout) == (0, "no failure breaker is open\n")
    assert json.loads(run("--json").stdout) == {"open": [], "accepted": []}


def test_a_program_gets_json_without_the_contact(topic: list[KafkaRecord]) -> None:
    write(topic, BULK)
    ended = run("--json")
    assert ended.exit_code == 0
    (one,) = json.loads(ended.stdout)["open"]
    assert (one["reason"], one["stops"], one["failures"], one["outcomes"]) == (
        "string_too_long",
        "bulk",
        7,
        612,
    )
    assert one["example"] == "g1/cont..."
    assert "contact-42" not in ended.stdout


def test_a_release_is_written_with_who_and_until_when(topic: list[KafkaRecord]) -> None:
    write(topic, BULK, ROW)
    before = now_ms()
    ended = run("release", "string_too_long", "--for", "2h", "--why", "now 80", "--actor", "ada")
    assert ended.exit_code == 0, ended.output
    assert "released string_too_long, which stopped bulk runs" in ended.output
    let_go = table(topic).breakers["string_too_long"]
    assert not let_go.is_open
    assert let_go.released_by == "ada"
    assert 0 <= let_go.accepted_until_ms - before - 7_200_000 < 60_000
    assert "unknown_code" in why_runs_wait(table(topic), now_ms())
    listed = run()
    assert "string_too_long: ada released it at" in listed.stdout
    assert json.loads(run("--json").stdout)["accepted"][0]["released_by"] == "ada"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("string_to_long",), 1, "did you mean string_too_long?; open: string_too_long"),
        (("nonsense",), 1, "'nonsense'; open: string_too_long. See: contactstream breakers"),
        (("over",), 1, "the breaker of over is not open: bob released it at 2026-11-30"),
        (("string_too_long", "--for", "soon"), 2, "--for soon: a time of up to 30 days"),
        (("string_too_long", "--for", "31d"), 2, "SINK_BREAKER_BULK_SHARE"),
        (("string_too_long", "--actor", " "), 2, "--actor NAME"),
        ((), 2, "Missing argument 'REASON'"),
    ],
)
def test_what_cannot_be_released_is_refused_with_what_to_do(
    topic: list[KafkaRecord], arguments: tuple[str, ...], status: int, said: str
) -> None:
    write(topic, BULK, released(replace(BULK, reason="over"), "bob", AT, 0))
    known = len(topic)
    ended = run("release", *arguments)
    assert ended.exit_code == status, ended.output
    assert said in " ".join(ended.output.split())
    assert len(topic) == known


def test_in_a_pod_the_actor_has_to_be_named(
    topic: list[KafkaRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(topic, BULK)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    ended = run("release", "string_too_long")
    assert ended.exit_code == 2
    assert "--actor NAME" in ended.output
    assert run("release", "string_too_long", "--actor", "ada").exit_code == 0


def test_outside_of_a_pod_the_user_of_the_system_is_the_actor(
    topic: list[KafkaRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(topic, BULK)
    monkeypatch.setattr("getpass.getuser", lambda: "grace")
    assert run("release", "string_too_long").exit_code == 0
    assert table(topic).breakers["string_too_long"].released_by.startswith("grace@")


def test_a_key_is_masked_up_to_a_few_characters() -> None:
    assert masked("grant/contact") == "grant/cont..."


def test_who_waits_for_a_run_is_told_why_it_is_paused() -> None:
    found = ControlTable()
    found.apply(breaker_record(NAMES, BULK))
    hint = pause_hint(why_runs_wait(found, AT))
    assert "string_too_long" in hint
    assert "contactstream breakers" in hint
    found.apply(pause_record(NAMES, Pause(PausedPart.READING, "ada", "limits", AT, AT + 1000)))
    assert "ada paused reading; see contactstream pause" in pause_hint(why_runs_wait(found, AT))
    assert "contactstream breakers" in pause_hint(why_runs_wait(found, AT + 1000)), "it is over"
    assert "goes on" in pause_hint("")


def test_doctor_names_what_is_open() -> None:
    (none,) = breaker_findings([])
    assert none.status is CheckupStatus.OK
    grave, slight = breaker_findings([ROW, BULK])
    assert (grave.status, slight.status) == (CheckupStatus.FAIL, CheckupStatus.WARN)
    assert "unknown_code: nothing is written" in grave.finding
    assert slight.remedy == "contactstream breakers"
