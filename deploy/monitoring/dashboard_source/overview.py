"""Overview: do contacts reach Salesforce, how many match, what fails, what is left, what to do."""

from deploy.monitoring.dashboard_source.grafana import (
    ALERTS,
    FIXED_WINDOW,
    GREEN,
    ORANGE,
    RED,
    Panel,
    Row,
    bar_gauge,
    graph,
    query,
    stat,
    steps,
    table,
    timeline,
)
from deploy.monitoring.dashboard_source.shared import (
    LATE,
    LIVE,
    answers_graph,
    calls_left_stat,
    lag,
    lag_graph,
    match_rate_stat,
    outcomes_graph,
    quantiles,
)

UID, TITLE, SINCE = "contactstream-overview", "contactstream: Overview", "now-6h"
DESCRIPTION = (
    "Do contacts reach Salesforce, how many are matched, what fails and why, how much of the daily "
    "calls is left, and what to do."
)

OURS = 'alertname=~"Contactstream.*", alertstate="firing"'

# The name of each alert's runbook in deploy/runbooks. The test compares it with the rules.
RUNBOOKS = {
    "AccountsStale": "accounts-stale",
    "Behind": "behind",
    "BreakerOpen": "breaker-open",
    "CallBudget": "call-budget",
    "DeadLettersGrow": "dead-letters",
    "DeadLettersOld": "dead-letters",
    "FreshnessBurnsFast": "freshness",
    "FreshnessBurnsSlowly": "freshness",
    "GrantDeletionsHeld": "grant-deletions-held",
    "GrantsExpired": "grants-expired",
    "Held": "held",
    "NewDeadLetterReason": "dead-letters",
    "NoProgress": "no-progress",
    "NoWebhooks": "no-webhooks",
    "Paused": "pause",
    "RecordsMayExpire": "records-may-expire",
    "RecoveryStuck": "recovery-stuck",
    "RowSuccessBurnsFast": "row-success",
    "RowSuccessBurnsSlowly": "row-success",
    "SalesforceAway": "salesforce-away",
    "StageAbsent": "stage-absent",
    "VersionSkew": "version-skew",
    "WebhookAtRisk": "webhook-at-risk",
}


def _firing() -> Panel:
    return stat(
        "Firing alerts",
        "Pages, for which somebody has to act now, and tickets for the next working day. The table "
        "below says what to do.",
        [
            query(
                f'count(ALERTS{{{OURS}, severity="{severity}"}}) or vector(0)',
                f"{severity}s",
                instant=True,
            )
            for severity in ("page", "ticket")
        ],
        width=4,
        thresholds=steps((None, GREEN), (1, RED)),
        sparkline=False,
        exceptions=ALERTS,
        overrides=[
            {
                "matcher": {"id": "byName", "options": "tickets"},
                "properties": [
                    {"id": "thresholds", "value": steps((None, GREEN), (1, ORANGE))},
                ],
            }
        ],
    )


def _lag() -> Panel:
    return stat(
        "Oldest contact on its way",
        "How long the oldest contact waits that each stage has taken and not finished. 0 s: "
        "everything that came is in Salesforce or in the dead-letter topic.",
        [query(lag(stage), stage) for stage in ("sink", "dedupe", "bridge")],
        unit="s",
        width=6,
        thresholds=LATE,
        runbook="behind",
    )


def _fresh() -> Panel:
    live = 'origin="webhook"'
    return stat(
        "Within 60 s",
        "Share of the contacts of webhooks of the last hour. The objective is 99 % over 30 days.",
        [
            query(
                f'sum(rate(contactstream_latency_seconds_bucket{{{live}, le="60.0"}}[1h])) '
                f"/ (sum(rate(contactstream_latency_seconds_count{{{live}}}[1h])) > 0)",
                "in time",
            )
        ],
        unit="percentunit",
        decimals=1,
        width=4,
        thresholds=steps((None, RED), (0.94, ORANGE), (0.99, GREEN)),
        exceptions=FIXED_WINDOW,
        runbook="freshness",
    )


def _failed() -> Panel:
    return stat(
        "Failed, 24 hours",
        "Share of the contacts whose change Salesforce refused for good. The objective is 1 % over "
        "30 days. The dead letters below say why.",
        [
            query(
                "sum(increase(contactstream_sink_rows_total"
                f'{{outcome="failed", {LIVE}}}[1d])) '
                f"/ (sum(increase(contactstream_sink_rows_total{{{LIVE}}}[1d])) > 0)",
                "failed",
            )
        ],
        unit="percentunit",
        decimals=2,
        width=3,
        thresholds=steps((None, GREEN), (0.01, ORANGE), (0.144, RED)),
        exceptions=FIXED_WINDOW,
        runbook="row-success",
    )


