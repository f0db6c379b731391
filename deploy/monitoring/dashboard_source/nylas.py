"""Nylas: what the bridge answers, what the reader asks, the grants by state, and the runs."""

from deploy.monitoring.dashboard_source.grafana import (
    FIXED_WINDOW,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Panel,
    Row,
    graph,
    query,
    stat,
    steps,
    timeline,
)
from deploy.monitoring.dashboard_source.shared import answers_graph, counted, quantiles

UID, TITLE, SINCE = "contactstream-nylas", "contactstream: Nylas", "now-24h"
DESCRIPTION = (
    "Whether Nylas still sends, what the bridge answers, what the reader asks Nylas for, which "
    "address books are connected, and the runs that read them."
)

ACTIVE = "* on (job, instance) group_left contactstream_reader_active"
GOOD = 'outcome=~"published|dead_lettered|ignored_type|challenge"'


def _state() -> Panel:
    states = f"sum by (state) (contactstream_reader_webhooks {ACTIVE})"
    return stat(
        "The webhook at Nylas",
        "What Nylas says of the webhook, asked every 10 minutes: failing is stopped after 72 "
        "hours, failed and pause get nothing any more, missing does not exist, unknown was not "
        "asked yet.",
        [query(f"{states} > 0", "{{state}}", instant=True)],
        width=5,
        thresholds=steps((None, RED)),
        sparkline=False,
        names_only=True,
        colors={"active": GREEN, "unknown": GREY, "pause": ORANGE, "missing": ORANGE},
        runbook="webhook-at-risk",
    )


def _last() -> Panel:
    metric = "contactstream_bridge_last_webhook_timestamp_seconds"
    return stat(
        "Last signed webhook",
        "How long ago Nylas sent something. What is normal depends on the address books; the alert "
        "ContactstreamNoWebhooks compares with the week before.",
        [query(f"min(timestamp({metric}) - ({metric} > 0))", "ago")],
        unit="s",
        decimals=0,
        sparkline=False,
        runbook="no-webhooks",
    )


def _refused() -> Panel:
    return stat(
        "Refused requests, 15 minutes",
        "Share of the requests that were not answered with 200. At 95 % Nylas marks the webhook as "
        "failing. Strangers send a few unsigned requests.",
        [
            query(
                f"1 - sum(rate(contactstream_bridge_requests_total{{{GOOD}}}[15m])) "
                "/ (sum(rate(contactstream_bridge_requests_total[15m])) > 0)",
                "refused",
            )
        ],
        unit="percentunit",
        decimals=1,
        width=5,
        thresholds=steps((None, GREEN), (0.2, ORANGE), (0.8, RED)),
        exceptions=FIXED_WINDOW,
        runbook="webhook-at-risk",
    )


def _expired() -> Panel:
    expired, all_of_them = (
        f'sum(contactstream_reader_grants{{status=~"{status}"}} {ACTIVE})'
        for status in ("expired", "valid|expired")
    )
    return stat(
        "Expired grants",
        "Share of the address books whose owner has to sign in again. "
        "`contactstream grants list --expired` names them.",
        [query(f"{expired} / ({all_of_them} > 0)", "expired")],
        unit="percentunit",
        decimals=1,
        thresholds=steps((None, GREEN), (0.02, ORANGE), (0.1, RED)),
        runbook="grants-expired",
    )


def _runs() -> Panel:
    return stat(
        "Runs now",
        "Backfills, reconciles and replays that were started and have not ended.",
        [query("max(contactstream_reader_runs_in_progress)", "runs")],
        width=3,
        runbook="no-progress",
    )


def _secrets() -> Panel:
    return stat(
        "Secrets",
        "Secrets in use by the bridge that has the fewest. Without one every notification is "
        "refused.",
        [query("min(contactstream_bridge_secrets)", "secrets")],
        width=3,
        thresholds=steps((None, RED), (1, GREEN)),
        sparkline=False,
        runbook="webhook-at-risk",
    )


def _state_over_time() -> Panel:
    return timeline(
        "The webhook over time",
        "What Nylas said of the webhook.",
        [query(f"sum by (state) (contactstream_reader_webhooks {ACTIVE})", "{{state}}")],
        {"0": ("no", GREY), "1": ("yes", "blue")},
        runbook="webhook-at-risk",
    )


def _notifications() -> Panel:
    return graph(
        "Notifications by type",
        "Notifications a second with a valid signature.",
        [counted("contactstream_bridge_notifications_total", "type")],
        unit="cps",
        stacked=True,
        runbook="no-webhooks",
    )


def _answer_time() -> Panel:
    return graph(
        "Answer time",
        "Seconds from the last byte of a request to its answer. Nylas waits for 10 s.",
        quantiles("contactstream_bridge_request_seconds"),
        unit="s",
        thresholds=steps((None, GREEN), (8, RED)),
    )


def _lost() -> Panel:
    return graph(
        "Lost requests and failed reloads, a day",
        "Refused requests that Nylas may not send again, each of which asks for a reconcile, and "
        "failed attempts to reload the secrets.",
        [
            query("sum by (reason) (increase(contactstream_bridge_lost_total[1d]))", "{{reason}}"),
            query(
                "sum(increase(contactstream_bridge_secret_reload_failures_total[1d]))",
                "secrets not reloaded",
            ),
        ],
        unit="short",
        decimals=0,
        exceptions=FIXED_WINDOW,
        runbook="webhook-at-risk",
    )


