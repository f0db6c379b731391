"""Grafana's dashboard format (schema 39) as plain functions: queries, panels, rows, a dashboard.

Every selector of a metric gets the dashboard's variables job and instance, so that the expressions
in the sources read without them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION = 39
COLUMNS = 24
"""Of Grafana's grid."""

RATE_INTERVAL_RULE = "target-rate-interval-rule"
JOB_RULE = "target-job-rule"
INSTANCE_RULE = "target-instance-rule"
"""Rules of Grafana's dashboard-linter from which a panel may be excepted, with a reason."""

FIXED_WINDOW = {RATE_INTERVAL_RULE: "the panel names the time that its numbers are of"}
SHOWN_TIME = {RATE_INTERVAL_RULE: "the legend lists what came in the time that is shown"}
RECORDED = {
    JOB_RULE: "the recorded series is summed over the processes of one deployment",
    INSTANCE_RULE: "the recorded series is summed over the processes of one deployment",
}
ALERTS = {
    JOB_RULE: "an alert is of one deployment and has no job",
    INSTANCE_RULE: "an alert is of one deployment and has no instance",
}

GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "#8e8e8e"

_SELECTOR = re.compile(r"(?<![\w:])((?:contactstream|process)_\w+)(\{([^}]*)\})?")


def scoped(expression: str) -> str:
    """The expression with `job` and `instance` of the dashboard in every selector of a metric."""

    def with_variables(found: re.Match[str]) -> str:
        own = f", {found[3]}" if found[3] else ""
        return f'{found[1]}{{job=~"$job", instance=~"$instance"{own}}}'

    return _SELECTOR.sub(with_variables, " ".join(expression.split()))


def query(expression: str, legend: str = "", *, instant: bool = False, table: bool = False) -> Json:
    """A query of Prometheus; `instant` for its value now, `table` for one row for each series."""
    return {
        "datasource": DATASOURCE,
        "expr": scoped(expression),
        "legendFormat": legend or "__auto",
        "instant": instant,
        "range": not instant,
        "format": "table" if table else "time_series",
    }


def steps(*pairs: tuple[float | None, str]) -> Json:
    """Thresholds: from which value on a color holds; None for the lowest."""
    return {
        "mode": "absolute",
        "steps": [{"value": value, "color": color} for value, color in pairs],
    }


