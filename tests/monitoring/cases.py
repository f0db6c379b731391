"""For each alert: series by which it fires, and what changes so that it does not.

Values are in promtool's notation: `a+bxn` is a, then n more that grow by b; `_` is no sample.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Series = Mapping[str, str]


@dataclass(frozen=True)
class AlertCase:
    """One way by which an alert fires. Times are in promtool's notation, such as 45m."""

    alert: str
    at: str
    """When the alert is looked at."""
    fires: Series
    """Beside RUNNING, of which it may replace series."""
    below: Series
    """What replaces series of `fires`, so that the alert does not fire; '' removes a series."""
    what: str = ""
    """Which one, where an alert has several cases."""
    interval: str = "1m"
    """Between two samples."""
    every: str = "1m"
    """Between two evaluations of the rules; more where the alert takes hours."""


def series(name: str, **labels: str) -> str:
    """The name of a series of contactstream."""
    inside = ", ".join(f'{label}="{value}"' for label, value in labels.items())
    return f"contactstream_{name}{{{inside}}}" if inside else f"contactstream_{name}"


def running(stage: str) -> str:
    """The series that says that a process of a stage runs."""
    return series("build_info", stage=stage, version="1", instance=stage)


def answers(**by_outcome: str) -> dict[str, str]:
    """The bridge's counters of answers."""
    return {
        series("bridge_requests_total", outcome=outcome): values
        for outcome, values in by_outcome.items()
    }


def latency(all_of_them: str, in_time: str) -> dict[str, str]:
    """The histogram of live contacts: how many there were, and how many within 60 s."""
    return {
        series("latency_seconds_count", origin="webhook"): all_of_them,
        series("latency_seconds_bucket", origin="webhook", le="60.0"): in_time,
    }


def rows(created: str, failed: str, origin: str = "webhook") -> dict[str, str]:
    """The sink's counters of outcomes."""
    return {
        series("sink_rows_total", outcome="created", origin=origin): created,
        series("sink_rows_total", outcome="failed", origin=origin): failed,
    }


def grants(valid: int, expired: int, active: str = "1+0x120") -> dict[str, str]:
    """What a reader knows of the grants."""
    at = {"job": "contactstream", "instance": "reader"}
    return {
        series("reader_grants", status="valid", **at): f"{valid}+0x120",
        series("reader_grants", status="expired", **at): f"{expired}+0x120",
        series("reader_grants", status="deleted", **at): "9+0x120",
        series("reader_active", **at): active,
    }


def webhooks(failing: str, failed: str = "0+0x60", active: str = "1+0x60") -> dict[str, str]:
    """What a reader was told by Nylas of the webhook."""
    at = {"job": "contactstream", "instance": "reader"}
    return {
        series("reader_webhooks", state="active", **at): "0+0x60",
        series("reader_webhooks", state="failing", **at): failing,
        series("reader_webhooks", state="failed", **at): failed,
        series("reader_active", **at): active,
    }


def ready(stage: str, instance: str = "") -> str:
    """The series that says that a process of a stage can work."""
    return series("ready", stage=stage, instance=instance or stage)


# One process of each stage runs and is ready, unless the case says something else.
RUNNING = {
    **{running(stage): "1+0x600" for stage in ("bridge", "reader", "dedupe", "sink")},
    **{ready(stage): "1+0x600" for stage in ("bridge", "reader", "dedupe", "sink")},
    "up": "1+0x600",
}

SINK_WAITS = {
    series("sink_lag_records"): "7+0x60",
    series("sink_last_processed_timestamp_seconds"): "50+0x60",
    series("sink_retried_total", reason="ROW_LOCKED"): "3+0x60",
}
DEDUPE_WAITS = {
    series("dedupe_lag_records", partition="0"): "0+0x60",
    series("dedupe_lag_records", partition="1"): "4+0x60",
    series("dedupe_last_processed_timestamp_seconds"): "50+0x60",
}
RUN_HANGS = {
    series("reader_runs_in_progress"): "1+0x80",
    series("reader_calls_total", kind="page", outcome="200"): "90+0x80",
    series("reader_calls_total", kind="list_webhooks", outcome="200"): "5+0.1x80",
    series("reader_waits_total", reason="sink_lag"): "2+0x80",
}

