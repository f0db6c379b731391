"""The operations port answers probes on IPv4 and IPv6, whoever else holds connections to it."""

import contextlib
import socket
import threading
import urllib.request
from collections.abc import Iterable, Iterator

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families as plain_families

from streams.metrics import SinkMetrics
from streams.runtime import ops
from streams.runtime.ops import Health, OpsServer
from streams.settings import SettingsError


@contextlib.contextmanager
def serving(listen: str) -> Iterator[int]:
    server = OpsServer(listen, CollectorRegistry(), Health(60.0))
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


def alive(host: str, port: int) -> bool:
    with urllib.request.urlopen(f"http://{host}:{port}/livez", timeout=5) as answer:
        return bool(answer.status == 200)


@pytest.mark.parametrize(
    ("listen", "hosts"),
    [
        ("127.0.0.1:0", ["127.0.0.1"]),
        (":0", ["127.0.0.1"]),
        ("[::1]:0", ["[::1]"]),
        ("::1:0", ["[::1]"]),
        ("[::]:0", ["[::1]", "127.0.0.1"]),
        ("localhost:0", ["localhost"]),
    ],
)
def test_the_port_answers_at_the_address_that_the_setting_names(
    listen: str, hosts: list[str]
) -> None:
    with serving(listen) as port:
        assert all(alive(host, port) for host in hosts)


@pytest.mark.parametrize("listen", ["nowhere.invalid:0", "[::1", "127.0.0.1:99999"])
def test_an_address_that_cannot_be_used_names_its_setting(listen: str) -> None:
    with pytest.raises(SettingsError, match="OPS_LISTEN"), serving(listen):
        pass


@pytest.mark.parametrize("begun", [b"", b"GET /livez HTTP/1.0\r\nX: "])
def test_many_slow_connections_keep_no_probe_out_and_take_few_threads(begun: bytes) -> None:
    before = threading.active_count()
    with serving("127.0.0.1:0") as port, contextlib.ExitStack() as held:
        for _ in range(10 * ops.MAX_OPS_REQUESTS):
            one = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            with contextlib.suppress(ConnectionError):
                one.sendall(begun)
        assert alive("127.0.0.1", port)
        assert threading.active_count() - before <= 2 * ops.MAX_OPS_REQUESTS


def test_a_request_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "OPS_REQUEST_SECONDS", 0.05)
    with serving("127.0.0.1:0") as port, socket.create_connection(("127.0.0.1", port)) as one:
        one.settimeout(5)
        ended = False
        while not ended:
            try:
                one.sendall(b"G")  # each byte in time, the request never
                one.settimeout(0.02)
                ended = one.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True


def metrics_of(registry: CollectorRegistry, accept: str) -> tuple[str, str]:
    server = OpsServer("127.0.0.1:0", registry, Health(60.0))
    server.start()
    try:
        url = f"http://127.0.0.1:{server.port}/metrics"
        asked = urllib.request.Request(url, headers={"Accept": accept})
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return answer.headers["Content-Type"], answer.read().decode()
    finally:
        server.stop()


def test_metrics_come_as_openmetrics_with_exemplars_where_that_is_asked_for() -> None:
    registry = CollectorRegistry()
    metrics = SinkMetrics(registry)
    metrics.latency.labels("webhook").observe(1.0, {"trace_id": "4bf9"})
    plain_type, plain = metrics_of(registry, "text/plain")
    open_type, opened = metrics_of(registry, "application/openmetrics-text;version=1.0.0")
    assert plain_type.startswith("text/plain")
    assert open_type.startswith("application/openmetrics-text")
    assert '# {trace_id="4bf9"}' in opened
    assert "trace_id" not in plain

    def series(families: Iterable[Metric]) -> set[tuple[str, str]]:
        return {
            (sample.name, str(sorted(sample.labels.items())))
            for family in families
            for sample in family.samples
        }

    found = openmetrics_families(opened)  # type: ignore[no-untyped-call]
    assert series(found) == series(plain_families(plain))
