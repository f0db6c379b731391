"""Which variables of the user the demo takes, and what it prints when it cannot run."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import KafkaError, KafkaException

from deploy.local.broker import free_ports
from streams.demo import cluster, runner
from streams.demo.cluster import given_cluster, start_broker
from streams.demo.processes import ChildProcess, DemoFailed, ProcessGroup
from streams.demo.runner import without_settings
from streams.settings import GROUPS, SettingsError


def test_no_setting_of_the_user_reaches_a_child_process() -> None:
    theirs = {
        f"{group.prefix}_{name}".upper(): "theirs"
        for group in GROUPS
        for name in group.model_fields
    }
    theirs |= {
        "NYLAS_API_KEY_FILE": "/theirs",
        "CONTACTSTREAM_CONFIG": "/theirs",
        "PATH": "/bin",
        "JAVA_HOME": "/java",
    }
    kept = without_settings(theirs)
    assert "theirs" not in str(
        {name: value for name, value in kept.items() if name not in ("PATH", "JAVA_HOME")}
    )
    assert (kept["PATH"], kept["JAVA_HOME"], kept["OPS_LOG_FORMAT"]) == ("/bin", "/java", "json")


@pytest.mark.parametrize(
    "environ",
    [{}, {"KAFKA_BOOTSTRAP_SERVERS": ""}, {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}],
)
def test_without_a_given_cluster_the_demo_starts_a_broker(environ: dict[str, str]) -> None:
    assert given_cluster(environ) == ""


def test_a_cluster_that_is_given_is_used() -> None:
    assert given_cluster({"KAFKA_BOOTSTRAP_SERVERS": "there:9092"}) == "there:9092"


@pytest.mark.parametrize("protocol", ["SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_a_secured_cluster_is_refused_with_the_remedy(protocol: str) -> None:
    given = {"KAFKA_BOOTSTRAP_SERVERS": "there:9092", "KAFKA_SECURITY_PROTOCOL": protocol}
    if protocol.startswith("SASL"):
        with pytest.raises(DemoFailed, match="KAFKA_SASL_USERNAME is not set"):
            given_cluster(given)
        given |= {"KAFKA_SASL_USERNAME": "ada", "KAFKA_SASL_PASSWORD": "secret"}
    with pytest.raises(DemoFailed, match=f"wants {protocol}.*unset KAFKA_BOOTSTRAP_SERVERS"):
        given_cluster(given)


SLOW_BROKER = """
import json, pathlib, time
while not pathlib.Path(__file__).with_name("told").exists():
    time.sleep(0.01)
