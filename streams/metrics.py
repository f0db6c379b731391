"""The catalogue of metrics: each is declared once, with its meaning and its label values.

A stage builds its own part against its own registry, so that a process shows only metrics that it
can know. Every label value starts at zero: an alert on the ratio of two series does not fire while
one of them does not exist.
"""

import math
import time
from collections.abc import Iterable
from importlib.metadata import version
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from connectors.nylas.errors import UNREADABLE
from connectors.salesforce.owner_rules import OwnerRule
from streams.control import PausedPart, Stops
from streams.events import Origin
from streams.runtime.ops import Health

# Otherwise every counter would have a second series.
disable_created_metrics()  # type: ignore[no-untyped-call]

# Buckets of the histograms: seconds, or rows.
LATENCY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
CALL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
BATCH_BUCKETS = (1, 10, 50, 100, 200, 400, 600, 800, 1000)
WEBHOOK_ANSWER_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 8, 10)


def _counter(registry: CollectorRegistry, name: str, text: str, **labels: Iterable[str]) -> Counter:
    counter = Counter(f"contactstream_{name}", text, tuple(labels), registry=registry)
    for values in product(*labels.values()) if labels else ():
        counter.labels(*values)
    return counter


def _gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"contactstream_{name}", text, labels, registry=registry)


# The label values.
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
DROPS = ("stale", "duplicate", "retry", "not_selected", "suppressed")
GRANT_STATUSES = ("valid", "expired", "deleted")
WEBHOOK_STATES = ("active", "failing", "failed", "pause", "missing", "unknown")
REFETCHES = ("same_second", "bodyless", "no_time", "address_unknown", "groups_unknown")
ORIGINS = tuple(origin.value for origin in Origin)
OUTCOMES = (
    "created", "updated", "filled", "unchanged", "covered", "ambiguous",
    "stale", "skipped", "held", "planned", "released", "failed",
)  # fmt: skip
FIRST_RESOLUTIONS = (
    ("found", "email"), ("found", "address_field"), ("found", "converted_lead"),
    ("found", "merged"), ("found", "duplicate_rule"),
    ("created", "contact"), ("created", "lead"),
)  # fmt: skip
OWNER_RULES = tuple(rule.value for rule in OwnerRule)
CALLS = (
    "token", "describe", "limits", "query", "bulk_query",
    "composite_start", "composite_query", "composite_write",
    "other",
)  # fmt: skip
COVERAGE_STATES = (
    "eligible", "with_record", "covered", "ambiguous", "failed", "held", "planned",
)  # fmt: skip
GRANT_COVERAGE_STATES = ("eligible", "with_record")
# Of contactstream_coverage_grant_people: every grant that has no series of its own.
OTHER_GRANTS = "other"


def _oldest_unfinished(registry: CollectorRegistry, stage: str, what: str) -> Gauge:
    """Lag in seconds is timestamp(metric) - metric: the scrape's time less the gauge.

    Until the stage works, and in a standby, nothing is unfinished.
    """
    gauge = _gauge(
        registry,
        f"{stage}_oldest_unfinished_timestamp_seconds",
        f"Unix time when the oldest of these was received that is not finished: {what}. "
        "The time of the scrape when all are finished.",
    )
    gauge.set_function(time.time)
    return gauge


class ProcessMetrics:
    """Metrics of every process: what it is, whether it is ready, and what it takes.

    What it takes are the `process_*` metrics of prometheus_client: memory, processor, open files.
    They exist on Linux.
    """

    def __init__(self, registry: CollectorRegistry, stage: str, health: Health) -> None:
        ProcessCollector(registry=registry)
        self.build_info = _gauge(
            registry,
            "build_info",
            "1, with the version that runs and the stage of the process.",
            "version",
            "stage",
        )
        self.build_info.labels(version("contactstream"), stage).set(1)
        self.ready = _gauge(
            registry,
            "ready",
            "1 while the process can work, 0 while it waits for what /readyz names.",
            "stage",
        )
        self.ready.labels(stage).set_function(lambda: float(not health.waiting_for))
        self.secret_reload_failures = _counter(
            registry,
            "secret_reload_failures",
            "Looks at changed files of secrets or certificates that found them unusable; the old "
            "ones stay in use.",
        )
        self.trace_spans = _counter(
            registry,
            "trace_spans",
            "Spans of traces that are kept, by result: the collector took them, it did not, or the "
            "queue to it was full. Zero while TRACES_ENABLED is false.",
            result=("exported", "failed", "dropped"),
        )


