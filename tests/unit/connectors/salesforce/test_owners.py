"""Who owns a created record: the grant's user, the Account's owner, a configured one, or a rule."""

from typing import Any

import pytest

from connectors.salesforce.counting import SyncWarning
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.owner_rules import OwnerPolicy, OwnerRule, UserMatch
from connectors.salesforce.policy import Policy
from connectors.salesforce.simulator.schema import make_id
from connectors.salesforce.simulator.soql import stamp
from connectors.salesforce.simulator.world import HUMAN_USER, INTEGRATION_USER
from connectors.salesforce.sync import Sync
from tests.support.salesforce_org import SimulatedOrg, simulated_org

ACME, GONE = make_id("001", 1), make_id("001", 2)
REP, OTHER, LEFT = make_id("005", 11), make_id("005", 12), make_id("005", 13)
QUEUE, CASES = make_id("00G", 1), make_id("00G", 2)
ROUTED = make_id("005", 14)
ADDRESSES = {
    "g": "rep@reps.example",
    "h": "other@reps.example",
    "l": "left@reps.example",
    "n": "new@reps.example",
}
WORLD: dict[str, Any] = {
    "users": [
        {"Id": REP, "Email": "Rep@reps.example", "Username": "rep@acme.example"},
        {"Id": OTHER, "Email": "other@reps.example.invalid", "FederationIdentifier": "o-1"},
        {"Id": LEFT, "Email": "left@reps.example", "IsActive": False},
        {"Id": ROUTED, "Email": "routed@reps.example"},
    ],
    "queues": [
        {"Id": QUEUE, "Name": "Inbound", "sobjects": ["Lead"]},
        {"Id": CASES, "Name": "Support", "sobjects": ["Case"]},
    ],
    "accounts": [
        {"Id": ACME, "Name": "Acme", "Website": "acme.example", "OwnerId": REP},
        {"Id": GONE, "Name": "Gone", "Website": "gone.example", "OwnerId": LEFT},
    ],
    "settings": {"assignment_owner": ROUTED},
}
ALL = (OwnerRule.USER, OwnerRule.ACCOUNT, OwnerRule.CONFIGURED)


def lead(key: str, *, live: bool = False, version: int = 100) -> ContactVersion:
    name = key.replace("/", "-")
    contact = {"id": key, "emails": [{"email": f"{name}@else.example"}], "surname": f"L {name}"}
    return ContactVersion(key, version, contact, live=live)


def contact(key: str, domain: str = "acme.example") -> ContactVersion:
    name = key.replace("/", "-")
    made = {"id": key, "emails": [{"email": f"{name}@{domain}"}], "surname": f"C {name}"}
    return ContactVersion(key, 100, made)


def owning(org: SimulatedOrg, owners: OwnerPolicy) -> Sync:
    return org.new_sync(org.client, Policy(owners=owners), grant_address=ADDRESSES.get)


async def written(
    org: SimulatedOrg, owners: OwnerPolicy, *changes: ContactVersion
) -> dict[str, Outcome]:
    outcomes = await owning(org, owners).sync(changes)
    return {outcome.key: outcome for outcome in outcomes}


def owners_of(org: SimulatedOrg) -> dict[str, str]:
    return {row["Nylas_Contact_Id__c"]: row["OwnerId"] for row in org.people()}


async def test_without_a_rule_everything_is_our_users_and_no_owner_is_sent() -> None:
    async with simulated_org(WORLD) as org:
        outcomes = await written(org, OwnerPolicy(), lead("g/1"), contact("g/2"))
        assert set(owners_of(org).values()) == {INTEGRATION_USER}
        assert {one.owner_rule for one in outcomes.values()} == {OwnerRule.SYNC_USER}
        assert all("OwnerId" not in write.fields for write in org.world.org.writes)


async def test_the_grants_user_owns_what_its_address_book_brings() -> None:
    async with simulated_org(WORLD) as org:
        policy = OwnerPolicy((OwnerRule.USER,))
        outcomes = await written(org, policy, lead("g/1"), contact("g/2"), lead("h/3"))
        assert owners_of(org) == {"g/1": REP, "g/2": REP, "h/3": OTHER}  # .invalid is left out
        assert {one.owner_rule for one in outcomes.values()} == {OwnerRule.USER}


async def test_it_costs_no_further_call() -> None:
    async with simulated_org(WORLD) as org:
        changes = [lead(f"g/{number}") for number in range(1000)]
        changes[:500] = [contact(f"g/c{number}") for number in range(500)]
        await written(org, OwnerPolicy(ALL, configured_id=QUEUE), *changes)
        assert org.calls == {
            "token": 1,
            "composite_start": 1,
            "composite_query": 1,
            "composite_write": 1,
        }


