"""The catalogue of metrics: each declared once, with what it means and the closed set of each
label.

A stage builds its own part against a registry of its own, so that a process shows only what it can
know. Label sets are made at once, with zeros: a ratio over a series that does not exist yet is no
alert at all.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from connectors.nylas.errors import UNREADABLE

disable_created_metrics()  # type: ignore[no-untyped-call]  # otherwise every counter doubles its series

LATENCY = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
CALL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
BATCH_ROWS = (1, 10, 50, 100, 200, 400, 600, 800, 1000)


def _counter(registry: CollectorRegistry, name: str, text: str, **labels: Iterable[str]) -> Counter:
    counter = Counter(f"contactstream_{name}", text, tuple(labels), registry=registry)
    if len(labels) == 1:
        for value in next(iter(labels.values())):
            counter.labels(value)
    return counter


def _gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"contactstream_{name}", text, labels, registry=registry)


ANSWER_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 8, 10)
BRIDGE_ANSWERS = (
    "published", "dead_lettered", "ignored_type", "challenge",
    "bad_signature", "too_large", "bad_encoding", "bad_request",
    "no_secret", "broker_unavailable", "overloaded", "stopping", "failed",
)  # fmt: skip
NOTIFICATIONS = (
    "contact.updated", "contact.deleted", "contact.*",
    "grant.created", "grant.updated", "grant.expired", "grant.deleted", "grant.*",
    "other",
)  # fmt: skip
DEDUPE_UNREADABLE = (*UNREADABLE, "not_a_contact", "wrong_key", "too_deep", "too_large")
DROPS = ("stale", "duplicate", "retry")
REFETCHES = ("same_second", "bodyless", "no_time")
FATES = ("created", "updated", "filled", "unchanged", "stale", "skipped", "released", "failed")
CALLS = (
    "token",
    "describe",
    "limits",
    "query",
    "composite_start",
    "composite_query",
    "composite_write",
    "other",
)


class BridgeMetrics:
    """What the bridge was sent and what became of it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = _counter(
            registry,
            "bridge_requests",
            "Requests to the webhook's URL by what became of them.",
            outcome=BRIDGE_ANSWERS,
        )
        self.request_seconds = Histogram(
            "contactstream_bridge_request_seconds",
            "From the request's last byte to its answer.",
            registry=registry,
            buckets=ANSWER_SECONDS,
        )
        self.notifications = _counter(
            registry,
            "bridge_notifications",
            "Signed notifications by type; contact.* are the others.",
            type=NOTIFICATIONS,
        )
        self.dead_lettered = _counter(
            registry,
            "bridge_dead_lettered",
            "Signed requests kept in the dead letters, by reason.",
            reason=(*UNREADABLE, "unsupported_encoding", "refused_by_broker"),
        )
        self.in_flight = _gauge(
            registry,
            "bridge_in_flight",
            "Notifications that wait for the broker's acknowledgement.",
        )
        self.connections = _gauge(
            registry, "bridge_connections", "Open connections to the webhook's port."
        )
        self.connections_closed = _counter(
            registry,
            "bridge_connections_closed",
            "Connections ended by the bridge: a request that does not come to its end, or too many at once.",
            reason=("slow", "too_many"),
        )
        self.secrets = _gauge(
            registry,
            "bridge_secrets",
            "Webhook secrets in use; with none every notification is refused.",
        )
        self.secret_reload_failures = _counter(
            registry,
            "bridge_secret_reload_failures",
            "Times that the secrets could not be read again; the old ones stay.",
        )