class BridgeMetrics:
    """Metrics of the bridge: requests, answers and connections."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = _counter(
            registry,
            "bridge_requests",
            "Requests to the webhook's URL, by outcome.",
            outcome=BRIDGE_ANSWERS,
        )
        self.request_seconds = Histogram(
            "contactstream_bridge_request_seconds",
            "Seconds from the last byte of a request to its answer.",
            registry=registry,
            buckets=WEBHOOK_ANSWER_BUCKETS,
        )
        self.notifications = _counter(
            registry,
            "bridge_notifications",
            "Notifications with a valid signature, by type; contact.* and grant.* are other types.",
            type=NOTIFICATIONS,
        )
        self.dead_lettered = _counter(
            registry,
            "bridge_dead_lettered",
            "Requests with a valid signature that were dead-lettered, by reason.",
            reason=(*UNREADABLE, "unsupported_encoding", "refused_by_broker"),
        )
        self.lost = _counter(
            registry,
            "bridge_lost",
            "Refused requests that Nylas may not send again, by reason; each asks for a reconcile.",
            reason=("last_attempt", "overloaded"),
        )
        self.in_flight = _gauge(
            registry,
            "bridge_in_flight",
            "Notifications that wait for an acknowledgement from the broker.",
        )
        self.connections = _gauge(
            registry, "bridge_connections", "Open connections to the webhook's port."
        )
        self.connections_closed = _counter(
            registry,
            "bridge_connections_closed",
            "Connections that the bridge closed: its request was slow, it made room for a newer "
            "one, or all others carried signed requests.",
            reason=("slow", "evicted", "too_many"),
        )
        self.secrets = _gauge(
            registry,
            "bridge_secrets",
            "Webhook secrets in use; with none every notification is refused.",
        )
        self.secret_reload_failures = _counter(
            registry,
            "bridge_secret_reload_failures",
            "Failed attempts to reload the webhook secrets; the old ones stay in use.",
        )
        self.last_webhook = _gauge(
            registry,
            "bridge_last_webhook_timestamp_seconds",
            "Unix time of the last request with a valid signature; 0 before the first.",
        )
        self.oldest_unfinished = _oldest_unfinished(
            registry, "bridge", "notifications without the broker's acknowledgement"
        )


class ReaderMetrics:
    """Metrics of the reader: calls to Nylas, and what was published."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "contactstream_reader_calls",
            "Calls to Nylas, by kind and by the class of the answer.",
            ("kind", "outcome"),
            registry=registry,
        )
        self.clock_ahead = _gauge(
            registry,
            "reader_clock_ahead_seconds",
            "Seconds that this machine's clock is ahead of the clock of Nylas; negative if behind.",
        )
        self.contacts = _counter(
            registry,
            "reader_contacts",
            "Contacts published from pages, by the reason for reading them.",
            origin=("backfill", "reconcile", "refetch"),
        )
        self.refetched = _counter(
            registry,
            "reader_refetched",
            "Single contacts read again, by outcome.",
            outcome=(
                "found",
                "gone",
                "grant_gone",
                "refused",
                "held_too_long",
                "expired",
                "dead_lettered",
                "no_content",
                "not_selected",
                "unreadable",
            ),
        )
        self.offset_resets = _counter(
            registry,
            "reader_offset_resets",
            "Times that an offset was outside of a topic's log; the topic is read from its start.",
            topic=("contacts.refetch", "grants.events", "contacts.outcomes"),
        )
        self.grants_skipped = _counter(
            registry,
            "reader_grants_skipped",
            "Grants of a listing that were skipped: without an ID, or Nylas did not confirm them.",
            reason=("grant_unverified", "grant_without_id"),
        )
        self.waits = _counter(
            registry,
            "reader_waits",
            "Waits of the reader, by reason.",
            reason=("rate_limited", "transient_error", "sink_lag", "breaker", "paused"),
        )
        self.pause_ends = _gauge(
            registry,
            "reader_pause_ends_timestamp_seconds",
            "When the pause ends that a person asked for, by what it stops; 0 without a pause.",
            "part",
        )
        self.pause_ends.labels(PausedPart.READING.value)
        self.deleted = _counter(
            registry,
            "reader_deleted",
            "Contacts published as deleted: missing from a full listing, or of a deleted grant.",
            reason=("reconcile", "grant_deleted"),
        )
        self.reoffered = _counter(
            registry,
            "reader_reoffered",
            "Contacts sent to the sink again: they have no record of their own, and may get one.",
        )
        self.grant_events = _counter(
            registry,
            "reader_grant_events",
            "Grant events, by type.",
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
            registry, "reader_grants", "Grants by their last known status.", "status"
        )
        for status in GRANT_STATUSES:
            self.grants.labels(status)
        self.grants_held = _gauge(
            registry,
            "reader_grants_held",
            "Deleted grants whose contacts wait for `contactstream grants confirm`.",
        )
        self.mailboxes = _gauge(
            registry,
            "reader_mailboxes",
            "Connected mailboxes by whether PEOPLE_MAILBOXES selects them; zero while it names "
            "none, which selects all.",
            "choice",
        )
        for choice in ("selected", "not_selected"):
            self.mailboxes.labels(choice)
        self.webhooks = _gauge(
            registry,
            "reader_webhooks",
            "Webhooks at Nylas that send contacts, by what Nylas says of them; missing is 1 when "
            "there is none, unknown is 1 before Nylas has said anything.",
            "state",
        )
        for state in WEBHOOK_STATES:
            self.webhooks.labels(state).set(state == "unknown")
        self.kafka_errors = Counter(
            "contactstream_reader_kafka_errors",
            "Errors of the reader's consumer that the Kafka client retries by itself, by code.",
            ("code",),
            registry=registry,
        )
        self.active = _gauge(registry, "reader_active", "1 in the active reader, 0 in a standby.")
        self.pending = _gauge(
            registry, "reader_refetch_pending", "Single contacts that wait to be read again."
        )
        self.runs_in_progress = _gauge(
            registry,
            "reader_runs_in_progress",
            "Backfills, reconciles and replays that were started and have not ended.",
        )
        self.oldest_unfinished = _oldest_unfinished(
            registry, "reader", "events that made a contact be read again"
        )


