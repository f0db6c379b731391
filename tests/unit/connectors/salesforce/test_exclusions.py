"""Role addresses are recognised by their whole words, and the list of them can be changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.exclusions import ROLES, Exclusions, is_role, role_names
from connectors.salesforce.skip_reasons import SkipReason

ROLE_LOCAL_PARTS = (
    "sales",
    "billing",
    "Press",
    "jobs",
    "billing+de",
    "info+2024.spring",
    # the words of a role may be written together or apart
    "customerservice",
    "customer.service",
    "customer-care",
    "help_desk",
    "post-master",
    # mailboxes of machines, whatever stands before and after
    "noreply",
    "no-reply",
    "no_reply",
    "no.reply",
    "NoReply2",
    "no_reply-eu",
    "drive-shares-noreply",
    "donotreply",
    "do.not.reply",
    "do-not-reply",
    "donot.reply",
    "dont-reply",
    "unsubscribe-4711",
    "bounce",
    "bounces",
    "bounce-123",
    "bounce123",
    "bounces+4711=ada.example.com",
    "bounce-md_30123.5f",
    "mailer-daemon",
    "MAILER.DAEMON",
)
PEOPLE_LOCAL_PARTS = (
    "ada",
    # a separator inside a word of the list
    "b.illing",
    "p.ress",
    "j.obs",
    "dono.treply",
    "n.oreply",
    "sa.les",
    "hel.pdesk",
    "r.oot",
    # a word of the list, and more
    "press.ley",
    "press-ley",
    "jobs.smith",
    "steve.jobs",
    "salesman",
    "infante",
    "noreplyson",
    "no.replyson",
    "bouncer",
    "bounce.smith",
    "mark.eting",
    "mail.er.daemon",
)


@pytest.mark.parametrize("local", ROLE_LOCAL_PARTS)
def test_the_mailbox_of_a_function_or_a_machine_is_a_role_address(local: str) -> None:
    assert is_role(f"{local.lower()}@x.example")


@pytest.mark.parametrize("local", PEOPLE_LOCAL_PARTS)
def test_a_person_whose_address_resembles_a_role_is_kept(local: str) -> None:
    assert not is_role(f"{local}@x.example")


@given(
    role=st.sampled_from(sorted(role for role in ROLES if "-" not in role)),
    cut=st.integers(1, 30),
    separator=st.sampled_from("._-"),
)
def test_a_separator_inside_a_word_makes_another_word_of_it(
    role: str, cut: int, separator: str
) -> None:
    local = role[: cut % len(role)] + separator + role[cut % len(role) :]
    apart = "-".join(word for word in local.replace(separator, " ").split())
    assert is_role(f"{local}@x.example") is (apart in ROLES)


def test_whoever_resembles_a_role_is_synced_and_the_role_is_skipped() -> None:
    exclusions = Exclusions()
    assert exclusions.reason("b.illing@x.example") is None
    assert exclusions.reason("billing@x.example") is SkipReason.ROLE_ADDRESS


def test_role_names_can_be_added_and_removed() -> None:
    roles = role_names(["Kontakt", "front-desk", "!Hello", "!no-such", "!customer.care"])
    expected = {
        "kontakt": True,
        "kon.takt": False,
        "front.desk": True,
        "front_desk": True,
        "frontdesk": True,
        "fr.ontdesk": False,
        "hello": False,
        "customercare": False,
        "customer-care": False,
        "info": True,
    }
    assert {name: is_role(f"{name}@x.example", roles) for name in expected} == expected


def test_a_removal_covers_every_spelling_of_a_role() -> None:
    roles = role_names(["!helpdesk"])
    assert not is_role("help.desk@x.example", roles)
    assert not is_role("helpdesk@x.example", roles)
