"""Fixtures that every suite shares: one real Apache Kafka for the whole run, a test's own topics,
brokers, and processes.
"""

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from deploy.local.broker import Broker, Served, make_broker, serve
from tests.support.kafka import Kafka
from tests.support.processes import Processes
from tests.support.tcp_proxy import TcpProxy

# How long an example takes is no property: brokers and other workers have the same cores.
settings.register_profile(
    "shared cores", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared cores")


def _say(reason: str) -> None:
    print(reason, file=sys.stderr)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Shows what the fault tests that passed have printed: the figures that they measure, and a
    storm's report.
    """
    told = [
        report
        for report in terminalreporter.getreports("passed")
        if report.when == "call"
        and report.nodeid.startswith("tests/faults/")
        and report.capstdout.strip()
    ]
    if told:
        terminalreporter.section("measured by the fault tests")
        for report in told:
            terminalreporter.line(report.nodeid)
            terminalreporter.line(report.capstdout.rstrip())


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[Served]:
    """A real Apache Kafka, started once a run by the first kind that serves; never a stand-in."""
    with serve(only_real=True, on_skip=_say) as served:
        yield served


@pytest.fixture
def kafka(kafka_server: Served) -> Iterator[Kafka]:
    """The run's broker with a topic prefix of the test's own. Its topics are deleted at the end."""
    own = Kafka(kafka_server.bootstrap, f"t{uuid.uuid4().hex[:12]}.")
    yield own
    own.delete_all()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """An Apache Kafka that the test alone has: it may stop, kill, pause and restart it."""
    broker = make_broker(tmp_path / "broker")
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@pytest.fixture
def proxied_broker(tmp_path: Path) -> Iterator[tuple[Broker, TcpProxy]]:
    """As `own_broker`, behind a proxy: `broker.bootstrap` goes through it, `broker.direct` around
    it.
    """
    with TcpProxy() as proxy:
        broker = make_broker(tmp_path / "broker", advertised_port=proxy.port)
        proxy.target_port = broker.node.port
        try:
            broker.start()
            yield broker, proxy
        finally:
            broker.kill()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts `contactstream` processes; none outlives the test. Their logs are in the test's
    folder, and printed when it fails.
    """
    own = Processes(tmp_path, {})
    try:
        yield own
    finally:
        own.end()
        print(own.logs())  # pytest shows it only for a test that failed
