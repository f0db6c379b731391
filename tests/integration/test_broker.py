"""The broker of the tests and the demo is a real Apache Kafka, and its API does what it says."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from deploy.local.broker import (
    Broker,
    BrokerError,
    Served,
    answers,
    class_archive,
    make_broker,
    serve,
    start_cluster,
)
from tests.support.kafka import Kafka
from tests.support.paths import ROOT
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

BROKER = ROOT / "deploy" / "local" / "broker.py"
STOP_SECONDS = 60.0  # a controlled shutdown, or a kill after its bound


def acknowledged(bootstrap: str, topic: str, seconds: float) -> KafkaError | None:
    """Sends one record to all in-sync replicas; the error when it was not acknowledged in time."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "delivery.timeout.ms": int(seconds * 1000),
            "log_level": 0,
        }
    )
    outcome: list[KafkaError | None] = []
    producer.produce(topic, b"value", b"key", on_delivery=lambda error, _: outcome.append(error))
    producer.flush(seconds + 5)
    assert outcome, "a delivery report within the delivery time-out"
    return outcome[0]


def test_what_is_written_is_read_back_with_keys_headers_and_tombstones(kafka: Kafka) -> None:
    kafka.create("things", partitions=3)
    kafka.produce(
        "things",
        [(b"%d" % number, b"value %d" % number) for number in range(500)],
        [("origin", b"test")],
    )
    kafka.produce("things", [(b"7", None)])
    found = kafka.read("things")
    assert len(found) == 501
    assert {each.key: each.value for each in found}[b"8"] == b"value 8"
    (tombstone,) = [each for each in found if each.value is None]
    assert (tombstone.key, tombstone.headers) == (b"7", {})
    assert all(each.headers == {"origin": b"test"} for each in found if each is not tombstone)
    assert {each.partition for each in found} == {0, 1, 2}


def test_an_empty_topic_is_read_to_its_end_and_a_missing_one_is_an_error(kafka: Kafka) -> None:
    kafka.create("empty")
    assert kafka.read("empty") == []
    with pytest.raises(KafkaException):
        kafka.read("never created")


def test_nothing_is_created_by_accident(kafka: Kafka) -> None:
    error = acknowledged(kafka.bootstrap, kafka.name("typo"), 3)
    assert error is not None
    assert kafka.name("typo") not in kafka.admin().list_topics(timeout=10).topics


def test_a_group_can_commit_from_the_first_moment_on(own_broker: Broker) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": own_broker.bootstrap,
            "group.id": "first",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 3,
        }
    )
    try:
        kafka = Kafka(own_broker.bootstrap, "t.")
        kafka.create("things")
        kafka.produce("things", [(b"k", b"v")])
        consumer.subscribe(["t.things"])
        message = wait_until(lambda: consumer.poll(0.5), "the record", 15)
        assert message is not None
        assert message.error() is None
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()


def test_a_node_takes_its_classes_from_the_archive(own_broker: Broker) -> None:
    archive = class_archive()
    assert archive is not None
    assert str(archive.resolve()) in Path(f"/proc/{own_broker.pid}/maps").read_text()
    assert "[cds]" not in own_broker.log_file.read_text()


def test_acknowledged_records_survive_a_kill_and_the_ports_stay(own_broker: Broker) -> None:
    kafka = Kafka(own_broker.bootstrap, "t.")
    kafka.create("things")
    kafka.produce("things", [(b"%d" % number, b"v") for number in range(1000)])
    bootstrap, pid = own_broker.bootstrap, own_broker.pid
    own_broker.kill()
    assert not answers(bootstrap, 1.0)
    own_broker.start()
    assert own_broker.bootstrap == bootstrap
    assert own_broker.pid != pid
    assert len(kafka.read("things")) == 1000
    own_broker.restart()
    assert len(kafka.read("things")) == 1000


def test_a_paused_broker_holds_its_connections_and_answers_nobody(own_broker: Broker) -> None:
    own_broker.pause()
    try:
        assert not answers(own_broker.bootstrap, 2.0)
    finally:
        own_broker.resume()
    wait_until(lambda: answers(own_broker.bootstrap, 5.0), "the broker answers again")