def _calls() -> Panel:
    return graph(
        "Calls of the reader, by kind and answer",
        "Calls to Nylas a second. 429 is a rate limit, none is no answer.",
        [
            query(
                "sum by (kind, outcome) (rate(contactstream_reader_calls_total[$__rate_interval]))",
                "{{kind}}: {{outcome}}",
            )
        ],
        unit="reqps",
        stacked=True,
    )


def _waits() -> Panel:
    return graph(
        "Why the reader waits",
        "Waits a second, by reason.",
        [counted("contactstream_reader_waits_total", "reason")],
        unit="ops",
    )


def _contacts() -> Panel:
    return graph(
        "Contacts read, by reason",
        "Contacts published from pages, a second.",
        [counted("contactstream_reader_contacts_total", "origin")],
        unit="cps",
        stacked=True,
    )


def _refetched() -> Panel:
    return graph(
        "Contacts read again, by outcome",
        "Single contacts that a webhook or a page named without its newest state.",
        [counted("contactstream_reader_refetched_total", "outcome")],
        unit="cps",
        stacked=True,
    )


def _pending() -> Panel:
    return graph(
        "Contacts that wait to be read again",
        "About 10 minutes on purpose; longer when Nylas refuses.",
        [query("max(contactstream_reader_refetch_pending)", "waiting")],
        unit="short",
        runbook="behind",
    )


def _active() -> Panel:
    return timeline(
        "The active reader",
        "One reader at a time asks Nylas; the others stand by.",
        [query("max by (instance) (contactstream_reader_active)", "{{instance}}")],
        {"0": ("stands by", GREY), "1": ("active", GREEN)},
        runbook="stage-absent",
    )


def _grants() -> Panel:
    return graph(
        "Grants by state",
        "Address books by their last known state, as the active reader knows them.",
        [query(f"sum by (status) (contactstream_reader_grants {ACTIVE})", "{{status}}")],
        width=6,
        unit="short",
        decimals=0,
        colors={"valid": GREEN, "expired": RED, "deleted": GREY},
        runbook="grants-expired",
    )


def _mailboxes() -> Panel:
    return graph(
        "Selected mailboxes",
        "Connected mailboxes by whether PEOPLE_MAILBOXES selects them; nothing while it is empty. "
        "`contactstream grants list` names them, with the reason.",
        [query(f"sum by (choice) (contactstream_reader_mailboxes {ACTIVE}) > 0", "{{choice}}")],
        width=6,
        unit="short",
        decimals=0,
        colors={"selected": GREEN, "not_selected": GREY},
    )


def _grant_events() -> Panel:
    return graph(
        "Grant events a day, by type",
        "What happened to grants: connected, expired, deleted.",
        [
            query(
                "sum by (type) (increase(contactstream_reader_grant_events_total[1d])) > 0",
                "{{type}}",
            )
        ],
        width=6,
        unit="short",
        decimals=0,
        exceptions=FIXED_WINDOW,
    )


def _skipped_grants() -> Panel:
    return graph(
        "Skipped grants a day, by reason",
        "Grants of a listing without an ID, or that Nylas did not confirm.",
        [
            query(
                "sum by (reason) (increase(contactstream_reader_grants_skipped_total[1d]))",
                "{{reason}}",
            )
        ],
        width=6,
        unit="short",
        decimals=0,
        exceptions=FIXED_WINDOW,
    )


def _runs_over_time(width: int) -> Panel:
    return graph(
        "Runs over time",
        "Runs in progress, which fill the stages for a while.",
        [query("max(contactstream_reader_runs_in_progress)", "in progress")],
        unit="short",
        width=width,
        decimals=0,
        runbook="no-progress",
    )


def _deleted(width: int) -> Panel:
    return graph(
        "Contacts gone or offered again, a day",
        "Contacts missing from a full listing or of a deleted grant, and contacts sent to the sink "
        "again because they have no record of their own.",
        [
            query(
                "sum by (reason) (increase(contactstream_reader_deleted_total[1d]))",
                "gone: {{reason}}",
            ),
            query("sum(increase(contactstream_reader_reoffered_total[1d]))", "offered again"),
        ],
        unit="short",
        width=width,
        decimals=0,
        exceptions=FIXED_WINDOW,
    )


def _clock() -> Panel:
    return graph(
        "Clock of the reader",
        "Seconds that the clock of the reader's machine is ahead of the clock of Nylas.",
        [query("max by (instance) (contactstream_reader_clock_ahead_seconds)", "{{instance}}")],
        unit="s",
        low=None,
    )


def rows() -> list[Row]:
    """The rows of the dashboard."""
    return [
        Row(
            "Does Nylas send, and may we read?",
            [_state(), _refused(), _expired(), _last(), _secrets(), _runs()],
        ),
        Row("Webhooks", [answers_graph(8), _notifications(), _answer_time()]),
        Row("What Nylas thinks of the webhook", [_state_over_time(), _lost(), _active()]),
        Row(
            "What the reader asks",
            [_calls(), _waits(), _contacts(), _refetched(), _pending(), _clock()],
        ),
        Row("Grants", [_grants(), _grant_events(), _skipped_grants(), _mailboxes()]),
        Row("Runs", [_runs_over_time(12), _deleted(12)]),
    ]
