"""Flow: for each stage the rate, the lag in records and seconds, the errors, and the memory."""

from deploy.monitoring.dashboard_source.grafana import (
    FIXED_WINDOW,
    GREEN,
    ORANGE,
    RED,
    Json,
    Panel,
    Row,
    graph,
    query,
    stat,
    steps,
)
from deploy.monitoring.dashboard_source.shared import (
    answers_graph,
    counted,
    lag_graph,
    outcomes_graph,
    quantiles,
)

UID, TITLE, SINCE = "contactstream-flow", "contactstream: Flow", "now-6h"
DESCRIPTION = (
    "Bridge, reader, dedupe and sink, from the webhook to Salesforce: how much each takes and "
    "finishes, what waits, what fails, and how much memory it needs."
)


def _rate(metric: str, legend: str) -> Json:
    return query(f"sum(rate({metric}[$__rate_interval]))", legend)


def _through() -> Panel:
    return graph(
        "Records taken, by stage",
        "Notifications of the bridge, contacts that the reader published, events of dedupe and "
        "changes of the sink, a second. Dedupe drops what changed nothing.",
        [
            _rate("contactstream_bridge_notifications_total", "bridge"),
            _rate("contactstream_reader_contacts_total", "reader"),
            _rate("contactstream_dedupe_events_total", "dedupe"),
            _rate("contactstream_sink_changes_total", "sink"),
        ],
        unit="cps",
        width=12,
    )


def _lag_records() -> Panel:
    return graph(
        "Lag in records",
        "Events that dedupe has not taken, changes that the sink has not committed, and contacts "
        "that wait to be read again.",
        [
            query("sum(contactstream_dedupe_lag_records)", "dedupe"),
            query("max(contactstream_sink_lag_records)", "sink"),
            query("max(contactstream_reader_refetch_pending)", "reader"),
        ],
        unit="short",
        width=12,
        runbook="no-progress",
    )


def _memory() -> Panel:
    return graph(
        "Memory by process",
        "Resident memory. It does not grow with the backlog; a container of 1 GB is enough.",
        [query("process_resident_memory_bytes", "{{instance}}")],
        unit="bytes",
        thresholds=steps((None, GREEN), (1_000_000_000, RED)),
    )


def _processor() -> Panel:
    return graph(
        "Processor by process",
        "Processor time a second: 1 is one core in full use, which is the most that a stage takes.",
        [query("rate(process_cpu_seconds_total[$__rate_interval])", "{{instance}}")],
        unit="none",
    )


def _last() -> Panel:
    return stat(
        "Last batch finished",
        "How long ago dedupe and the sink finished a batch. A long time is normal while nothing "
        "comes; with a lag it is the alert ContactstreamNoProgress.",
        [
            query(
                f"min(timestamp({metric}) - ({metric} > 0))",
                stage,
            )
            for stage in ("dedupe", "sink")
            for metric in [f"contactstream_{stage}_last_processed_timestamp_seconds"]
        ],
        unit="s",
        decimals=0,
        width=8,
        height=8,
        sparkline=False,
        runbook="no-progress",
    )


def _answer_time() -> Panel:
    return graph(
        "Answer time of the bridge",
        "Seconds from the last byte of a request to its answer. Nylas waits for 10 s.",
        quantiles("contactstream_bridge_request_seconds"),
        unit="s",
        width=12,
        thresholds=steps((None, GREEN), (8, RED)),
    )


def _bridge_held() -> Panel:
    return graph(
        "Connections and notifications in the bridge",
        "Open connections, and notifications that wait for the broker's acknowledgement.",
        [
            query("sum(contactstream_bridge_connections)", "connections"),
            query("sum(contactstream_bridge_in_flight)", "wait for the broker"),
        ],
        unit="short",
        width=12,
    )


