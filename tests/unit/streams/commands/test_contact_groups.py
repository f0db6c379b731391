"""What doctor, status and the list of grants say about contact groups."""

from connectors.salesforce.checkup.findings import CheckupStatus
from streams.commands.contact_groups import GroupFigures, group_figures, groups_read
from streams.commands.doctor.mailboxes import mailbox_findings
from streams.commands.mailboxes import MailboxFigures
from streams.contact_groups import NO_GROUPS, GroupRule
from streams.control_selection import GroupNames, SelectionRecords
from streams.mailboxes import EVERY_MAILBOX

PROVIDERS = {"a": "google", "b": "ews", "c": ""}
NAMES = {"1": "Customers", "2": "VIP", "3": ""}


def records(rule: GroupRule | None) -> SelectionRecords:
    return SelectionRecords(groups=rule, group_names={"a": GroupNames("a", NAMES, 9)})


def figures(rule: GroupRule, setting: GroupRule | None = None) -> GroupFigures:
    return group_figures(records(rule), PROVIDERS, setting)


def said(found: GroupFigures) -> str:
    return "\n".join(f"{what}: {remedy}" for what, remedy in found.problems)


def test_without_a_rule_nothing_is_said() -> None:
    found = group_figures(SelectionRecords(), PROVIDERS, NO_GROUPS)
    assert found.problems == ()
    assert groups_read(SelectionRecords(), "a", "google") == ""


def test_a_group_that_no_mailbox_has_is_named_with_a_suggestion() -> None:
    text = said(figures(GroupRule((), ("Custmers", "vip", "Nobody at all"))))
    assert "'Custmers', which no mailbox has: did you mean Customers?" in text
    assert "'Nobody at all', which no mailbox has: correct the entry" in text
    assert "vip" not in text


def test_nothing_is_called_unknown_before_any_group_was_read() -> None:
    unread = SelectionRecords(groups=GroupRule((), ("Customers",)))
    assert group_figures(unread, PROVIDERS).problems == ()


def test_doctor_says_that_nobody_of_an_ews_mailbox_is_selected() -> None:
    found = figures(GroupRule(("Customers",)))
    assert "nobody of 1 connected mailboxes, because EWS has no contact groups: b" in said(found)
    assert said(figures(GroupRule((), ("VIP",)))) == "", "excluded groups leave nobody of it out"


def test_another_rule_than_the_one_in_force_is_a_problem() -> None:
    rule = GroupRule((), ("VIP",))
    assert "not what is in force" in said(figures(rule, NO_GROUPS))
    assert said(figures(rule, rule)) == ""


def test_doctor_shows_the_rule_and_of_how_many_mailboxes_the_groups_are_known() -> None:
    groups = figures(GroupRule(("Customers",), ("VIP",)))
    found = MailboxFigures(EVERY_MAILBOX, {}, (), groups)
    _, finding = mailbox_findings(found)
    assert finding.status is CheckupStatus.OK
    assert finding.finding == str(groups)
    assert "Customers, not VIP; the groups of 1 of 2 connected mailboxes" in str(groups)


def test_the_list_of_grants_says_which_groups_of_a_mailbox_are_named() -> None:
    selection = records(GroupRule(("Cust*", "vip")))
    shown = [groups_read(selection, grant, provider) for grant, provider in PROVIDERS.items()]
    assert shown == ["Customers, VIP", "none: ews has no contact groups", "not read yet"]
    none = groups_read(records(GroupRule(("Sales",))), "a", "google")
    assert none == "none of the named ones"
