"""A Prometheus and an Alertmanager with the rules of the product, in which time passes faster.

They watch processes that run, and a receiver keeps what a person would be sent.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.broker import free_ports
from tests.support.children import child_command
from tests.support.paths import ROOT
from tests.support.scaled_time import FACTOR, duration, scaled_alertmanager, scaled_rules
from tests.support.threads import in_thread, repeated
from tests.support.waiting import wait_until

MONITORING = ROOT / "deploy" / "monitoring"
RECEIVERS = {"http://pager.example/alerts": "pager", "http://tickets.example/alerts": "tickets"}

# Prometheus' own default. A process on a busy machine answers a scrape within its share of this.
SCRAPE_SECONDS = 60.0
# The defaults of Prometheus for what is no part of a rule: how long a sample is looked back for,
# and how often an alert that fires is sent again.
LOOKBACK_SECONDS, RESEND_SECONDS = 300.0, 60.0
# Of either program on a busy machine.
START_SECONDS, STOP_SECONDS = 60.0, 20.0
# Between two looks at which alerts are held back.
LOOK_SECONDS = 0.3

Alert = tuple[str, str]
"""The name of an alert, and the stage that it is about; empty where it is about none."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a person learns: an alert fires or is resolved."""

    at: float
    """Seconds of the test since the act began."""
    receiver: str
    status: str
    """firing or resolved"""
    alert: Alert
    cause: str
    """Which of several rules of an alert it is; empty where there is one."""

    def line(self) -> str:
        """For the timeline, with the time as it would be in a real deployment."""
        name, stage = self.alert
        verb = {"firing": "fires", "resolved": "is resolved"}[self.status]
        about = " ".join(filter(None, (stage, self.cause)))
        return f"{clock(self.at)}  {self.receiver:8} {name} {verb}{f' ({about})' * bool(about)}"


def clock(seconds: float) -> str:
    """Hours and minutes of a real deployment, for seconds of the test."""
    minutes = round(seconds * FACTOR / 60)
    return f"{minutes // 60}:{minutes % 60:02}"


@dataclass(slots=True)
class Watch:
    """What a person was told since the present act began, and what was held back."""

    prometheus: str
    alertmanager: str
    began: float = field(default_factory=time.monotonic)
    notices: list[Notice] = field(default_factory=list)
    held_back: set[Alert] = field(default_factory=set)
    """Alerts that fired while another one made them superfluous."""
    happened: list[tuple[float, str]] = field(default_factory=list)
    """What the test did, for the timeline."""

    @property
    def now(self) -> float:
        """Seconds since the act began."""
        return time.monotonic() - self.began

    def begin_act(self) -> None:
        """Forgets what was told so far. Time begins anew."""
        self.began = time.monotonic()
        self.notices, self.happened, self.held_back = [], [], set()

    def note(self, what: str) -> float:
        """Adds a line to the timeline; returns the time."""
        self.happened.append((self.now, what))
        return self.happened[-1][0]

    def told(self, status: str) -> list[Alert]:
        """The alerts of which a person was told that they fire, or are resolved, in their order."""
        found = [notice.alert for notice in self.notices if notice.status == status]
        return list(dict.fromkeys(found))

    def look(self) -> None:
        """Notes which alerts are held back now."""
        try:
            known = httpx.get(f"{self.alertmanager}/api/v2/alerts").json()
        except httpx.HTTPError:
            return  # it starts, or it ends
        self.held_back |= {named(each["labels"]) for each in known if each["status"]["inhibitedBy"]}

    def causes(self, alert: Alert) -> set[str]:
        """The causes by which a person was told that an alert fires."""
        return {each.cause for each in self.notices if each.alert == alert}

    def at(self, alert: Alert, status: str = "firing") -> float:
        """When a person was first told so. Raises AssertionError if that never was."""
        for notice in self.notices:
            if (notice.alert, notice.status) == (alert, status):
                return notice.at
        raise AssertionError(f"nobody was told that {alert} is {status}:\n{self.timeline()}")

    def sent_to(self, receiver: str) -> set[str]:
        """The names of the alerts that a receiver was sent."""
        return {notice.alert[0] for notice in self.notices if notice.receiver == receiver}

    def firing(self) -> set[Alert]:
        """The alerts that fire now, whether anybody is told or not."""
        answer = httpx.get(f"{self.prometheus}/api/v1/alerts").json()
        return {
            named(each["labels"]) for each in answer["data"]["alerts"] if each["state"] == "firing"
        }

    def wait_told(self, alerts: Iterable[Alert], status: str, seconds: float) -> None:
        """Waits until a person was told of each of these. Raises AssertionError."""
        wanted = set(alerts)
        what = f"a person is told that these are {status}: {sorted(wanted)}"
        wait_until(lambda: wanted <= set(self.told(status)), what, seconds)

    def timeline(self) -> str:
        """What happened and what a person was told, in hours and minutes of a real deployment."""
        lines = [(notice.at, notice.line()) for notice in self.notices]
        lines += [(at, f"{clock(at)}  -------- {what}") for at, what in self.happened]
        held = [f"held back: {name} {stage}".rstrip() for name, stage in sorted(self.held_back)]
        return "\n".join([*(line for _, line in sorted(lines)), *held])


