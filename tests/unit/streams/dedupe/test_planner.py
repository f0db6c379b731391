"""A batch of events becomes changes, refetches, dead letters and entries of the table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.exclusions import Exclusions
from connectors.salesforce.kept_fields import exclusion_by
from connectors.salesforce.mapping_rules import FieldMapping, Rule
from connectors.salesforce.policy import Policy
from connectors.salesforce.suppression import Suppression
from streams.dedupe.planner import MAX_CHANGE_BYTES, DedupePlan, DedupePlanner
from streams.dedupe.versions import SETTLED, decode
from streams.events import (
    CLOCK_DIFFERENCE_SECONDS,
    PAGE_MARGIN_SECONDS,
    Kind,
    happened_at,
    parse_change,
)
from streams.kafka.clients import MAX_MESSAGE_BYTES
from streams.kafka.records import header
from streams.mailboxes import Choice, Why
from streams.metrics import DEDUPE_UNREADABLE
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.letters import unwrapped

NOW = 1_800_000_000
NAMES = topics(load(KafkaSettings, {}))
CONTACT = {
    "grant_id": "g",
    "id": "c",
    "object": "contact",
    "given_name": "Ada",
    "emails": [{"email": "ada@example.com"}],
}


@dataclass
class Consumed:
    """A record as the stage's consumer returns it."""

    value: bytes | None
    key: bytes | None = b"g/c"
    headers: Sequence[tuple[str, bytes | None]] = (
        ("origin", b"webhook"),
        ("received_ms", b"1700000000123"),
    )
    topic: str = NAMES.events.name
    partition: int = 2
    offset: int = 7
    timestamp: int = 1_700_000_000_000


def envelope(version: int | None = 100, type_: str = "contact.updated", **contact: Any) -> bytes:
    made: dict[str, Any] = {
        "specversion": "1.0",
        "type": type_,
        "source": "/x",
        "id": f"{version}-{contact}",
    }
    if version is not None:
        made["time"] = version
    return orjson.dumps(made | {"data": {"application_id": "a", "object": CONTACT | contact}})


@dataclass
class Stage:
    """A planner, and the table that its plans fill."""

    mapping: FieldMapping = field(default_factory=FieldMapping)
    policy: Policy = field(default_factory=Policy)
    entries: dict[bytes, bytes] = field(default_factory=dict)

    def take(self, *records: Consumed) -> DedupePlan:
        planner = DedupePlanner(self.mapping, NAMES, exclusion_by(self.policy))
        plan = planner.plan(records, self.entries, NOW)
        self.entries |= plan.entries
        return plan


@pytest.mark.parametrize(
    ("origin", "asked", "restored"),
    [
        (b"replay", b"Title,Phone", {"Title", "Phone"}),
        (b"redrive", b"Title", {"Title"}),
        (b"replay", b"Title,OwnerId,,Nonsense__c", {"Title"}),
        (b"replay", b"Title," + b"x" * 5000, set()),
        (b"replay", b"\xff", set()),
        (b"replay", b"", set()),
        (b"webhook", b"Title", set()),
    ],
)
def test_a_restore_passes_from_a_replay_alone_and_names_mapped_fields_alone(
    origin: bytes, asked: bytes, restored: set[str]
) -> None:
    headers = [("origin", origin), ("received_ms", b"1700000000123"), ("restore", asked)]
    plan = Stage().take(Consumed(envelope(), headers=headers))
    ((_, value, key, written),) = plan.outputs
    change = parse_change(key, value, written)
    assert change is not None
    assert change.restore == restored
    assert (header(written, "restore") is None) is (not restored)


