"""The records of contactstream.control that say which mailboxes are synced."""

import pytest

from streams.contact_groups import NO_GROUPS, GroupRule
from streams.control import ControlTable
from streams.control_selection import (
    GrantChoice,
    GroupNames,
    Members,
    exclusions_record,
    forget_grant_record,
    forget_group_names_record,
    grant_choice_record,
    group_names_record,
    groups_record,
    members_record,
    rule_record,
)
from streams.kafka.records import KafkaRecord
from streams.mailboxes import EVERY_MAILBOX, Choice, MailboxRule, Why
from streams.settings import KafkaSettings, load
from streams.topics import topics

TOPICS = topics(load(KafkaSettings, {}))
RULE = MailboxRule(("permission-set:Sales",))
MEMBERS = Members("Sales", frozenset({"ada@acme.example"}), 5_000)
DECIDED = GrantChoice("g", Choice(False, Why.NO_ENTRY), 7_000)


def after(*records: KafkaRecord) -> ControlTable:
    table = ControlTable()
    for record in records:
        table.apply(record)
    return table


def test_what_is_written_is_read_again() -> None:
    selection = after(
        rule_record(TOPICS, RULE, 9),
        members_record(TOPICS, MEMBERS),
        grant_choice_record(TOPICS, DECIDED),
    ).selection
    assert (selection.rule, selection.rule_since_ms) == (RULE, 9)
    assert selection.members == {"Sales": MEMBERS}
    assert selection.grants == {"g": DECIDED}


def test_contact_groups_and_exclusions_are_read_again_and_tombstones_end_them() -> None:
    names = GroupNames("g", {"1": "Customers"}, 8_000)
    rule = GroupRule(("Cust*",), ("Private",))
    written = [
        groups_record(TOPICS, rule, 9),
        group_names_record(TOPICS, names),
        exclusions_record(TOPICS, "abc", 9),
    ]
    selection = after(*written).selection
    assert selection.groups_in_force(NO_GROUPS) == rule
    assert selection.names_of_groups("g") == {"1": "Customers"}
    assert selection.exclusions == "abc"
    ends = [record._replace(value=None) for record in written]
    gone = after(*written, *ends).selection
    assert (gone.groups, gone.group_names, gone.exclusions) == (None, {}, "")
    assert gone.groups_in_force(rule) == rule
    assert ends[1] == forget_group_names_record(TOPICS, "g")


def test_the_rule_in_force_counts_and_without_one_the_setting_of_the_process() -> None:
    setting = MailboxRule(("bob@acme.example",))
    assert after().selection.choose("bob@acme.example", setting).selected
    in_force = after(rule_record(TOPICS, RULE, 9), members_record(TOPICS, MEMBERS)).selection
    assert not in_force.choose("bob@acme.example", setting).selected
    assert in_force.choose("Ada@acme.example", setting).selected
    everything = after(rule_record(TOPICS, EVERY_MAILBOX, 9)).selection
    assert everything.choose("carl@acme.example", setting).why is Why.EVERYTHING


def test_a_permission_set_that_was_never_published_selects_nothing() -> None:
    selection = after(rule_record(TOPICS, RULE, 9)).selection
    assert selection.choose("ada@acme.example", EVERY_MAILBOX).why is Why.MEMBERS_UNKNOWN


def test_tombstones_make_it_unknown() -> None:
    rule, members = rule_record(TOPICS, RULE, 9), members_record(TOPICS, MEMBERS)
    selection = after(
        rule,
        members,
        grant_choice_record(TOPICS, DECIDED),
        KafkaRecord(rule.topic, rule.key, None, []),
        KafkaRecord(members.topic, members.key, None, []),
        forget_grant_record(TOPICS, "g"),
    ).selection
    assert (selection.rule, selection.members, selection.grants) == (None, {}, {})


@pytest.mark.parametrize(
    "value",
    [b"", b"[]", b'{"schema": 2, "entries": []}', b'{"schema": 1}', b'{"schema": 1, "entries": 5}'],
)
def test_a_record_that_cannot_be_read_changes_nothing(value: bytes) -> None:
    known = rule_record(TOPICS, RULE, 9)
    selection = after(known, KafkaRecord(known.topic, known.key, value, [])).selection
    assert selection.rule == RULE
