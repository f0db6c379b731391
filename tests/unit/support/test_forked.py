"""A process that the fork server starts is one of its own, as if it had been started by itself."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.forked import ForkedProcess, ForkServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

END_SECONDS = 20.0
PATH = {"PATH": os.defpath, "PYTHONUNBUFFERED": "1"}
NYLAS = ("simulate", "nylas", "--listen", "127.0.0.1:0")


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    one = ForkServer()
    yield one
    one.stop()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def simulator(server: ForkServer, log: Path) -> ForkedProcess:
    process = server.start(NYLAS, PATH, log)
    wait_until(lambda: "listening on" in log.read_text(), "the simulator listens")
    return process


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--version"], 0, "contactstream, version"),
        (["plan", "/no/such/file"], 2, "Usage: contactstream plan"),
    ],
)
def test_a_command_ends_with_its_exit_code_and_its_output_in_the_log(
    server: ForkServer, log: Path, arguments: list[str], code: int, says: str
) -> None:
    log.write_text("before\n")
    process = server.start(arguments, PATH, log)
    assert process.wait(END_SECONDS) == process.poll() == process.returncode == code
    assert log.read_text().startswith("before\n")
    assert says in log.read_text()


def test_a_process_has_the_environment_that_it_was_given_and_no_other(
    server: ForkServer, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_OF_THE_CALLER", "1")
    given = {**PATH, "KAFKA_OF_THE_TEST": "1"}
    # Each command warns of variables that it does not know.
    assert server.start(["plan", "--help"], given, log).wait(END_SECONDS) == 0
    assert "KAFKA_OF_THE_TEST" in log.read_text()
    assert server.start(["plan", "--help"], PATH, log.with_name("other")).wait(END_SECONDS) == 0
    assert "KAFKA_OF_THE" not in log.with_name("other").read_text()


def test_a_process_has_a_session_of_its_own_and_nothing_of_the_servers_or_another_ones(
    server: ForkServer, log: Path
) -> None:
    first, second = (simulator(server, log.with_name(name)) for name in ("one", "two"))
    sessions = {os.getsid(each.pid) for each in (first, second)}
    assert sessions == {first.pid, second.pid}
    # Its own are the log and the port on which it listens.
    opened = {os.readlink(each) for each in Path(f"/proc/{second.pid}/fd").iterdir()}
    assert str(log.with_name("two")) in opened
    assert str(log.with_name("one")) not in opened
    unix = [each for each in psutil.Process(second.pid).net_connections("unix") if each.laddr]
    assert unix == []
    for each in (first, second):
        each.send_signal(signal.SIGKILL)
        each.wait(END_SECONDS)


def test_a_signal_ends_it_and_is_its_exit_code(server: ForkServer, log: Path) -> None:
    process = simulator(server, log)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired, match="simulate"):
        process.wait(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(END_SECONDS) == -signal.SIGKILL
    process.send_signal(signal.SIGKILL)  # of a process that has ended: nothing happens


def test_it_ends_on_sigint_although_the_tests_ignore_it(tmp_path: Path, log: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = ForkServer()
    try:
        process = simulator(server, log)
        process.send_signal(signal.SIGINT)
        assert process.wait(END_SECONDS) in (0, 1, 130, -signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
        server.stop()


def test_nothing_outlives_the_server(log: Path) -> None:
    server = ForkServer()
    process = simulator(server, log)
    server.stop()

    def ended() -> bool:
        return not psutil.pid_exists(process.pid) or (
            psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
        )

    wait_until(ended, "the process has ended", END_SECONDS)
    assert process.poll() == -signal.SIGKILL