def test_a_broker_that_ends_by_itself_is_reported_with_its_log(tmp_path: Path) -> None:
    broker = make_broker(tmp_path, settings={"log.retention.hours": "not a number"})
    try:
        with pytest.raises(BrokerError, match=r"log\.retention\.hours"):
            broker.start()
    finally:
        broker.kill()


def test_clients_go_through_the_proxy_and_the_direct_listener_around_it(
    proxied_broker: tuple[Broker, TcpProxy],
) -> None:
    broker, proxy = proxied_broker
    Kafka(broker.direct, "t.").create("things")
    assert acknowledged(broker.bootstrap, "t.things", 10) is None
    proxy.black_hole()
    assert acknowledged(broker.bootstrap, "t.things", 2) is not None
    assert acknowledged(broker.direct, "t.things", 10) is None
    proxy.heal()
    proxy.reset()
    assert acknowledged(broker.bootstrap, "t.things", 10) is None


def test_a_cluster_of_three_goes_on_without_one_of_its_nodes(tmp_path: Path) -> None:
    cluster = start_cluster(3, tmp_path)
    try:
        first = cluster.brokers[0]
        kafka = Kafka(cluster.bootstrap, "t.", replication_factor=3)
        kafka.create("things")
        assert acknowledged(cluster.bootstrap, "t.things", 30) is None
        first.kill()
        assert acknowledged(cluster.bootstrap, "t.things", 60) is None
        first.launch()
        first.wait(brokers=3)
        assert len(kafka.read("things")) == 2
    finally:
        cluster.stop()


@contextmanager
def command_line(
    folder: Path, **environ: str
) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """`python deploy/local/broker.py --json` from anywhere: the process, and what it printed.

    Its messages go to `messages`.
    """
    temporary = folder / "temporary"
    temporary.mkdir()
    given = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "TMPDIR": str(temporary),
    } | environ
    command = [sys.executable, str(BROKER), "--json"]
    with (
        (folder / "messages").open("w") as messages,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=messages, text=True, cwd="/", env=given
        ) as process,
    ):
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            finally:
                process.kill()
    assert list(temporary.iterdir()) == [], "nothing is left behind"


def test_the_command_line_prints_the_address_and_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    with command_line(tmp_path) as (process, described):
        assert described["kind"] in ("docker", "kafka")
        assert answers(described["bootstrap_servers"], 5.0)
    assert process.returncode == 0
    assert not answers(described["bootstrap_servers"], 1.0)


def test_a_docker_engine_that_cannot_fetch_the_image_is_skipped(tmp_path: Path) -> None:
    class Engine(BaseHTTPRequestHandler):
        def answer(self) -> None:
            known = {"/_ping": (200, b"OK"), "/version": (200, b'{"ApiVersion": "1.45"}')}
            status, body = known.get(
                self.path, (404, b'{"message": "no such image, and no registry"}')
            )
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_UNIX

        def server_bind(self) -> None:
            self.socket.bind(self.server_address)

    path = f"{tmp_path}/engine"
    with Server(path, Engine) as server:  # type: ignore[arg-type]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with command_line(tmp_path, DOCKER_HOST=f"unix://{path}") as (_, described):
            assert described["kind"] == "kafka"
            assert described["skipped"][0] == "KAFKA_BOOTSTRAP_SERVERS is not set"
            assert described["skipped"][1].startswith("a Docker engine answers, but apache/kafka")
        server.shutdown()
    assert "a Docker engine answers, but apache/kafka" in (tmp_path / "messages").read_text()


def test_a_given_cluster_is_used_when_it_answers(
    kafka_server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka_server.bootstrap)
    with serve(only_real=True) as served:
        assert (served.kind, served.bootstrap) == ("given", kafka_server.bootstrap)
    assert answers(kafka_server.bootstrap, 5.0), "a given cluster must not be stopped"


def test_a_given_cluster_that_does_not_answer_is_skipped_with_a_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    reasons: list[str] = []
    with serve(only_real=True, on_skip=reasons.append) as served:
        assert served.kind in ("docker", "kafka")
    assert any("127.0.0.1:1" in reason for reason in reasons)