class ReaderMetrics:
    """What the reader asked Nylas for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "contactstream_reader_calls",
            "Calls to Nylas by kind and by the class of the answer.",
            ("kind", "outcome"),
            registry=registry,
        )
        self.contacts = _counter(
            registry,
            "reader_contacts",
            "Contacts published from pages, by why they were read.",
            origin=("backfill", "reconcile", "refetch"),
        )
        self.refetched = _counter(
            registry,
            "reader_refetched",
            "Contacts read again one by one, by what was found.",
            outcome=(
                "found",
                "gone",
                "grant_gone",
                "refused",
                "held_too_long",
                "expired",
                "dead_lettered",
                "unreadable",
            ),
        )
        self.offset_resets = _counter(
            registry,
            "reader_offset_resets",
            "Times that the position in a topic was not in its log any more; it is read from the log's start.",
            topic=("contacts.refetch", "grants.events", "contacts.outcomes"),
        )
        self.grants_skipped = _counter(
            registry,
            "reader_grants_skipped",
            "Grants of a listing that were passed over, by reason: Nylas would not say whether it knows one, or named it by no ID.",
            reason=("grant_unverified", "grant_without_id"),
        )
        self.waits = _counter(
            registry,
            "reader_waits",
            "Waits by their reason.",
            reason=("rate_limited", "passing_fault", "sink_lag"),
        )
        self.deleted = _counter(
            registry,
            "reader_deleted",
            "Contacts published as deleted: missing from a complete listing, or of a deleted grant.",
            reason=("reconcile", "grant_deleted"),
        )
        self.reoffered = _counter(
            registry,
            "reader_reoffered",
            "Contacts offered again because they had only filled another's record.",
        )
        self.grant_events = _counter(
            registry,
            "reader_grant_events",
            "Events in the life of grants, by type.",
            type=(
                "grant.created",
                "grant.updated",
                "grant.expired",
                "grant.deleted",
                "grant.listed",
                "other",
            ),
        )
        self.grants = _gauge(
            registry, "reader_grants", "Grants by status, as last heard.", "status"
        )
        self.active = _gauge(
            registry, "reader_active", "1 in the reader that works, 0 in a standby."
        )
        self.pending = _gauge(
            registry, "reader_refetch_pending", "Contacts that wait to be read again."
        )


class DedupeMetrics:
    """What was news."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.taken = _counter(registry, "dedupe_events", "Events taken from contacts.events.")
        self.forwarded = _counter(
            registry,
            "dedupe_forwarded",
            "Events that were news and became changes, by kind.",
            kind=("updated", "deleted"),
        )
        self.dropped = _counter(
            registry, "dedupe_dropped", "Events that were not news, by reason.", reason=DROPS
        )
        self.refetch = _counter(
            registry, "dedupe_refetch", "Contacts to read again, by reason.", reason=REFETCHES
        )
        self.dead_lettered = _counter(
            registry,
            "dedupe_dead_lettered",
            "Events that could not be read, by reason.",
            reason=DEDUPE_UNREADABLE,
        )
        self.batch_records = Histogram(
            "contactstream_dedupe_batch_records",
            "Events in a batch.",
            registry=registry,
            buckets=BATCH_ROWS,
        )
        self.table_entries = _gauge(
            registry, "dedupe_table_entries", "Contacts that this worker's table holds."
        )
        self.lag = _gauge(
            registry,
            "dedupe_lag_records",
            "Events not yet taken, of the partitions of this worker.",
            "partition",
        )
        self.last_processed = _gauge(
            registry, "dedupe_last_processed_timestamp_seconds", "When the last batch was finished."
        )


class SinkMetrics:
    """What became of the contacts in Salesforce.

    Match rate: first_resolutions{result="found"} over all of first_resolutions. Error rate:
    rows{outcome="failed"} over all of rows.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.taken = _counter(registry, "sink_changes", "Changes taken from contacts.changes.")
        self.coalesced = _counter(
            registry,
            "sink_coalesced",
            "Changes that a newer one of the same contact in the same batch made needless.",
        )
        self.rows = _counter(
            registry, "sink_rows", "Contacts by what became of them in Salesforce.", outcome=FATES
        )
        self.skipped = Counter(
            "contactstream_sink_skipped",
            "Contacts left out on purpose, by reason.",
            ("reason",),
            registry=registry,
        )
        self.matched = _counter(
            registry,
            "sink_matched",
            "Contacts found in Salesforce, by how.",
            by=("key", "email", "converted_lead", "duplicate_rule"),
        )
        self.first_resolutions = _counter(
            registry,
            "sink_first_resolutions",
            "Contacts resolved for the first time: the match rate is found over all.",
            result=("found", "created"),
        )
        self.ambiguous = _counter(
            registry, "sink_ambiguous", "Contacts for which several records came into question."
        )
        self.warnings = Counter(
            "contactstream_sink_warnings",
            "What a person should look into, as connectors.salesforce.counting lists it.",
            ("warning", "detail"),
            registry=registry,
        )
        self.retried = Counter(
            "contactstream_sink_retried",
            "Rows repeated because their fault passes, by reason.",
            ("reason",),
            registry=registry,
        )
        self.dead_lettered = Counter(
            "contactstream_sink_dead_lettered",
            "Changes that cannot succeed, by reason.",
            ("reason",),
            registry=registry,
        )
        self.calls = _counter(
            registry, "salesforce_calls", "Calls that Salesforce counts, by kind.", kind=CALLS
        )
        self.call_seconds = Histogram(
            "contactstream_salesforce_call_seconds",
            "Duration of a call, by kind.",
            ("kind",),
            registry=registry,
            buckets=CALL_SECONDS,
        )
        self.batch_rows = Histogram(
            "contactstream_sink_batch_rows",
            "Contacts in a batch.",
            registry=registry,
            buckets=BATCH_ROWS,
        )
        self.latency = Histogram(
            "contactstream_latency_seconds",
            "From the webhook's or page's receipt to the acknowledged outcome.",
            ("origin",),
            registry=registry,
            buckets=LATENCY,
        )
        self.pauses = Counter(
            "contactstream_sink_pauses",
            "Pauses because of a fault of the whole org, by reason.",
            ("reason",),
            registry=registry,
        )
        self.paused = _gauge(registry, "sink_paused", "1 while the sink waits for the org.")
        self.ahead = _gauge(
            registry, "sink_unfinished_rows", "Changes taken whose fate is not on a topic yet."
        )
        self.lag = _gauge(registry, "sink_lag_records", "Changes not yet committed.")
        self.api_used = _gauge(
            registry,
            "salesforce_api_used",
            "Calls of the org in the last 24 hours, as it last said.",
        )
        self.api_limit = _gauge(
            registry, "salesforce_api_limit", "Calls that the org may make in 24 hours."
        )
        self.last_processed = _gauge(
            registry, "sink_last_processed_timestamp_seconds", "When the last batch was finished."
        )