def _bridge_errors() -> Panel:
    return graph(
        "Trouble at the bridge",
        "Signed requests that were dead-lettered, refused requests that Nylas may not send again "
        "(each asks for a reconcile), and connections that the bridge closed.",
        [
            query(
                "sum by (reason) (rate(contactstream_bridge_dead_lettered_total"
                "[$__rate_interval])) > 0",
                "dead letter: {{reason}}",
            ),
            query(
                "sum by (reason) (rate(contactstream_bridge_lost_total[$__rate_interval]))",
                "lost: {{reason}}",
            ),
            query(
                "sum by (reason) (rate(contactstream_bridge_connections_closed_total"
                "[$__rate_interval]))",
                "closed: {{reason}}",
            ),
        ],
        unit="ops",
        width=12,
        runbook="webhook-at-risk",
    )


def _reader_contacts() -> Panel:
    return graph(
        "Contacts read from Nylas",
        "Contacts published from pages, by the reason for reading them.",
        [counted("contactstream_reader_contacts_total", "origin")],
        unit="cps",
        stacked=True,
    )


def _reader_waits() -> Panel:
    return graph(
        "Why the reader waits",
        "Waits a second: Nylas asks for it (rate_limited), a fault of Nylas that passes, the sink "
        "is behind, or a failure breaker is open.",
        [counted("contactstream_reader_waits_total", "reason")],
        unit="ops",
        runbook="breaker-open",
    )


def _reader_errors() -> Panel:
    return graph(
        "Trouble at the reader",
        "Offsets outside of a topic's log, and errors that the Kafka client retries by itself.",
        [
            query(
                "sum by (topic) (rate(contactstream_reader_offset_resets_total[$__rate_interval]))",
                "reset: {{topic}}",
            ),
            query(
                "sum by (code) (rate(contactstream_reader_kafka_errors_total[$__rate_interval]))",
                "Kafka: {{code}}",
            ),
        ],
        unit="ops",
    )


def _forwarded() -> Panel:
    return graph(
        "What dedupe does with events",
        "Events forwarded to contacts.changes by kind, and dropped by reason.",
        [
            query(
                "sum by (kind) (rate(contactstream_dedupe_forwarded_total[$__rate_interval]))",
                "forwarded: {{kind}}",
            ),
            query(
                "sum by (reason) (rate(contactstream_dedupe_dropped_total[$__rate_interval]))",
                "dropped: {{reason}}",
            ),
        ],
        unit="cps",
        stacked=True,
    )


def _expires() -> Panel:
    return graph(
        "Until the oldest unread event expires",
        "contacts.events keeps an event for 14 days. Below 2 days is the alert "
        "ContactstreamRecordsMayExpire.",
        [
            query(
                "min by (partition) (contactstream_dedupe_oldest_unread_expires_seconds)",
                "partition {{partition}}",
            )
        ],
        unit="s",
        thresholds=steps((None, RED), (2 * 86400, GREEN)),
        runbook="records-may-expire",
    )


def _dedupe_lag() -> Panel:
    return graph(
        "Lag of dedupe by partition",
        "Events not yet taken. One partition that lags alone has a worker in trouble.",
        [
            query(
                "max by (partition) (contactstream_dedupe_lag_records)",
                "partition {{partition}}",
            )
        ],
        unit="short",
        runbook="recovery-stuck",
    )


def _batches(stage: str, what: str, metric: str, width: int = 8) -> Panel:
    rate = f"sum by (le) (rate({metric}_bucket[$__rate_interval]))"
    return graph(
        f"Batch size of {stage}",
        f"{what} in a batch. Large batches take fewer calls, and come with a backlog.",
        [
            query(f"histogram_quantile({share}, {rate})", word)
            for share, word in ((0.5, "half are smaller"), (0.95, "95 % are smaller"))
        ],
        unit="short",
        decimals=0,
        width=width,
    )


def _dedupe_table() -> Panel:
    return graph(
        "Contacts in the table of dedupe",
        "Contacts whose versions dedupe remembers, by process.",
        [query("contactstream_dedupe_table_entries", "{{instance}}")],
        unit="short",
    )