def _what_to_do() -> Panel:
    return table(
        "What to do",
        "Each firing alert with its runbook, those that page first. The address of the runbooks is "
        "the dashboard's variable `runbooks`.",
        query(
            "max by (severity, stage, alert, runbook) (label_replace(label_replace("
            f'ALERTS{{{OURS}}}, "runbook", "$1", "alertname", "Contactstream(.*)"), '
            '"alert", "$1", "alertname", "Contactstream(.*)"))',
            instant=True,
            table=True,
        ),
        {
            "severity": "Severity",
            "alert": "Alert",
            "stage": "Stage",
            "runbook": "Runbook",
        },
        width=10,
        # `page` comes before `ticket`.
        sorted_by=("Severity", "Alert", "Stage"),
        exceptions=ALERTS,
        overrides=[
            {
                "matcher": {"id": "byName", "options": "Stage"},
                "properties": [{"id": "custom.width", "value": 70}],
            },
            {
                "matcher": {"id": "byName", "options": "Runbook"},
                "properties": [
                    {"id": "custom.width", "value": 130},
                    {
                        "id": "mappings",
                        "value": [
                            {
                                "type": "value",
                                "options": {
                                    alert: {"text": page, "index": place}
                                    for place, (alert, page) in enumerate(RUNBOOKS.items())
                                },
                            }
                        ],
                    },
                    {
                        "id": "links",
                        "value": [
                            {
                                "title": "Open the runbook",
                                "url": "${runbooks}/${__value.text}.md",
                                "targetBlank": True,
                            }
                        ],
                    },
                ],
            },
            {
                "matcher": {"id": "byName", "options": "Severity"},
                "properties": [
                    {
                        "id": "mappings",
                        "value": [
                            {
                                "type": "value",
                                "options": {
                                    "page": {"text": "page", "color": RED, "index": 0},
                                    "ticket": {"text": "ticket", "color": ORANGE, "index": 1},
                                },
                            }
                        ],
                    },
                    {"id": "custom.cellOptions", "value": {"type": "color-text"}},
                    {"id": "custom.width", "value": 75},
                ],
            },
        ],
    )


def _failures() -> Panel:
    stages = ("sink", "dedupe", "bridge")
    return bar_gauge(
        "Why records fail, 24 hours",
        "Dead letters by their reason. Read them with `contactstream dead-letters list`; after the "
        "cause is gone, `contactstream dead-letters redrive` sends them again.",
        [
            query(
                "sort_desc(sum by (reason) ("
                f"increase(contactstream_{stage}_dead_lettered_total[1d])) >= 1)",
                f"{stage}: {{{{reason}}}}",
                instant=True,
            )
            for stage in stages
        ],
        width=8,
        decimals=0,
        thresholds=steps((None, ORANGE), (20, RED)),
        exceptions=FIXED_WINDOW,
        runbook="dead-letters",
    )


def _waiting() -> Panel:
    return stat(
        "What holds the stages up",
        "Sinks that wait for Salesforce, failure breakers that an operator has to release, "
        "processes that are not ready, and runs in progress, which fill the stages for a while.",
        [
            query("max(contactstream_sink_paused)", "paused sinks"),
            query("sum(contactstream_sink_breakers_open)", "open breakers"),
            query("sum(contactstream_ready == bool 0)", "processes not ready"),
            query("max(contactstream_reader_runs_in_progress)", "runs in progress"),
        ],
        width=6,
        height=8,
        thresholds=steps((None, GREEN), (1, RED)),
        sparkline=False,
        overrides=[
            {
                "matcher": {"id": "byName", "options": "runs in progress"},
                "properties": [{"id": "thresholds", "value": steps((None, GREEN), (1, "blue"))}],
            }
        ],
        runbook="salesforce-away",
    )


def _calls() -> Panel:
    return graph(
        "Calls to Salesforce in the last 24 hours",
        "Calls of the whole org, of contactstream and of others, and what the org allows.",
        [
            query("max(contactstream_salesforce_api_used)", "used"),
            query("max(contactstream_salesforce_api_limit)", "allowed"),
        ],
        unit="short",
        colors={"used": "blue", "allowed": RED},
        runbook="call-budget",
    )


def _latency() -> Panel:
    return graph(
        "From the webhook to Salesforce",
        "Seconds from the receipt of a webhook to the acknowledged outcome. Line: the objective, "
        "99 % within 60 s.",
        quantiles("contactstream_latency_seconds", 'origin="webhook"'),
        unit="s",
        thresholds=steps((None, GREEN), (60, ORANGE)),
        runbook="freshness",
    )


def _versions() -> Panel:
    return table(
        "Processes",
        "Every process that Prometheus reads, and the version that it runs.",
        query("contactstream_build_info", instant=True, table=True),
        {"stage": "Stage", "instance": "Instance", "version": "Version"},
        width=10,
        height=7,
        runbook="version-skew",
    )


def _ready() -> Panel:
    return timeline(
        "Ready",
        "Whether the processes of each stage can work. One standby of the reader and of the sink "
        "is ready as well.",
        [query("min by (stage) (contactstream_ready)", "{{stage}}")],
        {"0": ("waits", RED), "1": ("ready", GREEN)},
        width=14,
        height=7,
        runbook="stage-absent",
    )


def rows() -> list[Row]:
    """The rows of the dashboard: what is red comes first."""
    return [
        Row(
            "Do contacts reach Salesforce?",
            [_firing(), _lag(), _fresh(), _failed(), match_rate_stat(3), calls_left_stat(4)],
        ),
        Row("What fails, and what to do", [_what_to_do(), _failures(), _waiting()]),
        Row(
            "How it flows",
            [outcomes_graph(12), lag_graph(12), answers_graph(8), _latency(), _calls()],
        ),
        Row("What runs", [_ready(), _versions()]),
    ]
