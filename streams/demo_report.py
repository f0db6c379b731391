"""What the demo saw at each stage, whether the numbers add up, and the table that says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Group, RenderableType
from rich.table import Table

CALL_BAR = 12  # Salesforce calls of any kind for the first sync of 2,000 contacts

Samples = Mapping[tuple[str, str], float]
"""A counter's value by its name without `contactstream_` and `_total`, and its one label's value (or nothing)."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the report is made of, as it was counted by whoever could see it."""

    people: int
    sent: Mapping[str, int]
    """Notifications by what kind of story they told, as Nylas' stand-in sent them."""
    answers: Mapping[int, int]
    """What the bridge answered, counted by Nylas' stand-in."""
    records: Mapping[str, int]
    """Records on each topic, without its prefix."""
    bridge: Samples
    reader: Samples
    dedupe: Samples
    sink: Samples
    nylas_calls: int
    org_before: Mapping[str, int]
    org_after: Mapping[str, int]
    calls_first_sync: Mapping[str, int]
    calls_all: Mapping[str, int]
    refused: int
    """Requests or rows that the org's stand-in refused."""
    first_sync_seconds: float
    live_latency: Sequence[float] = field(default_factory=tuple)
    """Seconds from each accepted live notification to its acknowledged outcome."""


def parse_samples(text: str) -> dict[tuple[str, str], float]:
    """The samples of a `/metrics` page of ours; of a metric with several labels the values are joined by a slash."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.endswith(("_bucket", "_sum")):
                continue
            name = sample.name.removeprefix("contactstream_").removesuffix("_total")
            found[name, "/".join(sample.labels.values())] = sample.value
    return found


def of(samples: Samples, name: str, label: str | None = None) -> int:
    """A counter, over all of its labels when none is named."""
    if label is not None:
        return int(samples.get((name, label), 0))
    return int(sum(value for (found, _), value in samples.items() if found == name))


def labels(samples: Samples, name: str) -> dict[str, int]:
    """A counter by its label, without what did not happen."""
    return {label: int(value) for (found, label), value in samples.items() if found == name and value}


def problems(e: Evidence) -> list[str]:
    """Every sum that does not add up, in words. Empty: nothing was lost and nothing was invented."""
    handed_over = of(e.bridge, "bridge_requests", "published")
    read = sum(of(e.reader, f"reader_{what}") for what in ("contacts", "offered", "deleted"))
    taken, forwarded = of(e.dedupe, "dedupe_events"), of(e.dedupe, "dedupe_forwarded")
    dropped, unreadable = of(e.dedupe, "dedupe_dropped"), of(e.dedupe, "dedupe_dead_lettered")
    bodyless = of(e.dedupe, "dedupe_refetch", "bodyless") + of(e.dedupe, "dedupe_refetch", "no_time")
    rows, coalesced = of(e.sink, "sink_rows"), of(e.sink, "sink_coalesced")
    created = of(e.sink, "sink_rows", "created")
    sums = [
        ("answers of 200 the notifications that the bridge published", e.answers.get(200, 0), handed_over),
        ("answers of 401 the bad signatures sent", e.answers.get(401, 0), e.sent.get("bad signature", 0)),
        ("contacts read the people in the address books", of(e.reader, "reader_contacts", "backfill"), e.people),
        ("contacts.events what the bridge and the reader published", e.records["contacts.events"], handed_over + read),
        ("events taken by dedupe contacts.events", taken, e.records["contacts.events"]),
        (
            "forwarded + dropped + unreadable + without a body the events taken",
            forwarded + dropped + unreadable + bodyless,
            taken,
        ),
        ("contacts.changes what dedupe forwarded", e.records["contacts.changes"], forwarded),
        ("changes taken by the sink contacts.changes", of(e.sink, "sink_changes"), e.records["contacts.changes"]),
        ("fates + coalesced the changes taken", rows + coalesced, of(e.sink, "sink_changes")),
        ("records in the org those before + created", sum(e.org_after.values()), sum(e.org_before.values()) + created),
        ("contacts.dead-letter what the stages say", e.records["contacts.dead-letter"], dead_letters(e)),
        ("dead letters none, since nothing in the story is unreadable", e.records["contacts.dead-letter"], 0),
        (
            "calls counted by the org calls counted by the sink",
            sum(e.calls_all.values()),
            of(e.sink, "salesforce_calls"),
        ),
        (
            "stale drops the older events sent",
            of(e.dedupe, "dedupe_dropped", "stale"),
            e.sent.get("older after newer", 0),
        ),
        (
            "retries dropped the exact duplicates sent",
            of(e.dedupe, "dedupe_dropped", "retry"),
            e.sent.get("exact duplicate", 0),
        ),
        ("released the contacts deleted", of(e.sink, "sink_rows", "released"), e.sent.get("deleted", 0)),
        ("refused by the org nothing", e.refused, 0),
    ]
    found = [
        f"{text.replace(' the ', ' ≠ the ', 1)}: {left} and {right}" for text, left, right in sums if left != right
    ]
    if e.people <= 2000 and sum(e.calls_first_sync.values()) > CALL_BAR:
        found.append(f"the first sync took {sum(e.calls_first_sync.values())} Salesforce calls, more than {CALL_BAR}")
    return found


def dead_letters(e: Evidence) -> int:
    """Dead letters by the stages' own count."""
    return (
        of(e.bridge, "bridge_requests", "dead_lettered")
        + of(e.dedupe, "dedupe_dead_lettered")
        + of(e.sink, "sink_dead_lettered")
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that this share of them does not exceed; None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def report(e: Evidence) -> dict[str, Any]:
    """The figures, for programs."""
    found, created = of(e.sink, "sink_first_resolutions", "found"), of(e.sink, "sink_first_resolutions", "created")
    rows = of(e.sink, "sink_rows")
    # The recipe gets each notified contact and sends it by a PATCH of its own, whether or not anything changed.
    recipe = of(e.reader, "reader_contacts") + of(e.bridge, "bridge_requests", "published")
    return {
        "nylas": {"sent": dict(e.sent), "calls": e.nylas_calls},
        "bridge": {
            "answers": {str(status): count for status, count in sorted(e.answers.items())},
            "outcomes": labels(e.bridge, "bridge_requests"),
        },
        "reader": {"contacts": labels(e.reader, "reader_contacts"), "calls": labels(e.reader, "reader_calls")},
        "dedupe": {
            "taken": of(e.dedupe, "dedupe_events"),
            "forwarded": labels(e.dedupe, "dedupe_forwarded"),
            "dropped": labels(e.dedupe, "dedupe_dropped"),
            "refetch": labels(e.dedupe, "dedupe_refetch"),
            "dead_lettered": of(e.dedupe, "dedupe_dead_lettered"),
        },
        "sink": {
            "taken": of(e.sink, "sink_changes"),
            "coalesced": of(e.sink, "sink_coalesced"),
            "outcomes": labels(e.sink, "sink_rows"),
            "skipped": labels(e.sink, "sink_skipped"),
            "matched": labels(e.sink, "sink_matched"),
            "match_rate": round(found / (found + created), 4) if found + created else None,
            "error_rate": round(of(e.sink, "sink_rows", "failed") / rows, 4) if rows else None,
        },
        "salesforce": {
            "calls_first_sync": dict(e.calls_first_sync),
            "calls_first_sync_total": sum(e.calls_first_sync.values()),
            "calls": dict(e.calls_all),
            "calls_total": sum(e.calls_all.values()),
            "calls_of_the_one_patch_per_contact_recipe": recipe,
            "records_before": dict(e.org_before),
            "records_after": dict(e.org_after),
        },
        "first_sync_seconds": round(e.first_sync_seconds, 1),
        "webhook_to_salesforce_seconds": {
            "p50": _rounded(percentile(e.live_latency, 0.5)),
            "p99": _rounded(percentile(e.live_latency, 0.99)),
        },
        "topics": dict(e.records),
        "problems": problems(e),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def table(figures: Mapping[str, Any]) -> RenderableType:
    """The figures, for people."""
    rows = Table(title="What happened", show_header=True, title_justify="left", pad_edge=False)
    for heading, justify in (("stage", "left"), ("what", "left"), ("contacts", "right")):
        rows.add_column(heading, justify=justify)  # type: ignore[arg-type]

    def add(stage: str, counts: Mapping[str, Any], prefix: str = "") -> None:
        for position, (what, count) in enumerate(counts.items()):
            rows.add_row(stage if position == 0 else "", prefix + what.replace("_", " "), f"{count:,}")

    dedupe, sink, org = figures["dedupe"], figures["sink"], figures["salesforce"]
    add("Nylas, live", figures["nylas"]["sent"])
    rows.add_section()
    add("bridge", figures["bridge"]["outcomes"])
    rows.add_section()
    add("reader", figures["reader"]["contacts"], "read for ")
    rows.add_section()
    add("dedupe", {"events taken": dedupe["taken"]})
    add("", dedupe["forwarded"], "forwarded: ")
    add("", dedupe["dropped"], "dropped: ")
    add("", dedupe["refetch"], "to read again: ")
    rows.add_section()
    add("sink", {"changes taken": sink["taken"], "coalesced": sink["coalesced"]})
    add("", sink["outcomes"])
    add("", sink["skipped"], "skipped: ")
    add("", sink["matched"], "matched by ")
    add("", {"failed": sink["outcomes"].get("failed", 0)})

    costs = Table(title="What it cost", show_header=True, title_justify="left", pad_edge=False)
    costs.add_column("Salesforce calls")
    costs.add_column("first sync", justify="right")
    costs.add_column("with the live part", justify="right")
    for kind, count in org["calls"].items():
        costs.add_row(kind.replace("_", " "), str(org["calls_first_sync"].get(kind, 0)), str(count))
    costs.add_section()
    costs.add_row("all", str(org["calls_first_sync_total"]), str(org["calls_total"]))
    costs.add_row("one PATCH per contact would take", "", f"{org['calls_of_the_one_patch_per_contact_recipe']:,}")

    latency = figures["webhook_to_salesforce_seconds"]
    lines = [
        f"match rate {_share(sink['match_rate'])}, error rate {_share(sink['error_rate'])}",
        f"webhook to Salesforce: p50 {latency['p50']} s, p99 {latency['p99']} s; first sync {figures['first_sync_seconds']} s",
    ]
    verdict = [f"DOES NOT ADD UP: {problem}" for problem in figures["problems"]] or ["every number adds up"]
    return Group(rows, "", costs, "", *lines, *verdict)


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"