@pytest.mark.parametrize("grant", ["l", "unknown"])
async def test_an_inactive_user_and_an_unknown_grant_go_to_the_next_rule(grant: str) -> None:
    async with simulated_org(WORLD) as org:
        policy = OwnerPolicy(ALL, configured_id=QUEUE)
        changes = (lead(f"{grant}/1"), contact(f"{grant}/2"), contact(f"{grant}/3", "gone.example"))
        outcomes = await written(org, policy, *changes)
        # the Account's owner is not active either, and a queue owns no Contact
        expected = {f"{grant}/1": QUEUE, f"{grant}/2": REP, f"{grant}/3": INTEGRATION_USER}
        assert owners_of(org) == expected
        assert [one.owner_rule for _, one in sorted(outcomes.items())] == [
            OwnerRule.CONFIGURED,
            OwnerRule.ACCOUNT,
            OwnerRule.FALLBACK,
        ]


async def test_two_users_with_one_address_own_nothing() -> None:
    twice = {**WORLD, "users": [*WORLD["users"], {"Email": "rep@reps.example"}]}
    async with simulated_org(twice) as org:
        outcomes = await written(org, OwnerPolicy((OwnerRule.USER,)), lead("g/1"))
        assert owners_of(org) == {"g/1": INTEGRATION_USER}
        assert outcomes["g/1"].owner_rule == OwnerRule.FALLBACK


async def test_a_portal_user_is_no_owner() -> None:
    users = [{"Email": "rep@reps.example", "UserType": "PowerCustomerSuccess"}]
    async with simulated_org({**WORLD, "users": [*WORLD["users"][1:], *users]}) as org:
        await written(org, OwnerPolicy((OwnerRule.USER,)), lead("g/1"))
        assert owners_of(org) == {"g/1": INTEGRATION_USER}


@pytest.mark.parametrize(
    ("match", "address"),
    [(UserMatch.USERNAME, "rep@acme.example"), (UserMatch.FEDERATION_IDENTIFIER, "O-1")],
)
async def test_users_are_compared_by_the_field_of_the_settings(
    match: UserMatch, address: str
) -> None:
    async with simulated_org(WORLD) as org:
        policy = Policy(owners=OwnerPolicy((OwnerRule.USER,), match))
        sync = org.new_sync(org.client, policy, grant_address={"x": address}.get)
        await sync.sync([lead("x/1")])
        assert owners_of(org)["x/1"] in {REP, OTHER}


async def test_a_change_of_the_contact_never_changes_the_owner() -> None:
    async with simulated_org(WORLD) as org:
        policy = OwnerPolicy((OwnerRule.USER,))
        sync = owning(org, policy)
        await sync.sync([lead("g/1")])
        (created,) = org.records("Lead")
        org.world.edit("Lead", created["Id"], {"OwnerId": HUMAN_USER})
        changed = lead("g/1", version=200)
        (outcome,) = await sync.sync(
            [ContactVersion("g/1", 200, {**(changed.contact or {}), "job_title": "Analyst"})]
        )
        assert outcome.status is OutcomeStatus.UPDATED
        assert outcome.owner_rule == ""
        (row,) = org.records("Lead")
        assert (row["OwnerId"], row["Title"]) == (HUMAN_USER, "Analyst")


@pytest.mark.parametrize(
    ("owner", "code"),
    [
        (LEFT, "inactive_owner_or_user"),
        (make_id("005", 999), "invalid_cross_reference_key"),
        (CASES, "invalid_operation"),
    ],
)
async def test_a_refused_owner_falls_back_in_the_same_batch_and_is_counted(
    owner: str, code: str
) -> None:
    async with simulated_org(WORLD) as org:
        policy = OwnerPolicy((OwnerRule.CONFIGURED,), configured_id=owner)
        changes = [lead(f"g/{number}") for number in range(20)]
        sync = owning(org, policy)
        outcomes = await sync.sync(changes)
        assert {one.status for one in outcomes} == {OutcomeStatus.CREATED}
        assert {one.owner_rule for one in outcomes} == {OwnerRule.FALLBACK}
        assert set(owners_of(org).values()) == {INTEGRATION_USER}
        assert org.counted(SyncWarning.OWNER_REFUSED) == {code: 20}
        writes = org.calls["composite_write"]
        await sync.sync([lead("g/later")])  # the refusal is remembered: one call, as without it
        assert org.calls["composite_write"] == writes + 1


