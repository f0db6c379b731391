"""The demo's report: its figures as plain data, and the table that shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streams.demo.checks import problems
from streams.demo.evidence import Evidence, count, counts_by_label


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that this share of the values does not exceed; None when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def report(evidence: Evidence) -> dict[str, Any]:
    """The figures, as `contactstream demo --json` prints them."""
    e = evidence
    found = count(e.sink, "sink_first_resolutions", "found")
    created = count(e.sink, "sink_first_resolutions", "created")
    rows = count(e.sink, "sink_rows")
    # The simplest sync sends each contact of a page or a notification by a PATCH of its own,
    # whether or not anything changed.
    one_patch_each = count(e.reader, "reader_contacts")
    one_patch_each += count(e.bridge, "bridge_requests", "published")
    return {
        "broker": e.broker,
        "nylas": {"sent": dict(e.sent), "calls": e.nylas_calls},
        "bridge": {
            "answers": {str(status): number for status, number in sorted(e.answers.items())},
            "outcomes": counts_by_label(e.bridge, "bridge_requests"),
        },
        "reader": {
            "contacts": counts_by_label(e.reader, "reader_contacts"),
            "calls": counts_by_label(e.reader, "reader_calls"),
        },
        "dedupe": {
            "taken": count(e.dedupe, "dedupe_events"),
            "forwarded": counts_by_label(e.dedupe, "dedupe_forwarded"),
            "dropped": counts_by_label(e.dedupe, "dedupe_dropped"),
            "refetch": counts_by_label(e.dedupe, "dedupe_refetch"),
            "dead_lettered": count(e.dedupe, "dedupe_dead_lettered"),
        },
        "sink": {
            "taken": count(e.sink, "sink_changes"),
            "coalesced": count(e.sink, "sink_coalesced"),
            "outcomes": counts_by_label(e.sink, "sink_rows"),
            "outcomes_by_object": {
                outcome: dict(by_object) for outcome, by_object in e.outcomes.items()
            },
            "skipped": counts_by_label(e.sink, "sink_skipped"),
            "matched": counts_by_label(e.sink, "sink_matched"),
            "match_rate": round(found / (found + created), 4) if found + created else None,
            "error_rate": round(count(e.sink, "sink_rows", "failed") / rows, 4) if rows else None,
        },
        "salesforce": {
            "calls_first_sync": dict(e.calls_first_sync),
            "calls_first_sync_total": sum(e.calls_first_sync.values()),
            "calls": dict(e.calls_all),
            "calls_total": sum(e.calls_all.values()),
            "calls_of_the_one_patch_per_contact_recipe": one_patch_each,
            "records_before": dict(e.org_before),
            "records_after": dict(e.org_after),
            "titles_compared": len(e.titles),
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
    """The figures of `report` for a terminal of 80 columns or more."""
    sink, latency = figures["sink"], figures["webhook_to_salesforce_seconds"]
    lines = [
        f"match rate {_percent(sink['match_rate'])}, error rate {_percent(sink['error_rate'])}",
        f"webhook to Salesforce: p50 {latency['p50']} s, p99 {latency['p99']} s; "
        f"first sync {figures['first_sync_seconds']} s",
    ]
    if figures["broker"] == "tansu":
        lines.append("the broker was not Apache Kafka: fine for a first look, proves nothing")
    lines += [f"DOES NOT ADD UP: {problem}" for problem in figures["problems"]]
    if not figures["problems"]:
        lines.append("every number adds up")
    return Group(_stages_table(figures), "", _calls_table(figures), "", *map(Text, lines))


def _stages_table(figures: Mapping[str, Any]) -> Table:
    stages = Table(title="What happened", show_header=True, title_justify="left")
    stages.add_column("stage")
    stages.add_column("what")
    stages.add_column("contacts", justify="right")

    def add(stage: str, counts: Mapping[str, int], prefix: str = "") -> None:
        for position, (what, number) in enumerate(counts.items()):
            stages.add_row(
                stage if position == 0 else "", prefix + what.replace("_", " "), f"{number:,}"
            )

    dedupe, sink = figures["dedupe"], figures["sink"]
    add("live webhooks", figures["nylas"]["sent"])
    stages.add_section()
    add("bridge", figures["bridge"]["outcomes"])
    stages.add_section()
    add("reader", figures["reader"]["contacts"], "read for ")
    stages.add_section()
    add("dedupe", {"events taken": dedupe["taken"]})
    add("", dedupe["forwarded"], "forwarded: ")
    add("", dedupe["dropped"], "dropped: ")
    add("", dedupe["refetch"], "to read again: ")
    stages.add_section()
    add("sink", {"changes taken": sink["taken"], "replaced by newer": sink["coalesced"]})
    for outcome, number in sink["outcomes"].items():
        if outcome in ("created", "updated"):
            by_object = sink["outcomes_by_object"].get(outcome, {})
            add("", {f"{outcome}: {name}s": by_object[name] for name in sorted(by_object)})
        elif outcome != "failed":
            add("", {outcome: number})
    add("", sink["skipped"], "skipped: ")
    add("", sink["matched"], "matched by ")
    add("", {"failed": sink["outcomes"].get("failed", 0)})
    add("", {"titles read back": figures["salesforce"]["titles_compared"]})
    return stages


def _calls_table(figures: Mapping[str, Any]) -> Table:
    org = figures["salesforce"]
    calls = Table(title="What it cost", show_header=True, title_justify="left")
    calls.add_column("Salesforce calls")
    calls.add_column("first sync", justify="right")
    calls.add_column("with live webhooks", justify="right")
    for kind, number in org["calls"].items():
        first_sync = org["calls_first_sync"].get(kind, 0)
        calls.add_row(kind.replace("_", " "), str(first_sync), str(number))
    calls.add_section()
    calls.add_row("all", str(org["calls_first_sync_total"]), str(org["calls_total"]))
    one_patch_each = org["calls_of_the_one_patch_per_contact_recipe"]
    calls.add_row("one PATCH per contact would take", "", f"{one_patch_each:,}")
    return calls


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"
