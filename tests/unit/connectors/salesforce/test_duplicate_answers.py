"""The answer to a blocked creation names the record, and does not send all of its fields."""

from collections.abc import Sequence
from typing import Any

from connectors.salesforce.api.client import Fence
from connectors.salesforce.api.composite import SubAnswer, Subrequest
from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from tests.support.salesforce_org import Composite, simulated_org

RULE = {
    "name": "Contacts_DR",
    "sobject": "Lead",
    "match_on": ["Phone"],
    "match_objects": ["Contact"],
    "action": "Block",
}
STORED = {"LastName": "Lovelace", "Phone": "1", "Title": "Countess", "Email": "old@acme.example"}


async def test_a_blocked_creation_is_answered_with_the_id_alone_and_adopts_the_record() -> None:
    made = ContactVersion(
        "g/1",
        100,
        {
            "surname": "Lovelace",
            "emails": [{"email": "ada@acme.example"}],
            "phone_numbers": [{"number": "1"}],
        },
    )
    matched: list[dict[str, Any]] = []
    async with simulated_org({"contacts": [STORED], "duplicate_rules": [RULE]}) as org:

        async def note(
            composite: Composite, requests: Sequence[Subrequest], kind: str, fence: Fence
        ) -> list[SubAnswer]:
            if kind == "composite_write" and not matched:
                # another program adds the address after our lookup
                (contact,) = org.records("Contact")
                org.world.edit("Contact", contact["Id"], {"Email": "ada@acme.example"})
            answers = await composite(requests, kind, fence)
            if kind == "composite_write":
                errors = [error for row in answers[0].body for error in row["errors"]]
                matched.extend(
                    found["record"]
                    for error in errors
                    for match in error["duplicateResult"]["matchResults"]
                    for found in match["matchRecords"]
                )
            return answers

        org.client.intercept = note
        (outcome,) = await org.sync.sync([made])
        (contact,) = org.records("Contact")
        assert [record.keys() for record in matched] == [{"attributes", "Id"}]
        assert matched[0]["Id"] == contact["Id"]
        assert (outcome.status, outcome.matched, outcome.record_id) == (
            OutcomeStatus.UPDATED,
            "duplicate_rule",
            contact["Id"],
        )