CASES = (
    AlertCase(
        "ContactstreamWebhookAtRisk",
        "30m",
        answers(published="0+1x40", bad_signature="0+9x40"),
        answers(published="0+2x40", bad_signature="0+8x40"),
        "most requests are refused",
    ),
    AlertCase(
        "ContactstreamWebhookAtRisk",
        "30m",
        answers(published="5+0x40", bad_signature="0+2x40"),
        answers(published="5+0x40", bad_signature="0+1x40"),
        "a few unsigned requests of strangers say nothing",
    ),
    AlertCase(
        "ContactstreamWebhookAtRisk",
        "20m",
        {ready("bridge"): "1+0x2 _x60"},
        {ready("bridge"): "1+0x2 0+0x5 1+0x60"},
        "no bridge is ready",
    ),
    AlertCase(
        "ContactstreamWebhookAtRisk",
        "25m",
        {ready("bridge"): "1+0x14 stale", ready("bridge", "bridge-2"): "1+0x14 stale"},
        {ready("bridge", "bridge-2"): "1+0x60"},
        "two bridges are no more than one, once neither is ready",
    ),
    AlertCase(
        "ContactstreamWebhookAtRisk",
        "20m",
        webhooks(failing="0+0x5 1+0x50"),
        webhooks(failing="0+0x60"),
        "Nylas says that it fails",
    ),
    AlertCase(
        "ContactstreamWebhookAtRisk",
        "20m",
        webhooks(failing="0+0x60", failed="0+0x5 1+0x50"),
        webhooks(failing="0+0x60", failed="0+0x5 1+0x50", active="0+0x60"),
        "Nylas has stopped it, as the active reader was told",
    ),
    AlertCase(
        "ContactstreamRecordsMayExpire",
        "10m",
        {series("dedupe_oldest_unread_expires_seconds", partition="3"): "172000-1x20"},
        {series("dedupe_oldest_unread_expires_seconds", partition="3"): "172900+0x20"},
        "dedupe",
    ),
    AlertCase(
        "ContactstreamRecordsMayExpire",
        "294h",
        {running("dedupe"): ""},
        {running("dedupe"): "1 1 _x600"},
        "no dedupe runs for 12 days",
        interval="6h",
        every="6h",
    ),
    AlertCase(
        "ContactstreamRecordsMayExpire",
        "126h",
        {running("reader"): ""},
        {running("reader"): "1 1 _x600"},
        "no reader runs for 5 days",
        interval="6h",
        every="6h",
    ),
    AlertCase(
        "ContactstreamNoProgress",
        "45m",
        SINK_WAITS,
        {series("sink_last_processed_timestamp_seconds"): "50+0x30 80+0x30"},
        "the sink finishes nothing",
        every="5m",
    ),
    AlertCase(
        "ContactstreamNoProgress",
        "45m",
        SINK_WAITS,
        {series("sink_lag_records"): "0+0x60"},
        "nothing waits for the sink",
        every="5m",
    ),
    AlertCase(
        "ContactstreamNoProgress",
        "45m",
        SINK_WAITS,
        {series("sink_retried_total", reason="ROW_LOCKED"): "3+0x30 4+0x30"},
        "the only row that waits is tried every 10 minutes",
        every="5m",
    ),
    AlertCase(
        "ContactstreamNoProgress",
        "45m",
        DEDUPE_WAITS,
        {series("dedupe_last_processed_timestamp_seconds"): "50+0x30 80+0x30"},
        "dedupe",
        every="5m",
    ),
    AlertCase(
        "ContactstreamNoProgress",
        "50m",
        RUN_HANGS,
        {series("reader_calls_total", kind="page", outcome="200"): "90+0x40 91+0x40"},
        "the reader asks Nylas for nothing",
        every="5m",
    ),
    AlertCase(
        "ContactstreamNoProgress",
        "50m",
        RUN_HANGS,
        {series("reader_waits_total", reason="sink_lag"): "2+0x40 3+0x40"},
        "the reader waits for the sink on purpose",
        every="5m",
    ),
    AlertCase(
        "ContactstreamNoProgress",
        "50m",
        {ready("sink"): "1+0x5 _x60"},
        {ready("sink"): "1+0x20 0+0x10 1+0x60"},
        "no sink runs",
        every="5m",
    ),
    AlertCase(
        "ContactstreamNoProgress",
        "45m",
        {ready("sink"): "1+0x20 stale", ready("sink", "sink-2"): "1+0x20 stale"},
        {ready("sink", "sink-2"): "1+0x60"},
        "a sink and its standby are no more than one, once neither is ready",
        every="5m",
    ),
    AlertCase(
        "ContactstreamNoProgress",
        "50m",
        {ready("sink"): "1+0x5 0+0x60", series("sink_paused", instance="sink"): "0+0x60"},
        {series("sink_paused", instance="sink"): "0+0x5 1+0x60"},
        "the sink is not ready, and not because it waits for Salesforce",
        every="5m",
    ),
    AlertCase(
        "ContactstreamNoProgress",
        "50m",
        {ready("dedupe"): "1 stale _x8 1 stale _x8 1 stale _x8 1 stale _x8 1 stale _x8"},
        {ready("dedupe"): "0+0x20 1+0x60"},
        "dedupe ends again and again",
        every="5m",
    ),
    AlertCase(
        "ContactstreamStageAbsent",
        "15m",
        {running("reader"): ""},
        {running("reader"): "1+0x60"},
    ),
    AlertCase(
        "ContactstreamBehind",
        "20m",
        {series("reader_oldest_unfinished_timestamp_seconds"): f"-{26 * 3600 + 1}+0x30"},
        {series("reader_oldest_unfinished_timestamp_seconds"): f"-{25 * 3600}+0x30"},
        "a contact that Nylas refuses is tried for a day",
    ),
    AlertCase(
        "ContactstreamBehind",
        "20m",
        {series("sink_oldest_unfinished_timestamp_seconds"): "-901+0x30"},
        {series("sink_oldest_unfinished_timestamp_seconds"): "0+60x30"},
        "nothing waits",
    ),
    AlertCase(
        "ContactstreamBehind",
        "20m",
        {series("dedupe_oldest_unfinished_timestamp_seconds"): "-901+60x30"},
        {series("dedupe_oldest_unfinished_timestamp_seconds"): "-899+60x30"},
        "for less than a quarter of an hour",
    ),
    AlertCase(
        "ContactstreamBehind",
        "20m",
        {series("sink_oldest_unfinished_timestamp_seconds"): "-901+0x30"},
        {series("reader_runs_in_progress"): "1+0x30"},
        "during a backfill",
    ),
    AlertCase(
        "ContactstreamRecoveryStuck",
        "25m",
        {ready("dedupe"): "1+0x2 0+0x40"},
        {ready("dedupe"): "1+0x10 0+0x40"},
    ),
    AlertCase(
        "ContactstreamSalesforceAway",
        "20m",
        {series("sink_paused"): "0+0x2 1+0x30"},
        {series("sink_paused"): "0+0x10 1+0x30"},
    ),
    AlertCase(
        "ContactstreamSalesforceAway",
        "28m",
        {series("sink_paused"): "1+0x20 0+0x30"},
        {series("sink_paused"): "1+0x16 0+0x30"},
        "it stays while the sink catches up",
    ),
    AlertCase(
        "ContactstreamBreakerOpen",
        "3m",
        {series("sink_breakers_open", stops="bulk"): "0 1+0x5"},
        {series("sink_breakers_open", stops="bulk"): "0+0x6"},
    ),
    AlertCase(
        "ContactstreamHeld",
        "3m",
        {series("coverage_people", state="held"): "0 7+0x5"},
        {series("coverage_people", state="held"): "0+0x6"},
    ),
    AlertCase(
        "ContactstreamHeld",
        "30m",
        {series("sink_rows_total", outcome="held", origin="backfill"): "0+0x10 5+0x60"},
        {series("sink_rows_total", outcome="held", origin="backfill"): "5+0x60"},
        "it says so without the console too",
    ),
    AlertCase(
        "ContactstreamPaused",
        "3m",
        {series("sink_pause_ends_timestamp_seconds", part="writes"): "0 1900000000+0x5"},
        {series("sink_pause_ends_timestamp_seconds", part="writes"): "0+0x6"},
    ),
    AlertCase(
        "ContactstreamPaused",
        "3m",
        {series("reader_pause_ends_timestamp_seconds", part="reading"): "0 1900000000+0x5"},
        {series("reader_pause_ends_timestamp_seconds", part="reading"): "0+0x6"},
    ),
    AlertCase(
        "ContactstreamCallBudget",
        "4h",
        {
            series("salesforce_api_used"): "60000+60x300",
            series("salesforce_api_limit"): "100000+0x300",
        },
        {series("salesforce_api_used"): "60000+20x300"},
        "at this rate",
        every="5m",
    ),
    AlertCase(
        "ContactstreamCallBudget",
        "4h",
        {
            series("salesforce_api_used"): "60000+60x300",
            series("salesforce_api_limit"): "100000+0x300",
        },
        {series("salesforce_api_used"): "0+0x120 60000+60x180"},
        "a sink that has just started knows nothing yet",
        every="5m",
    ),
    AlertCase(
        "ContactstreamDeadLettersGrow",
        "2h",
        {series("sink_dead_lettered_total", reason="INVALID_EMAIL", instance="a"): "_x90 21+0x60"},
        {series("sink_dead_lettered_total", reason="INVALID_EMAIL", instance="a"): "_x90 20+0x60"},
        "the first of a reason count too",
        every="5m",
    ),
    AlertCase(
        "ContactstreamDeadLettersGrow",
        "3h",
        {series("bridge_dead_lettered_total", reason="not_json"): "0+0x100 0+1x100"},
        {series("bridge_dead_lettered_total", reason="not_json"): "30+0x200"},
        "old ones count no more",
        every="5m",
    ),
    AlertCase(
        "ContactstreamNewDeadLetterReason",
        "3h",
        {series("dedupe_dead_lettered_total", reason="too_deep"): "0+0x150 1+0x60"},
        {series("dedupe_dead_lettered_total", reason="too_deep"): "0+0x30 1+0x120 2+0x60"},
        every="5m",
    ),
    AlertCase(
        "ContactstreamDeadLettersOld",
        "25h",
        {series("dead_letters_oldest_timestamp_seconds"): "2600+0x120"},
        {series("dead_letters_oldest_timestamp_seconds"): "3700+0x120"},
        interval="15m",
        every="15m",
    ),
    AlertCase(
        "ContactstreamGrantDeletionsHeld",
        "20m",
        {series("reader_grants_held"): "0 5+0x30", series("reader_active"): "1+0x31"},
        {series("reader_grants_held"): "0 5+0x5 0+0x25", series("reader_active"): "1+0x31"},
        "a confirmation ends it",
    ),
    AlertCase(
        "ContactstreamGrantDeletionsHeld",
        "20m",
        {series("reader_grants_held"): "5+0x30", series("reader_active"): "1+0x30"},
        {series("reader_grants_held"): "5+0x30", series("reader_active"): "0+0x30"},
        "a standby that was active once",
    ),
    AlertCase(
        "ContactstreamGrantsExpired",
        "70m",
        grants(valid=26, expired=3),
        grants(valid=27, expired=3),
        "a tenth of them",
        every="5m",
    ),
    AlertCase(
        "ContactstreamGrantsExpired",
        "70m",
        grants(valid=4, expired=3),
        grants(valid=4, expired=2),
        "two are too few for a share",
        every="5m",
    ),
    AlertCase(
        "ContactstreamGrantsExpired",
        "70m",
        grants(valid=4, expired=3),
        grants(valid=4, expired=3, active="0+0x120"),
        "a standby that was active once",
        every="5m",
    ),
    AlertCase(
        "ContactstreamAccountsStale",
        "200m",
        {series("sink_warnings_total", warning="accounts_refused", detail="x"): "0+0.05x240"},
        {series("sink_warnings_total", warning="accounts_refused", detail="x"): "0+0.02x240"},
        "a refusal every 20 minutes, or one an hour",
        every="5m",
    ),
    AlertCase(
        "ContactstreamVersionSkew",
        "65m",
        {series("build_info", stage="sink", version="2", instance="other"): "1+0x80"},
        {series("build_info", stage="sink", version="2", instance="other"): "1+0x50"},
        every="5m",
    ),
    AlertCase(
        "ContactstreamFreshnessBurnsFast",
        "90m",
        latency("0+10x100", "0+8x100"),
        latency("0+10x100", "0+9.5x100"),
        "15 % are late",
        every="5m",
    ),
    AlertCase(
        "ContactstreamFreshnessBurnsFast",
        "90m",
        latency("0+1x100", "0+0.8x100"),
        latency("0+0.5x100", "0+0.4x100"),
        "few contacts say nothing",
        every="5m",
    ),
    AlertCase(
        "ContactstreamRowSuccessBurnsFast",
        "90m",
        rows("0+8x100", "0+2x100"),
        rows("0+95x100", "0+5x100"),
        "15 % fail",
        every="5m",
    ),
    AlertCase(
        "ContactstreamRowSuccessBurnsFast",
        "90m",
        rows("0+8x100", "0+2x100"),
        dict.fromkeys(rows("", ""), "") | rows("0+8x100", "0+2x100", origin="replay"),
        "a replay counts for nothing",
        every="5m",
    ),
    AlertCase(
        "ContactstreamNoWebhooks",
        "200h",
        {series("bridge_notifications_total", type="contact.updated"): "0+5x390 1950+0x16"},
        {
            series(
                "bridge_notifications_total", type="contact.updated"
            ): "0+5x380 1900+0x14 1901+0x15"
        },
        "none for four hours",
        interval="30m",
        every="1h",
    ),
    AlertCase(
        "ContactstreamNoWebhooks",
        "160h",
        {series("bridge_notifications_total", type="contact.updated"): "0+1x270 270+0x60"},
        {series("bridge_notifications_total", type="contact.updated"): "0+0.1x270 27+0x60"},
        "none for a day, where there was little before",
        interval="30m",
        every="1h",
    ),
    AlertCase(
        "ContactstreamFreshnessBurnsSlowly",
        "30h",
        latency("0+100x80", "0+96x80"),
        latency("0+100x80", "0+99.5x80"),
        interval="30m",
        every="30m",
    ),
    AlertCase(
        "ContactstreamRowSuccessBurnsSlowly",
        "30h",
        rows("0+96x80", "0+4x80"),
        rows("0+99.5x80", "0+0.5x80"),
        interval="30m",
        every="30m",
    ),
)
