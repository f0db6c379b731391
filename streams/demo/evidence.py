"""What the demo counted at each stage, and how the counters of a stage are read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Samples = Mapping[tuple[str, str], float]
"""Values of counters. The key is the name without `contactstream_` and `_total`, and the label's
value, which is empty for a counter without a label.
"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Every number that the report is made of, each counted by the system that it names."""

    broker: str
    """The kind of the broker: given, docker, kafka or tansu."""
    people: int
    sent: Mapping[str, int]
    """Notifications by their kind in the scenario, as the Nylas simulator sent them."""
    answers: Mapping[int, int]
    """Answers of the bridge by HTTP status, counted by the Nylas simulator."""
    records: Mapping[str, int]
    """Records of each topic, by its name without the prefix."""
    changed_keys: Collection[str]
    """The contact keys of contacts.changes."""
    outcomes: Mapping[str, Mapping[str, int]]
    """Records of contacts.outcomes, by outcome and Salesforce object.

    The object is empty for an outcome that has none.
    """
    outcome_keys: Collection[str]
    """The contact keys of contacts.outcomes."""
    titles: Mapping[str, tuple[str, str | None]]
    """The expected title of some contacts in the org, and the one found there, by contact key."""
    bridge: Samples
    reader: Samples
    dedupe: Samples
    sink: Samples
    nylas_calls: int
    org_before: Mapping[str, int]
    """Records of the org before the first sync, by object."""
    org_after: Mapping[str, int]
    calls_first_sync: Mapping[str, int]
    """Salesforce calls by kind."""
    calls_all: Mapping[str, int]
    refused: int
    """Requests and rows that the Salesforce simulator refused."""
    first_sync_seconds: float
    live_latency: Sequence[float] = field(default_factory=tuple)
    """Seconds from each accepted live notification to its acknowledged outcome."""


SUMMED_OVER = ("origin", "how")


def parse_samples(text: str) -> dict[tuple[str, str], float]:
    """The counters of a `/metrics` page; the values of several labels are joined by a slash.

    The labels `origin` and `how` beside others are summed over: they say which contacts a replay
    brought, and how a contact was found.
    """
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.endswith(("_bucket", "_sum")):
                continue
            name = sample.name.removeprefix("contactstream_").removesuffix("_total")
            labels = dict(sample.labels)
            if len(labels) > 1:
                labels = {name: each for name, each in labels.items() if name not in SUMMED_OVER}
            key = name, "/".join(labels.values())
            found[key] = found.get(key, 0.0) + sample.value
    return found


def count(samples: Samples, name: str, label: str | None = None) -> int:
    """The value of a counter; the sum over its labels when none is given."""
    if label is not None:
        return int(samples.get((name, label), 0))
    return int(sum(value for (found, _), value in samples.items() if found == name))


def counts_by_label(samples: Samples, name: str) -> dict[str, int]:
    """The values of a counter by label, without those that are zero."""
    return {
        label: int(value) for (found, label), value in samples.items() if found == name and value
    }
