"""`contactstream plan` over several batches counts each person once, as the sink would."""

from collections import Counter
from random import Random
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from connectors.salesforce.outcome import ContactVersion
from connectors.salesforce.planned_records import PlannedRecords
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.simulator.server import app
from connectors.salesforce.simulator.world import World
from streams.commands import plan
from streams.commands.plan import PlanEntry, plan_changes
from streams.settings import SalesforceSettings, load
from tests.support.salesforce_org import simulated_org

KEY, VERSION = "Nylas_Contact_Id__c", "Nylas_Version__c"


def change(key: str, address: str, version: int = 100, **contact: Any) -> ContactVersion:
    body = {"surname": "Lovelace", "emails": [{"email": address}], **contact}
    return ContactVersion(key, version, body)


def person(grant: str, number: int, **contact: Any) -> ContactVersion:
    return change(
        f"{grant}/{number}", f"p{number}@else.example", surname=f"Person{number}", **contact
    )


async def planned(
    monkeypatch: pytest.MonkeyPatch,
    changes: list[ContactVersion],
    document: dict[str, Any] | None = None,
    policy: Policy | None = None,
    batch: int = 2,
) -> list[PlanEntry]:
    """The entries of a plan in batches of so many contacts; nothing is written."""
    monkeypatch.setattr(plan, "MAX_BATCH", batch)
    world = World(document)
    async with TestServer(app(world)) as server:
        environ = {"LOGIN_URL": str(server.make_url("")), "CLIENT_ID": "t", "CLIENT_SECRET": "t"}
        settings = load(SalesforceSettings, {f"SALESFORCE_{k}": v for k, v in environ.items()})
        entries, _ = await plan_changes(settings, policy or Policy(), changes)
    assert world.org.writes == []
    return entries


async def test_people_of_several_address_books_are_created_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    books = [[person(grant, number) for number in range(60)] for grant in ("g", "h", "i")]
    changes = [made for book in books for made in book]
    entries = await planned(monkeypatch, changes, batch=50)
    assert Counter(entry.outcome for entry in entries) == {"created": 60, "filled": 120}
    async with simulated_org() as org:
        outcomes = await org.all(*changes, size=50)
        assert [entry.outcome for entry in entries] == [
            outcomes[made.key].status.value for made in changes
        ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_a_plan_of_many_batches_announces_what_the_sink_then_does(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """People with several addresses in several books, some of them in the org, some deleted."""
    random = Random(seed)
    leads = [
        {"LastName": f"Person{number}", "Company": "x", "Email": f"p{number}@else.example"}
        | ({KEY: f"g/{number}", VERSION: 50} if number % 2 else {})
        for number in range(0, 24, 3)
    ]
    changes = []
    for grant in ("g", "h", "i"):
        for number in range(24):
            own = [f"p{number}@else.example", f"p{number}@home.example"]
            emails = [{"email": address} for address in random.sample(own, random.choice((1, 2)))]
            title = random.choice(({}, {"job_title": f"Title {grant}"}))
            changes.append(person(grant, number, emails=emails, **title))
    gone = {f"g/{number}" for number in range(24) if random.random() < 0.2}
    changes = [
        ContactVersion(one.key, 100, None) if one.key in gone else one
        for one in random.sample(changes, len(changes))
    ]
    entries = await planned(monkeypatch, changes, {"leads": leads}, batch=7)
    async with simulated_org({"leads": leads}) as org:
        outcomes = await org.all(*changes, size=7)
    told = {entry.key: (entry.outcome, entry.matched, entry.reason) for entry in entries}
    assert told == {
        key: (outcome.status.value, outcome.matched, outcome.reason)
        for key, outcome in outcomes.items()
    }


async def test_a_record_that_an_earlier_batch_creates_names_its_contact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = [person("g", 1), person("g", 2), person("h", 1, job_title="Analyst")]
    *_, entry = await planned(monkeypatch, changes)
    assert (entry.outcome, entry.sobject, entry.record_id) == ("filled", "Lead", None)
    assert entry.same_record_as == "g/1"
    assert {name: value.after for name, value in entry.fields.items()} == {"Title": "Analyst"}


async def test_a_record_without_a_key_is_taken_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lead = {"LastName": "Lovelace", "Company": "x", "Email": "ada@else.example"}
    changes = [
        change("g/1", "ada@else.example", phone_numbers=[{"number": "1"}]),
        change("h/1", "ada@else.example", phone_numbers=[{"number": "2"}], job_title="Analyst"),
    ]
    first, second = await planned(monkeypatch, changes, {"leads": [lead]}, batch=1)
    assert (first.outcome, second.outcome) == ("updated", "filled")
    assert first.record_id == second.record_id is not None
    assert first.fields[KEY].after == "g/1"
    # the phone is no blank any more, and the values before are those that the first one leaves
    assert second.fields.keys() == {"Title"}


async def test_a_person_is_found_by_an_address_that_an_earlier_batch_added(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lead = {"LastName": "Lovelace", "Company": "x", "Email": "ada@else.example"}
    both = [{"email": "ada@else.example"}, {"email": "ada@home.example"}]
    changes = [
        change("g/1", "ada@else.example", emails=both),
        change("h/1", "ada@home.example"),
    ]
    first, second = await planned(monkeypatch, changes, {"leads": [lead]}, batch=1)
    assert (second.outcome, second.record_id) == ("filled", first.record_id)


async def test_a_record_that_an_earlier_batch_releases_is_taken_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lead = {
        "LastName": "Lovelace",
        "Company": "x",
        "Email": "ada@else.example",
        KEY: "g/1",
        VERSION: 50,
    }
    changes = [
        ContactVersion("g/1", 100, None),
        change("h/1", "ada@else.example"),
        change("i/1", "ada@else.example"),
    ]
    entries = await planned(
        monkeypatch, changes, {"leads": [lead]}, Policy(on_delete=OnDelete.RELEASE), batch=1
    )
    assert [entry.outcome for entry in entries] == ["released", "updated", "filled"]


async def test_no_more_records_are_remembered_than_the_bound() -> None:
    remembered = PlannedRecords(most=3)
    async with simulated_org() as org:
        made = await org.sync.resolve([person("g", number) for number in range(5)])
        remembered.add(made.decisions)
    assert remembered.forgotten == 2
    found = [bool(remembered.rows("Lead", [f"p{number}@else.example"])) for number in range(5)]
    assert found == [False, False, True, True, True]
    assert [bool(remembered.rows("Lead", [f"g/{number}"])) for number in range(5)] == found