def named(labels: dict[str, str]) -> Alert:
    """The alert with these labels."""
    return labels["alertname"], labels.get("stage", "")


@contextmanager
def watching(folder: Path, targets: Sequence[str]) -> Iterator[Watch]:
    """Watches the processes whose operations ports are these, as host:port. Blocks."""
    folder.mkdir()
    prometheus_port, alertmanager_port = free_ports(2)
    watch = Watch(f"http://127.0.0.1:{prometheus_port}", f"http://127.0.0.1:{alertmanager_port}")
    with receiver(watch) as address:
        alertmanager_file = folder / "alertmanager.yml"
        alertmanager_file.write_text(alertmanager_config(address))
        prometheus_file = folder / "prometheus.yml"
        prometheus_file.write_text(
            prometheus_config(write_rules(folder), targets, f"127.0.0.1:{alertmanager_port}")
        )
        with (
            program(
                folder,
                ("prometheus-alertmanager", "alertmanager"),
                f"--config.file={alertmanager_file}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{alertmanager_port}",
                "--cluster.listen-address=",
            ),
            program(
                folder,
                ("prometheus",),
                f"--config.file={prometheus_file}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{prometheus_port}",
                f"--query.lookback-delta={duration(LOOKBACK_SECONDS)}",
                f"--rules.alert.resend-delay={duration(RESEND_SECONDS)}",
            ),
            repeated(watch.look, LOOK_SECONDS),
        ):
            wait_until(lambda: ready(watch.alertmanager), "Alertmanager answers", START_SECONDS)
            wait_until(lambda: ready(watch.prometheus), "Prometheus answers", START_SECONDS)
            watch.began = time.monotonic()
            yield watch


def write_rules(folder: Path) -> list[Path]:
    """The rules of the product, in which time passes faster."""
    written = []
    for file in sorted((MONITORING / "rules").glob("*.yml")):
        written.append(folder / f"rules-{file.name}")
        written[-1].write_text(scaled_rules(file.read_text()))
    return written


def alertmanager_config(receiver_url: str) -> str:
    """The example for Alertmanager, in which time passes faster, with our own receivers."""
    text = scaled_alertmanager((MONITORING / "alertmanager.example.yml").read_text())
    for url, name in RECEIVERS.items():
        assert url in text, f"the example has no receiver {url} any more"
        text = text.replace(url, f"{receiver_url}/{name}")
    return text


def prometheus_config(rules: Iterable[Path], targets: Sequence[str], alertmanager: str) -> str:
    """A configuration like the one of deploy/monitoring/README.md, in which time passes faster."""
    interval = duration(SCRAPE_SECONDS)
    return json.dumps(
        {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "rule_files": [str(file) for file in rules],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
            "scrape_configs": [
                {"job_name": "contactstream", "static_configs": [{"targets": list(targets)}]}
            ],
        }
    )


@contextmanager
def program(folder: Path, names: Sequence[str], *arguments: str) -> Iterator[None]:
    """Runs the first of these programs that is installed; fails where none is, with the remedy."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.fail(f"{names[0]} is missing; on Debian: apt-get install {names[0]}")
    with (folder / f"{names[0]}.log").open("wb") as log:
        process = subprocess.Popen(child_command([found, *arguments]), stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ready(url: str) -> bool:
    """Whether Prometheus or Alertmanager answers there."""
    try:
        return httpx.get(f"{url}/-/ready").status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def receiver(watch: Watch) -> Iterator[str]:
    """Keeps what Alertmanager sends. Yields the address, below which are those of the receivers."""
    seen: set[tuple[str, str, str]] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for each in said["alerts"]:
                # A group is sent as a whole whenever one of its alerts changes.
                identity = each["fingerprint"], each["status"], each["startsAt"]
                if identity not in seen:
                    seen.add(identity)
                    watch.notices.append(notice(watch.now, self.path, each))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Prints nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with in_thread(server.serve_forever):
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()


def notice(at: float, path: str, alert: dict[str, Any]) -> Notice:
    """An alert in a message of Alertmanager."""
    labels = alert["labels"]
    cause = labels.get("cause", "")
    return Notice(at, path.strip("/"), alert["status"], named(labels), cause)