def colored(name: str, color: str) -> Json:
    """An override: the series of a name has a color of its own."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
    }


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel before it has its place. `exceptions`: rules of the linter, with the reason."""

    body: Json
    width: int
    height: int
    exceptions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading, placed from left to right."""

    title: str
    panels: Sequence[Panel]


def _panel(
    kind: str,
    title: str,
    description: str,
    queries: Sequence[Json],
    *,
    unit: str,
    options: Json,
    custom: Json | None = None,
    thresholds: Json | None = None,
    color: str = "palette-classic",
    decimals: int | None = None,
    low: float | None = None,
    high: float | None = None,
    colors: Mapping[str, str] | None = None,
    overrides: Sequence[Json] = (),
    mappings: Sequence[Json] = (),
    interval: str = "",
    runbook: str = "",
) -> Json:
    defaults: Json = {
        "unit": unit,
        "color": {"mode": color},
        "custom": custom or {},
        "mappings": list(mappings),
        "thresholds": thresholds or steps((None, GREEN)),
    }
    defaults |= {
        name: value
        for name, value in (("decimals", decimals), ("min", low), ("max", high))
        if value is not None
    }
    own_colors = [colored(name, each) for name, each in (colors or {}).items()]
    body: Json = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": [
            {"refId": letter, **each} for letter, each in zip("ABCDEFGH", queries, strict=False)
        ],
        "fieldConfig": {"defaults": defaults, "overrides": [*own_colors, *overrides]},
        "options": options,
        "links": [],
    }
    if interval:
        body["interval"] = interval
    if runbook:
        body["links"] = [
            {
                "title": f"Runbook: {runbook.replace('-', ' ')}",
                "url": f"${{runbooks}}/{runbook}.md",
                "targetBlank": True,
            }
        ]
    return body


def stat(
    title: str,
    description: str,
    queries: Sequence[Json],
    *,
    unit: str = "short",
    width: int = 4,
    height: int = 5,
    thresholds: Json | None = None,
    sparkline: bool = True,
    names_only: bool = False,
    exceptions: Mapping[str, str] | None = None,
    **more: Any,
) -> Panel:
    """One big number for each query, in the color of its threshold."""
    options = {
        "colorMode": "background" if thresholds else "value",
        "graphMode": "area" if sparkline else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "name" if names_only else "auto" if len(queries) == 1 else "value_and_name",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    color = "thresholds" if thresholds else "fixed"
    body = _panel(
        "stat", title, description, queries,
        unit=unit, options=options, thresholds=thresholds, color=color, **more,
    )  # fmt: skip
    if not thresholds:
        body["fieldConfig"]["defaults"]["color"]["fixedColor"] = BLUE
    return Panel(body, width, height, exceptions or {})


def graph(
    title: str,
    description: str,
    queries: Sequence[Json],
    *,
    unit: str,
    width: int = 8,
    height: int = 8,
    stacked: bool = False,
    bars: bool = False,
    thresholds: Json | None = None,
    last: bool = False,
    exceptions: Mapping[str, str] | None = None,
    **more: Any,
) -> Panel:
    """Series over time: lines or bars, with the thresholds as dashed lines."""
    custom = {
        "drawStyle": "bars" if bars else "line",
        "lineWidth": 1,
        "fillOpacity": 80 if bars else 25 if stacked else 8,
        "lineInterpolation": "linear",
        "showPoints": "never",
        "spanNulls": False,
        "barAlignment": -1,
        "axisPlacement": "auto",
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if thresholds else "off"},
    }
    options = {
        "legend": {
            "showLegend": True,
            "displayMode": "table" if last else "list",
            "placement": "bottom",
            "calcs": ["lastNotNull", "max"] if last else [],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    more.setdefault("low", 0)
    body = _panel(
        "timeseries", title, description, queries,
        unit=unit, options=options, custom=custom, thresholds=thresholds, **more,
    )  # fmt: skip
    return Panel(body, width, height, exceptions or {})


def bar_gauge(
    title: str,
    description: str,
    queries: Sequence[Json],
    *,
    unit: str = "short",
    width: int = 8,
    height: int = 8,
    thresholds: Json | None = None,
    exceptions: Mapping[str, str] | None = None,
    **more: Any,
) -> Panel:
    """One bar for each series of instant queries, the longest first as the query sorts them."""
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "valueMode": "color",
        "showUnfilled": True,
        "namePlacement": "auto",
        "sizing": "auto",
        "minVizWidth": 8,
        "minVizHeight": 16,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    more.setdefault("low", 0)
    body = _panel(
        "bargauge", title, description, queries,
        unit=unit, options=options, color="thresholds",
        thresholds=thresholds or steps((None, BLUE)), **more,
    )  # fmt: skip
    return Panel(body, width, height, exceptions or {})


def table(
    title: str,
    description: str,
    one: Json,
    columns: Mapping[str, str],
    *,
    unit: str = "short",
    width: int = 8,
    height: int = 8,
    sorted_by: Sequence[str] = (),
    exceptions: Mapping[str, str] | None = None,
    **more: Any,
) -> Panel:
    """A row for each series of one query, with the labels of `columns` under their headings.

    The rows are sorted by the headings of `sorted_by`, from A to Z.
    """
    hidden = ("Time", "__name__", "job", "instance", "alertstate", "cause", "stops", "stage")
    organize = {
        "id": "organize",
        "options": {
            "excludeByName": {name: True for name in (*hidden, "Value") if name not in columns},
            "indexByName": {name: place for place, name in enumerate(columns)},
            "renameByName": dict(columns),
        },
    }
    options: Json = {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}}
    if sorted_by:
        options["sortBy"] = [{"displayName": heading, "desc": False} for heading in sorted_by]
    body = _panel(
        "table", title, description, [one],
        unit=unit, options=options,
        custom={"align": "auto", "cellOptions": {"type": "auto"}}, **more,
    )  # fmt: skip
    body["transformations"] = [organize]
    return Panel(body, width, height, exceptions or {})


def timeline(
    title: str,
    description: str,
    queries: Sequence[Json],
    words: Mapping[str, tuple[str, str]],
    *,
    width: int = 8,
    height: int = 8,
    **more: Any,
) -> Panel:
    """States over time; `words` gives each value its word and its color."""
    options = {
        "mergeValues": True,
        "showValue": "auto",
        "alignValue": "left",
        "rowHeight": 0.8,
        "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    body = _panel(
        "state-timeline", title, description, queries,
        unit="none", options=options, custom={"fillOpacity": 70, "lineWidth": 0},
        mappings=[worded(words)], color="thresholds", **more,
    )  # fmt: skip
    return Panel(body, width, height)


def worded(words: Mapping[str, tuple[str, str]]) -> Json:
    """A mapping of values to words, each with its color."""
    return {
        "type": "value",
        "options": {
            value: {"text": text, "color": color, "index": place}
            for place, (value, (text, color)) in enumerate(words.items())
        },
    }


def _placed(rows: Iterable[Row]) -> list[Json]:
    """The panels of all rows with their places and numbers, each row under its heading."""
    placed: list[Json] = []
    top = 0
    for row in rows:
        placed.append(_heading(row.title, top))
        top += 1
        left, tallest = 0, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            placed.append({**panel.body, "gridPos": place})
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest
    return [{"id": number, **panel} for number, panel in enumerate(placed, start=1)]


def _heading(title: str, top: int) -> Json:
    place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place}


def _variables() -> list[Json]:
    def label_values(name: str, label: str, metric: str) -> Json:
        return {
            "type": "query",
            "name": name,
            "label": label,
            "datasource": DATASOURCE,
            "query": {"query": f"label_values({metric}, {name})", "refId": f"Variable{label}"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "current": {"text": ["All"], "value": ["$__all"]},
        }

    return [
        {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"},
        label_values("job", "Job", "contactstream_build_info"),
        label_values("instance", "Instance", 'contactstream_build_info{job=~"$job"}'),
        {
            "type": "textbox",
            "name": "runbooks",
            "label": "Address of the runbooks",
            "query": "https://example.com/deploy/runbooks",
            "current": {
                "text": "https://example.com/deploy/runbooks",
                "value": "https://example.com/deploy/runbooks",
            },
            "hide": 2,
        },
    ]


def _annotation(name: str, expression: str, color: str, title: str) -> Json:
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": scoped(expression),
        "titleFormat": title,
        "step": "60s",
    }


def _annotations() -> list[Json]:
    """Runs, as the time that they take, and versions that appear."""
    return [
        _annotation(
            "Runs",
            "max(contactstream_reader_runs_in_progress) > 0",
            BLUE,
            "backfill, reconcile or replay",
        ),
        _annotation(
            "Deploys",
            "count by (version) (contactstream_build_info) unless "
            "count by (version) (contactstream_build_info offset 5m)",
            "purple",
            "version {{version}} started",
        ),
    ]


def dashboard(uid: str, title: str, description: str, rows: Sequence[Row], since: str) -> Json:
    """A whole dashboard; `since` is the start of its time range."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["contactstream"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": since, "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": _annotations()},
        "links": [
            {
                "type": "dashboards",
                "title": "contactstream",
                "tags": ["contactstream"],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "panels": _placed(rows),
    }


def exceptions(title: str, rows: Sequence[Row]) -> list[tuple[str, Json]]:
    """The exceptions of a dashboard from rules of the linter: the rule, and where it is."""
    return [
        (rule, {"dashboard": title, "panel": panel.body["title"], "reason": reason})
        for row in rows
        for panel in row.panels
        for rule, reason in panel.exceptions.items()
    ]
