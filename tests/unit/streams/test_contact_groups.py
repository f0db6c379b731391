"""Which contacts are synced by their contact groups: the rule over names and IDs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.skip_reasons import SkipReason
from streams.contact_groups import (
    NO_GROUPS,
    NO_NAMES,
    GroupRule,
    judge,
    unknown_ids,
    with_group_names,
)
from streams.settings import PeopleSettings, SettingsError, load

NAMES = {"1": "Customers", "2": "Sales EMEA", "3": "Private", "4": "", "5": "[VIP] 100%"}


def contact(*ids: str) -> dict[str, Any]:
    return {"groups": [{"id": each} for each in ids]}


@pytest.mark.parametrize(
    ("included", "excluded", "ids", "reason"),
    [
        (("customers",), (), ("1",), None),
        (("Sales *",), (), ("2", "3"), None),
        (("Sales *",), (), ("1",), SkipReason.NOT_IN_GROUP),
        (("Customers",), (), (), SkipReason.NOT_IN_GROUP),
        (("*",), (), ("4",), SkipReason.NOT_IN_GROUP),
        (("[vip] 100%",), (), ("5",), None),
        (("[vip]*",), (), ("5",), SkipReason.NOT_IN_GROUP),
        ((), ("private",), ("3",), SkipReason.EXCLUDED_GROUP),
        ((), ("private",), (), None),
        (("*",), ("Private",), ("1", "3"), SkipReason.EXCLUDED_GROUP),
    ],
)
def test_names_and_globs_decide_in_any_case_and_an_excluded_group_comes_first(
    included: tuple[str, ...],
    excluded: tuple[str, ...],
    ids: tuple[str, ...],
    reason: SkipReason | None,
) -> None:
    rule = GroupRule(included, excluded)
    assert judge(rule, contact(*ids), NAMES, certain=False).reason is reason


def test_nothing_is_decided_while_a_group_has_no_name_unless_that_is_certain() -> None:
    rule = GroupRule(("Customers",), ("Private",))
    found = judge(rule, contact("1", "new"), NAMES, certain=False)
    assert (found.undecided, found.reason) == (True, None)
    assert judge(rule, contact("1", "new"), NAMES, certain=True).reason is None
    assert judge(rule, contact("new"), NAMES, certain=True).reason is SkipReason.NOT_IN_GROUP
    sure = judge(rule, contact("3", "new"), NAMES, certain=False)
    assert sure.reason is SkipReason.EXCLUDED_GROUP, "no other group could let it in"


def test_a_name_that_the_contact_carries_is_newer_than_the_published_one() -> None:
    renamed = {"groups": [{"id": "1", "name": "Prospects"}]}
    rule = GroupRule(("Customers",))
    assert judge(rule, renamed, NAMES, certain=False).reason is SkipReason.NOT_IN_GROUP


def test_the_groups_that_entries_name_are_told_apart_from_the_others() -> None:
    found = judge(GroupRule(("Customers",)), contact("3", "1"), NAMES, certain=False)
    assert (found.read, found.ids) == (("1",), ("1", "3"))


def test_a_contact_gets_the_names_of_its_groups_and_an_unlisted_one_an_empty_name() -> None:
    named = with_group_names(contact("1", "new"), NAMES)
    assert named["groups"] == [{"id": "1", "name": "Customers"}, {"id": "new", "name": ""}]
    assert not judge(GroupRule(("Customers",)), named, NO_NAMES, certain=False).undecided
    assert unknown_ids(contact("1", "new"), NAMES) == ["new"]
    without = {"groups": None}
    assert with_group_names(without, NAMES) is without


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("id"), inner),
        max_leaves=8,
    ),
    st.booleans(),
)
def test_whatever_nylas_sends_as_groups_is_decided_without_an_error(
    groups: object, certain: bool
) -> None:
    sent = {"groups": groups}
    found = judge(GroupRule(("a*",), ("b*",)), sent, NAMES, certain=certain)
    assert not (certain and found.undecided)
    assert found.reason in (None, SkipReason.NOT_IN_GROUP, SkipReason.EXCLUDED_GROUP)
    assert judge(NO_GROUPS, sent, NAMES, certain=certain).reason is None
    named = with_group_names(sent, NAMES)
    assert not judge(GroupRule(("a*",)), named, NO_NAMES, certain=False).undecided


@given(st.lists(st.sampled_from(sorted(NAMES)), unique=True), st.randoms())
def test_the_order_of_groups_changes_nothing(ids: list[str], chance: Any) -> None:
    shuffled = ids.copy()
    chance.shuffle(shuffled)
    rule = GroupRule(("Customers", "Sales *"), ("Private",))
    one, other = (judge(rule, contact(*each), NAMES, certain=False) for each in (ids, shuffled))
    assert one == other


def test_the_hash_of_a_rule_is_that_of_its_entries_in_any_order_and_case() -> None:
    assert GroupRule(("a", "B"), ("c",)).hash == GroupRule(("b", "A"), ("C",)).hash
    assert GroupRule(("a",)).hash != GroupRule((), ("a",)).hash


def test_entries_that_name_no_group_are_found() -> None:
    rule = GroupRule(("Customers", "Custmers", "Sales *"), ("Priv*", "Nobody"))
    assert rule.without_group(NAMES.values()) == ["Custmers", "Nobody"]


def test_a_group_that_is_both_selected_and_excluded_is_refused() -> None:
    environ = {"PEOPLE_GROUPS": "Sales, VIP", "PEOPLE_EXCLUDED_GROUPS": "vip"}
    with pytest.raises(SettingsError, match="both name 'VIP'"):
        load(PeopleSettings, environ)
