"""The history of the console: the same numbers from the stages and from Prometheus."""

import asyncio

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from streams.console.history import (
    MAX_ANSWER_BYTES,
    MAX_POINTS,
    How,
    Measure,
    PrometheusHistory,
    Ring,
    Sample,
    ScrapedHistory,
    parse_metrics,
)

DONE = Measure("done_total", How.RATE)
FAILED = Measure("rows_total", How.RATE, (("outcome", "failed"),))
AGE = Measure("oldest_seconds", How.AGE)
USED = Measure("used", How.HIGHEST)

TEXT = """# HELP contactstream_build_info 1
# TYPE contactstream_build_info gauge
contactstream_build_info{stage="sink",version="0.1.0"} 1.0
# TYPE contactstream_ready gauge
contactstream_ready{stage="sink"} 1.0
# TYPE used gauge
used 7.0
"""


def at(value: float, metric: str = "done_total", **labels: str) -> list[Sample]:
    return [Sample(metric, labels, value)]


def test_a_rate_is_the_sum_over_processes_and_survives_a_restart() -> None:
    ring = Ring(DONE)
    ring.add(0, {"a": at(10), "b": at(100)})
    ring.add(10, {"a": at(20), "b": at(120)})
    ring.add(20, {"a": at(5), "b": at(120)})  # `a` began again
    ring.add(30, {"b": at(130)})  # `a` does not answer
    assert list(ring.points) == [(0, None), (10, 3.0), (20, 0.5), (30, 1.0)]


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=50))
def test_a_rate_is_never_negative(values: list[float]) -> None:
    ring = Ring(DONE)
    for moment, value in enumerate(values):
        ring.add(moment, {"a": at(value)})
    assert all(rate is None or rate >= 0 for _, rate in ring.points)


def test_the_labels_of_a_measure_decide() -> None:
    ring = Ring(FAILED)
    for moment, failed in ((0, 1.0), (10, 3.0)):
        ring.add(
            moment,
            {
                "a": [
                    *at(failed, "rows_total", outcome="failed"),
                    *at(99 * moment, "rows_total", outcome="created"),
                ]
            },
        )
    assert ring.points[-1] == (10, 0.2)


def test_the_oldest_record_of_any_process_counts_and_a_fast_clock_is_no_negative_age() -> None:
    ring = Ring(AGE)
    ring.add(100, {"a": at(90, "oldest_seconds"), "b": at(40, "oldest_seconds")})
    ring.add(110, {"a": at(111, "oldest_seconds")})
    ring.add(120, {})
    assert list(ring.points) == [(100, 60), (110, 0), (120, None)]


def test_a_ring_keeps_only_the_newest() -> None:
    ring = Ring(USED)
    for moment in range(MAX_POINTS + 5):
        ring.add(moment, {"a": at(moment, "used")})
    assert len(ring.points) == MAX_POINTS
    assert ring.points[0][0] == 5


def test_prometheus_is_asked_for_the_same() -> None:
    assert DONE.promql == "sum(rate(done_total[1m]))"
    assert FAILED.promql == 'sum(rate(rows_total{outcome="failed"}[1m]))'
    assert AGE.promql == "max(timestamp(oldest_seconds) - oldest_seconds)"
    assert USED.promql == "max(used)"


async def test_the_stages_are_asked_and_one_that_is_away_is_named() -> None:
    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(text=TEXT)

    async def endless(_request: web.Request) -> web.Response:
        return web.Response(body=b"x" * (MAX_ANSWER_BYTES + 1))

    def server(handler: object) -> TestServer:
        application = web.Application()
        application.router.add_get("/metrics", handler)  # type: ignore[arg-type]
        return TestServer(application)

    async with server(metrics) as stage, server(endless) as other, aiohttp.ClientSession() as http:
        addresses = [f"127.0.0.1:{stage.port}", f"127.0.0.1:{other.port}", "127.0.0.1:1"]
        history = ScrapedHistory(addresses, [USED])
        await history.scrape(http)
        sink, large, away = await history.processes()
        assert (sink.stage, sink.version, sink.ready) == ("sink", "0.1.0", True)
        assert "more than 4,194,304 bytes" in large.error
        assert away.error
        assert [value for _, value in (await history.lines([USED])).points[USED]] == [7.0]


async def test_without_a_source_it_says_what_to_set() -> None:
    lines = await ScrapedHistory([], [USED]).lines([USED])
    assert "CONSOLE_STAGES" in lines.problem
    assert not lines.points


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('{"data": {"result": [{"values": [[1, "2.5"], [2, "NaN"]]}]}}', ""),
        ('{"data": {"result": []}}', ""),
        ("<html>", "does not answer"),
        ('{"status": "error"}', "does not answer"),
        ('{"data": {"result": [{}]}}', "does not answer"),
    ],
)
async def test_an_answer_of_prometheus_is_read_or_reported(body: str, problem: str) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.query["query"])
        return web.Response(text=body)

    application = web.Application()
    application.router.add_get("/api/v1/query_range", answer)
    async with TestServer(application) as server:
        lines = await PrometheusHistory(str(server.make_url("/"))).lines([USED])
    assert asked == ["max(used)"]
    assert problem in lines.problem
    assert bool(lines.problem) == bool(problem)


async def test_a_prometheus_that_is_away_ends_no_page() -> None:
    history = PrometheusHistory("http://127.0.0.1:1")
    lines, processes = await asyncio.gather(history.lines([USED]), history.processes())
    assert "CONSOLE_PROMETHEUS_URL" in lines.problem
    assert processes[0].error


def test_what_a_stage_says_is_parsed() -> None:
    assert parse_metrics(TEXT)[-1] == Sample("used", {}, 7.0)