def test_a_change_carries_the_contact_and_its_headers() -> None:
    plan = Stage().take(Consumed(envelope(100)))
    ((topic, value, key, headers),) = plan.outputs
    change = parse_change(key, value, headers)
    assert topic == NAMES.changes.name
    assert change is not None
    assert change.kind is Kind.UPDATED
    assert (change.key, change.version, change.contact) == ("g/c", 100, CONTACT)
    assert (change.origin, change.received_ms, change.mapping) == (
        "webhook",
        1_700_000_000_123,
        FieldMapping().hash,
    )
    assert len(bytes.fromhex(change.fingerprint)) == 16
    assert plan.forwarded == {"updated": 1}


def kept(plan: DedupePlan) -> dict[str, Any]:
    """The contact of the only change of a plan."""
    ((_, value, _, _),) = plan.outputs
    found: dict[str, Any] = orjson.loads(value or b"")
    return found


def test_a_change_carries_no_field_that_nobody_reads() -> None:
    private: dict[str, Any] = {
        "notes": "met at the clinic",
        "birthday": "1815-12-10",
        "physical_addresses": [{"type": "home", "city": "London"}],
        "im_addresses": [{"im_address": "ada"}],
        "web_pages": [{"link": "https://ada.example"}],
    }
    read: dict[str, Any] = {
        "surname": "Lovelace",
        "nickname": "A",
        "suffix": "II",
        "source": "address_book",
    }
    assert kept(Stage().take(Consumed(envelope(100, **private, **read)))) == CONTACT | read


def test_a_mapping_that_reads_more_is_served_by_the_next_reading_of_the_contact() -> None:
    """What contacts.changes lacks comes with the next page, although nothing else changed."""
    stage = Stage()
    stage.take(Consumed(envelope(100, notes="vip")))
    stage.mapping = FieldMapping(lead=(*FieldMapping().lead, Rule("Description", ("notes",))))
    again = [("origin", b"replay"), ("received_ms", b"1700000000123")]
    replayed = stage.take(Consumed(envelope(100), headers=again))
    assert "notes" not in kept(replayed), "a replay of the kept part does not have it"
    assert kept(stage.take(Consumed(envelope(200, notes="vip"))))["notes"] == "vip"
    assert stage.take(Consumed(envelope(300, notes="vip"))).dropped == {"duplicate": 1}


POLICY = Policy(
    exclusions=Exclusions(own_domains=frozenset({"own.example"})),
    suppression=Suppression().adding(["gone@example.com", "g/by-key"]),
)


@pytest.mark.parametrize(
    ("address", "source", "reason"),
    [
        ("boss@own.example", "address_book", "own_domain"),
        ("billing@example.com", "address_book", "role_address"),
        ("x@resource.calendar.google.com", "address_book", "excluded"),
        ("ada@example.com", "inbox", "source"),
    ],
)
def test_of_excluded_people_only_the_key_and_the_reason_are_kept(
    address: str, source: str, reason: str
) -> None:
    stage = Stage(policy=POLICY)
    fields: dict[str, Any] = {"emails": [{"email": address}], "surname": "Secret", "source": source}
    plan = stage.take(Consumed(envelope(100, **fields)))
    assert kept(plan) == {"grant_id": "g", "id": "c", "object": "contact", "excluded": reason}
    ((_, value, _, headers),) = plan.outputs
    assert b"Secret" not in (value or b"")
    assert "Secret" not in str(headers)
    changed: dict[str, Any] = fields | {"surname": "Other"}
    assert stage.take(Consumed(envelope(200, **changed))).dropped == {"duplicate": 1}


ERASURE = (("origin", b"erasure"), ("received_ms", b"1700000000123"))


def test_of_a_suppressed_person_nothing_is_kept() -> None:
    stage = Stage(policy=POLICY)
    plan = stage.take(Consumed(envelope(100, emails=[{"email": "gone@example.com"}])))
    assert (plan.outputs, plan.entries, plan.dropped) == ([], {}, {"suppressed": 1})
    assert stage.take(Consumed(envelope(200, "contact.deleted"))).forwarded == {"deleted": 1}


