"""What the demo saw at each stage, whether the numbers add up, and the table that says so."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

CALL_BAR, CALL_BAR_PEOPLE = (
    12,
    2000,
)  # Salesforce calls of any kind for the first sync of so many contacts

Samples = Mapping[tuple[str, str], float]
"""A counter's value by its name without `contactstream_` and `_total`, and its one label's value
(or nothing).
"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the report is made of, as it was counted by whoever could see it."""

    broker: str
    """The kind of the broker: given, docker, kafka or tansu."""
    people: int
    sent: Mapping[str, int]
    """Notifications by what kind of story they told, as Nylas' stand-in sent them."""
    answers: Mapping[int, int]
    """What the bridge answered, counted by Nylas' stand-in."""
    records: Mapping[str, int]
    """Records on each topic, without its prefix."""
    changed: Collection[str]
    """The contact keys of contacts.changes."""
    outcomes: Mapping[str, Mapping[str, int]]
    """Records of contacts.outcomes by outcome and Salesforce object (nothing, where there is none).
    """
    answered: Collection[str]
    """The contact keys of contacts.outcomes."""
    titles: Mapping[str, tuple[str, str | None]]
    """Of some contacts the title that the org has to hold in the end, and the one that it holds."""
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
    """The samples of a `/metrics` page of ours; of a metric with several labels the values are
    joined by a slash.
    """
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
    return {
        label: int(value) for (found, label), value in samples.items() if found == name and value
    }


def problems(e: Evidence) -> list[str]:
    """Every sum that does not add up, in words. Empty: nothing was lost and nothing was invented."""
    # Nylas repeats what got no 200 in time, which may be published all the same: then, and only
    # then, there may be more events.
    repeated = max(0, sum(e.answers.values()) - sum(e.sent.values()))
    found = [
        f"{left} ≠ {right}: {one} and {other}"
        for left, one, right, other in _sums(e)
        if one != other
    ]
    found += [
        f"{left} ≠ {right}: {one} and {other}"
        for left, one, right, other in _at_least(e)
        if not other <= one <= other + repeated
    ]
    found += [
        f"the title of {key} in the org ≠ its newest: {held} and {newest}"
        for key, (newest, held) in e.titles.items()
        if held != newest
    ]
    if not e.titles:
        found.append("nobody's title was read back from the org")
    if e.people <= CALL_BAR_PEOPLE and sum(e.calls_first_sync.values()) > CALL_BAR:
        found.append(
            f"the first sync took {sum(e.calls_first_sync.values())} Salesforce calls, more than {CALL_BAR}"
        )
    return found


Sum = tuple[str, int, str, int]
"""Two numbers that have to be the same, each after what it is."""


def _sums(e: Evidence) -> Iterator[Sum]:
    bad = e.sent.get("bad signature", 0)
    yield (
        "good notifications sent",
        sum(e.sent.values()) - bad,
        "answers of 200",
        e.answers.get(200, 0),
    )
    yield "bad signatures sent", bad, "answers of 401", e.answers.get(401, 0)
    published = of(e.bridge, "bridge_requests", "published")
    yield (
        "answers of 200",
        e.answers.get(200, 0),
        "notifications that the bridge published",
        published,
    )
    yield (
        "people in the address books",
        e.people,
        "contacts read",
        of(e.reader, "reader_contacts", "backfill"),
    )

    taken, forwarded = of(e.dedupe, "dedupe_events"), of(e.dedupe, "dedupe_forwarded")
    yield "contacts.events", e.records["contacts.events"], "events taken by dedupe", taken
    other = of(e.dedupe, "dedupe_dropped") + of(e.dedupe, "dedupe_dead_lettered")
    other += of(e.dedupe, "dedupe_refetch", "bodyless") + of(e.dedupe, "dedupe_refetch", "no_time")
    yield (
        "events taken",
        taken,
        "forwarded, dropped, unreadable and without a body",
        forwarded + other,
    )
    news = e.people + e.sent.get("change", 0) + e.sent.get("new person", 0)
    yield (
        "people read, changed and new",
        news,
        "forwarded as updated",
        of(e.dedupe, "dedupe_forwarded", "updated"),
    )
    deleted = e.sent.get("deleted", 0)
    yield (
        "contacts deleted",
        deleted,
        "forwarded as deleted",
        of(e.dedupe, "dedupe_forwarded", "deleted"),
    )
    no_news = e.sent.get("nothing that we map", 0) + e.sent.get("same content, new event", 0)
    yield (
        "changes of nothing sent",
        no_news,
        "dropped as duplicate",
        of(e.dedupe, "dedupe_dropped", "duplicate"),
    )
    yield "forwarded", forwarded, "contacts.changes", e.records["contacts.changes"]

    changes, fates = of(e.sink, "sink_changes"), of(e.sink, "sink_rows")
    yield "contacts.changes", e.records["contacts.changes"], "changes taken by the sink", changes
    yield "changes taken", changes, "fates and coalesced", fates + of(e.sink, "sink_coalesced")
    outcomes = sum(sum(by_object.values()) for by_object in e.outcomes.values())
    yield (
        "fates that are no failure",
        fates - of(e.sink, "sink_rows", "failed"),
        "contacts.outcomes",
        outcomes,
    )
    unknown = len(set(e.changed) ^ set(e.answered))
    yield "contacts with a change or an outcome, but not both", unknown, "none", 0
    yield "contacts deleted", deleted, "released", of(e.sink, "sink_rows", "released")
    for name in ("Account", "Contact", "Lead"):
        before, created = e.org_before.get(name, 0), e.outcomes.get("created", {}).get(name, 0)
        yield (
            f"{name}s before, and created",
            before + created,
            f"{name}s in the org",
            e.org_after.get(name, 0),
        )
    dead = of(e.bridge, "bridge_requests", "dead_lettered")
    dead += of(e.dedupe, "dedupe_dead_lettered") + of(e.sink, "sink_dead_lettered")
    yield (
        "dead letters by the stages' own count",
        dead,
        "contacts.dead-letter",
        e.records["contacts.dead-letter"],
    )
    yield (
        "dead letters",
        e.records["contacts.dead-letter"],
        "none, since nothing in the story is unreadable",
        0,
    )
    calls = of(e.sink, "salesforce_calls")
    yield "calls counted by the sink", calls, "calls counted by the org", sum(e.calls_all.values())
    yield "refused by the org", e.refused, "nothing", 0