described = {"kind": "docker", "bootstrap_servers": "there:9092", "note": "", "skipped": []}
print(json.dumps(described), flush=True)
time.sleep(60)  # the end of the test stops it
"""


async def test_whoever_waits_long_for_a_broker_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "broker.py"
    script.write_text(SLOW_BROKER)
    monkeypatch.setattr(cluster, "BROKER_SCRIPT", script)
    monkeypatch.setattr(cluster, "SLOW_START_SECONDS", 0.0)
    lines = []

    def print_line(line: str) -> None:
        lines.append(line)
        script.with_name("told").touch()

    async with AsyncExitStack() as stack:
        kind, kafka = await start_broker(ProcessGroup(tmp_path, stack, {}), print_line, "")
    assert (kind, kafka.bootstrap_servers) == ("docker", "there:9092")
    assert lines[0] == cluster.SLOW_START


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo makes its folder; what it runs is replaced by `end_with`."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    return tmp_path


def end_with(monkeypatch: pytest.MonkeyPatch, end: BaseException | list[str]) -> None:
    """Replaces the scenario by one that raises this error, or finds these problems."""

    async def run_scenario(*_: object) -> dict[str, Any]:
        if isinstance(end, BaseException):
            raise end
        return {"problems": end}

    monkeypatch.setattr(runner, "run_scenario", run_scenario)


def run() -> int:
    return asyncio.run(runner.run(people=1, seed=1, as_json=True, stay=False))


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (DemoFailed("the sink ended with 1"), "the sink ended with 1"),
        (
            KafkaException(KafkaError(KafkaError.INVALID_REPLICATION_FACTOR, "too many")),
            "set KAFKA_REPLICATION_FACTOR",
        ),
        (httpx.ConnectError("all connection attempts failed"), "all connection attempts failed"),
        (httpx.ReadTimeout(""), "ReadTimeout"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (SettingsError("KAFKA_TOPIC_PREFIX: no"), "KAFKA_TOPIC_PREFIX: no"),
        (KeyError("bootstrap_servers"), "see demo.log"),
    ],
)
def test_a_demo_that_cannot_run_ends_with_2_and_prints_the_reason_and_the_logs(
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Exception,
    text: str,
) -> None:
    end_with(monkeypatch, fault)
    assert run() == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert text in printed.err
    assert "Traceback" not in printed.err
    (folder,) = temporary.iterdir()
    assert f"the logs are in {folder}" in printed.err


def test_numbers_that_do_not_add_up_end_with_1_and_keep_the_logs(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    end_with(monkeypatch, ["one ≠ another: 1 and 2"])
    assert run() == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"problems": ["one ≠ another: 1 and 2"]}
    (folder,) = temporary.iterdir()
    assert str(folder) in printed.err


def test_a_successful_demo_ends_with_0_and_leaves_nothing(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_with(monkeypatch, [])
    assert run() == 0
    assert list(temporary.iterdir()) == []


def test_the_demo_fails_at_once_when_a_stage_ends(temporary: Path) -> None:
    async def waits() -> None:
        async with AsyncExitStack() as stack:
            processes = ProcessGroup(temporary, stack, without_settings(os.environ))
            stack.push_async_callback(processes.http.aclose)
            (port,) = free_ports(1)
            await processes.start_stage(
                "sink", port, {"KAFKA_BOOTSTRAP_SERVERS": "no address"}
            )  # and no org
            await processes.wait_ready()

    with pytest.raises(DemoFailed, match=r"sink ended with \d; see sink\.log"):
        asyncio.run(waits())


def test_the_log_of_a_process_that_cannot_start_is_shown(temporary: Path) -> None:
    async def waits() -> None:
        async with AsyncExitStack() as stack:
            processes = ProcessGroup(temporary, stack, without_settings(os.environ))
            stack.push_async_callback(processes.http.aclose)
            broker = await processes.start(
                "broker", sys.executable, "-c", "import sys; sys.exit('no Java here')"
            )
            await processes.first_line(broker, 60.0)

    with pytest.raises(DemoFailed, match="broker ended with 1:\nno Java here"):
        asyncio.run(waits())


def test_all_processes_stop_together_and_the_broker_after_them(temporary: Path) -> None:
    """What is done between the two still has a broker."""
    alive_then: list[bool] = []

    async def run_and_stop() -> list[int | None]:
        async with AsyncExitStack() as stack:
            processes = ProcessGroup(temporary, stack, dict(os.environ))
            stack.push_async_callback(processes.http.aclose)
            sleeping = (sys.executable, "-c", "import time; time.sleep(600)")
            broker, *others = [
                await processes.start(name, *sleeping) for name in ("broker", "bridge", "sink")
            ]

            async def note() -> None:
                alive_then.append(broker.process.returncode is None)
                alive_then.extend(one.process.returncode is None for one in others)

            processes.call_at_end(note)
        return [one.process.returncode for one in (broker, *others)]

    broker, bridge, sink = asyncio.run(run_and_stop())
    assert alive_then == [True, False, False]
    assert (broker, sink) == (-signal.SIGTERM, -signal.SIGTERM)
    assert bridge == -signal.SIGKILL, "it would wait for senders that there are not"


def test_the_broker_stops_although_what_is_done_before_fails(temporary: Path) -> None:
    async def run_and_stop() -> None:
        async with AsyncExitStack() as stack:
            processes = ProcessGroup(temporary, stack, dict(os.environ))
            stack.push_async_callback(processes.http.aclose)
            stopped.append(
                await processes.start(
                    "broker", sys.executable, "-c", "import time; time.sleep(600)"
                )
            )

            async def fails() -> None:
                raise OSError("no space")

            processes.call_at_end(fails)

    stopped: list[ChildProcess] = []
    with pytest.raises(OSError, match="no space"):
        asyncio.run(run_and_stop())
    assert stopped[0].process.returncode == -signal.SIGTERM
