"""Where a plan knows the Accounts from: what the sink knows, or else the org."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest
from aiohttp.test_utils import TestServer

from connectors.salesforce.account_queries import after_load, next_load
from connectors.salesforce.account_store import AccountCursor, StoredPage
from connectors.salesforce.account_table import AccountRow
from connectors.salesforce.outcome import ContactVersion
from connectors.salesforce.policy import Policy
from connectors.salesforce.simulator.server import app
from connectors.salesforce.simulator.world import World
from streams.commands.plan import PlanEntry, plan_changes
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import SnapshotStalled
from streams.settings import KafkaSettings, SalesforceSettings, load
from streams.sink import account_topic
from streams.sink.account_topic import AccountTopicReader, encode_cursor, encode_row

READER = AccountTopicReader(KafkaSettings.model_construct(topic_prefix=""), "sink.accounts")
PERSON = ContactVersion("g/1", 1, {"emails": [{"email": "ada@acme.example"}], "surname": "L"})


@pytest.fixture
async def org() -> AsyncIterator[SalesforceSettings]:
    """An org in which acme.example is an Account's website."""
    world = World({"accounts": [{"Name": "Acme", "Website": "acme.example"}]})
    async with TestServer(app(world)) as server:
        environ = {"LOGIN_URL": str(server.make_url("")), "CLIENT_ID": "t", "CLIENT_SECRET": "t"}
        yield load(
            SalesforceSettings, {f"SALESFORCE_{name}": value for name, value in environ.items()}
        )


async def planned(org: SalesforceSettings, accounts: AccountTopicReader | None) -> PlanEntry:
    (entry,), _ = await plan_changes(org, Policy(), [PERSON], accounts)
    return entry


async def test_a_plan_knows_what_the_sink_knows(
    org: SalesforceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Account that it names is not in the org: only the topic can have said so."""
    known = AccountRow("001000000000042AAA", "acme.example", len("acme.example"))
    cursor = after_load(next_load(AccountCursor(), datetime.now(UTC)))
    records = [
        KafkaRecord("sink.accounts", known.id.encode(), encode_row(known), [], 0, 0),
        KafkaRecord("sink.accounts", b"cursor", encode_cursor(cursor), [], 0, 1),
    ]
    monkeypatch.setattr(account_topic, "read_to_end", lambda *_, **__: iter_of(records))
    monkeypatch.setattr(account_topic, "REREAD_SECONDS", 0.0)
    entry = await planned(org, READER)
    accounts = entry.fields["AccountId"].after
    assert accounts == known.id


def iter_of(records: list[KafkaRecord]) -> Iterator[KafkaRecord]:
    yield from records


class Stalled(AccountTopicReader):
    """A topic that Kafka does not give."""

    async def load(self) -> AsyncIterator[StoredPage]:
        """Fails."""
        raise SnapshotStalled("no record")
        yield


@pytest.mark.parametrize("accounts", [None, Stalled(KafkaSettings.model_construct(), "t")])
async def test_without_the_topic_the_org_is_asked(
    org: SalesforceSettings, accounts: AccountTopicReader | None
) -> None:
    assert (await planned(org, accounts)).sobject == "Contact"
