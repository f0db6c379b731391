"""The dashboards: up to date, as Grafana's dashboard-linter wants them, and none of them empty.

The linter (https://github.com/grafana/dashboard-linter) is a program in Go; its rules are written
here again. A real Prometheus evaluates every expression over a made-up past (story.py).
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from deploy.monitoring.dashboard_source.__main__ import FOLDER, SOURCES, files, stale
from deploy.monitoring.dashboard_source.grafana import COLUMNS
from deploy.monitoring.dashboard_source.overview import RUNBOOKS
from streams.cli import main
from streams.metrics import (
    BridgeMetrics,
    DedupeMetrics,
    ProcessMetrics,
    ReaderMetrics,
    SinkMetrics,
)
from streams.runtime.ops import Health
from tests.monitoring.story import HOUR, MINUTE, RULES, build, prometheus
from tests.monitoring.test_rules import TEXT as RULES_TEXT
from tests.monitoring.test_rules import metrics_in_the_rules, tool
from tests.support.paths import ROOT

DASHBOARDS = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in SOURCES}
EXCEPTIONS = json.loads((FOLDER / ".lint").read_text())["exclusions"]

# Of those that Grafana knows (packages/grafana-data/src/valueFormats/categories.ts).
UNITS = {"none", "short", "percentunit", "s", "bytes", "cps", "ops", "reqps"}

# What the variables of an expression stand for here. The story has a sample every 4 minutes.
VARIABLES = {"$job": ".+", "$instance": ".+", "$__rate_interval": "12m", "$__range": "6h"}

# Exported by the console's process, which reads the topics that they follow from.
CONSOLE = {
    "contactstream_coverage_people": {"state"},
    "contactstream_coverage_grant_people": {"grant", "state"},
    "contactstream_dead_letters_open": {"reason"},
    "contactstream_dead_letters_oldest_timestamp_seconds": set(),
    "contactstream_console_connections": set(),
    "contactstream_console_connections_closed_total": {"reason"},
}
# By prometheus_client, for every process.
STANDARD: dict[str, set[str]] = {
    "process_resident_memory_bytes": set(),
    "process_cpu_seconds_total": set(),
}
ALERT_LABELS = {"alertname", "alertstate", "severity", "stage", "runbook", "alert"}
RECORDED_LABELS = {"stage", "slo", "reason", "status"}
SCRAPED_LABELS = {"job", "instance"}

# Metrics that neither a rule nor a dashboard shows, with the reason.
UNUSED: dict[str, str] = {
    "contactstream_sink_contact_domains": "explain and plan say by which evidence a record got its "
    "Account; whoever sets the share looks here",
    "contactstream_secret_reload_failures_total": "a line of the log names the file; the process "
    "works on",
    "contactstream_trace_spans_total": "for who runs traces; whoever misses a trace looks here",
    "contactstream_sink_member_lists_total": "a line of the log says why a list was not published, "
    "and doctor how old it is",
    "contactstream_console_connections": "whom the console turns away looks here",
    "contactstream_console_connections_closed_total": "whom the console turns away looks here",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A panel of a dashboard."""

    dashboard: str
    panel: dict[str, Any]

    @property
    def title(self) -> str:
        return str(self.panel["title"])

    @property
    def queries(self) -> list[dict[str, Any]]:
        return list(self.panel["targets"])

    def excepted(self, rule: str) -> bool:
        """Whether the linter is told to leave this panel out of a rule."""
        title = DASHBOARDS[self.dashboard]["title"]
        entries = EXCEPTIONS.get(rule, {"entries": []})["entries"]
        return any((e["dashboard"], e["panel"]) == (title, self.title) for e in entries)


PANELS = [
    Shown(name, panel)
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]
EXPRESSIONS = [
    (shown, query["expr"], query["legendFormat"]) for shown in PANELS for query in shown.queries
]


def named(shown: Shown) -> str:
    return f"{shown.dashboard}: {shown.title}"