async def test_only_the_rows_with_a_refused_owner_are_written_again() -> None:
    async with simulated_org(WORLD) as org:
        sync = owning(org, OwnerPolicy((OwnerRule.USER,)))
        await sync.start()
        org.world.org.tables["User"].rows[REP]["IsActive"] = False  # since the users were read
        outcomes = {one.key: one for one in await sync.sync([lead("g/1"), lead("h/2")])}
        assert owners_of(org) == {"g/1": INTEGRATION_USER, "h/2": OTHER}
        assert outcomes["g/1"].owner_rule == OwnerRule.FALLBACK
        assert outcomes["h/2"].owner_rule == OwnerRule.USER


async def test_the_assignment_rule_chooses_for_leads_of_live_changes_only() -> None:
    async with simulated_org(WORLD) as org:
        policy = OwnerPolicy((OwnerRule.ASSIGNMENT_RULE, OwnerRule.USER))
        outcomes = await written(org, policy, lead("g/1", live=True), lead("g/2"), contact("g/3"))
        assert owners_of(org) == {"g/1": ROUTED, "g/2": REP, "g/3": REP}
        assert outcomes["g/1"].owner_rule == OwnerRule.ASSIGNMENT_RULE
        assert org.world.org.auto_assigned == {"Lead": 1}
        assert org.calls["composite_write"] == 1


async def test_the_assignment_rule_never_runs_twice_for_a_record() -> None:
    async with simulated_org(WORLD) as org:
        sync = owning(org, OwnerPolicy((OwnerRule.ASSIGNMENT_RULE,)))
        await sync.start()
        org.fault("cut_after", kind="composite_write")  # written, and nobody hears of it
        (outcome,) = await sync.sync([lead("g/1", live=True)])
        # the connection was lost, so the client sent the same request again
        assert outcome.status is OutcomeStatus.RETRY
        assert org.world.org.auto_assigned == {"Lead": 1}
        (created,) = org.records("Lead")
        org.world.edit("Lead", created["Id"], {"OwnerId": HUMAN_USER})
        (outcome,) = await sync.sync([lead("g/1", live=True)])
        assert outcome.status is OutcomeStatus.UNCHANGED
        assert owners_of(org) == {"g/1": HUMAN_USER}
        assert org.world.org.auto_assigned == {"Lead": 1}


async def test_the_rule_never_runs_for_updates_whatever_the_settings_say() -> None:
    async with simulated_org(WORLD) as org:
        sync = owning(org, OwnerPolicy((OwnerRule.ASSIGNMENT_RULE,)))
        await sync.sync([lead("g/1")])
        changed = lead("g/1", version=200, live=True)
        await sync.sync(
            [ContactVersion("g/1", 200, {**(changed.contact or {}), "job_title": "X"}, live=True)]
        )
        assert org.world.org.auto_assigned == {}


async def test_users_that_cannot_be_read_are_counted_and_the_rest_goes_on() -> None:
    hidden = {**WORLD, "settings": {"hidden_fields": ["User.FederationIdentifier"]}}
    async with simulated_org(hidden) as org:
        policy = OwnerPolicy((OwnerRule.USER, OwnerRule.ACCOUNT), UserMatch.FEDERATION_IDENTIFIER)
        await written(org, policy, contact("g/1"))
        assert owners_of(org) == {"g/1": REP}  # the Account's
        assert org.counted(SyncWarning.USERS_REFUSED) == {"invalid_field": 1}


async def test_a_user_who_comes_later_is_found_with_the_next_refresh() -> None:
    async with simulated_org(WORLD) as org:
        sync = owning(org, OwnerPolicy((OwnerRule.USER,)))
        await sync.sync([lead("n/1")])
        new = {"Id": make_id("005", 77), "Email": "new@reps.example", "IsActive": True}
        stamped = {"UserType": "Standard", "SystemModstamp": stamp(org.world.now())}
        org.world.org.tables["User"].put(new | stamped)
        org.now += 901
        calls = org.calls.total()
        await sync.sync([lead("n/2")])
        assert org.calls.total() == calls + 2
        await sync.sync([lead("n/3")])
        assert owners_of(org)["n/3"] == new["Id"]


async def test_a_user_who_leaves_is_forgotten_with_the_next_refresh() -> None:
    async with simulated_org(WORLD) as org:
        sync = owning(org, OwnerPolicy((OwnerRule.USER,)))
        await sync.sync([lead("g/1")])
        org.world.org.tables["User"].rows[REP]["IsActive"] = False
        org.now += 901
        await sync.sync([lead("g/2")])
        await sync.sync([lead("g/3")])
        assert owners_of(org)["g/3"] == INTEGRATION_USER
        assert org.counted(SyncWarning.OWNER_REFUSED).keys() <= {"inactive_owner_or_user"}
