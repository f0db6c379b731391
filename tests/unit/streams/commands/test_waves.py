"""The command runs continue: the next wave of a backfill, and what it refuses."""

from collections.abc import Callable, Iterable

import pytest
from click.testing import CliRunner, Result

from streams.audit import parse_audit
from streams.cli import main
from streams.commands import runs
from streams.commands.publishing import CommandPublisher
from streams.commands.runs import new_run, run_row
from streams.kafka.records import KafkaRecord
from streams.runs import Progress, Run, RunKind, RunLog, RunState
from streams.settings import KafkaSettings, load
from streams.topics import topics

TOPICS = topics(load(KafkaSettings, {}))
RUN = Run(RunKind.BACKFILL, None, 9, "command", state=RunState.RUNNING, wave=2)
DONE, WAITING = Progress(RunState.DONE), Progress(RunState.WAITING)
GRANTS = {"a": DONE, "b": DONE, "c": WAITING, "d": WAITING, "e": WAITING}

Continue = Callable[..., Result]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> RunLog:
    log = RunLog({"waved": RUN}, {"waved": dict(GRANTS)})
    monkeypatch.setattr(runs, "read_run_log", lambda _: log)
    return log


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[KafkaRecord]:
    records: list[KafkaRecord] = []

    def publish(_: CommandPublisher, some: Iterable[KafkaRecord]) -> None:
        records.extend(some)

    monkeypatch.setattr(CommandPublisher, "publish", publish)
    return records


def ask(*options: str) -> Result:
    return CliRunner().invoke(main, ["runs", "continue", *options])


def test_the_next_wave_is_asked_for_once_and_audited(
    log: RunLog, written: list[KafkaRecord]
) -> None:
    ended = ask("waved", "--actor", "ada")
    assert ended.exit_code == 0, ended.output
    assert "reads 2 of 3 grants" in ended.output
    audit, asked = written
    entry = parse_audit(audit)
    assert (entry.actor, entry.count) == ("ada", 2)
    log.apply(asked.key or b"", asked.value)
    assert log.continued == {"waved": 1}
    again = ask("waved", "--actor", "ada")
    assert again.exit_code == 2
    assert "still reads its wave" in again.output
    assert len(written) == 2


def test_a_dry_run_writes_nothing(log: RunLog, written: list[KafkaRecord]) -> None:
    ended = ask("waved", "--dry-run")
    assert "would read 2 of 3 grants" in ended.output
    assert written == []
    assert log.continued == {}


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (Run(RunKind.BACKFILL, None, 9, "command", state=RunState.RUNNING), "is not in waves"),
        (
            Run(RunKind.BACKFILL, None, 9, "command", state=RunState.DONE, wave=2),
            "is over: done",
        ),
    ],
)
def test_a_run_that_does_not_wait_is_refused(
    log: RunLog, written: list[KafkaRecord], run: Run, said: str
) -> None:
    log.runs["waved"] = run
    ended = ask("waved")
    assert ended.exit_code == 2
    assert said in ended.output
    assert written == []


def test_an_unknown_run_is_named(log: RunLog, written: list[KafkaRecord]) -> None:
    ended = ask("nothing")
    assert "there is no run nothing" in ended.output
    assert ended.exit_code == 2
    assert "did you mean waved?" in ask("waved1").output
    assert (written, list(log.runs)) == ([], ["waved"])


def test_the_list_says_what_continues_the_run() -> None:
    row = run_row("waved", RUN, GRANTS, cancel_requested=False, now=10.0)
    assert "contactstream runs continue waved" in row[3]
    assert row[1] == "backfill of everything, in waves of 2"
    going = run_row("waved", RUN, GRANTS, cancel_requested=False, now=10.0, continued=1)
    assert going[3] == "running"


def test_a_wave_of_none_is_refused() -> None:
    ended = CliRunner().invoke(main, ["backfill", "--all", "--wave", "0"])
    assert ended.exit_code == 2
    assert "--wave" in ended.output
    made = new_run(RunKind.BACKFILL, everything=True, grants=(), wave=50, by="command")
    assert made.wave == 50
