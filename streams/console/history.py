"""What is known of the last hours: from Prometheus, or from the stages' /metrics.

A `Measure` says what is taken from the metrics, and both sources follow it, so that a page does not
know which one answers.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import aiohttp
import orjson
import structlog
from prometheus_client.parser import text_string_to_metric_families

from streams.console.sparkline import Point

log = structlog.get_logger()

# Between two looks at the stages. The rate of an interval needs two.
SCRAPE_SECONDS = 15.0

# What the pages show. 20 series of 1,440 points take about 3 MB.
HISTORY_SECONDS = 6 * 3600
MAX_POINTS = int(HISTORY_SECONDS / SCRAPE_SECONDS)

# A stage answers within milliseconds, with some 100 kB.
SCRAPE_TIMEOUT_SECONDS = 5.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024

# Processes that are asked. More belong to a Prometheus.
MAX_TARGETS = 64

# A Prometheus answers a query of six hours within a second. A page waits for it.
PROMETHEUS_TIMEOUT_SECONDS = 5.0

# The step of its answers, and over how much a rate is taken: four scrapes of the usual 15 s.
STEP_SECONDS = 60
RATE_WINDOW = "1m"


class How(Enum):
    """What of a metric a measure is."""

    RATE = "rate"
    """Increase a second of a counter, summed over all processes."""
    AGE = "age"
    """Seconds since a moment, of the process where they are most."""
    HIGHEST = "highest"
    """The value of the process where it is highest."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A number over time."""

    metric: str
    how: How
    labels: tuple[tuple[str, str], ...] = ()
    """Those that a series must have."""

    @property
    def promql(self) -> str:
        """The same for Prometheus."""
        wanted = ",".join(f'{name}="{value}"' for name, value in self.labels)
        series = f"{self.metric}{{{wanted}}}" if wanted else self.metric
        if self.how is How.RATE:
            return f"sum(rate({series}[{RATE_WINDOW}]))"
        if self.how is How.AGE:
            return f"max(timestamp({series}) - {series})"
        return f"max({series})"


@dataclass(frozen=True, slots=True)
class Sample:
    """A series of a process at one moment."""

    metric: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class ProcessSeen:
    """A process as its metrics describe it."""

    address: str
    stage: str = ""
    version: str = ""
    ready: bool | None = None
    error: str = ""
    """Why it did not answer; empty if it did."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The points of each measure that was asked for."""

    points: Mapping[Measure, Sequence[Point]]
    problem: str = ""
    """Why there are none, and what to do; empty if there are."""


class History(Protocol):
    """Knows how numbers were."""

    async def lines(self, measures: Sequence[Measure]) -> Lines:
        """The last HISTORY_SECONDS of these. Never raises for a source that does not answer."""

    async def processes(self) -> Sequence[ProcessSeen]:
        """The processes that are known, in a fixed order."""


