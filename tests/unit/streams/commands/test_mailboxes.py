"""What status and doctor say about the selected mailboxes."""

from dataclasses import replace

from connectors.salesforce.checkup.findings import CheckupStatus
from streams.commands.contact_groups import GroupFigures
from streams.commands.doctor.mailboxes import mailbox_findings
from streams.commands.mailboxes import (
    KnownGrants,
    MailboxFigures,
    deletion_problems,
    exclusion_problems,
    mailbox_figures,
)
from streams.commands.status.figures import (
    LetterFigures,
    OutcomeFigures,
    Status,
    needs_a_person,
)
from streams.commands.status.report import as_json, text
from streams.contact_groups import GroupRule
from streams.control import ControlTable
from streams.control_grants import held_record
from streams.control_selection import Members, SelectionRecords
from streams.grant_addresses import GrantAddress, address_record
from streams.mailboxes import EVERY_MAILBOX, MailboxRule
from streams.own_domains import OwnDomains
from streams.reader.grant_events import deleted_record
from streams.settings import KafkaSettings, load
from streams.topics import topics

TOPICS = topics(load(KafkaSettings, {}))
NOW = 1_800_000_000.0
LIVING = {"a": "ada@x.example", "b": "bob@x.example", "c": None}


def figures(rule: MailboxRule, *members: Members, force: bool = True) -> MailboxFigures:
    selection = SelectionRecords(rule if force else None)
    selection.members = {one.permission_set: one for one in members}
    return mailbox_figures(selection, rule, LIVING, NOW)


def said(found: MailboxFigures) -> str:
    return "\n".join(f"{one.what}: {one.remedy}" for one in found.problems)


def test_without_entries_nothing_is_wrong() -> None:
    found = figures(EVERY_MAILBOX, force=False)
    assert (found.selected, found.problems) == (3, ())
    (finding,) = mailbox_findings(found)
    assert finding.status is CheckupStatus.OK
    assert "PEOPLE_MAILBOXES is empty" in finding.finding


def test_doctor_says_which_own_domains_were_derived_and_since_when() -> None:
    own = OwnDomains({"acme.com": 1_800_000_000_000})
    _, finding = mailbox_findings(replace(figures(EVERY_MAILBOX, force=False), own_domains=own))
    assert finding.status is CheckupStatus.OK
    assert "acme.com (since 2027-01-15)" in finding.finding
    _, finding = mailbox_findings(
        replace(figures(EVERY_MAILBOX, force=False), own_domains=OwnDomains())
    )
    assert "none yet" in finding.finding


def test_an_address_that_no_mailbox_has_is_named() -> None:
    found = figures(MailboxRule(("ada@x.example", "typo@x.example")))
    assert found.selected == 1
    assert "typo@x.example, which no connected mailbox has" in said(found)
    assert "ada@x.example" not in said(found)


def test_a_permission_set_whose_users_were_never_published_is_said_loudly() -> None:
    found = figures(MailboxRule(("permission-set:Sales",)))
    assert found.selected == 0
    assert "who has permission-set:Sales is not known yet, so it selects no mailbox" in said(found)
    assert "selects none of 3 connected mailboxes" in said(found)
    assert all(one.status is CheckupStatus.WARN for one in mailbox_findings(found)[1:])


def test_an_old_list_of_users_is_named_and_a_fresh_one_is_not() -> None:
    def members(age: float) -> Members:
        return Members("Sales", frozenset({"ada@x.example"}), int((NOW - age) * 1000))

    rule = MailboxRule(("permission-set:Sales",))
    assert figures(rule, members(3600)).problems == ()
    assert "asked more than a day ago" in said(figures(rule, members(90_000)))


def test_another_rule_than_the_one_in_force_is_named() -> None:
    selection = SelectionRecords(MailboxRule(("ada@x.example",)))
    found = mailbox_figures(selection, EVERY_MAILBOX, LIVING, NOW)
    assert "is not what is in force" in said(found)
    assert found.selected == 1


def test_other_exclusions_than_those_in_force_are_named() -> None:
    in_force = SelectionRecords(exclusions="abc")
    (found,) = exclusion_problems(in_force, "other")
    assert "PEOPLE_EXCLUDED_*" in found.what
    assert not list(exclusion_problems(in_force, "abc"))
    assert not list(exclusion_problems(in_force, "")), "this process has loaded none"
    assert not list(exclusion_problems(SelectionRecords(), "other")), "an older reader said nothing"


def test_a_deleted_grant_is_not_connected() -> None:
    known = KnownGrants.of(
        [
            address_record(TOPICS, GrantAddress("a", "ada@x.example", "google"), 9),
            address_record(TOPICS, GrantAddress("b", "bob@x.example", "google"), 9),
            deleted_record(TOPICS, "b", 10),
        ]
    )
    assert known.living() == {"a": "ada@x.example"}


def test_status_counts_the_selected_and_names_what_needs_a_person() -> None:
    found = figures(MailboxRule(("ada@x.example", "typo@x.example")))
    status = Status(0, [], OutcomeFigures(), None, [], LetterFigures({}), [], mailboxes=found)
    assert "1 of 3 selected" in text(status)
    assert any("typo@x.example" in line for line in needs_a_person(status))
    assert as_json(status)["mailboxes"] == {
        "entries": ["ada@x.example", "typo@x.example"],
        "selected": 1,
        "connected": 3,
        "groups": [],
        "excluded_groups": [],
    }


def test_status_shows_the_contact_groups_that_are_selected() -> None:
    groups = GroupFigures(GroupRule(("Customers",), ("Private",)), 1, 3, ())
    found = replace(figures(EVERY_MAILBOX, force=False), groups=groups)
    status = Status(0, [], OutcomeFigures(), None, [], LetterFigures({}), [], mailboxes=found)
    assert "Customers, not Private; the groups of 1 of 3" in text(status)
    shown = as_json(status)["mailboxes"]
    assert (shown["groups"], shown["excluded_groups"]) == (["Customers"], ["Private"])


def test_deleted_grants_that_wait_for_a_person_are_named_with_the_command() -> None:
    control = ControlTable()
    assert list(deletion_problems(control)) == []
    control.apply(held_record(TOPICS, ["a", "b"]))
    (problem,) = deletion_problems(control)
    assert "2 grants were deleted" in problem.what
    assert "contactstream grants confirm" in problem.remedy
