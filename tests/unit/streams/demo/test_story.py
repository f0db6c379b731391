"""What of its user's environment the demo takes, and what it says when it cannot run."""

import asyncio
import json
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import KafkaError, KafkaException

from deploy.local.broker import free_ports
from streams.demo import story as demo
from streams.demo.story import DemoFailed, Machine, clean, given_cluster
from streams.settings import GROUPS, SettingsError


def test_no_setting_of_its_user_reaches_a_child() -> None:
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
    kept = clean(theirs)
    assert "theirs" not in str(
        {name: value for name, value in kept.items() if name not in ("PATH", "JAVA_HOME")}
    )
    assert (kept["PATH"], kept["JAVA_HOME"], kept["OPS_LOG_FORMAT"]) == ("/bin", "/java", "json")


@pytest.mark.parametrize(
    "environ",
    [{}, {"KAFKA_BOOTSTRAP_SERVERS": ""}, {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}],
)
def test_who_gives_no_cluster_gets_one(environ: dict[str, str]) -> None:
    assert given_cluster(environ) == ""


def test_a_cluster_that_is_given_is_used() -> None:
    assert given_cluster({"KAFKA_BOOTSTRAP_SERVERS": "there:9092"}) == "there:9092"


@pytest.mark.parametrize("protocol", ["SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_a_secured_cluster_is_refused_with_the_remedy(protocol: str) -> None:
    given = {"KAFKA_BOOTSTRAP_SERVERS": "there:9092", "KAFKA_SECURITY_PROTOCOL": protocol}
    with pytest.raises(DemoFailed, match=f"wants {protocol}.*unset KAFKA_BOOTSTRAP_SERVERS"):
        given_cluster(given)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo makes its folder; what it runs is replaced by `ending`."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    return tmp_path


def ending(monkeypatch: pytest.MonkeyPatch, end: BaseException | list[str]) -> None:
    """A story that ends with this fault, or with these problems."""

    async def story(*_: object) -> dict[str, Any]:
        if isinstance(end, BaseException):
            raise end
        return {"problems": end}

    monkeypatch.setattr(demo, "_story", story)


def run() -> int:
    return asyncio.run(demo.run(people=1, seed=1, as_json=True, stay=False))


@pytest.mark.parametrize(
    ("fault", "said"),
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
def test_what_keeps_the_demo_from_running_is_status_2_with_its_reason_and_the_logs(
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Exception,
    said: str,
) -> None:
    ending(monkeypatch, fault)
    assert run() == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert "Traceback" not in printed.err
    (folder,) = temporary.iterdir()
    assert f"the logs are in {folder}" in printed.err


def test_numbers_that_do_not_add_up_are_status_1_and_leave_the_logs(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ending(monkeypatch, ["one ≠ another: 1 and 2"])
    assert run() == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"problems": ["one ≠ another: 1 and 2"]}
    (folder,) = temporary.iterdir()
    assert str(folder) in printed.err


def test_a_good_end_is_status_0_and_leaves_nothing(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending(monkeypatch, [])
    assert run() == 0
    assert list(temporary.iterdir()) == []


def test_a_stage_that_ends_is_not_waited_for(temporary: Path) -> None:
    async def waits() -> None:
        async with AsyncExitStack() as stack:
            machine = Machine(temporary, stack, clean(os.environ))
            stack.push_async_callback(machine.http.aclose)
            (port,) = free_ports(1)
            await machine.stage(
                "sink", port, {"KAFKA_BOOTSTRAP_SERVERS": "no address"}
            )  # and no org
            await machine.ready()

    with pytest.raises(DemoFailed, match=r"sink ended with \d; see sink\.log"):
        asyncio.run(waits())


def test_a_process_that_cannot_start_is_quoted(temporary: Path) -> None:
    async def waits() -> None:
        async with AsyncExitStack() as stack:
            machine = Machine(temporary, stack, clean(os.environ))
            stack.push_async_callback(machine.http.aclose)
            broker = await machine.start(
                "broker", sys.executable, "-c", "import sys; sys.exit('no Java here')"
            )
            await machine.line(broker, 60.0)

    with pytest.raises(DemoFailed, match="broker ended with 1:\nno Java here"):
        asyncio.run(waits())