@pytest.mark.parametrize(
    "event",
    [
        Consumed(envelope(100, "contact.deleted"), headers=ERASURE),
        Consumed(envelope(300, emails=[{"email": "gone@example.com"}])),
    ],
    ids=["asked for", "an event after the person was listed"],
)
def test_an_erasure_ends_the_entry_and_leaves_a_tombstone_behind_the_last_change(
    event: Consumed,
) -> None:
    stage = Stage(policy=POLICY)
    stage.take(Consumed(envelope(200)))
    plan = stage.take(event)
    (topic, value, key, headers), tombstone = plan.outputs
    change = parse_change(key, value, headers)
    assert change is not None
    assert (topic, change.kind, change.origin) == (NAMES.changes.name, Kind.DELETED, "erasure")
    assert change.version >= NOW, "no record of the org is newer"
    assert change.contact == {"grant_id": "g", "id": "c", "object": "contact"}
    assert tombstone == (NAMES.changes.name, None, b"g/c", [])
    assert (plan.entries, plan.changelog) == ({}, {b"g/c": None})


def test_a_redriven_erasure_that_failed_in_the_org_is_an_erasure_again() -> None:
    headers = (("origin", b"redrive"), ("received_ms", b"1700000000123"))
    listed = Policy(suppression=Suppression().adding(["g/c"]))
    plan = Stage(policy=listed).take(Consumed(envelope(100, "contact.deleted"), headers=headers))
    assert plan.changelog == {b"g/c": None}


def test_an_excluded_person_who_is_let_in_later_is_news() -> None:
    stage = Stage(policy=POLICY)
    fields: dict[str, Any] = {"emails": [{"email": "boss@own.example"}]}
    excluded = kept(stage.take(Consumed(envelope(100, **fields))))
    stage.policy = Policy()
    again = [("origin", b"replay"), ("received_ms", b"1700000000123")]
    body = orjson.loads(envelope(100)) | {"data": {"object": excluded}}
    replayed = stage.take(Consumed(orjson.dumps(body), headers=again))
    assert kept(replayed) == excluded, "a replay has no more than the reason"
    assert kept(stage.take(Consumed(envelope(200, **fields)))) == CONTACT | fields


def test_a_synced_person_who_is_left_out_since_is_marked_until_the_record_is_settled() -> None:
    stage = Stage(policy=POLICY)
    own: dict[str, Any] = {"emails": [{"email": "boss@own.example"}]}
    role: dict[str, Any] = {"emails": [{"email": "billing@example.com"}]}
    stage.take(Consumed(envelope(100)))
    left_out = kept(stage.take(Consumed(envelope(200, **own))))
    assert left_out["was_synced"] is True
    assert stage.take(Consumed(envelope(300, **own, notes="x"))).dropped == {"duplicate": 1}
    assert kept(stage.take(Consumed(envelope(400, **role))))["was_synced"] is True
    assert stage.take(Consumed(envelope(500, "contact.deleted"))).forwarded == {"deleted": 1}
    assert "was_synced" not in kept(stage.take(Consumed(envelope(600, **role)))), "it is settled"


def test_a_replay_into_an_empty_table_keeps_that_a_person_was_synced() -> None:
    unsettled = {"grant_id": "g", "id": "c", "excluded": "own_domain", "was_synced": True}
    body = orjson.loads(envelope(100)) | {"data": {"object": unsettled}}
    again = [("origin", b"replay"), ("received_ms", b"1700000000123")]
    assert kept(Stage().take(Consumed(orjson.dumps(body), headers=again))) == unsettled


def test_a_deleted_contact_is_released_although_it_is_excluded() -> None:
    stage = Stage(policy=POLICY)
    stage.take(Consumed(envelope(100, emails=[{"email": "boss@own.example"}])))
    plan = stage.take(Consumed(envelope(200, "contact.deleted")))
    assert plan.forwarded == {"deleted": 1}
    assert "excluded" not in kept(plan)