def parse_metrics(text: str) -> list[Sample]:
    """The samples of an answer of /metrics. Raises ValueError for something else."""
    return [
        Sample(sample.name, sample.labels, float(sample.value))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def takes(measure: Measure, sample: Sample) -> bool:
    """Whether a series belongs to a measure."""
    return sample.metric == measure.metric and all(
        sample.labels.get(name) == value for name, value in measure.labels
    )


def process_of(address: str, samples: Iterable[Sample]) -> ProcessSeen:
    """The process that these samples are of."""
    stage, version, ready = "", "", None
    for sample in samples:
        if sample.metric == "contactstream_build_info":
            stage, version = sample.labels.get("stage", ""), sample.labels.get("version", "")
        elif sample.metric == "contactstream_ready":
            ready = sample.value == 1
    return ProcessSeen(address, stage, version, ready)


@dataclass(slots=True)
class Ring:
    """The newest points of a measure, from the samples of processes as they come in."""

    measure: Measure
    points: deque[Point] = field(default_factory=lambda: deque(maxlen=MAX_POINTS))
    _before: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of a counter, by process: when it was read, and what it was."""

    def add(self, now: float, scraped: Mapping[str, Sequence[Sample]]) -> None:
        """Takes what the processes answered at one moment; `now` is in epoch seconds."""
        found = {
            address: [sample.value for sample in samples if takes(self.measure, sample)]
            for address, samples in scraped.items()
        }
        values = {address: each for address, each in found.items() if each}
        if self.measure.how is How.RATE:
            self.points.append((now, self._rate(now, values)))
        elif self.measure.how is How.AGE:
            # Clocks of two machines differ by a little.
            ages = (max(0.0, now - value) for each in values.values() for value in each)
            self.points.append((now, max(ages, default=None)))
        else:
            flat = (value for each in values.values() for value in each)
            self.points.append((now, max(flat, default=None)))

    def _rate(self, now: float, values: Mapping[str, Sequence[float]]) -> float | None:
        rates = []
        for address, each in values.items():
            total = sum(each)
            at, before = self._before.get(address, (now, total))
            self._before[address] = now, total
            if at < now:
                # A counter that fell began again at 0, with its process.
                rates.append((total - before if total >= before else total) / (now - at))
        return sum(rates) if rates else None


class ScrapedHistory:
    """Asks the stages themselves, again and again, and keeps what they said in memory."""

    def __init__(self, targets: Sequence[str], measures: Sequence[Measure]) -> None:
        self._targets = targets
        self._rings = {measure: Ring(measure) for measure in measures}
        self._seen: dict[str, ProcessSeen] = {}

    async def follow(self) -> None:
        """Asks the stages every SCRAPE_SECONDS, until it is cancelled."""
        timeout = aiohttp.ClientTimeout(total=SCRAPE_TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            while True:
                began = time.monotonic()
                await self.scrape(session)
                await asyncio.sleep(max(1.0, SCRAPE_SECONDS - (time.monotonic() - began)))

    async def scrape(self, session: aiohttp.ClientSession) -> None:
        """Asks every stage once. One that does not answer is left out, with the reason."""
        answers = await asyncio.gather(*(self._ask(session, each) for each in self._targets))
        scraped = {seen.address: samples for seen, samples in answers if not seen.error}
        self._seen = {seen.address: seen for seen, _ in answers}
        now = time.time()
        for ring in self._rings.values():
            ring.add(now, scraped)

    async def _ask(
        self, session: aiohttp.ClientSession, address: str
    ) -> tuple[ProcessSeen, Sequence[Sample]]:
        try:
            async with session.get(f"http://{address}/metrics", allow_redirects=False) as answer:
                body = await bounded_body(answer)
            samples = await asyncio.to_thread(parse_metrics, body.decode())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return ProcessSeen(address, error=str(error) or type(error).__name__), ()
        return process_of(address, samples), samples

    async def lines(self, measures: Sequence[Measure]) -> Lines:
        """What was kept since the console started."""
        if not self._targets:
            return Lines(
                {},
                "There is no history: CONSOLE_PROMETHEUS_URL names a Prometheus, or CONSOLE_STAGES "
                "the operations ports of the stages.",
            )
        return Lines({each: list(self._rings[each].points) for each in measures})

    async def processes(self) -> Sequence[ProcessSeen]:
        """The stages in the order of the setting."""
        return [
            self._seen.get(each, ProcessSeen(each, error="asked soon")) for each in self._targets
        ]


class PrometheusHistory:
    """Asks a Prometheus, which keeps the history of all processes."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=PROMETHEUS_TIMEOUT_SECONDS)

    async def lines(self, measures: Sequence[Measure]) -> Lines:
        """What it has of the last HISTORY_SECONDS."""
        now = int(time.time())
        try:
            async with aiohttp.ClientSession(timeout=self._timeout) as session:
                found = await asyncio.gather(
                    *(
                        self._ask(
                            session,
                            "query_range",
                            query=each.promql,
                            start=str(now - HISTORY_SECONDS),
                            end=str(now),
                            step=str(STEP_SECONDS),
                        )
                        for each in measures
                    )
                )
            points = [parse_range(each) for each in found]
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return Lines({}, f"CONSOLE_PROMETHEUS_URL={self._url} does not answer: {error!r}")
        return Lines(dict(zip(measures, points, strict=True)))

    async def processes(self) -> Sequence[ProcessSeen]:
        """The processes that it scrapes."""
        try:
            async with aiohttp.ClientSession(timeout=self._timeout) as session:
                built = await self._ask(session, "query", query="contactstream_build_info")
                ready = await self._ask(session, "query", query="contactstream_ready")
            return parse_processes(built, ready)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return [ProcessSeen(self._url, error=str(error) or type(error).__name__)]

    async def follow(self) -> None:
        """Nothing: Prometheus keeps it."""

    async def _ask(
        self, session: aiohttp.ClientSession, what: str, **parameters: str
    ) -> Sequence[Mapping[str, object]]:
        async with session.get(f"{self._url}/api/v1/{what}", params=parameters) as answer:
            return parse_answer(await bounded_body(answer))


async def bounded_body(answer: aiohttp.ClientResponse) -> bytes:
    """The body of a good answer. Raises ValueError for another one, and for one that is too long.

    Raises aiohttp.ClientError when the connection ends.
    """
    body = bytearray()
    async for chunk in answer.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise ValueError(f"the answer has more than {MAX_ANSWER_BYTES:,} bytes")
    if answer.status != 200:
        raise ValueError(f"HTTP {answer.status}: {bytes(body[:200]).decode(errors='replace')}")
    return bytes(body)


def parse_answer(body: bytes) -> Sequence[Mapping[str, object]]:
    """The series in an answer of Prometheus' HTTP API. Raises ValueError for anything else."""
    try:
        found = orjson.loads(body)["data"]["result"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"no answer of Prometheus: {error!r}") from error
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError("no answer of Prometheus: it has no list of series")
    return found


def parse_range(series: Sequence[Mapping[str, object]]) -> list[Point]:
    """The points of the one series that a measure gives; none without one. Raises ValueError."""
    if not series:
        return []
    try:
        return [(float(at), float(value)) for at, value in series[0]["values"]]  # type: ignore[attr-defined]
    except (KeyError, TypeError) as error:
        raise ValueError(f"no answer of Prometheus: {error!r}") from error


def parse_processes(
    built: Sequence[Mapping[str, object]], ready: Sequence[Mapping[str, object]]
) -> list[ProcessSeen]:
    """The processes by their instance, from two instant queries. Raises ValueError."""
    try:
        works = {
            str(each["metric"]["instance"]): each["value"][1] == "1"  # type: ignore[index]
            for each in ready
        }
        seen = [
            ProcessSeen(
                str(each["metric"]["instance"]),  # type: ignore[index]
                str(each["metric"]["stage"]),  # type: ignore[index]
                str(each["metric"]["version"]),  # type: ignore[index]
                works.get(str(each["metric"]["instance"])),  # type: ignore[index]
            )
            for each in built
        ]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"no answer of Prometheus: {error!r}") from error
    return sorted(seen, key=lambda each: (each.stage, each.address))