class DedupeMetrics:
    """Metrics of dedupe: events taken, forwarded and dropped."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.taken = _counter(registry, "dedupe_events", "Events taken from contacts.events.")
        self.forwarded = _counter(
            registry,
            "dedupe_forwarded",
            "Events forwarded to contacts.changes, by kind.",
            kind=("updated", "deleted"),
        )
        self.dropped = _counter(
            registry, "dedupe_dropped", "Events dropped, by reason.", reason=DROPS
        )
        self.refetch = _counter(
            registry,
            "dedupe_refetch",
            "Contacts that the reader is asked to read again, by reason.",
            reason=REFETCHES,
        )
        self.dead_lettered = _counter(
            registry,
            "dedupe_dead_lettered",
            "Events that cannot be parsed and were dead-lettered, by reason.",
            reason=DEDUPE_UNREADABLE,
        )
        self.batch_records = Histogram(
            "contactstream_dedupe_batch_records",
            "Events in a batch.",
            registry=registry,
            buckets=BATCH_BUCKETS,
        )
        self.table_entries = _gauge(
            registry, "dedupe_table_entries", "Contacts in the table of this worker."
        )
        self.lag = _gauge(
            registry,
            "dedupe_lag_records",
            "Events not yet taken, by partition of this worker.",
            "partition",
        )
        self.oldest_unread_expires = _gauge(
            registry,
            "dedupe_oldest_unread_expires_seconds",
            "Seconds until the oldest event not yet taken may expire, by partition.",
            "partition",
        )
        self.last_processed = _gauge(
            registry,
            "dedupe_last_processed_timestamp_seconds",
            "Unix time when the last batch was finished.",
        )
        self.oldest_unfinished = _oldest_unfinished(registry, "dedupe", "events taken")


class SinkMetrics:
    """Metrics of the sink: rows by outcome, calls to Salesforce, latency and pauses.

    Match rate: first_resolutions{result="found"} over all of first_resolutions. Contacts that are
    covered or ambiguous are neither found nor created: rows counts them. Error rate:
    rows{outcome="failed"} over all of rows. Both leave origin="replay" out, as does the latency: a
    replay says nothing about how fresh or how well matched the live contacts are.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.taken = _counter(registry, "sink_changes", "Changes taken from contacts.changes.")
        self.clock_ahead = _gauge(
            registry,
            "sink_clock_ahead_seconds",
            "Seconds that this machine's clock is ahead of Salesforce's; negative if behind.",
        )
        self.member_lists = _counter(
            registry,
            "sink_member_lists",
            "Questions who has the permission sets that PEOPLE_MAILBOXES names, by result.",
            result=("published", "failed"),
        )
        self.coalesced = _counter(
            registry,
            "sink_coalesced",
            "Changes replaced by a newer one of the same contact in the same batch.",
        )
        self.rows = _counter(
            registry,
            "sink_rows",
            "Contacts by their outcome in Salesforce, and by where the event came from.",
            outcome=OUTCOMES,
            origin=ORIGINS,
        )
        self.replaced_values = _counter(
            registry,
            "sink_replaced_values",
            "Values in Salesforce that were replaced and not blank, by object; the journal has "
            "each of them.",
            object=("Contact", "Lead", "Account"),
            origin=ORIGINS,
        )
        self.skipped = Counter(
            "contactstream_sink_skipped",
            "Contacts that are not synced on purpose, by reason.",
            ("reason",),
            registry=registry,
        )
        self.matched = _counter(
            registry,
            "sink_matched",
            "Contacts found in Salesforce, by how they were found.",
            by=("key", "email", "address_field", "converted_lead", "merged", "duplicate_rule"),
            origin=ORIGINS,
        )
        self.first_resolutions = Counter(
            "contactstream_sink_first_resolutions",
            "Contacts looked up for the first time, by how they were found (email, address_field, "
            "converted_lead, merged, duplicate_rule) or what was created (contact, lead); the "
            'match rate is found / (found + created), without origin="replay".',
            ("result", "how", "origin"),
            registry=registry,
        )
        for result, how in FIRST_RESOLUTIONS:
            for origin in ORIGINS:
                self.first_resolutions.labels(result, how, origin)
        self.owners = _counter(
            registry,
            "sink_owners",
            "Created records, by the rule of PEOPLE_OWNER that gave them an owner, and by object.",
            rule=OWNER_RULES,
            sobject=("Contact", "Lead"),
        )
        self.several_matched = _counter(
            registry,
            "sink_several_matched",
            "Contacts that several records match equally well; one of these was chosen.",
        )
        self.warnings = Counter(
            "contactstream_sink_warnings",
            "What a person should look into, as connectors.salesforce.counting lists it.",
            ("warning", "detail"),
            registry=registry,
        )
        self.deleted_records = _gauge(
            registry,
            "sink_deleted_records",
            "Records that people deleted or merged in Salesforce and that are remembered.",
        )
        self.deleted_records_forgotten = _counter(
            registry,
            "sink_deleted_records_forgotten",
            "Records that were forgotten because more were deleted than can be remembered.",
        )
        self.contact_domains = Gauge(
            "contactstream_sink_contact_domains",
            "Mail domains that lead to an Account because nearly all their Contacts belong to it.",
            registry=registry,
        )
        self.sweeps = _counter(
            registry,
            "sink_deletion_sweeps",
            "Daily readings of Salesforce's recycle bin, by result.",
            result=("done", "failed"),
        )
        self.retried = Counter(
            "contactstream_sink_retried",
            "Rows written again after a transient error, by reason.",
            ("reason",),
            registry=registry,
        )
        self.dead_lettered = Counter(
            "contactstream_sink_dead_lettered",
            "Changes dead-lettered because they cannot succeed, by reason.",
            ("reason",),
            registry=registry,
        )
        self.calls = _counter(
            registry,
            "salesforce_calls",
            "Calls that count against the org's limit, by kind.",
            kind=CALLS,
        )
        self.call_seconds = Histogram(
            "contactstream_salesforce_call_seconds",
            "Seconds of a call, by kind.",
            ("kind",),
            registry=registry,
            buckets=CALL_BUCKETS,
        )
        self.batch_rows = Histogram(
            "contactstream_sink_batch_rows",
            "Contacts in a batch.",
            registry=registry,
            buckets=BATCH_BUCKETS,
        )
        self.latency = Histogram(
            "contactstream_latency_seconds",
            "Seconds from the receipt of a webhook or page to the acknowledged outcome.",
            ("origin",),
            registry=registry,
            buckets=LATENCY_BUCKETS,
        )
        for origin in ORIGINS:
            self.latency.labels(origin)
        self.pauses = Counter(
            "contactstream_sink_pauses",
            "Pauses after an error of the whole org, by reason.",
            ("reason",),
            registry=registry,
        )
        self.paused = _gauge(registry, "sink_paused", "1 while the sink waits for the org.")
        self.pause_ends = _gauge(
            registry,
            "sink_pause_ends_timestamp_seconds",
            "When the pause ends that a person asked for, by what it stops; 0 without a pause.",
            "part",
        )
        for part in (PausedPart.WRITES, PausedPart.CREATIONS):
            self.pause_ends.labels(part.value)
        self.limit = _gauge(
            registry,
            "sink_limit",
            "How much is written before the rest is held or waits, by limit; 0 for no limit.",
            "limit",
        )
        self.limit_used = _gauge(
            registry,
            "sink_limit_used",
            "How much of a limit is used: creations and our own calls of the day (UTC), replaced "
            "values of the hour, and the share of the org's data storage when it was last read.",
            "limit",
        )
        self.mode = _gauge(
            registry, "sink_mode", "1 for the mode in which the sink writes, 0 for others.", "mode"
        )
        self.breakers_open = _gauge(
            registry,
            "sink_breakers_open",
            "Open failure breakers, by what they stop: bulk runs, or all writing.",
            "stops",
        )
        for stops in Stops:
            self.breakers_open.labels(stops.value)
        self.breaker_openings = Counter(
            "contactstream_sink_breaker_openings",
            "Times that a failure breaker opened, by the reason of the failures and what it stops.",
            ("reason", "stops"),
            registry=registry,
        )
        self.kafka_errors = Counter(
            "contactstream_sink_kafka_errors",
            "Errors of the sink's consumer that the Kafka client retries by itself, by code.",
            ("code",),
            registry=registry,
        )
        self.unfinished_rows = _gauge(
            registry, "sink_unfinished_rows", "Changes taken whose outcome is not on a topic yet."
        )
        self.held_bytes = _gauge(
            registry,
            "sink_held_bytes",
            "Memory of the changes taken and not finished, bounded by SINK_MAX_HELD_BYTES.",
        )
        self.seconds_between = _gauge(
            registry,
            "sink_live_batch_interval_seconds",
            "Seconds for which live changes gather, so that SINK_LIVE_CALL_SHARE lasts; 0 while "
            "they go at once.",
        )
        self.lag = _gauge(registry, "sink_lag_records", "Changes not yet committed.")
        self.api_used = _gauge(
            registry,
            "salesforce_api_used",
            "API calls of the org in the last 24 hours, as last reported by it.",
        )
        self.api_limit = _gauge(
            registry, "salesforce_api_limit", "API calls that the org may make in 24 hours."
        )
        self.last_processed = _gauge(
            registry,
            "sink_last_processed_timestamp_seconds",
            "Unix time when the last batch was finished.",
        )
        self.oldest_unfinished = _oldest_unfinished(registry, "sink", "changes taken")