def test_a_deletion_is_a_change_with_the_two_ids() -> None:
    plan = Stage().take(Consumed(envelope(100, "contact.deleted")))
    ((_, value, key, headers),) = plan.outputs
    change = parse_change(key, value, headers)
    assert change is not None
    assert change.kind is Kind.DELETED
    assert change.contact == {"grant_id": "g", "id": "c", "object": "contact"}
    assert plan.forwarded == {"deleted": 1}


def test_a_batch_sees_its_own_events_in_order() -> None:
    plan = Stage().take(
        Consumed(envelope(100)),
        Consumed(envelope(100)),
        Consumed(envelope(101)),
        Consumed(envelope(99, given_name="Old")),
        Consumed(envelope(102, given_name="New")),
        Consumed(envelope(103, given_name="New", notes="not mapped")),
    )
    assert plan.forwarded == {"updated": 2}
    assert plan.dropped == {"retry": 1, "duplicate": 2, "stale": 1}
    assert decode(plan.entries[b"g/c"]).newest == 103
    assert decode(plan.entries[b"g/c"]).forwarded == 102


def test_the_next_batch_knows_the_entries_of_the_last_one() -> None:
    stage = Stage()
    stage.take(Consumed(envelope(100)))
    assert stage.take(Consumed(envelope(99, given_name="Old"))).dropped == {"stale": 1}


def test_events_that_change_nothing_are_not_written_to_the_table() -> None:
    stage = Stage()
    stage.take(Consumed(envelope(100)))
    assert stage.take(Consumed(envelope(99)), Consumed(envelope(100))).entries == {}


def test_a_contact_is_read_again_after_a_truncated_notification() -> None:
    plan = Stage().take(Consumed(envelope(100, "contact.updated.truncated")))
    ((topic, value, key, headers),) = plan.outputs
    assert (topic, value, key) == (NAMES.refetch.name, b"", b"g/c")
    assert header(headers, "reason") == b"bodyless"
    assert header(headers, "not_before") == b"%d" % (NOW + SETTLED)
    assert header(headers, "received_ms") == b"1700000000123"


def test_an_updated_contact_with_nothing_but_its_ids_is_read_again() -> None:
    bare = orjson.dumps(
        {
            "type": "contact.updated",
            "id": "n",
            "time": 100,
            "data": {"object": {"grant_id": "g", "id": "c", "object": "contact"}},
        }
    )
    assert Stage().take(Consumed(bare)).refetch == {"bodyless": 1}


@pytest.mark.parametrize("time", [None, 1_800_000_000_000])
def test_an_event_without_a_usable_time_is_read_again_and_cannot_make_others_stale(
    time: int | None,
) -> None:
    stage = Stage()
    plan = stage.take(Consumed(envelope(time)))
    assert plan.refetch == {"no_time": 1}
    assert stage.take(Consumed(envelope(100))).forwarded == {"updated": 1}


RECEIVED = 1_700_000_000


@pytest.mark.parametrize("ahead", [61, 3599, 3601, 86_399, 86_401, 10**9])
def test_a_time_ahead_of_the_clock_makes_nothing_stale_that_happens_a_minute_later(
    ahead: int,
) -> None:
    stage = Stage()
    assert stage.take(Consumed(envelope(RECEIVED + ahead))).forwarded == {"updated": 1}
    later = RECEIVED + CLOCK_DIFFERENCE_SECONDS + 1
    headers = (("origin", b"webhook"), ("received_ms", b"%d" % (later * 1000)))
    plan = stage.take(Consumed(envelope(later, given_name="Newer"), headers=headers))
    assert plan.forwarded == {"updated": 1}


