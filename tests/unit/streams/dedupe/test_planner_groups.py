"""Contact groups in dedupe: who is left out, who is asked for again, and what leaving does."""

from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.mapping_rules import FieldMapping
from streams.contact_groups import NO_GROUPS, GroupRule, judge
from streams.control_selection import groups_record
from streams.dedupe.mailbox_filter import MailboxFilter
from streams.dedupe.planner import DedupePlan, DedupePlanner, GroupFilter
from streams.events import ContactChange, Kind, parse_change
from streams.kafka.records import header
from streams.mailboxes import EVERY_MAILBOX
from tests.unit.streams.dedupe.test_planner import NAMES, Consumed, envelope

CUSTOMERS = GroupRule(("Customers",))
NOW = 1_800_000_000


@dataclass
class Stage:
    """A planner with a rule of groups, the names that are known, and its table."""

    rule: GroupRule = CUSTOMERS
    names: dict[str, str] = field(default_factory=lambda: {"1": "Customers", "2": "Friends"})
    releases: bool = True
    entries: dict[bytes, bytes] = field(default_factory=dict)

    def take(
        self, version: int, *groups: str, origin: bytes = b"webhook", **more: Any
    ) -> DedupePlan:
        body = envelope(version, groups=[{"id": each} for each in groups], **more)
        return self.plan(Consumed(body, headers=_from(origin)))

    def plan(self, record: Consumed) -> DedupePlan:
        groups = GroupFilter(lambda _: self.rule, lambda _grant: self.names, self.releases)
        planner = DedupePlanner(FieldMapping(), NAMES, groups=groups)
        plan = planner.plan([record], self.entries, NOW)
        self.entries |= plan.entries
        return plan


def _from(origin: bytes) -> tuple[tuple[str, bytes], ...]:
    return (("origin", origin), ("received_ms", b"1700000000123"))


def change(plan: DedupePlan) -> ContactChange:
    """The only change of a plan."""
    ((topic, value, key, headers),) = plan.outputs
    assert topic == NAMES.changes.name
    found = parse_change(key, value, headers)
    assert found is not None
    return found


def test_a_member_is_forwarded_with_its_groups_and_another_person_with_the_reason_alone() -> None:
    found = change(Stage().take(100, "1", "2"))
    assert found.contact["groups"] == [{"id": "1"}, {"id": "2"}]
    assert found.contact["given_name"] == "Ada"
    out = change(Stage().take(100, "2"))
    assert (out.kind, out.contact) == (
        Kind.UPDATED,
        {"grant_id": "g", "id": "c", "object": "contact", "excluded": "not_in_group"},
    )
    private = Stage(GroupRule((), ("Friends",)))
    assert change(private.take(100, "1", "2")).contact["excluded"] == "excluded_group"


def test_without_a_rule_no_group_is_kept_and_the_fingerprint_is_what_it_was() -> None:
    plain = change(Stage(NO_GROUPS).take(100, "1"))
    assert "groups" not in plain.contact
    everybody = change(Stage(GroupRule((), ("Nobody",))).take(100, "1"))
    assert everybody.fingerprint == plain.fingerprint
    assert change(Stage().take(100, "1")).fingerprint != plain.fingerprint


def test_a_group_that_an_entry_names_is_news_and_any_other_is_none() -> None:
    stage = Stage(GroupRule(("Customers", "VIP")), {"1": "Customers", "2": "Friends", "3": "VIP"})
    stage.take(100, "1")
    assert stage.take(200, "1", "2").dropped == {"duplicate": 1}
    assert change(stage.take(300, "1", "3")).contact["groups"] == [{"id": "1"}, {"id": "3"}]


def test_a_contact_with_an_unknown_group_is_read_again_and_then_decided() -> None:
    stage = Stage(names={})
    plan = stage.take(100, "1")
    assert plan.refetch == {"groups_unknown": 1}
    ((topic, _, key, headers),) = plan.outputs
    assert (topic, key) == (NAMES.refetch.name, b"g/c")
    assert header(headers, "reason") == b"groups_unknown"
    assert int(header(headers, "not_before") or b"") == NOW, "a page of now is newer for certain"
    named = orjson.loads(envelope(200))
    named["data"]["object"]["groups"] = [{"id": "1", "name": "Customers"}]
    read = stage.plan(Consumed(orjson.dumps(named), headers=_from(b"refetch")))
    assert change(read).kind is Kind.UPDATED


@pytest.mark.parametrize("origin", [b"refetch", b"backfill", b"reconcile"])
def test_what_the_reader_read_is_never_asked_for_again(origin: bytes) -> None:
    plan = Stage(names={}).take(100, "unlisted", origin=origin)
    assert change(plan).contact["excluded"] == "not_in_group"


def test_a_notification_without_fields_says_nothing_of_groups() -> None:
    stage = Stage()
    stage.take(100, "1")
    only_ids = orjson.loads(envelope(200))
    only_ids["data"]["object"] = {"grant_id": "g", "id": "c", "object": "contact"}
    assert stage.plan(Consumed(orjson.dumps(only_ids))).refetch == {"bodyless": 1}
    truncated = envelope(300, "contact.updated.truncated", groups=[])
    assert stage.plan(Consumed(truncated)).refetch == {"bodyless": 1}