each_dashboard = pytest.mark.parametrize("name", DASHBOARDS)
each_panel = pytest.mark.parametrize("shown", PANELS, ids=named)


def plain(expression: str) -> str:
    """An expression with values in the place of Grafana's variables."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def catalogue() -> dict[str, set[str]]:
    """Every series that streams/metrics.py declares, with its labels."""
    stages: list[Callable[[CollectorRegistry], object]] = [
        BridgeMetrics,
        ReaderMetrics,
        DedupeMetrics,
        SinkMetrics,
        lambda registry: ProcessMetrics(registry, "sink", Health(1.0)),
    ]
    found: dict[str, set[str]] = {}
    for stage in stages:
        for metric in vars(stage(CollectorRegistry())).values():
            if isinstance(metric, MetricWrapperBase):
                labels = set(metric._labelnames)
                if str(metric._type) == "counter":
                    found[f"{metric._name}_total"] = labels
                elif str(metric._type) == "histogram":
                    found[f"{metric._name}_bucket"] = labels | {"le"}
                    found[f"{metric._name}_count"] = found[f"{metric._name}_sum"] = labels
                else:
                    found[metric._name] = labels
    return found


KNOWN = catalogue() | CONSOLE | STANDARD


def metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"(?<![\w:$])((?:contactstream|process)_\w+)", expression))


def recorded_of(expression: str) -> set[str]:
    return set(re.findall(r"contactstream:[\w:]+", expression))


def test_the_dashboards_are_what_their_source_says() -> None:
    assert stale() == [], "run: make docs"
    # Kustomize's file stands beside those that it reads.
    found = {path.name for path in FOLDER.iterdir()} - {"kustomization.yaml"}
    assert found == set(files())


@each_dashboard
def test_a_dashboard_is_found_and_linked(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert dashboard["uid"].startswith("contactstream-")
    assert len(dashboard["uid"]) <= 40, "Grafana's limit"
    assert dashboard["title"].startswith("contactstream: ")
    assert dashboard["description"].endswith(".")
    assert dashboard["schemaVersion"] == 39
    assert (dashboard["timezone"], dashboard["refresh"]) == ("browser", "30s")
    assert dashboard["editable"] is False
    (link,) = dashboard["links"]
    assert link["type"] == "dashboards"
    assert link["includeVars"]
    assert link["keepTime"]
    assert set(link["tags"]) <= set(dashboard["tags"])
    assert [each["name"] for each in dashboard["annotations"]["list"]] == ["Runs", "Deploys"]


def test_no_two_dashboards_have_the_same_uid_or_title() -> None:
    for key in ("uid", "title"):
        assert len({each[key] for each in DASHBOARDS.values()}) == len(DASHBOARDS)


@each_dashboard
def test_the_variables_are_those_that_the_linter_wants(name: str) -> None:
    datasource, job, instance, _ = DASHBOARDS[name]["templating"]["list"]
    wanted = {"name": "datasource", "label": "Data source", "query": "prometheus"}
    assert wanted.items() <= datasource.items()
    for variable, label in ((job, "job"), (instance, "instance")):
        assert (variable["name"], variable["label"]) == (label, label.title())
        assert variable["datasource"]["uid"] == "${datasource}"
        assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (
            True,
            True,
            ".+",
        )
        assert variable["refresh"] == 2, "read again when the time range changes"
        found = re.fullmatch(r"label_values\((\w+).*, (\w+)\)", variable["query"]["query"])
        assert found is not None
        assert found[1] in KNOWN
        assert found[2] == label


@each_dashboard
def test_panels_lie_beside_each_other_within_the_grid(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    panels = DASHBOARDS[name]["panels"]
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    lines: dict[int, int] = {}
    for panel in panels:
        lines[panel["gridPos"]["y"]] = lines.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
    assert set(lines.values()) == {COLUMNS}, "a line of panels leaves a hole"


@each_panel
def test_a_panel_says_what_it_shows_and_in_which_unit(shown: Shown) -> None:
    panel = shown.panel
    assert panel["title"]
    assert panel["description"].endswith((".", "!"))
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]
    references = [query["refId"] for query in shown.queries]
    assert len(set(references)) == len(references)
    for query in shown.queries:
        assert query["datasource"]["uid"] == "${datasource}"
    for link in panel["links"]:
        page = re.fullmatch(r"\$\{runbooks\}/([\w-]+\.md)", link["url"])
        assert page is not None
        assert (ROOT / "deploy" / "runbooks" / page[1]).is_file()


@each_panel
def test_a_command_in_a_description_exists(shown: Shown) -> None:
    for words in re.findall(r"`contactstream ([\w -]+)`", shown.panel["description"]):
        assert CliRunner().invoke(main, [*words.split(), "--help"]).exit_code == 0, words


@each_panel
def test_a_panel_selects_job_and_instance(shown: Shown) -> None:
    for query in shown.queries:
        selectors = re.findall(r"(?:contactstream|process)_\w+(?:\{[^}]*\})?", query["expr"])
        for selector in selectors:
            assert 'job=~"$job", instance=~"$instance"' in selector, selector
        if not selectors:
            assert shown.excepted("target-job-rule")
            assert shown.excepted("target-instance-rule")


@each_panel
def test_a_counter_is_shown_as_a_rate_over_grafanas_interval(shown: Shown) -> None:
    for query in shown.queries:
        expression = query["expr"]
        counters = len(re.findall(r"\w+_(?:total|bucket|count|sum)\{", expression))
        rates = len(
            re.findall(r"\b(?:rate|increase)\(\w+_(?:total|bucket|count|sum)\{", expression)
        )
        assert rates == counters or shown.excepted("target-counter-agg-rule"), expression
        windows = set(re.findall(r"\[([^\]]+)\]", expression))
        if windows - {"$__rate_interval"}:
            assert shown.excepted("target-rate-interval-rule"), expression


def test_every_exception_from_a_rule_has_a_reason_and_is_needed() -> None:
    titles = {(DASHBOARDS[shown.dashboard]["title"], shown.title): shown for shown in PANELS}
    for rule, found in EXCEPTIONS.items():
        for entry in found["entries"]:
            assert entry["reason"]
            shown = titles[entry["dashboard"], entry["panel"]]
            text = " ".join(query["expr"] for query in shown.queries)
            if rule == "target-rate-interval-rule":
                assert re.search(r"\[(?!\$__rate_interval)", text), entry
            elif rule in ("target-job-rule", "target-instance-rule"):
                assert "ALERTS" in text or recorded_of(text), entry


def test_alerts_that_page_are_listed_before_tickets() -> None:
    (shown,) = (each for each in PANELS if each.title == "What to do")
    assert shown.panel["options"]["sortBy"][0] == {"displayName": "Severity", "desc": False}


def test_every_metric_in_a_dashboard_exists() -> None:
    used = {metric for _, expression, _ in EXPRESSIONS for metric in metrics_of(expression)}
    assert used - set(KNOWN) == set()
    recorded = set(re.findall(r"- record: (\S+)", RULES_TEXT))
    assert {
        each for _, expression, _ in EXPRESSIONS for each in recorded_of(expression)
    } <= recorded


def test_every_metric_is_used_by_a_rule_or_a_dashboard() -> None:
    used = metrics_in_the_rules()
    for _, expression, _ in EXPRESSIONS:
        used |= metrics_of(expression)
    endings = r"_(bucket|count|sum)$"
    shown = {re.sub(endings, "", metric) for metric in used}
    unused = {metric for metric in KNOWN if re.sub(endings, "", metric) not in shown}
    assert unused == set(UNUSED), "show it, or say in UNUSED why not"


def labels_of(expression: str, legend: str) -> Iterator[str]:
    """The labels that an expression groups or joins by, and those of its legend."""
    for inside in re.findall(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)", expression):
        yield from (label.strip() for label in inside.split(",") if label.strip())
    yield from re.findall(r"\{\{(\w+)\}\}", legend)


@each_panel
def test_every_label_that_a_panel_uses_exists(shown: Shown) -> None:
    for query in shown.queries:
        expression, legend = query["expr"], query["legendFormat"]
        there = set(SCRAPED_LABELS)
        for metric, inside in re.findall(
            r"(\b(?:contactstream|process)_\w+)\{([^}]*)\}", expression
        ):
            there |= KNOWN[metric]
            chosen = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside))
            assert chosen <= KNOWN[metric] | SCRAPED_LABELS, f"{metric}: {chosen}"
        if "ALERTS" in expression:
            there |= ALERT_LABELS
        if recorded_of(expression):
            there |= RECORDED_LABELS
        assert set(labels_of(expression, legend)) <= there, expression


def test_every_alert_has_its_runbook_in_the_overview() -> None:
    runbooks = {
        alert.removeprefix("Contactstream"): page
        for alert, page in re.findall(
            r"- alert: (\w+)\n(?:(?!- alert).)*?runbook_url: deploy/runbooks/([\w-]+)\.md",
            RULES_TEXT,
            re.DOTALL,
        )
    }
    assert runbooks == RUNBOOKS


def test_promtool_accepts_every_expression(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": plain(expression)}
        for number, (_, expression, _) in enumerate(EXPRESSIONS)
    ]
    file = tmp_path / "expressions.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}))
    tool("promtool", "check", "rules", "--lint=none", file)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus over the story, whose rules have been evaluated."""
    folder = tmp_path_factory.mktemp("story")
    # Prometheus looks back for 5 minutes: the test has to end within them.
    build(folder, time.time(), 15, 6 * HOUR, (3.5 * HOUR, 4 * MINUTE))
    with prometheus(folder) as url:
        deadline = time.monotonic() + 60
        while not asked(url, 'ALERTS{severity="ticket", alertstate="firing"}'):
            assert time.monotonic() < deadline, "no alert fires in the story"
            time.sleep(0.2)
        yield url


