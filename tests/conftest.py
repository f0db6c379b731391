"""Fixtures that every suite shares: the run's Apache Kafka, a test's topics, brokers, processes."""

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings

from deploy.local.broker import Broker, Served, make_broker, serve
from tests.support.kafka import Kafka
from tests.support.processes import Processes
from tests.support.tcp_proxy import TcpProxy

BROKER_FIXTURES = {"kafka_server", "own_broker", "proxied_broker"}

# The time of an example shows nothing: brokers and other workers use the same cores.
settings.register_profile(
    "shared cores", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
# For `make test-fast`, which chooses it with --hypothesis-profile.
settings.register_profile("fast", settings.get_profile("shared cores"), max_examples=15)
# For `make mutants`: a planted fault is caught in every run or in none, and its example is not made
# smaller, because nobody reads it.
settings.register_profile(
    "mutants",
    settings.get_profile("shared cores"),
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
)
settings.load_profile("shared cores")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by what they need, for `make test-fast`.

    Every test that asks for a broker is marked `kafka`. The tests of the simulators are marked
    `slow`: they take a third of the processor time of the fast tests, and test no product code.
    """
    for item in items:
        if item.path.parent.name == "simulator":
            item.add_marker(pytest.mark.slow)
        if isinstance(item, pytest.Function) and BROKER_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.kafka)


def _print(reason: str) -> None:
    print(reason, file=sys.stderr)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the output of the passed fault tests: measured figures, and a storm's report."""
    measured = [
        report
        for report in terminalreporter.getreports("passed")
        if report.when == "call"
        and report.nodeid.startswith("tests/faults/")
        and report.capstdout.strip()
    ]
    if measured:
        terminalreporter.section("measured by the fault tests")
        for report in measured:
            terminalreporter.line(report.nodeid)
            terminalreporter.line(report.capstdout.rstrip())


@pytest.fixture(autouse=True)
def _same_log_configuration() -> Iterator[None]:
    """A command that a test runs in this process configures the log; the next test does not see it.

    Otherwise `capture_logs` finds no line below the command's level.
    """
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[Served]:
    """A real Apache Kafka, started once a run in the first way that works; never Tansu."""
    with serve(only_real=True, on_skip=_print) as served:
        yield served


@pytest.fixture
def kafka(kafka_server: Served) -> Iterator[Kafka]:
    """The run's broker, with a topic prefix for this test. Its topics are deleted at the end."""
    own = Kafka(kafka_server.bootstrap, f"t{uuid.uuid4().hex[:12]}.")
    yield own
    own.delete_all()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """An Apache Kafka for this test alone, which may stop, kill, pause and restart it."""
    broker = make_broker(tmp_path / "broker")
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@pytest.fixture
def proxied_broker(tmp_path: Path) -> Iterator[tuple[Broker, TcpProxy]]:
    """Its own broker behind a proxy: `broker.bootstrap` goes through it, `broker.direct` not."""
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
    """Starts `contactstream` processes, and kills them when the test ends.

    Their logs are in the test's folder, and are printed when the test fails.
    """
    own = Processes(tmp_path, {})
    try:
        yield own
    finally:
        own.end()
        print(own.logs())  # pytest shows it only for a test that failed