def test_the_record_of_a_contact_that_leaves_the_group_is_released_once() -> None:
    stage = Stage()
    stage.take(100, "1")
    left = change(stage.take(200, "2"))
    assert (left.kind, left.contact["excluded"]) == (Kind.DELETED, "not_in_group")
    assert "given_name" not in left.contact
    assert stage.take(300, "2", surname="New").dropped == {"duplicate": 1}
    assert change(stage.take(400, "1")).kind is Kind.UPDATED, "it is back"


def test_a_setting_keeps_the_record_of_a_contact_that_leaves() -> None:
    stage = Stage(releases=False)
    stage.take(100, "1")
    left = change(stage.take(200, "2"))
    assert (left.kind, left.contact.get("was_synced")) == (Kind.UPDATED, None)
    assert stage.plan(Consumed(envelope(300, "contact.deleted"))).forwarded == {"deleted": 1}


def test_joining_an_excluded_group_is_leaving_too() -> None:
    stage = Stage(GroupRule((), ("Friends",)))
    stage.take(100, "1")
    left = change(stage.take(200, "1", "2"))
    assert (left.kind, left.contact["excluded"]) == (Kind.DELETED, "excluded_group")


@pytest.mark.parametrize("what", ["a first rule", "another rule", "a renamed group"])
def test_a_changed_filter_releases_nobody_and_marks_whom_a_person_has_to_settle(what: str) -> None:
    stage = Stage(NO_GROUPS if what == "a first rule" else CUSTOMERS)
    stage.take(100, "1")
    if what == "a renamed group":
        stage.names |= {"1": "Clients"}
    else:
        stage.rule = GroupRule(("VIP",))
    out = change(stage.take(200, "1"))
    assert (out.kind, out.contact["was_synced"]) == (Kind.UPDATED, True)
    assert out.contact["excluded"] == "not_in_group"
    moved = stage.take(300, "2")
    assert moved.dropped == {"duplicate": 1}, "it goes on waiting, whatever its groups are"


def test_a_contact_that_moves_under_a_rule_that_it_was_read_under_is_released() -> None:
    """A page that changes nothing is enough for the new rule to be the contact's own."""
    stage = Stage(NO_GROUPS)
    stage.take(100, "9")
    stage.rule = GroupRule((), ("Friends",))
    stage.names |= {"9": "Other"}
    assert stage.take(200, "9").dropped == {"duplicate": 1}
    assert change(stage.take(300, "2")).kind is Kind.DELETED


def test_a_replay_of_what_was_kept_is_decided_by_the_groups_that_were_kept() -> None:
    kept = change(Stage().take(100, "1")).contact
    body = orjson.loads(envelope(100)) | {"data": {"object": kept}}
    record = Consumed(orjson.dumps(body), headers=_from(b"replay"))
    assert change(Stage().plan(record)).contact == kept
    narrowed = Stage(GroupRule(("VIP",)))
    assert change(narrowed.plan(replace(record))).contact["excluded"] == "not_in_group"


def test_a_rule_that_the_reader_has_not_put_in_force_decides_about_webhooks_alone() -> None:
    """Contacts of a reader with the former settings have no names of groups."""
    mailboxes = MailboxFilter(EVERY_MAILBOX, False, CUSTOMERS)
    assert (mailboxes.group_rule(False), mailboxes.group_rule(True)) == (CUSTOMERS, NO_GROUPS)
    mailboxes.control.apply(groups_record(NAMES, CUSTOMERS, 9))
    assert mailboxes.group_rule(True) == CUSTOMERS
    planner = DedupePlanner(
        FieldMapping(),
        NAMES,
        groups=MailboxFilter(EVERY_MAILBOX, False, CUSTOMERS).group_filter(releases=True),
    )
    body = envelope(100, groups=[{"id": "1"}])
    page = planner.plan([Consumed(body, headers=_from(b"backfill"))], {}, NOW)
    assert change(page).contact["given_name"] == "Ada"
    assert planner.plan([Consumed(body)], {}, NOW).refetch == {"groups_unknown": 1}


STEPS = st.lists(
    st.tuples(
        st.sampled_from([CUSTOMERS, GroupRule(("VIP",)), GroupRule((), ("Customers",)), NO_GROUPS]),
        st.sets(st.sampled_from(["1", "2", "3"])),
        st.booleans(),
    ),
    max_size=12,
)


@given(STEPS)
def test_only_who_moves_under_one_rule_is_released_and_nobody_left_out_is_shown(
    steps: list[tuple[GroupRule, set[str], bool]],
) -> None:
    """A model of one contact: the rule, its groups, and whether a group was renamed."""
    stage = Stage(NO_GROUPS, {"1": "Customers", "2": "Friends", "3": "VIP"})
    before: tuple[GroupRule, set[str]] | None = None
    synced = False
    for number, (rule, groups, renames) in enumerate(steps):
        stage.rule = rule
        if renames:
            stage.names["1"] = "Clients" if stage.names["1"] == "Customers" else "Customers"
        plan = stage.take(100 + number, *sorted(groups))
        verdict = judge(
            rule, {"groups": [{"id": each} for each in groups]}, stage.names, certain=True
        )
        for each in plan.outputs:
            assert (b"given_name" in (each[1] or b"")) is (verdict.reason is None)
        moved = before is not None and before[0] == rule and before[1] != groups
        left = synced and moved and rule.reads_groups and verdict.reason is not None
        assert plan.forwarded["deleted"] == int(left)
        before, synced = (rule, groups), verdict.reason is None