@pytest.mark.parametrize("ahead", [61, 86_399])
def test_a_contact_that_is_to_be_read_again_is_read_within_the_hour_and_counts(ahead: int) -> None:
    bare = envelope(RECEIVED + ahead, "contact.updated.truncated")
    (output,) = Stage().take(Consumed(bare)).outputs
    not_before = int(header(output[3], "not_before") or b"")
    # The page that is read then is newer than the event.
    assert not_before - PAGE_MARGIN_SECONDS > RECEIVED + CLOCK_DIFFERENCE_SECONDS
    assert not_before <= max(NOW, RECEIVED + CLOCK_DIFFERENCE_SECONDS) + SETTLED


@given(st.lists(st.tuples(st.integers(0, 2**33), st.integers(1, 10**6)), max_size=20))
def test_times_are_never_after_the_receipt_and_keep_their_order(
    events: list[tuple[int, int]],
) -> None:
    received = RECEIVED
    before: tuple[int, int] | None = None
    for claimed, later in events:
        received += later
        time = happened_at(claimed, received * 1000)
        assert time is not None
        assert time <= min(claimed, received + CLOCK_DIFFERENCE_SECONDS)
        if before is not None and before[0] <= claimed:
            assert before[1] <= time, "a later one that was received later stays the later one"
        before = (claimed, time)
    assert happened_at(None, received) is None


def test_two_contents_of_one_second_are_both_forwarded_and_read_again() -> None:
    plan = Stage().take(Consumed(envelope(100)), Consumed(envelope(100, given_name="Other")))
    assert [topic for topic, *_ in plan.outputs] == [
        NAMES.changes.name,
        NAMES.changes.name,
        NAMES.refetch.name,
    ]
    assert plan.forwarded == {"updated": 2}
    assert plan.refetch == {"same_second": 1}
    assert plan.dropped == {}


def test_a_replay_is_forwarded_with_its_origin() -> None:
    stage = Stage()
    stage.take(Consumed(envelope(100)))
    plan = stage.take(Consumed(envelope(100), headers=(("origin", b"replay"),)))
    ((_, _, _, headers),) = plan.outputs
    assert header(headers, "origin") == b"replay"
    assert header(headers, "received_ms") == b"1700000000000", (
        "the time of the record stands in for a missing header"
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", b"not_json"),
        (None, b"not_json"),
        (b"{", b"not_json"),
        (b"\xff\xfe", b"not_json"),
        (b"[" * 10_000, b"not_json"),
        (b"[]", b"not_an_envelope"),
        (b'{"type": "contact.updated"}', b"no_object"),
        (b'{"type": "contact.updated", "data": {"object": {"grant_id": "g"}}}', b"no_contact_id"),
        (b'{"type": "grant.expired", "data": {"object": {"grant_id": "g"}}}', b"not_a_contact"),
        (envelope(100, id="another"), b"wrong_key"),
        (envelope(100, job_title="n" * (MAX_MESSAGE_BYTES + 1)), b"too_large"),
    ],
)
def test_an_unreadable_event_becomes_a_dead_letter_unchanged(
    value: bytes | None, reason: bytes
) -> None:
    plan = Stage().take(Consumed(value), Consumed(envelope(100)))
    (topic, letter, letter_key, headers), _ = plan.outputs
    key, written, detail = unwrapped(letter_key, letter)
    assert (topic, key) == (NAMES.dead_letter.name, b"g/c")
    if value is not None and len(value) > MAX_CHANGE_BYTES:
        assert written == b"", "the topic would not accept it"
        assert b"left out" in detail
    else:
        assert written == value
    assert header(headers, "dlq.reason") == reason
    assert header(headers, "dlq.stage") == b"dedupe"
    assert (header(headers, "dlq.original.partition"), header(headers, "dlq.original.offset")) == (
        b"2",
        b"7",
    )
    assert header(headers, "origin") == b"webhook"
    assert plan.dead_lettered == {reason.decode(): 1}
    assert reason.decode() in DEDUPE_UNREADABLE
    assert plan.forwarded == {"updated": 1}, "the next event goes on"


