"""A made-up past of a deployment, told by the real metrics, in a Prometheus of its own.

Weeks of ordinary days, then four hours with trouble of every kind, so that every expression of a
dashboard has something to show. No process and no Kafka: the metric objects of streams/metrics.py
are driven through time and read at each step; promtool makes blocks of what they said.
"""

import contextlib
import json
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge, Histogram

from connectors.salesforce.write_mode import WriteMode
from streams.metrics import (
    FIRST_RESOLUTIONS,
    OWNER_RULES,
    BridgeMetrics,
    DedupeMetrics,
    ProcessMetrics,
    ReaderMetrics,
    SinkMetrics,
)
from streams.runtime.ops import Health
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

RULES = sorted((ROOT / "deploy" / "monitoring" / "rules").glob("*.yml"))
JOB = "contactstream"
PAGE = "ContactstreamWebhookAtRisk"
DAY, HOUR, MINUTE = 86_400, 3_600, 60
# Of one core, which each process of the story takes.
PROCESSOR_SHARE = 0.04
# promtool and the start of Prometheus need about 3 s of a processor, which others may use too.
TOOL_SECONDS = 120.0


@dataclass(slots=True)
class Process:
    """One process that Prometheus reads."""

    instance: str
    registry: CollectorRegistry
    metrics: Any
    health: Health


def _process(stage: str, instance: str, metrics: type) -> Process:
    registry, health = CollectorRegistry(), Health(60.0)
    ProcessMetrics(registry, stage, health)
    return Process(instance, registry, metrics(registry), health)


