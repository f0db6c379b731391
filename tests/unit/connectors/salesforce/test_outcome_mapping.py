"""Results of written rows as outcomes of contacts, without an org."""

from typing import Any

import pytest

from connectors.salesforce.api.composite import RowResult
from connectors.salesforce.api.errors import Action, RowError, Verdict
from connectors.salesforce.org_fields import KEY_FIELD
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.outcome_mapping import (
    deleted_account,
    one_for_each_contact,
    report_rows,
    single_rounds,
    without_refused_values,
)
from connectors.salesforce.planner import PlannedOutcome
from connectors.salesforce.rows import Op, WriteRow
from connectors.salesforce.sobject_record import SObjectRecord
from connectors.salesforce.writer import WrittenRow


def change(key: str) -> ContactVersion:
    return ContactVersion(key, 100, {})


def member(key: str) -> PlannedOutcome:
    return PlannedOutcome(change(key), Outcome(key, OutcomeStatus.CREATED, "Lead", first=True))


def written(
    action: Action,
    *keys: str,
    errors: tuple[RowError, ...] = (),
    op: Op = "upsert",
    created: bool | None = True,
    **fields: Any,
) -> WrittenRow:
    done = action is Action.DONE
    result = RowResult("00Q1" if done else None, done, created if done else None, errors)
    row = WriteRow("Lead", op, fields, tag=[member(key) for key in keys])
    return WrittenRow(row, result, Verdict(action, action.value))


def test_all_contacts_of_a_written_row_get_its_record() -> None:
    report = report_rows([written(Action.DONE, "g/1", "h/1")])
    assert [(one.key, one.status, one.record_id) for one in report.outcomes] == [
        ("g/1", OutcomeStatus.CREATED, "00Q1"),
        ("h/1", OutcomeStatus.CREATED, "00Q1"),
    ]
    assert report.split == []


def test_of_several_contacts_in_a_row_the_owner_has_the_replaced_values() -> None:
    stored = {"Title": "Engineer", "Phone": None, "Gone__c": True}
    record = SObjectRecord("Lead", "00Q1", stored, {KEY_FIELD: "h/1", "Title": "Analyst"})
    members = [
        PlannedOutcome(change(key), Outcome(key, OutcomeStatus.UPDATED, "Lead"), record)
        for key in ("g/1", "h/1")
    ]
    fields = {"Id": "00Q1", "Title": "Analyst", "Phone": "1", "Gone__c": False}
    row = WriteRow("Lead", "update", fields, tag=members, stored=stored)
    done = WrittenRow(row, RowResult("00Q1", True, False), Verdict(Action.DONE, "done"))
    filling, owner = report_rows([done], "Gone__c").outcomes
    assert filling.replaced == ()
    assert [(one.field, one.old, one.new) for one in owner.replaced] == [
        ("Title", "Engineer", "Analyst")
    ]
    refused = WrittenRow(row, RowResult(None, False, None), Verdict(Action.RETRY_ROW, "locked"))
    assert {one.replaced for one in report_rows([refused]).outcomes} == {()}


def test_a_creation_that_found_its_key_counts_as_an_update() -> None:
    (outcome,) = report_rows([written(Action.DONE, "g/1", created=False)]).outcomes
    assert (outcome.status, outcome.matched) == (OutcomeStatus.UPDATED, "key")
    assert not outcome.first


@pytest.mark.parametrize(
    ("action", "status"),
    [
        (Action.RETRY_ROW, OutcomeStatus.RETRY),
        (Action.FOLLOW_CONVERTED, OutcomeStatus.RETRY),
        (Action.STALE, OutcomeStatus.STALE),
        (Action.DEAD_LETTER, OutcomeStatus.FAILED),
        (Action.ADOPT_DUPLICATE, OutcomeStatus.FAILED),
    ],
)
def test_a_failed_row_of_one_contact_is_that_contacts_outcome(
    action: Action, status: OutcomeStatus
) -> None:
    (outcome,) = report_rows([written(action, "g/1")]).outcomes
    assert (outcome.status, outcome.reason, outcome.first) == (status, action.value, False)


def test_contacts_of_a_failed_common_row_have_no_outcome_and_are_tried_alone() -> None:
    report = report_rows([written(Action.DEAD_LETTER, "g/1", "h/1"), written(Action.DONE, "g/2")])
    assert [outcome.key for outcome in report.outcomes] == ["g/2"]
    assert [[one.key for one in members] for members in report.split] == [["g/1", "h/1"]]


def test_a_round_has_one_contact_of_each_failed_row() -> None:
    rows = [[change("a/1"), change("b/1"), change("c/1")], [change("a/2"), change("b/2")]]
    rounds = [[one.key for one in batch] for batch in single_rounds(rows)]
    assert rounds == [["a/1", "a/2"], ["b/1", "b/2"], ["c/1"]]
    assert single_rounds([]) == []


def test_a_contact_with_two_rows_gets_the_gravest_outcome() -> None:
    statuses = [OutcomeStatus.RELEASED, OutcomeStatus.FAILED, OutcomeStatus.RETRY]
    (outcome,) = one_for_each_contact(Outcome("g/1", status) for status in statuses)
    assert outcome.status is OutcomeStatus.RETRY


def refused(code: str, *fields: str) -> tuple[RowError, ...]:
    return (RowError(code, "", fields),)


def test_a_row_is_tried_without_the_fields_whose_values_were_refused() -> None:
    row: dict[str, Any] = {KEY_FIELD: "g/1", "LastName": "L", "Country": "Atlantis"}
    errors = refused("FIELD_INTEGRITY_EXCEPTION", "CountryCode")
    shorter = without_refused_values(written(Action.DEAD_LETTER, "g/1", errors=errors, **row))
    assert shorter is not None
    assert shorter.fields == {KEY_FIELD: "g/1", "LastName": "L"}


@pytest.mark.parametrize(
    ("errors", "op", "fields"),
    [
        (refused("STRING_TOO_LONG", "LastName"), "upsert", {KEY_FIELD: "g/1", "LastName": "L"}),
        (refused("STRING_TOO_LONG", "Title"), "update", {"Id": "00Q1", "Title": "T"}),
        (refused("STRING_TOO_LONG"), "update", {"Id": "00Q1", "Title": "T"}),
        (refused("DUPLICATE_VALUE", "Title"), "update", {"Id": "00Q1", "Title": "T", "Phone": "1"}),
    ],
    ids=["a needed field", "nothing left", "no field named", "another fault"],
)
def test_a_row_is_not_tried_again_without(
    errors: tuple[RowError, ...], op: Op, fields: dict[str, Any]
) -> None:
    row = written(Action.DEAD_LETTER, "g/1", errors=errors, op=op, **fields)
    assert without_refused_values(row) is None


def test_a_row_refused_for_its_deleted_account_names_the_account() -> None:
    for fields in ((), ("AccountId",)):
        errors = refused("ENTITY_IS_DELETED", *fields)
        row = written(Action.RETRY_ROW, "g/1", errors=errors, AccountId="0011")
        assert deleted_account(row) == "0011"
    errors = refused("INVALID_CROSS_REFERENCE_KEY", "OwnerId")
    row = written(Action.RETRY_ROW, "g/1", errors=errors, AccountId="0011")
    assert deleted_account(row) is None