def _at_least(e: Evidence) -> Iterator[Sum]:
    """Where the first may be larger by what Nylas sent again."""
    read = sum(of(e.reader, f"reader_{what}") for what in ("contacts", "offered", "deleted"))
    handed_over = of(e.bridge, "bridge_requests", "published") + read
    yield (
        "contacts.events",
        e.records["contacts.events"],
        "what bridge and reader published",
        handed_over,
    )
    older, twice = e.sent.get("older after newer", 0), e.sent.get("exact duplicate", 0)
    yield "dropped as stale", of(e.dedupe, "dedupe_dropped", "stale"), "older events sent", older
    yield (
        "dropped as retry",
        of(e.dedupe, "dedupe_dropped", "retry"),
        "exact duplicates sent",
        twice,
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that this share of them does not exceed; None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def report(e: Evidence) -> dict[str, Any]:
    """The figures, for programs."""
    found, created = (
        of(e.sink, "sink_first_resolutions", "found"),
        of(e.sink, "sink_first_resolutions", "created"),
    )
    rows = of(e.sink, "sink_rows")
    # The recipe gets each notified contact and sends it by a PATCH of its own, whether or not
    # anything changed.
    recipe = of(e.reader, "reader_contacts") + of(e.bridge, "bridge_requests", "published")
    return {
        "broker": e.broker,
        "nylas": {"sent": dict(e.sent), "calls": e.nylas_calls},
        "bridge": {
            "answers": {str(status): count for status, count in sorted(e.answers.items())},
            "outcomes": labels(e.bridge, "bridge_requests"),
        },
        "reader": {
            "contacts": labels(e.reader, "reader_contacts"),
            "calls": labels(e.reader, "reader_calls"),
        },
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
            "outcomes_by_object": {
                outcome: dict(by_object) for outcome, by_object in e.outcomes.items()
            },
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
    """The figures, for people."""
    rows = Table(title="What happened", show_header=True, title_justify="left", pad_edge=False)
    for heading, justify in (("stage", "left"), ("what", "left"), ("contacts", "right")):
        rows.add_column(heading, justify=justify)  # type: ignore[arg-type]

    def add(stage: str, counts: Mapping[str, Any], prefix: str = "") -> None:
        for position, (what, count) in enumerate(counts.items()):
            rows.add_row(
                stage if position == 0 else "", prefix + what.replace("_", " "), f"{count:,}"
            )

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
    for outcome, count in sink["outcomes"].items():
        if outcome == "failed":
            continue
        by_object = sink["outcomes_by_object"].get(outcome, {})
        split = {f"{outcome}: {name}s": by_object[name] for name in sorted(by_object)}
        add("", split if outcome in ("created", "updated") else {outcome: count})
    add("", sink["skipped"], "skipped: ")
    add("", sink["matched"], "matched by ")
    add("", {"failed": sink["outcomes"].get("failed", 0)})
    add("", {"read back from Salesforce": org["titles_compared"]})

    costs = Table(title="What it cost", show_header=True, title_justify="left", pad_edge=False)
    costs.add_column("Salesforce calls")
    costs.add_column("first sync", justify="right")
    costs.add_column("with the live part", justify="right")
    for kind, count in org["calls"].items():
        costs.add_row(kind.replace("_", " "), str(org["calls_first_sync"].get(kind, 0)), str(count))
    costs.add_section()
    costs.add_row("all", str(org["calls_first_sync_total"]), str(org["calls_total"]))
    costs.add_row(
        "one PATCH per contact would take",
        "",
        f"{org['calls_of_the_one_patch_per_contact_recipe']:,}",
    )

    latency = figures["webhook_to_salesforce_seconds"]
    lines = [
        f"match rate {_share(sink['match_rate'])}, error rate {_share(sink['error_rate'])}",
        f"webhook to Salesforce: p50 {latency['p50']} s, p99 {latency['p99']} s; first sync {figures['first_sync_seconds']} s",
    ]
    if figures["broker"] == "tansu":
        lines.append("the broker was a stand-in for Kafka: good for a look, proves nothing")
    verdict = [f"DOES NOT ADD UP: {problem}" for problem in figures["problems"]] or [
        "every number adds up"
    ]
    return Group(rows, "", costs, "", *map(Text, lines + verdict))


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"