class ConsoleGauges:
    """What the console's process exports of people and of dead letters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, *labels: str) -> Gauge:
            return Gauge(f"contactstream_{name}", "of the console", labels, registry=registry)

        self.people = gauge("coverage_people", "state")
        self.of_grants = gauge("coverage_grant_people", "grant", "state")
        self.open_letters = gauge("dead_letters_open", "reason")
        self.oldest_letter = gauge("dead_letters_oldest_timestamp_seconds")


class Story:
    """The processes, moved through time. Rates are for a company of some hundred address books."""

    def __init__(self, now: float, end: float) -> None:
        self.chance = random.Random(1)
        self.end = end
        self.now = now
        self.bridge = _process("bridge", "bridge:9100", BridgeMetrics)
        self.reader = _process("reader", "reader-0:9100", ReaderMetrics)
        self.standby = _process("reader", "reader-1:9100", ReaderMetrics)
        self.dedupe = _process("dedupe", "dedupe:9100", DedupeMetrics)
        self.sink = _process("sink", "sink:9100", SinkMetrics)
        self.console = _process("console", "console:9100", ConsoleGauges)
        for process in self.processes:
            process.health.ready()
        self.eligible = 18_000.0
        self.paged = False

    @property
    def processes(self) -> tuple[Process, ...]:
        return (self.bridge, self.reader, self.standby, self.dedupe, self.sink, self.console)

    def lines(self) -> Iterator[str]:
        """What a scrape reads now, in the text format of OpenMetrics."""
        for process in self.processes:
            own = f'job="{JOB}",instance="{process.instance}"'
            for family in process.registry.collect():
                for sample in family.samples:
                    labels = "".join(f',{name}="{value}"' for name, value in sample.labels.items())
                    # Otherwise it would be what this very process takes.
                    processor = sample.name == "process_cpu_seconds_total"
                    told = PROCESSOR_SHARE * self.now if processor else sample.value
                    yield f"{sample.name}{{{own}{labels}}} {told} {self.now:.0f}"
        if self.paged:
            # A page takes minutes to fire, which the rules are not evaluated for here.
            alert = f'alertname="{PAGE}",alertstate="firing",severity="page",stage="bridge"'
            yield f"ALERTS{{{alert}}} 1 {self.now:.0f}"

    def go_on(self, seconds: float, trouble: bool) -> None:
        """Lets time pass."""
        self.now += seconds
        week = 0.75 + 0.25 * (self.now // DAY % 7 < 5)
        day = 0.4 + 0.6 * (7 <= self.now / HOUR % 24 < 18)
        noise = self.chance.uniform(0.8, 1.2)
        contacts = 0.05 * week * day * noise * seconds
        self._bridge(contacts, trouble)
        self._reader(contacts, seconds, trouble)
        self._dedupe(contacts, trouble)
        self._sink(contacts, seconds, trouble)
        self._coverage(contacts)
        self.paged = trouble
        if trouble:
            self.standby.health.waiting("a broker")

    def _bridge(self, contacts: float, trouble: bool) -> None:
        m: BridgeMetrics = self.bridge.metrics
        m.requests.labels("published").inc(contacts * (0.97 if trouble else 1))
        m.requests.labels("bad_signature").inc(contacts * (0.05 if trouble else 0.004))
        m.requests.labels("broker_unavailable").inc(contacts * 0.02 * trouble)
        m.notifications.labels("contact.updated").inc(contacts * 0.96)
        m.notifications.labels("contact.deleted").inc(contacts * 0.02)
        m.notifications.labels("grant.updated").inc(contacts * 0.02)
        _observe(m.request_seconds, contacts, 0.012 if not trouble else 0.08, self.chance)
        m.connections.set(self.chance.randint(2, 9))
        m.in_flight.set(self.chance.randint(1, 4) + 3 * trouble)
        m.secrets.set(1)
        m.last_webhook.set(self.now - self.chance.uniform(1, 40))
        if trouble:
            m.secret_reload_failures.inc()
            m.lost.labels("overloaded").inc(0.2)
            m.connections_closed.labels("slow").inc()
            m.dead_lettered.labels("not_json").inc(0.5)
        self._oldest(m.oldest_unfinished, 0.4 if trouble else 0.03)

    def _reader(self, contacts: float, seconds: float, trouble: bool) -> None:
        m: ReaderMetrics = self.reader.metrics
        m.active.set(1)
        nightly = self.now / HOUR % 24 < 2
        m.runs_in_progress.set(int(nightly or trouble))
        pages = 0.05 * seconds * (nightly or trouble)
        m.contacts.labels("reconcile").inc(pages * 150)
        m.contacts.labels("refetch").inc(contacts * 0.1)
        m.calls.labels("list_contacts", "200").inc(pages)
        m.calls.labels("list_contacts", "429").inc(pages * 0.05)
        m.calls.labels("get_contact", "200").inc(contacts * 0.1)
        m.calls.labels("list_webhooks", "200").inc(seconds / 600)
        m.waits.labels("rate_limited").inc(pages * 0.05)
        m.waits.labels("sink_lag").inc(pages * 0.3)
        m.refetched.labels("found").inc(contacts * 0.1)
        m.refetched.labels("gone").inc(contacts * 0.002)
        m.pending.set(self.chance.randint(2, 12))
        m.clock_ahead.set(self.chance.uniform(-0.3, 0.2))
        m.grant_events.labels("grant.updated").inc(contacts * 0.02)
        m.mailboxes.labels("selected").set(38)
        m.mailboxes.labels("not_selected").set(4)
        m.grant_events.labels("grant.expired").inc(contacts * 0.0005)
        m.reoffered.inc(contacts * 0.03)
        m.deleted.labels("reconcile").inc(contacts * 0.01)
        for status, number in (("valid", 171), ("expired", 4 + 2 * trouble), ("deleted", 12)):
            m.grants.labels(status).set(number)
        for state in ("active", "failing", "unknown"):
            m.webhooks.labels(state).set(state == ("failing" if trouble else "active"))
        if trouble:
            m.kafka_errors.labels("_TRANSPORT").inc(0.1)
            m.offset_resets.labels("contacts.refetch").inc(0.05)
            m.grants_skipped.labels("grant_unverified").inc(0.1)
        self._oldest(m.oldest_unfinished, self.chance.uniform(100, 620))

    def _dedupe(self, contacts: float, trouble: bool) -> None:
        m: DedupeMetrics = self.dedupe.metrics
        m.taken.inc(contacts)
        m.forwarded.labels("updated").inc(contacts * 0.62)
        m.forwarded.labels("deleted").inc(contacts * 0.02)
        m.dropped.labels("duplicate").inc(contacts * 0.3)
        m.dropped.labels("stale").inc(contacts * 0.04)
        m.refetch.labels("same_second").inc(contacts * 0.06)
        if trouble:
            m.dead_lettered.labels("too_deep").inc(0.2)
        m.table_entries.set(self.eligible * 1.1)
        _observe(m.batch_records, contacts / 10, 30, self.chance)
        for partition in range(4):
            behind = self.chance.randint(1, 30) * (6 if trouble else 1)
            m.lag.labels(str(partition)).set(behind)
            m.oldest_unread_expires.labels(str(partition)).set(13.9 * DAY)
        m.last_processed.set(self.now - self.chance.uniform(0, 20))
        self._oldest(m.oldest_unfinished, self.chance.uniform(0, 2) + 6 * trouble)

    def _sink(self, contacts: float, seconds: float, trouble: bool) -> None:
        m: SinkMetrics = self.sink.metrics
        rows, failed = contacts * 0.65, 0.03 if trouble else 0.004
        m.taken.inc(rows)
        m.coalesced.inc(rows * 0.03)
        shares = {
            "created": 0.11, "updated": 0.55, "filled": 0.08, "unchanged": 0.2, "covered": 0.01,
            "ambiguous": 0.006, "stale": 0.004, "skipped": 0.035, "held": 0.002, "failed": failed,
        }  # fmt: skip
        for outcome, share in shares.items():
            m.rows.labels(outcome, "webhook").inc(rows * share)
        drift = 0.1 * ((self.now // (7 * DAY)) % 3)
        how = (0.41 + drift, 0.03, 0.03, 0.02, 0.01, 0.3 - drift, 0.2)
        for (result, found), share in zip(FIRST_RESOLUTIONS, how, strict=True):
            m.first_resolutions.labels(result, found, "webhook").inc(rows * 0.3 * share)
        for by, share in (("key", 0.6), ("email", 0.2), ("merged", 0.01)):
            m.matched.labels(by, "webhook").inc(rows * share)
        for reason, share in (("excluded", 0.02), ("no_address", 0.015), ("source", 0.004)):
            m.skipped.labels(reason).inc(rows * share)
        m.replaced_values.labels("Lead", "webhook").inc(rows * 0.02)
        m.owners.labels(OWNER_RULES[0], "Lead").inc(rows * 0.1)
        m.several_matched.inc(rows * 0.004)
        for reason, share in (
            ("FIELD_CUSTOM_VALIDATION_EXCEPTION", 0.6),
            ("INVALID_EMAIL_ADDRESS", 0.3),
            ("retries_exhausted_UNABLE_TO_LOCK_ROW", 0.1),
        ):
            m.dead_lettered.labels(reason).inc(rows * failed * share)
        m.retried.labels("UNABLE_TO_LOCK_ROW").inc(rows * 0.01)
        m.warnings.labels("truncated", "Contact.Title").inc(rows * 0.002)
        m.warnings.labels("value_dropped", "Lead.Website").inc(rows * 0.001)
        for kind, share in (("composite_query", 0.4), ("composite_write", 0.38), ("query", 0.02)):
            m.calls.labels(kind).inc(rows * share / 8)
            _observe(m.call_seconds.labels(kind), rows * share / 8, 0.3, self.chance)
        _observe(m.latency.labels("webhook"), rows, 40 if trouble else 1.4, self.chance)
        _observe(m.batch_rows, rows / 8, 12, self.chance)
        m.paused.set(int(trouble and (self.end - self.now) % HOUR < 20 * MINUTE))
        m.breakers_open.labels("bulk").set(int(trouble))
        if trouble:
            m.pauses.labels("SERVER_UNAVAILABLE").inc(seconds / HOUR)
            m.breaker_openings.labels("FIELD_CUSTOM_VALIDATION_EXCEPTION", "bulk").inc(
                seconds / (6 * HOUR)
            )
            m.kafka_errors.labels("_TRANSPORT").inc(seconds / HOUR)
        for mode in WriteMode:
            m.mode.labels(mode.value).set(mode is WriteMode.MIRROR)
        for limit, most, share in (
            ("creations_per_day", 10_000, 0.3), ("replaced_values_per_hour", 2_000, 0.1),
            ("calls_per_day", 50_000, 0.45), ("data_storage", 0.95, 0.6),
        ):  # fmt: skip
            m.limit.labels(limit).set(most)
            m.limit_used.labels(limit).set(most * share * (0.5 + self.now % DAY / DAY))
        m.deleted_records.set(320 + self.now % DAY // HOUR)
        m.deleted_records_forgotten.inc(seconds / (2 * DAY))
        m.sweeps.labels("done").inc(seconds / DAY)
        m.unfinished_rows.set(self.chance.randint(1, 60) * (5 if trouble else 1))
        m.held_bytes.set(self.chance.randint(20_000, 90_000) * (6 if trouble else 1))
        m.seconds_between.set(0.5 + self.now % (6 * HOUR) / HOUR)
        m.lag.set(self.chance.randint(1, 40) + 250 * trouble)
        m.clock_ahead.set(self.chance.uniform(-0.5, 0.5))
        m.api_limit.set(100_000)
        used = 21_000 + 9_000 * (self.now / HOUR % 24 > 9)
        m.api_used.set(used + (self.now % (4 * HOUR)) * 1.2 * (1 + trouble))
        m.last_processed.set(self.now - self.chance.uniform(0, 30))
        self._oldest(m.oldest_unfinished, self.chance.uniform(0, 3) + 75 * trouble)

    def _coverage(self, contacts: float) -> None:
        m: ConsoleGauges = self.console.metrics
        self.eligible += contacts * 0.02
        for state, share in (
            ("eligible", 1), ("with_record", 0.86), ("covered", 0.012), ("ambiguous", 0.006),
            ("failed", 0.002), ("held", 0.004),
        ):  # fmt: skip
            m.people.labels(state).set(round(self.eligible * share))
        for number in range(8):
            name = "other" if number == 7 else f"{0x5F3A91C7 * (number + 1) & 0xFFFFFFFF:08x}"
            people = round(self.eligible * (0.16 - 0.02 * number if number < 7 else 0.3))
            m.of_grants.labels(name, "eligible").set(people)
            m.of_grants.labels(name, "with_record").set(round(people * (0.97 - 0.09 * number)))
        m.open_letters.labels("FIELD_CUSTOM_VALIDATION_EXCEPTION").set(27)
        m.open_letters.labels("INVALID_EMAIL_ADDRESS").set(8)
        m.oldest_letter.set(self.now - 1.3 * DAY)

    def _oldest(self, gauge: Gauge, seconds: float) -> None:
        at = self.now - seconds
        gauge.set_function(lambda: at)


def _observe(histogram: Histogram, number: float, about: float, chance: random.Random) -> None:
    """Observes at most 12 values: what matters are the shares of the buckets."""
    for _ in range(min(12, max(1, round(number)))):
        histogram.observe(about * chance.lognormvariate(0, 0.6))


def tell(file: Path, now: float, days: float, step: float, recent: tuple[float, float]) -> None:
    """Writes the story of `days` until `now`: every `step`, and in the last hours more often.

    `recent`: how long these last hours are, and the step in them, in seconds. Their last four hours
    have the trouble. Prometheus takes no sample from before the newest one, also none of its rules:
    `now` must not lie ahead.
    """
    length, short = recent
    start = (now - days * DAY) // step * step  # a panel with a value a day asks at midnight
    before = [start + number * step for number in range(int(days * DAY / step) + 1)]
    times = [at for at in before if at < now - length]
    times += [now - number * short for number in range(int(length / short), -1, -1)]
    story = Story(times[0] - step, now)
    with file.open("w") as out:
        for at in times:
            story.go_on(at - story.now, trouble=at > now - 4 * HOUR)
            out.writelines(f"{line}\n" for line in story.lines())
        out.write("# EOF\n")


def build(folder: Path, at: float, days: float, step: float, recent: tuple[float, float]) -> None:
    """Makes a database of Prometheus of the story until `at`, at whole seconds as it tells them."""
    text = folder / "story.om"
    tell(text, int(at), days, step, recent)
    # Larger blocks than usual: promtool reads the whole text once for each.
    done = subprocess.run(
        [
            "promtool", "tsdb", "create-blocks-from", "--max-block-duration=2048h",
            "openmetrics", "--quiet", str(text), str(folder / "data"),
        ],
        capture_output=True, text=True, timeout=TOOL_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    text.unlink()


@contextlib.contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """The address of a Prometheus over the database in `folder`, with the rules of the project."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.fail("prometheus is missing: install prometheus (on Debian: apt-get install ...)")
    config = folder / "prometheus.yml"
    interval = {"evaluation_interval": "1s"}
    config.write_text(json.dumps({"global": interval, "rule_files": [str(each) for each in RULES]}))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    process = subprocess.Popen(
        [
            program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}", "--storage.tsdb.retention.time=365d",
            "--log.level=error",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = f"http://{address}"
        wait_until(lambda: _answers(url), "Prometheus is ready", 60)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready").status_code == 200
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Serve the story for the preview of dashboards.")
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    build(chosen.folder, time.time(), 70, 6 * HOUR, (26 * HOUR, 4 * MINUTE))
    with prometheus(chosen.folder) as serving:
        print(serving, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(3600)
