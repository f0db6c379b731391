"""Random batches, in two flights at once, against an org that fails in every documented way: what it holds at the end is what a plain
model says.
"""

import asyncio
from collections import defaultdict
from random import Random
from typing import Any

import pytest

from connectors.salesforce.errors import SalesforceError
from connectors.salesforce.planning import Change, Fate
from connectors.salesforce.simulator.faults import parse_random
from connectors.salesforce.simulator.schema import make_id
from tests.support.salesforce_org import SimulatedOrg, simulated_org

KEY, VERSION = "Nylas_Contact_Id__c", "Nylas_Version__c"
RATES = {
    **dict.fromkeys(("500", "503", "html", "reset", "cut_after", "500_after", "short", "short_rows", "expire"), 0.04),
    "lock": 0.02,
}
DONE = {Fate.CREATED, Fate.UPDATED, Fate.FILLED, Fate.UNCHANGED, Fate.STALE}


def contact(key: str, person: int, version: int) -> Change:
    domain = "known.example" if person % 2 else "else.example"
    emails = [{"email": f"person{person}@{domain}"}, {"email": f"P{person}@home.example"}]
    return Change(key, version, {"surname": f"Person {person}", "job_title": f"{key} at {version}", "emails": emails})


async def offer(org: SimulatedOrg, waiting: list[Change]) -> list[Change]:
    """One batch; those that have to come again."""
    try:
        outcomes = {outcome.key: outcome for outcome in await org.sync.sync(waiting)}
    except SalesforceError:
        return waiting
    assert outcomes.keys() == {change.key for change in waiting}
    assert {outcome.fate for outcome in outcomes.values()} <= DONE | {Fate.RETRY}
    return [change for change in waiting if outcomes[change.key].fate is Fate.RETRY]


@pytest.mark.parametrize("seed", range(6))
async def test_an_org_full_of_faults_ends_as_a_plain_model_says(seed: int) -> None:
    random = Random(seed)
    document: dict[str, Any] = {
        "accounts": [{"Id": make_id("001", 1), "Name": "Known", "Website": "known.example"}],
        "settings": {"latency_ms_call": 4, "latency_jitter": 1.0, "seed": seed},
    }
    people = {f"{grant}/{person}": person for person in range(60) for grant in "ab" if random.random() < 0.8}
    newest = dict.fromkeys(people, 0)
    async with simulated_org(document) as org:
        org.world.faults.random = parse_random({"seed": seed, "rates": RATES})
        batches: list[list[Change]] = []
        for _ in range(12):
            some = random.sample(sorted(people), random.randrange(1, 40))
            batch = [contact(key, people[key], random.randrange(1, 100)) for key in some]
            batches.append(batch)
        for first, second in zip(batches[::2], batches[1::2], strict=True):
            claimed = {claim for change in first for claim in org.sync.claims(change)}
            second = [change for change in second if not claimed & org.sync.claims(change)]
            flights = [first, second]
            for change in (*first, *second):
                newest[change.key] = max(newest[change.key], change.version)
            for _ in range(200):
                flights = list(await asyncio.gather(*(offer(org, flight) for flight in flights)))
                if not any(flights):
                    break
            else:
                pytest.fail("a batch that never ends")

        of_person: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for record in org.people():
            of_person[int(record["LastName"].removeprefix("Person "))].append(record)
        assert all(len(records) == 1 for records in of_person.values()), "somebody is there twice"
        assert of_person.keys() == {people[key] for key, version in newest.items() if version}
        for (record,) in of_person.values():
            key = record[KEY]
            assert record[VERSION] == newest[key], "not the newest version of the key's owner"
            assert record["Title"] == f"{key} at {newest[key]}"
            assert record["Email"].startswith("person")
            assert record["Nylas_Email_2__c"].startswith("p")
        written: dict[str, float] = {}
        for write in org.world.org.writes:
            if write.key and write.version is not None:
                assert write.version >= written.get(write.key, 0), "older over newer"
                written[write.key] = write.version
        assert sum(org.world.faults.met.values()) > 5, "no faults were met"
