"""The dry run of a restore announces the values of other people that the sink then replaces."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import BaseTestServer, TestServer

from connectors.salesforce.policy import Policy
from connectors.salesforce.simulator.server import app
from connectors.salesforce.simulator.world import World
from streams.commands import plan
from streams.commands.replay import restore
from streams.commands.replay.estimates import ask_calls_left
from streams.commands.replay.restore import changes_to_restore, count_replaced
from streams.events import Kind, change_headers
from streams.kafka.records import KafkaRecord
from streams.reader.replay_page import SelectedContacts
from streams.selection import Selection
from streams.settings import SalesforceSettings, load
from tests.support.salesforce_org import simulated_org

FIELDS = ("Phone", "Title")
TITLES = {number: f"Title {number}" for number in range(12)}


def change(number: int, version: int, title: str, offset: int) -> KafkaRecord:
    contact = {
        "grant_id": "g",
        "id": f"c{number}",
        "surname": f"P{number}",
        "job_title": title,
        "emails": [{"email": f"p{number}@acme.example"}],
    }
    headers = change_headers(Kind.UPDATED, version, "f", "m", b"webhook", b"1")
    key = f"g/c{number}".encode()
    return KafkaRecord("contacts.changes", key, orjson.dumps(contact), headers, 0, offset)


def records() -> list[KafkaRecord]:
    """contacts.changes before its compaction: an older and the newest change of each contact."""
    older = [change(number, 50, "Old", number) for number in TITLES]
    newer = [change(number, 100, title, 12 + number) for number, title in TITLES.items()]
    return [*older, *newer]


def org_settings(server: BaseTestServer) -> SalesforceSettings:
    environ = {"LOGIN_URL": str(server.make_url("")), "CLIENT_ID": "t", "CLIENT_SECRET": "t"}
    return load(SalesforceSettings, {f"SALESFORCE_{name}": v for name, v in environ.items()})


def to_restore(log: Iterable[KafkaRecord], names: Sequence[str] = FIELDS) -> Any:
    return changes_to_restore(log, Selection(), SelectedContacts(), names)


def after_the_import(org: Any) -> None:
    """A bad import put its own values into some records, and cleared one."""
    for number, lead in enumerate(sorted(org.records("Lead"), key=lambda one: one["LastName"])):
        if number < 5:
            lead["Title"] = "Imported"
        if number == 5:
            lead["Title"] = None
        if number == 6:
            lead["Company"] = "Imported too"


@pytest.mark.parametrize("batch", [4, 1000])
async def test_the_values_that_a_restore_replaces_are_counted_before_and_replaced_then(
    monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(plan, "MAX_BATCH", batch)
    monkeypatch.setattr(restore, "MAX_BATCH", batch)
    async with simulated_org() as org:
        await org.all(*to_restore(records(), ()))
        after_the_import(org)
        writes = len(org.world.org.writes)
        async with TestServer(app(org.world)) as server:
            found = await count_replaced(
                org_settings(server), Policy(), to_restore(records()), FIELDS, None
            )
        assert len(org.world.org.writes) == writes, "nothing is written"
        assert found == {"Lead.Title": 6}
        newest = {one.key: one for one in to_restore(records())}
        await org.all(*newest.values())
        assert sorted(lead["Title"] for lead in org.records("Lead")) == sorted(TITLES.values())
        assert [one["Company"] for one in org.records("Lead")].count("Imported too") == 1
        async with TestServer(app(org.world)) as server:
            again = await count_replaced(
                org_settings(server), Policy(), to_restore(records()), FIELDS, None
            )
        assert not again, "they are ours now"


async def test_without_a_restore_the_values_of_the_import_stay() -> None:
    async with simulated_org() as org:
        await org.all(*to_restore(records(), ()))
        after_the_import(org)
        await org.all(*to_restore(records(), ()))
        assert [lead["Title"] for lead in org.records("Lead")].count("Imported") == 5


async def test_the_org_says_how_many_calls_are_left_and_an_unknown_one_nothing() -> None:
    assert await ask_calls_left(load(SalesforceSettings, {})) is None
    async with TestServer(app(World())) as server:
        left = await ask_calls_left(org_settings(server))
    assert left is not None
    assert 0 < left.left < left.allowed
