"""Evidence of a small demo in which every number adds up, for tests that change one of them."""

from streams.demo.evidence import Evidence

KEYS = frozenset(f"g/{number}" for number in range(12))
GOOD = Evidence(
    broker="kafka",
    people=10,
    sent={
        "change": 2,
        "exact duplicate": 1,
        "same content, new event": 1,
        "no mapped field changed": 2,
        "older after newer": 1,
        "bad signature": 1,
        "new person": 2,
        "deleted": 1,
    },
    answers={200: 10, 401: 1},
    records={
        "contacts.events": 20,
        "contacts.changes": 15,
        "contacts.outcomes": 14,
        "contacts.dead-letter": 0,
    },
    changed_keys=KEYS,
    outcomes={
        "created": {"Contact": 4, "Lead": 5},
        "updated": {"Contact": 1, "Lead": 3},
        "released": {"Lead": 1},
    },
    outcome_keys=KEYS,
    titles={"g/1": ("Director 1", "Director 1"), "g/2": ("Director 2", "Director 2")},
    bridge={("bridge_requests", "published"): 10, ("bridge_requests", "bad_signature"): 1},
    reader={("reader_contacts", "backfill"): 10},
    dedupe={
        ("dedupe_events", ""): 20,
        ("dedupe_forwarded", "updated"): 14,
        ("dedupe_forwarded", "deleted"): 1,
        ("dedupe_dropped", "stale"): 1,
        ("dedupe_dropped", "duplicate"): 3,
        ("dedupe_dropped", "retry"): 1,
    },
    sink={
        ("sink_changes", ""): 15,
        ("sink_coalesced", ""): 1,
        ("sink_rows", "created"): 9,
        ("sink_rows", "updated"): 4,
        ("sink_rows", "released"): 1,
        ("sink_first_resolutions", "created"): 9,
        ("sink_first_resolutions", "found"): 1,
        ("salesforce_calls", "token"): 1,
        ("salesforce_calls", "composite_write"): 3,
    },
    nylas_calls=4,
    org_before={"Account": 2, "Contact": 1, "Lead": 0},
    org_after={"Account": 2, "Contact": 5, "Lead": 5},
    calls_first_sync={"token": 1, "composite_write": 2},
    calls_all={"token": 1, "composite_write": 3},
    refused=0,
    first_sync_seconds=3.0,
    live_latency=(0.5, 1.0, 2.0),
)
