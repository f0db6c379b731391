"""The rules are what Prometheus accepts, and each alert fires when it should and not just below.

promtool evaluates them. The cases are in tests/monitoring/cases.py.
"""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from streams.metrics import (
    BridgeMetrics,
    ConsoleMetrics,
    DedupeMetrics,
    ProcessMetrics,
    ReaderMetrics,
    SinkMetrics,
)
from streams.runtime.ops import Health
from tests.monitoring.cases import CASES, RUNNING, AlertCase
from tests.support.docs import documents
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

MONITORING = ROOT / "deploy" / "monitoring"
RULES = sorted((MONITORING / "rules").glob("*.yml"))
ALERTMANAGER = MONITORING / "alertmanager.example.yml"
TEXT = "\n".join(file.read_text() for file in RULES)
ALERTS = sorted(set(re.findall(r"- alert: (\w+)", TEXT)))
PAGES = {
    "ContactstreamWebhookAtRisk",
    "ContactstreamRecordsMayExpire",
    "ContactstreamNoProgress",
}
# promtool needs some 5 s of a processor, which others may use too.
TOOL_SECONDS = 120.0
# Reasons of failures, and the answers of Nylas, are no closed set. The rules that use them count
# the first one, or need none. The lag of dedupe is by the partitions that a worker has.
FIRST_SEEN_LATER = {
    "contactstream_dedupe_lag_records",
    "contactstream_dedupe_oldest_unread_expires_seconds",
    "contactstream_reader_calls_total",
    "contactstream_sink_dead_lettered_total",
    "contactstream_sink_retried_total",
    "contactstream_sink_warnings_total",
}