def asked(url: str, expression: str) -> list[float]:
    """The values that an expression has now."""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": expression}, timeout=30).json()
    assert answer["status"] == "success", (expression, answer)
    return [float(each["value"][1]) for each in answer["data"]["result"]]


@pytest.mark.slow
def test_every_panel_shows_something_in_a_real_prometheus(told: str) -> None:
    empty = []
    for shown, expression, _ in EXPRESSIONS:
        # A zero that stands for "no data" is no data.
        values = asked(told, plain(expression).replace(" or vector(0)", ""))
        if not any(value == value and value != 0 for value in values):
            empty.append(f"{named(shown)}: {expression} -> {values[:3]}")
    assert not empty, "\n".join(empty)


@pytest.mark.slow
def test_the_legend_of_the_answers_lists_only_what_came(told: str) -> None:
    known = len(asked(told, "count by (outcome) (contactstream_bridge_requests_total)"))
    graphs = [each for each in PANELS if each.title.startswith("Answers to webhooks")]
    for shown in graphs:
        (query,) = shown.queries
        assert 0 < len(asked(told, plain(query["expr"]))) < known
    assert graphs


@pytest.mark.slow
def test_the_annotations_and_variables_find_something(told: str) -> None:
    for dashboard in DASHBOARDS.values():
        runs, deploys = dashboard["annotations"]["list"]
        assert asked(told, plain(runs["expr"]))
        assert asked(told, plain(deploys["expr"]).replace("offset 5m", "offset 400d"))
    assert RULES
    answer = httpx.get(
        f"{told}/api/v1/label/instance/values", params={"match[]": "contactstream_build_info"}
    ).json()
    assert len(answer["data"]) >= 5
