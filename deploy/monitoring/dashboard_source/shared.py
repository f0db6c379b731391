"""Expressions and panels that several dashboards show."""

from deploy.monitoring.dashboard_source.grafana import (
    FIXED_WINDOW,
    GREEN,
    ORANGE,
    RED,
    SHOWN_TIME,
    Json,
    Panel,
    graph,
    query,
    stat,
    steps,
)

LIVE = 'origin!="replay"'
"""A replay says nothing of how fresh or how well matched the live contacts are."""

LATE = steps((None, GREEN), (60, ORANGE), (900, RED))
"""Seconds: the objective of freshness, and the alert ContactstreamBehind."""

OUTCOME_COLORS = {
    "created": GREEN,
    "updated": "semi-dark-green",
    "filled": "light-green",
    "unchanged": "#8e8e8e",
    "skipped": "light-blue",
    "covered": "yellow",
    "ambiguous": ORANGE,
    "held": "semi-dark-orange",
    "planned": "semi-dark-blue",
    "stale": "purple",
    "released": "blue",
    "failed": RED,
}


def lag(stage: str) -> str:
    """Seconds that the oldest unfinished record of a stage has waited."""
    metric = f"contactstream_{stage}_oldest_unfinished_timestamp_seconds"
    return f"max(clamp_min(timestamp({metric}) - {metric}, 0))"


def first(selector: str, window: str) -> str:
    """Live contacts that were looked up for the first time within a window."""
    return f"sum(increase(contactstream_sink_first_resolutions_total{{{selector}}}[{window}]))"


def match_rate(window: str) -> str:
    """The share of the contacts looked up for the first time that were found."""
    found = first('result="found", ' + LIVE, window)
    return f"{found} / ({first(LIVE, window)} > 0)"


def quantiles(metric: str, selector: str = "", by: str = "", legend: str = "") -> list[Json]:
    """The queries of the median and of the 95th percentile of a histogram."""
    chosen = f"{metric}_bucket{{{selector}}}" if selector else f"{metric}_bucket"
    labels = f"le, {by}" if by else "le"
    rate = f"sum by ({labels}) (rate({chosen}[$__rate_interval]))"
    return [
        query(f"histogram_quantile({share}, {rate})", f"{word}{legend}")
        for share, word in ((0.5, "half are faster"), (0.95, "95 % are faster"))
    ]


def counted(metric: str, by: str, selector: str = "") -> Json:
    """The rate of a counter by one label, as one series for each of its values."""
    chosen = f"{metric}{{{selector}}}" if selector else metric
    return query(f"sum by ({by}) (rate({chosen}[$__rate_interval]))", f"{{{{{by}}}}}")


def match_rate_stat(width: int, height: int = 5) -> Panel:
    """The match rate of the last week."""
    return stat(
        "Match rate, 7 d",
        "Share of the contacts that were found in Salesforce when they were first looked up. What "
        "is normal differs from company to company, so it has no threshold and no alert.",
        [query(match_rate("7d"), "found")],
        unit="percentunit",
        decimals=1,
        width=width,
        height=height,
        exceptions=FIXED_WINDOW,
    )


def calls_left_stat(width: int) -> Panel:
    """The share of the org's daily calls that is left."""
    return stat(
        "Daily calls left",
        "Share of the calls that the org may make in 24 hours and has not made, as Salesforce last "
        "reported. The sink stops at the reserve, by default at 10 %.",
        [
            query(
                "1 - max(contactstream_salesforce_api_used) "
                "/ max(contactstream_salesforce_api_limit > 0)",
                "left",
            )
        ],
        unit="percentunit",
        decimals=0,
        width=width,
        thresholds=steps((None, RED), (0.1, ORANGE), (0.25, GREEN)),
        runbook="call-budget",
    )


def outcomes_graph(width: int) -> Panel:
    """Contacts by outcome."""
    return graph(
        "Contacts finished, by outcome",
        "Contacts a second whose outcome in Salesforce is acknowledged. Failed ones are in the "
        "dead-letter topic.",
        [counted("contactstream_sink_rows_total", "outcome")],
        unit="cps",
        width=width,
        stacked=True,
        colors=OUTCOME_COLORS,
        runbook="row-success",
    )


def lag_graph(width: int) -> Panel:
    """Lag in seconds of every stage."""
    return graph(
        "Lag in seconds, by stage",
        "How long the oldest record that a stage has taken and not finished has waited since the "
        "webhook or page came. The reader waits about 10 minutes on purpose before it reads a "
        "contact again. Lines: the objective of 60 s, and the alert at 15 minutes.",
        [query(lag(stage), stage) for stage in ("bridge", "reader", "dedupe", "sink")],
        unit="s",
        width=width,
        thresholds=LATE,
        runbook="behind",
    )


def answers_graph(width: int, title: str = "Answers to webhooks, by outcome") -> Panel:
    """What the bridge answers: the outcomes that came in the time shown."""
    requests = "contactstream_bridge_requests_total"
    return graph(
        title,
        "Requests a second to the webhook's URL. All but published, dead_lettered, ignored_type "
        "and challenge are refusals.",
        [
            query(
                f"sum by (outcome) (rate({requests}[$__rate_interval])) and on (outcome) "
                # Of 13 outcomes the legend lists those that came: the others would push it out.
                f"(sum by (outcome) (increase({requests}[$__range])) > 0)",
                "{{outcome}}",
            )
        ],
        unit="reqps",
        width=width,
        stacked=True,
        colors={"published": GREEN, "bad_signature": RED, "broker_unavailable": ORANGE},
        exceptions=SHOWN_TIME,
        runbook="webhook-at-risk",
    )