def _dedupe_errors() -> Panel:
    return graph(
        "What dedupe cannot use",
        "Events that cannot be parsed and were dead-lettered, and contacts that the reader is "
        "asked to read again, by reason.",
        [
            query(
                "sum by (reason) (rate(contactstream_dedupe_dead_lettered_total"
                "[$__rate_interval])) > 0",
                "dead letter: {{reason}}",
            ),
            query(
                "sum by (reason) (rate(contactstream_dedupe_refetch_total[$__rate_interval]))",
                "read again: {{reason}}",
            ),
        ],
        unit="cps",
        runbook="dead-letters",
    )


def _sink_held() -> Panel:
    return graph(
        "Changes in the sink",
        "Changes taken whose outcome is not on a topic yet.",
        [query("sum(contactstream_sink_unfinished_rows)", "taken and not finished")],
        unit="short",
        width=8,
    )


def _sink_memory() -> Panel:
    return graph(
        "Memory of the changes in the sink",
        "Bytes of the changes taken and not finished, bounded by SINK_MAX_HELD_BYTES.",
        [query("sum(contactstream_sink_held_bytes)", "held")],
        unit="bytes",
        width=8,
    )


def _sink_pace() -> Panel:
    return graph(
        "Time for which live changes gather",
        "0 while they go at once. It grows when SINK_LIVE_CALL_SHARE of the calls is nearly spent.",
        [query("max(contactstream_sink_live_batch_interval_seconds)", "gather")],
        unit="s",
        width=8,
    )


def _sink_errors() -> Panel:
    return graph(
        "Trouble at the sink",
        "Dead letters and retries by reason, and errors that the Kafka client retries by itself.",
        [
            query(
                "sum by (reason) (rate(contactstream_sink_dead_lettered_total[$__rate_interval]))",
                "dead letter: {{reason}}",
            ),
            query(
                "sum by (reason) (rate(contactstream_sink_retried_total[$__rate_interval]))",
                "retry: {{reason}}",
            ),
            query(
                "sum by (code) (rate(contactstream_sink_kafka_errors_total[$__rate_interval]))",
                "Kafka: {{code}}",
            ),
        ],
        unit="cps",
        width=16,  # the reasons of Salesforce are long words
        runbook="dead-letters",
    )


def _coalesced() -> Panel:
    return graph(
        "Changes replaced by a newer one",
        "Changes of a contact that a newer one of the same batch made superfluous.",
        [_rate("contactstream_sink_coalesced_total", "replaced")],
        unit="cps",
        width=12,
    )


def _dead_letters() -> Panel:
    return graph(
        "Dead letters in an hour, by stage",
        "Line: the alert ContactstreamDeadLettersGrow.",
        [
            query(f"sum(increase(contactstream_{stage}_dead_lettered_total[1h]))", stage)
            for stage in ("bridge", "dedupe", "sink")
        ],
        unit="short",
        thresholds=steps((None, GREEN), (20, ORANGE)),
        exceptions=FIXED_WINDOW,
        runbook="dead-letters",
    )


def rows() -> list[Row]:
    """The rows of the dashboard: all stages, then each stage."""
    return [
        Row("All stages", [lag_graph(12), _lag_records(), _through(), outcomes_graph(12)]),
        Row("What they need", [_last(), _memory(), _processor()]),
        Row("Bridge", [answers_graph(12), _bridge_errors(), _answer_time(), _bridge_held()]),
        Row("Reader", [_reader_contacts(), _reader_waits(), _reader_errors()]),
        Row(
            "Dedupe",
            [
                _forwarded(),
                _dedupe_errors(),
                _expires(),
                _dedupe_lag(),
                _batches("dedupe", "Events", "contactstream_dedupe_batch_records"),
                _dedupe_table(),
            ],
        ),
        Row(
            "Sink",
            [
                _dead_letters(),
                _sink_errors(),
                _sink_held(),
                _sink_memory(),
                _sink_pace(),
                _batches("sink", "Contacts", "contactstream_sink_batch_rows", 12),
                _coalesced(),
            ],
        ),
    ]
