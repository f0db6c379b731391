"""Checks that the demo's numbers add up: nothing was lost, and nothing was invented."""

from collections.abc import Iterator
from dataclasses import dataclass

from streams.demo.evidence import Evidence, count

# Salesforce calls of any kind that the first sync of up to so many people may take.
MAX_FIRST_SYNC_CALLS = 12
MAX_FIRST_SYNC_PEOPLE = 2000


@dataclass(frozen=True, slots=True)
class Equality:
    """Two numbers that have to be equal, each with its description."""

    left: str
    left_count: int
    right: str
    right_count: int

    def problem(self) -> str:
        """The text of the problem when they differ."""
        return f"{self.left} ≠ {self.right}: {self.left_count} and {self.right_count}"


def problems(evidence: Evidence) -> list[str]:
    """A text for every check that fails; empty when all numbers add up."""
    equalities = [
        *_webhook_checks(evidence),
        *_dedupe_checks(evidence),
        *_sink_checks(evidence),
        *_org_checks(evidence),
    ]
    found = [one.problem() for one in equalities if one.left_count != one.right_count]
    # Nylas repeats a notification that got no 200 in time, although it may have been published.
    # Only then may there be more events.
    repeated = max(0, sum(evidence.answers.values()) - sum(evidence.sent.values()))
    found += [
        one.problem()
        for one in _checks_with_repetitions(evidence)
        if not one.right_count <= one.left_count <= one.right_count + repeated
    ]
    found += [
        f"the title of {key} in the org ≠ its newest: {title} and {newest}"
        for key, (newest, title) in evidence.titles.items()
        if title != newest
    ]
    if not evidence.titles:
        found.append("no title was read back from the org")
    calls = sum(evidence.calls_first_sync.values())
    if evidence.people <= MAX_FIRST_SYNC_PEOPLE and calls > MAX_FIRST_SYNC_CALLS:
        found.append(
            f"the first sync took {calls} Salesforce calls, more than {MAX_FIRST_SYNC_CALLS}"
        )
    return found


def _webhook_checks(e: Evidence) -> Iterator[Equality]:
    forged, accepted = e.sent.get("bad signature", 0), e.answers.get(200, 0)
    valid = sum(e.sent.values()) - forged
    yield Equality("valid notifications sent", valid, "answers of 200", accepted)
    yield Equality("bad signatures sent", forged, "answers of 401", e.answers.get(401, 0))
    published = count(e.bridge, "bridge_requests", "published")
    yield Equality("answers of 200", accepted, "notifications that the bridge published", published)
    read = count(e.reader, "reader_contacts", "backfill")
    yield Equality("people in the address books", e.people, "contacts read", read)


def _dedupe_checks(e: Evidence) -> Iterator[Equality]:
    taken, forwarded = count(e.dedupe, "dedupe_events"), count(e.dedupe, "dedupe_forwarded")
    events, changes = e.records["contacts.events"], e.records["contacts.changes"]
    yield Equality("contacts.events", events, "events taken by dedupe", taken)
    not_forwarded = (
        count(e.dedupe, "dedupe_dropped")
        + count(e.dedupe, "dedupe_dead_lettered")
        + count(e.dedupe, "dedupe_refetch", "bodyless")
        + count(e.dedupe, "dedupe_refetch", "no_time")
        + count(e.dedupe, "dedupe_refetch", "address_unknown")
    )
    yield Equality(
        "events taken",
        taken,
        "forwarded, dropped, unreadable and read again",
        forwarded + not_forwarded,
    )
    changed = e.people + e.sent.get("change", 0) + e.sent.get("new person", 0)
    updates = count(e.dedupe, "dedupe_forwarded", "updated")
    yield Equality("people read, changed and new", changed, "forwarded as updated", updates)
    deletions = count(e.dedupe, "dedupe_forwarded", "deleted")
    yield Equality("contacts deleted", e.sent.get("deleted", 0), "forwarded as deleted", deletions)
    unchanged = e.sent.get("no mapped field changed", 0) + e.sent.get("same content, new event", 0)
    duplicates = count(e.dedupe, "dedupe_dropped", "duplicate")
    yield Equality("notifications without a change", unchanged, "dropped as duplicate", duplicates)
    yield Equality("forwarded", forwarded, "contacts.changes", changes)


def _sink_checks(e: Evidence) -> Iterator[Equality]:
    changes, rows = count(e.sink, "sink_changes"), count(e.sink, "sink_rows")
    yield Equality(
        "contacts.changes", e.records["contacts.changes"], "changes taken by the sink", changes
    )
    coalesced = count(e.sink, "sink_coalesced")
    yield Equality("changes taken", changes, "outcomes and coalesced", rows + coalesced)
    outcomes = sum(sum(by_object.values()) for by_object in e.outcomes.values())
    not_failed = rows - count(e.sink, "sink_rows", "failed")
    yield Equality("outcomes that are no failure", not_failed, "contacts.outcomes", outcomes)
    unmatched = len(set(e.changed_keys) ^ set(e.outcome_keys))
    yield Equality("contacts with a change or an outcome, but not both", unmatched, "none", 0)
    released = count(e.sink, "sink_rows", "released")
    yield Equality("contacts deleted", e.sent.get("deleted", 0), "released", released)


def _org_checks(e: Evidence) -> Iterator[Equality]:
    for name in ("Account", "Contact", "Lead"):
        before, created = e.org_before.get(name, 0), e.outcomes.get("created", {}).get(name, 0)
        after = e.org_after.get(name, 0)
        yield Equality(
            f"{name}s before, and created", before + created, f"{name}s in the org", after
        )
    counted = (
        count(e.bridge, "bridge_requests", "dead_lettered")
        + count(e.dedupe, "dedupe_dead_lettered")
        + count(e.sink, "sink_dead_lettered")
    )
    dead_letters = e.records["contacts.dead-letter"]
    yield Equality(
        "dead letters counted by the stages", counted, "contacts.dead-letter", dead_letters
    )
    yield Equality("dead letters", dead_letters, "none, because every notification can be read", 0)
    calls = count(e.sink, "salesforce_calls")
    yield Equality(
        "calls counted by the sink", calls, "calls counted by the org", sum(e.calls_all.values())
    )
    yield Equality("refused by the org", e.refused, "nothing", 0)


def _checks_with_repetitions(e: Evidence) -> Iterator[Equality]:
    """Checks whose left number may be larger by the notifications that Nylas repeated."""
    read = sum(count(e.reader, f"reader_{name}") for name in ("contacts", "reoffered", "deleted"))
    published = count(e.bridge, "bridge_requests", "published") + read
    events = e.records["contacts.events"]
    yield Equality("contacts.events", events, "what bridge and reader published", published)
    stale = count(e.dedupe, "dedupe_dropped", "stale")
    older = e.sent.get("older after newer", 0)
    yield Equality("dropped as stale", stale, "older events sent", older)
    retries = count(e.dedupe, "dedupe_dropped", "retry")
    duplicates = e.sent.get("exact duplicate", 0)
    yield Equality("dropped as retry", retries, "exact duplicates sent", duplicates)