@pytest.mark.parametrize(
    "contact",
    [
        {"emails": None, "phone_numbers": None, "given_name": None, "surname": None},
        {"given_name": "x" * 300},
        {"notes": "n" * 1_000_000},
        {"notes": "\\ud800"},
        {"picture": 2**200},
        {"given_name": "Zoë 张 \u0000"},
    ],
)
def test_an_odd_contact_is_forwarded(contact: dict[str, Any]) -> None:
    value = (
        envelope(100, notes="@").replace(b'"@"', b'"\\ud800"')
        if contact.get("notes") == "\\ud800"
        else None
    )
    big = (
        envelope(100, picture=0).replace(b'"picture":0', b'"picture":%d' % 2**200)
        if "picture" in contact
        else None
    )
    plan = Stage().take(Consumed(value or big or envelope(100, **contact)))
    assert plan.forwarded == {"updated": 1}
    _, written, key, headers = plan.outputs[0]
    assert parse_change(key, written, headers) is not None


def test_a_contact_nested_deeper_than_orjson_writes_is_forwarded() -> None:
    deep = envelope(100, notes="@").replace(b'"@"', b"[" * 400 + b"]" * 400)
    plan = Stage().take(Consumed(deep))
    assert plan.forwarded == {"updated": 1}


@pytest.mark.parametrize("identity", ["a/b", "a#b", "Ünï", "A", "a"])
def test_any_id_is_its_own_contact(identity: str) -> None:
    stage = Stage()
    stage.take(Consumed(envelope(100)))
    plan = stage.take(Consumed(envelope(50, id=identity), key=f"g/{identity}".encode()))
    assert plan.forwarded == {"updated": 1}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["origin", "received_ms", "version", "dlq.attempts", "dlq.original.offset", "other"]
            ),
            st.none()
            | st.binary(max_size=40)
            | st.sampled_from([b"9" * 25, b"9" * 5000, b"-1", b"replay", b"redrive", b"webhook"]),
        )
    ),
    st.sampled_from(
        [envelope(100), envelope(None), envelope(100, "contact.updated.truncated"), b"{"]
    ),
    st.integers(-1, 2**63 - 1),
)
def test_no_header_stops_the_stage_and_its_records_can_be_parsed(
    headers: list[tuple[str, bytes | None]], value: bytes, timestamp: int
) -> None:
    plan = Stage().take(Consumed(value, headers=headers, timestamp=timestamp))
    ((topic, written, key, sent),) = plan.outputs
    if topic == NAMES.changes.name:
        change = parse_change(key, written, sent)
        assert change is not None
        assert change.key == "g/c"
        assert 0 <= change.version <= 100, "never after the receipt"
    elif topic == NAMES.refetch.name:
        assert int(header(sent, "received_ms") or b"") >= 0


@pytest.mark.parametrize("received", [b"9" * 25, b"9" * 5000, b"\xff", b"-1", None])
def test_the_time_of_the_record_replaces_an_invalid_time_of_receipt(
    received: bytes | None,
) -> None:
    headers = (("origin", b"webhook"), ("received_ms", received))
    for value in (envelope(100), envelope(100, "contact.updated.truncated")):
        ((_, _, _, sent),) = Stage().take(Consumed(value, headers=headers)).outputs
        assert header(sent, "received_ms") == b"1700000000000"


def test_a_plan_names_the_records_that_it_dead_letters_for_the_log() -> None:
    bad = Consumed(b"no envelope")
    plan = Stage().take(Consumed(envelope(100)), bad)
    assert plan.unreadable == [(bad, "not_json")]


def chosen(choice: Choice, stage: Stage, *records: Consumed) -> DedupePlan:
    """The plan while every mailbox has this choice."""
    planner = DedupePlanner(stage.mapping, NAMES, choose=lambda _grant: choice)
    plan = planner.plan(records, stage.entries, NOW)
    stage.entries |= plan.entries
    return plan