def tool(name: str, *arguments: str | Path, given: str | None = None) -> str:
    """What a program of Prometheus or Alertmanager prints; fails the test where it is missing."""
    package = "prometheus" if name == "promtool" else "prometheus-alertmanager"
    if shutil.which(name) is None:
        pytest.fail(f"{name} is missing: install {package} (on Debian: apt-get install {package})")
    done = subprocess.run(
        [name, *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        timeout=TOOL_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rule_blocks(kind: str = "alert") -> list[str]:
    """The text of each rule of a kind, alert or record."""
    parts = re.split(r"\n(?=      - (?:alert|record): |  - name: |groups:)", TEXT)
    return [part for part in parts if part.lstrip().startswith(f"- {kind}: ")]


def rule_name(block: str) -> str:
    found = re.search(r"- alert: (\w+)", block)
    assert found is not None
    return found[1]


def scenario(case: AlertCase, *, fires: bool) -> dict[str, Any]:
    """A test of promtool: whether the alert fires at a time, given the series."""
    own = {**RUNNING, **case.fires, **({} if fires else case.below)}
    firing = {"labels": f'{{alertname="{case.alert}"}}', "value": 1}
    return {
        "name": f"{case.alert}: {case.what} ({'fires' if fires else 'just below'})",
        "interval": case.interval,
        "input_series": [
            {"series": name, "values": values} for name, values in own.items() if values
        ],
        "promql_expr_test": [
            {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": case.at,
                "exp_samples": [firing] if fires else [],
            }
        ],
    }


def alone(alert: str) -> str:
    """The rules of one alert, and the recording rules that it needs: promtool takes its time."""
    own = [block for block in rule_blocks() if rule_name(block) == alert]
    needed = set(re.findall(r"contactstream:[\w:]+", "".join(own)))
    recorded = [
        block
        for block in rule_blocks("record")
        if re.search(r"- record: (\S+)", block)[1] in needed  # type: ignore[index]
    ]
    return "\n".join(["groups:", "  - name: alone", "    rules:", *recorded, *own]) + "\n"


@pytest.mark.slow
def test_each_alert_fires_and_does_not_fire_just_below(tmp_path: Path) -> None:
    files = []
    for alert in ALERTS:
        cases = [case for case in CASES if case.alert == alert]
        rules = tmp_path / f"{alert}-rules.yml"
        rules.write_text(alone(alert))
        for every in {case.every for case in cases}:
            tests = {
                "rule_files": [str(rules)],
                "evaluation_interval": every,
                "tests": [
                    scenario(case, fires=fires)
                    for case in cases
                    if case.every == every
                    for fires in (True, False)
                ],
            }
            files.append(tmp_path / f"{alert}-{every}.yml")
            files[-1].write_text(json.dumps(tests))  # JSON is YAML
    tool("promtool", "test", "rules", *files)


def test_prometheus_accepts_the_rules() -> None:
    tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", *RULES)


def test_every_alert_has_a_case() -> None:
    assert sorted({case.alert for case in CASES}) == ALERTS


def all_metrics() -> CollectorRegistry:
    """Every metric of every stage, as it is when a process starts."""
    registry = CollectorRegistry()
    for stage in (BridgeMetrics, ReaderMetrics, DedupeMetrics, SinkMetrics, ConsoleMetrics):
        stage(registry)
    ProcessMetrics(registry, "sink", Health(1.0))
    return registry


def metrics_in_the_rules() -> set[str]:
    return set(re.findall(r"\bcontactstream_(?!recording|slo|pages|tickets)\w+", TEXT))


def declared() -> set[str]:
    """The names of every series that streams/metrics.py declares."""
    registries = [
        vars(stage(CollectorRegistry())).values()
        for stage in (BridgeMetrics, ReaderMetrics, DedupeMetrics, SinkMetrics, ConsoleMetrics)
    ]
    process = vars(ProcessMetrics(CollectorRegistry(), "sink", Health(1.0))).values()
    names: set[str] = set()
    for metric in (each for values in (*registries, process) for each in values):
        if isinstance(metric, MetricWrapperBase):
            endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
            names |= {metric._name + each for each in endings.get(str(metric._type), ("",))}
    return names


def test_every_metric_in_a_rule_exists() -> None:
    assert metrics_in_the_rules() - declared() == set()


def test_every_series_that_a_rule_needs_exists_from_the_start() -> None:
    present = {sample.name for family in all_metrics().collect() for sample in family.samples}
    missing = metrics_in_the_rules() - present
    assert missing == FIRST_SEEN_LATER


def test_promtool_finds_nothing_wrong_with_the_metrics() -> None:
    tool("promtool", "check", "metrics", given=generate_latest(all_metrics()).decode())


def test_every_recorded_series_that_an_alert_uses_is_recorded() -> None:
    recorded = set(re.findall(r"- record: (\S+)", TEXT))
    assert set(re.findall(r"contactstream:[\w:]+", TEXT)) == recorded


@pytest.mark.parametrize("block", rule_blocks(), ids=rule_name)
def test_an_alert_says_what_happened_with_its_number_and_where_to_read_on(block: str) -> None:
    severity = re.search(r"severity: (\w+)", block)
    assert severity is not None
    assert severity[1] == ("page" if rule_name(block) in PAGES else "ticket")
    runbook = re.search(r"runbook_url: (\S+)", block)
    assert runbook is not None
    page = ROOT / runbook[1]
    assert page.is_file()
    assert rule_name(block) in page.read_text(), f"{runbook[1]} does not name {rule_name(block)}"
    assert "summary: " in block
    assert "description: " in block
    expression, _, texts = block.partition("annotations:")
    # There is no number to say of what is not there.
    assert ("$value" in texts) == ("absent(" not in expression)


def test_every_runbook_belongs_to_an_alert() -> None:
    linked = set(re.findall(r"runbook_url: (\S+)", TEXT))
    procedures = {
        f"deploy/runbooks/{name}.md" for name in ("dedupe-generation", "disaster-recovery", "pause")
    }
    found = {name for name in documents() if name.startswith("deploy/runbooks/")}
    assert found == linked | procedures


@pytest.mark.parametrize(("severity", "receiver"), [("page", "pager"), ("ticket", "tickets")])
def test_alertmanager_sends_pages_to_the_pager_and_tickets_to_the_tracker(
    severity: str, receiver: str
) -> None:
    tool("amtool", "check-config", ALERTMANAGER)
    routed = tool(
        "amtool",
        "config",
        "routes",
        "test",
        f"--config.file={ALERTMANAGER}",
        "alertname=ContactstreamBehind",
        f"severity={severity}",
    )
    assert routed.split() == [receiver]


NO_PROGRESS = {"alertname": "ContactstreamNoProgress", "severity": "page", "stage": "sink"}
EXPIRE = {"alertname": "ContactstreamRecordsMayExpire", "severity": "page", "stage": "dedupe"}
BEHIND = {"alertname": "ContactstreamBehind", "severity": "ticket", "stage": "sink"}
BEHIND_TOO = {"alertname": "ContactstreamBehind", "severity": "ticket", "stage": "dedupe"}
FOREIGN = {"alertname": "NodeDown", "severity": "page"}


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Alertmanager with the example."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        pytest.fail("alertmanager is missing: install prometheus-alertmanager")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    process = subprocess.Popen(
        [
            program,
            f"--config.file={ALERTMANAGER}",
            f"--storage.path={tmp_path_factory.mktemp('alertmanager')}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://{address}"
        wait_until(lambda: answers(url), "Alertmanager is ready")
        yield url
    finally:
        process.terminate()
        process.wait(10)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready").status_code == 200
    except httpx.HTTPError:
        return False


def held_back(url: str) -> list[str]:
    """The alerts of which Alertmanager sends nothing now, because of others."""
    return sorted(
        f"{alert['labels']['alertname']} {alert['labels'].get('stage', '')}".strip()
        for alert in httpx.get(f"{url}/api/v2/alerts").json()
        if alert["status"]["inhibitedBy"]
    )


@pytest.mark.slow
def test_a_pause_holds_back_everything_but_the_loss_by_retention(alertmanager: str) -> None:
    known = [NO_PROGRESS, EXPIRE, BEHIND, BEHIND_TOO, FOREIGN]
    sent = [{"labels": labels} for labels in known]
    httpx.post(f"{alertmanager}/api/v2/alerts", json=sent).raise_for_status()
    # Without a pause: the page says it all for its own stage.
    wait_until(lambda: held_back(alertmanager) == ["ContactstreamBehind sink"], "by the page")
    tool(
        "amtool",
        "alert",
        "add",
        "ContactstreamPaused",
        "severity=ticket",
        f"--alertmanager.url={alertmanager}",
    )
    paused = [
        "ContactstreamBehind dedupe",
        "ContactstreamBehind sink",
        "ContactstreamNoProgress sink",
    ]
    wait_until(lambda: held_back(alertmanager) == paused, "by the pause")
