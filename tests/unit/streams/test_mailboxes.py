"""PEOPLE_MAILBOXES: which mailboxes its entries select, and what is refused with a suggestion."""

import pytest

from streams.mailboxes import EVERY_MAILBOX, MailboxRule, Why
from streams.settings import PeopleSettings, SettingsError, load

SALES = {"Sales_Sync": frozenset({"ada@acme.example"})}


@pytest.mark.parametrize(
    ("entries", "address", "selected", "why", "entry"),
    [
        ((), "ada@acme.example", True, Why.EVERYTHING, ""),
        ((), None, True, Why.EVERYTHING, ""),
        (("Ada@Acme.example",), "ada@ACME.example", True, Why.ADDRESS, "Ada@Acme.example"),
        (("ada@acme.example",), "bob@acme.example", False, Why.NO_ENTRY, ""),
        (("*@sales.*",), "bob@Sales.acme.example", True, Why.ADDRESS, "*@sales.*"),
        (("*@sales.*",), "bob@acme.example", False, Why.NO_ENTRY, ""),
        (("*",), "", False, Why.NO_ENTRY, ""),
        (
            ("permission-set:Sales_Sync",),
            "Ada@acme.example",
            True,
            Why.PERMISSION_SET,
            "permission-set:Sales_Sync",
        ),
        (("permission-set:Sales_Sync",), "bob@acme.example", False, Why.NO_ENTRY, ""),
        (
            ("permission-set:Never_Seen", "*@acme.example"),
            "bob@acme.example",
            True,
            Why.ADDRESS,
            "*@acme.example",
        ),
        (
            ("permission-set:Never_Seen", "permission-set:Sales_Sync"),
            "bob@acme.example",
            False,
            Why.MEMBERS_UNKNOWN,
            "permission-set:Never_Seen",
        ),
        (("*@acme.example",), None, False, Why.ADDRESS_UNKNOWN, ""),
    ],
)
def test_each_entry_selects_what_it_names(
    entries: tuple[str, ...], address: str | None, selected: bool, why: Why, entry: str
) -> None:
    choice = MailboxRule(entries).choose(address, SALES)
    assert (choice.selected, choice.why, choice.entry) == (selected, why, entry)


def test_a_choice_says_in_words_what_decided() -> None:
    rule = MailboxRule(("permission-set:Sales_Sync", "permission-set:Never_Seen"))
    assert str(rule.choose("ada@acme.example", SALES)) == "selected by permission-set:Sales_Sync"
    assert "permission-set:Never_Seen are not known" in str(rule.choose("bob@x.example", SALES))
    assert "PEOPLE_MAILBOXES is empty" in str(EVERY_MAILBOX.choose("bob@x.example", {}))


def test_an_address_that_no_grant_has_is_named_and_a_glob_is_not() -> None:
    rule = MailboxRule(("Ada@acme.example", "Typo@acme.example", "*@x.example"))
    assert rule.without_grant(["ADA@acme.example"]) == ["typo@acme.example"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("sales", "neither an address, nor a glob"),
        ("permission-set:", "names no permission set"),
        ("permission-set:Sales Sync", "names no permission set"),
        ("permission_set:Sales_Sync", "did you mean permission-set:Sales_Sync?"),
        ("permissionset:Sales_Sync", "did you mean permission-set:Sales_Sync?"),
        ("ada@acme.example, Permission-Set:X", "did you mean permission-set:X?"),
    ],
)
def test_an_entry_that_cannot_be_used_is_refused_with_what_to_write(value: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(PeopleSettings, {"PEOPLE_MAILBOXES": value})
    assert "PEOPLE_MAILBOXES" in str(refused.value)
    assert said in str(refused.value)


def test_every_form_is_taken_from_the_environment() -> None:
    value = "ada@acme.example, *@sales.acme.example, permission-set:ns__Sales_Sync"
    people = load(PeopleSettings, {"PEOPLE_MAILBOXES": value})
    assert MailboxRule(people.mailboxes).permission_sets == ("ns__Sales_Sync",)