NOT_SELECTED = Choice(False, Why.NO_ENTRY)


@pytest.mark.parametrize("why", [Why.NO_ENTRY, Why.MEMBERS_UNKNOWN])
def test_events_of_a_mailbox_that_is_not_selected_are_counted_and_leave_no_trace(why: Why) -> None:
    stage = Stage()
    gone = envelope(101, "contact.deleted")
    plan = chosen(Choice(False, why), stage, Consumed(envelope(100)), Consumed(gone))
    assert (plan.outputs, plan.entries) == ([], {})
    assert plan.dropped == {"not_selected": 2}


def test_a_deletion_of_a_contact_that_was_forwarded_before_still_passes() -> None:
    stage = Stage()
    stage.take(Consumed(envelope(100)))
    plan = chosen(
        NOT_SELECTED,
        stage,
        Consumed(envelope(200, given_name="Eve")),
        Consumed(envelope(201, "contact.deleted")),
    )
    assert plan.forwarded == {"deleted": 1}
    assert plan.dropped == {"not_selected": 1}


def test_an_event_of_a_grant_whose_address_is_unknown_is_asked_for_again_and_not_lost() -> None:
    stage = Stage()
    plan = chosen(Choice(False, Why.ADDRESS_UNKNOWN), stage, Consumed(envelope(100)))
    ((topic, value, key, headers),) = plan.outputs
    assert (topic, value, key) == (NAMES.refetch.name, b"", b"g/c")
    assert header(headers, "reason") == b"address_unknown"
    assert plan.refetch == {"address_unknown": 1}
    assert stage.take(Consumed(envelope(101))).forwarded == {"updated": 1}, (
        "the contact that is read again is news"
    )


@pytest.mark.parametrize(
    ("header_value", "noted"),
    [
        (b"Ada@acme.example", {"g": "Ada@acme.example"}),
        (b"", {}),
        (b"x" * 321, {}),
    ],
)
def test_the_address_that_a_page_names_is_noted_before_its_contact_is_decided(
    header_value: bytes, noted: dict[str, str]
) -> None:
    known = dict[str, str]()
    whether_known: list[bool] = []

    def choose(grant: str) -> Choice:
        whether_known.append(grant in known)
        return Choice(True, Why.EVERYTHING)

    planner = DedupePlanner(FieldMapping(), NAMES, choose=choose, note_address=known.__setitem__)
    page = (*Consumed(envelope(100)).headers, ("grant.address", header_value))
    plan = planner.plan([Consumed(envelope(100), headers=page)], {}, NOW)
    assert plan.forwarded == {"updated": 1}
    assert (known, whether_known) == (noted, [bool(noted)])
    ((_, _, _, headers),) = plan.outputs
    assert header(headers, "grant.address") is None, "the change does not repeat it"


def test_no_older_event_passes_while_a_newer_one_waits_for_the_address_of_its_grant() -> None:
    stage = Stage()
    chosen(Choice(False, Why.ADDRESS_UNKNOWN), stage, Consumed(envelope(100)))
    late = stage.take(Consumed(envelope(90, given_name="Eve")))
    assert (late.outputs, late.dropped) == ([], {"stale": 1})


@pytest.mark.parametrize(("age", "wait"), [(0, SETTLED), (700, 0)])
def test_a_contact_is_read_again_when_that_gives_a_newer_version_than_the_event(
    age: int, wait: int
) -> None:
    stage = Stage()
    received = (("origin", b"webhook"), ("received_ms", b"%d" % (NOW * 1000)))
    stage.take(Consumed(envelope(NOW - 1000), headers=received))
    event = Consumed(envelope(NOW - age, given_name="Eve"), headers=received)
    plan = chosen(Choice(False, Why.ADDRESS_UNKNOWN), stage, event)
    ((_, _, _, headers),) = plan.outputs
    assert header(headers, "not_before") == b"%d" % (NOW + wait)
