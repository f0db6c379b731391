"""Salesforce: calls by kind, the daily budget and its forecast, row errors, call time, pauses."""

from deploy.monitoring.dashboard_source.grafana import (
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
)
from deploy.monitoring.dashboard_source.shared import (
    LIVE,
    OUTCOME_COLORS,
    calls_left_stat,
    counted,
    quantiles,
)

UID, TITLE, SINCE = "contactstream-salesforce", "contactstream: Salesforce", "now-24h"
DESCRIPTION = (
    "How many calls contactstream makes and the org has left, which rows fail and why, how long a "
    "call takes, and when the sink waits for the org."
)

USED = "contactstream_salesforce_api_used"
LIMIT = "contactstream_salesforce_api_limit"


def _forecast() -> Panel:
    return stat(
        "Calls used in 8 hours",
        "Share of the daily calls that will be used in 8 hours, if it goes on as in the last 3 "
        "hours. Above 90 % is the alert ContactstreamCallBudget.",
        [query(f"max(predict_linear({USED}[3h], 8 * 3600) / ({LIMIT} > 0))", "forecast")],
        unit="percentunit",
        decimals=0,
        thresholds=steps((None, GREEN), (0.75, ORANGE), (0.9, RED)),
        exceptions=FIXED_WINDOW,
        runbook="call-budget",
    )


def _paused() -> Panel:
    return stat(
        "Paused sinks",
        "Sinks that are paused because Salesforce does not answer, or refuses everything.",
        [query("max(contactstream_sink_paused)", "paused sinks")],
        thresholds=steps((None, GREEN), (1, RED)),
        runbook="salesforce-away",
    )


def _breakers() -> Panel:
    return stat(
        "Open failure breakers",
        "Breakers that stop bulk runs or all writing until somebody releases them.",
        [query("max by (stops) (contactstream_sink_breakers_open)", "stops {{stops}}")],
        thresholds=steps((None, GREEN), (1, RED)),
        sparkline=False,
        runbook="breaker-open",
    )


def _held() -> Panel:
    return stat(
        "Held people",
        "People whom a limit keeps out until somebody releases them, as the console counts them.",
        [query('max(contactstream_coverage_people{state="held"})', "held")],
        thresholds=steps((None, GREEN), (1, ORANGE)),
        decimals=0,
        width=12,
        sparkline=False,
        runbook="held",
    )


def _limits() -> Panel:
    return graph(
        "How much of each limit is used",
        "Share of the creations and of our own calls of the day (UTC), of the replaced values of "
        "the hour, and of the share of the data storage. At 100 % people are held, or calls wait.",
        [
            query(
                "max by (limit) (contactstream_sink_limit_used) "
                "/ (max by (limit) (contactstream_sink_limit) > 0)",
                "{{limit}}",
            )
        ],
        unit="percentunit",
        width=12,
        thresholds=steps((None, GREEN), (0.8, ORANGE), (1, RED)),
        runbook="held",
    )


def _modes() -> Panel:
    return stat(
        "Mode",
        "What may be written, as somebody chose it: contactstream mode says who, and why.",
        [query("max by (mode) (contactstream_sink_mode) > 0", "{{mode}}")],
        width=12,
        sparkline=False,
        names_only=True,
    )


def _held_over_time() -> Panel:
    return graph(
        "People held and planned, a day",
        "Outcomes that wrote nothing because of a limit (held), or because the mode is report-only "
        "(planned).",
        [
            query(
                "sum by (outcome) (increase(contactstream_sink_rows_total"
                '{outcome=~"held|planned"}[1d]))',
                "{{outcome}}",
            )
        ],
        unit="short",
        decimals=0,
        width=12,
        exceptions=FIXED_WINDOW,
        interval="1d",
        colors={outcome: OUTCOME_COLORS[outcome] for outcome in ("held", "planned")},
        runbook="held",
    )