class ConsoleMetrics:
    """Metrics of the console: who is in Salesforce, what waits for a person, and connections.

    Those of people and letters follow from topics that the console reads to their end first. Until
    then coverage is NaN, and no dead letter is open.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.coverage = _gauge(
            registry,
            "coverage_people",
            "Contacts by what became of them, without those that are skipped on purpose or were "
            "deleted; eligible is the sum of the others. NaN until contacts.outcomes was read.",
            "state",
        )
        for state in COVERAGE_STATES:
            self.coverage.labels(state).set(math.nan)
        self.coverage_of_grants = _gauge(
            registry,
            "coverage_grant_people",
            "The same for the grants with the most eligible contacts; grant is a hash of the "
            "grant's ID, other the sum of the other grants.",
            "grant",
            "state",
        )
        for state in GRANT_COVERAGE_STATES:
            self.coverage_of_grants.labels(OTHER_GRANTS, state).set(math.nan)
        self.open_letters = _gauge(
            registry, "dead_letters_open", "Open dead letters, by reason.", "reason"
        )
        self.oldest_letter = _gauge(
            registry,
            "dead_letters_oldest_timestamp_seconds",
            "Unix time of the last failure of the open dead letter that has waited longest. The "
            "time of the scrape when none is open.",
        )
        self.oldest_letter.set_function(time.time)
        self.connections = _gauge(
            registry, "console_connections", "Open connections to the console's port."
        )
        self.connections_closed = _counter(
            registry,
            "console_connections_closed",
            "Connections that the console closed: its request was slow, it made room for a newer "
            "one, or all others carried requests of people who are logged in.",
            reason=("slow", "evicted", "too_many"),
        )