def _per_call() -> Panel:
    return stat(
        "Contacts for a call, 24 h",
        "Contacts that were finished for each call that counts against the org's limit. More in a "
        "backfill, whose batches are full, and fewer in a trickle.",
        [
            query(
                "sum(increase(contactstream_sink_rows_total[1d])) "
                "/ (sum(increase(contactstream_salesforce_calls_total[1d])) > 0)",
                "contacts",
            )
        ],
        decimals=1,
        exceptions=FIXED_WINDOW,
    )


def _error_ratio() -> Panel:
    return stat(
        "Failed rows, 1 hour",
        "Share of the live contacts that failed. The objective is 1 % over 30 days.",
        [
            query(
                f'sum(rate(contactstream_sink_rows_total{{outcome="failed", {LIVE}}}[1h])) '
                f"/ (sum(rate(contactstream_sink_rows_total{{{LIVE}}}[1h])) > 0)",
                "failed",
            )
        ],
        unit="percentunit",
        decimals=2,
        thresholds=steps((None, GREEN), (0.01, ORANGE), (0.144, RED)),
        exceptions=FIXED_WINDOW,
        runbook="row-success",
    )


def _budget() -> Panel:
    return graph(
        "Calls of the last 24 hours",
        "Calls of the whole org, what contactstream alone made, and what the org allows. "
        "The sink stops at the reserve, by default at 90 %.",
        [
            query(f"max({USED})", "used by the org"),
            query(
                "sum(increase(contactstream_salesforce_calls_total[1d]))",
                "made by contactstream",
            ),
            query(f"max({LIMIT})", "allowed"),
            query(f"0.9 * max({LIMIT})", "without the default reserve"),
        ],
        unit="short",
        width=12,
        colors={"allowed": RED, "without the default reserve": ORANGE},
        exceptions=FIXED_WINDOW,
        runbook="call-budget",
    )


def _calls() -> Panel:
    return graph(
        "Calls an hour, by kind",
        "Calls that count against the org's limit.",
        [
            query(
                "sum by (kind) (increase(contactstream_salesforce_calls_total[1h])) > 0", "{{kind}}"
            )
        ],
        unit="short",
        width=12,
        stacked=True,
        exceptions=FIXED_WINDOW,
    )


def _row_errors() -> Panel:
    return bar_gauge(
        "Rows that failed, by code, 24 hours",
        "Changes that cannot succeed and were dead-lettered, by Salesforce's error code or our "
        "reason.",
        [
            query(
                "sort_desc(sum by (reason) "
                "(increase(contactstream_sink_dead_lettered_total[1d])) >= 1)",
                "{{reason}}",
                instant=True,
            )
        ],
        decimals=0,
        thresholds=steps((None, ORANGE), (20, RED)),
        exceptions=FIXED_WINDOW,
        runbook="dead-letters",
    )


def _row_errors_over_time() -> Panel:
    return graph(
        "Row errors by code",
        "Rows a second that were dead-lettered, by Salesforce's error code or our reason.",
        [counted("contactstream_sink_dead_lettered_total", "reason")],
        unit="cps",
        stacked=True,
        runbook="row-success",
    )


def _retries() -> Panel:
    return graph(
        "Retries by code",
        "Rows a second that are written again after an error that may pass, such as a row that "
        "another user has locked.",
        [counted("contactstream_sink_retried_total", "reason")],
        unit="cps",
        stacked=True,
    )


def _call_time() -> Panel:
    metric = "contactstream_salesforce_call_seconds"
    return graph(
        "Call time, 95th percentile by kind",
        "95 % of the calls of a kind are faster.",
        [
            query(
                "histogram_quantile(0.95, "
                f"sum by (le, kind) (rate({metric}_bucket[$__rate_interval])))",
                "{{kind}}",
            )
        ],
        unit="s",
        width=12,
    )


def _call_time_all() -> Panel:
    return graph(
        "Time of all calls",
        "Seconds of a call of any kind.",
        quantiles("contactstream_salesforce_call_seconds"),
        unit="s",
        width=12,
    )


def _latency() -> Panel:
    metric = "contactstream_latency_seconds"
    return graph(
        "From the receipt to Salesforce, 95th percentile",
        "Seconds from the receipt of a webhook or page to the acknowledged outcome, by where the "
        "contact came from. A replay brings contacts that are old.",
        [
            query(
                "histogram_quantile(0.95, "
                f"sum by (le, origin) (rate({metric}_bucket{{{LIVE}}}[$__rate_interval])))",
                "{{origin}}",
            )
        ],
        unit="s",
        thresholds=steps((None, GREEN), (60, ORANGE)),
        runbook="freshness",
    )


def _pauses() -> Panel:
    return graph(
        "Pauses an hour, by reason",
        "Times that the sink began to wait after an error of the whole org.",
        [query("sum by (reason) (increase(contactstream_sink_pauses_total[1h]))", "{{reason}}")],
        unit="short",
        decimals=0,
        bars=True,
        stacked=True,
        interval="1h",
        exceptions=FIXED_WINDOW,
        runbook="salesforce-away",
    )


def _openings() -> Panel:
    return graph(
        "Breakers opened a day, by reason",
        "Times that a failure breaker opened, and the reason of the failures that opened it.",
        [
            query(
                "sum by (reason, stops) (increase(contactstream_sink_breaker_openings_total[1d]))",
                "{{reason}}, stops {{stops}}",
            )
        ],
        unit="short",
        decimals=0,
        exceptions=FIXED_WINDOW,
        runbook="breaker-open",
    )


def _deleted() -> Panel:
    return graph(
        "Records that people deleted",
        "Records deleted or merged in Salesforce that are remembered, so that they are not created "
        "again, and those that were forgotten because there were too many.",
        [
            query("max(contactstream_sink_deleted_records)", "remembered"),
            query("sum(contactstream_sink_deleted_records_forgotten_total)", "forgotten"),
        ],
        unit="short",
        width=12,
        decimals=0,
        exceptions={
            "target-counter-agg-rule": "how many were forgotten since the start, not how fast"
        },
    )


def _sweeps() -> Panel:
    return graph(
        "Readings of the recycle bin, 7 days",
        "The sink reads it once a day.",
        [
            query(
                "sum by (result) (increase(contactstream_sink_deletion_sweeps_total[7d]))",
                "{{result}}",
            )
        ],
        unit="short",
        width=12,
        decimals=0,
        colors={"failed": RED, "done": GREEN},
        exceptions=FIXED_WINDOW,
    )


def _clock() -> Panel:
    return graph(
        "Clock of the sink",
        "Seconds that the clock of the sink's machine is ahead of Salesforce's.",
        [query("max by (instance) (contactstream_sink_clock_ahead_seconds)", "{{instance}}")],
        unit="s",
        width=12,
        low=None,
    )


def _warnings() -> Panel:
    return table(
        "Warnings of a day",
        "What a person should look into. The detail names the field or the reason.",
        query(
            "sort_desc(sum by (warning, detail) "
            "(increase(contactstream_sink_warnings_total[1d])) >= 1)",
            instant=True,
            table=True,
        ),
        {"warning": "Warning", "detail": "Detail", "Value": "Times"},
        width=12,
        decimals=0,
        exceptions=FIXED_WINDOW,
        runbook="accounts-stale",
    )


def rows() -> list[Row]:
    """The rows of the dashboard."""
    return [
        Row(
            "Now",
            [
                _paused(),
                _breakers(),
                _error_ratio(),
                calls_left_stat(4),
                _forecast(),
                _per_call(),
            ],
        ),
        Row("Calls", [_budget(), _calls()]),
        Row("What may be written", [_modes(), _held()]),
        Row("What waits for a person", [_limits(), _held_over_time()]),
        Row("What fails", [_row_errors(), _row_errors_over_time(), _retries()]),
        Row("How long it takes", [_call_time(), _call_time_all()]),
        Row("When it waits", [_latency(), _pauses(), _openings()]),
        Row("What else there is to see", [_warnings(), _deleted(), _sweeps(), _clock()]),
    ]
