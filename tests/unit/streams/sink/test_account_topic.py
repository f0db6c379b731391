"""The Accounts on their topic: what is published in which order, and what is read back."""

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from connectors.salesforce.account_store import (
    AccountCursor,
    AccountStoreUnavailable,
    ContactDomainCursor,
    OpenLoad,
    StoredPage,
)
from connectors.salesforce.account_table import AccountRow
from connectors.salesforce.api.client import no_fence
from connectors.salesforce.api.errors import WriterFenced
from connectors.salesforce.contact_domains import ContactDomain
from connectors.salesforce.counting import SyncWarning
from streams.kafka.publisher import PublishFailed
from streams.kafka.records import KafkaRecord
from streams.settings import KafkaSettings
from streams.sink import account_topic
from streams.sink.account_topic import (
    AccountTopic,
    decode_contact_domain,
    decode_cursor,
    decode_row,
    encode_cursor,
    encode_row,
)
from tests.support.salesforce_org import SimulatedOrg, simulated_org
from tests.support.sink_harness import running_sink

KAFKA = KafkaSettings.model_construct(topic_prefix="")
LOAD = OpenLoad(
    datetime(2026, 3, 1, tzinfo=UTC), True, 2, "rules", None, "750", ("Id", "Website"), "MTA"
)
CURSOR = AccountCursor(datetime(2026, 2, 1, tzinfo=UTC), "rules", 1, 2, LOAD)
ROWS = st.builds(
    AccountRow,
    st.integers(0, 10**12 - 1).map(lambda number: f"001{number:012d}AAA"),
    st.sampled_from(["acme.com", "shop.acme.com", "xn--bcher-kva.example"]),
    st.just(7),
    st.booleans(),
    st.integers(0, 10**14 - 1),
    st.integers(0, 255),
    st.lists(st.sampled_from(["acme.io", "mail.acme.co.uk"]), unique=True, max_size=2).map(tuple),
)


class Log:
    """The topic as a list of records, which it is published to and read from."""

    def __init__(self) -> None:
        self.records: list[KafkaRecord] = []
        self.refuse: list[PublishFailed] = []
        self.reads: list[int] = []

    async def publish(self, records: Sequence[KafkaRecord]) -> None:
        if self.refuse:
            raise self.refuse.pop(0)
        for record in records:
            offset = len(self.records)
            self.records.append(KafkaRecord(record.topic, record.key, record.value, [], 0, offset))

    def read(self, _kafka: KafkaSettings, _topic: str, *, offset: int) -> Iterator[KafkaRecord]:
        self.reads.append(offset)
        yield from self.records[offset:]


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(account_topic, "read_to_end", log.read)
    monkeypatch.setattr(account_topic, "PUBLISH_FIRST_SECONDS", 0.0)
    return log


def store(log: Log, now: list[float] | None = None) -> AccountTopic:
    clock = now or [0.0]
    return AccountTopic(KAFKA, "sink.accounts", log, lambda: clock[0])


async def pages(loading: AsyncIterator[StoredPage]) -> list[StoredPage]:
    return [page async for page in loading]


def row(number: int) -> AccountRow:
    return AccountRow(f"001{number:012d}AAA", f"c{number}.com", len(f"c{number}.com"))


@given(ROWS)
def test_a_row_is_read_as_it_was_written(written: AccountRow) -> None:
    assert decode_row(written.id.encode(), encode_row(written)) == written


def test_an_account_without_a_website_is_kept_for_the_domains_of_its_fields() -> None:
    written = AccountRow("001000000000001AAA", further_hosts=("acme.io",))
    assert decode_row(written.id.encode(), encode_row(written)) == written


def test_a_row_without_a_host_is_a_tombstone() -> None:
    assert encode_row(AccountRow("001000000000001AAA")) is None
    assert decode_row(b"001000000000001AAA", None) == AccountRow("001000000000001AAA")


@pytest.mark.parametrize("cursor", [CURSOR, AccountCursor()])
def test_a_cursor_is_read_as_it_was_written(cursor: AccountCursor) -> None:
    assert decode_cursor(encode_cursor(cursor)) == cursor


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"{", b"[]", b"{}", b"7", b"\xff", b'["a.com"]', b"[7,1,0,0,0]"),
        *(b'["a.com",5,0,0,0,[""]]', b'["",0,0,0,0]', b'["a.com",5,0,0,0,[],1]'),
        *(b'["a.com",99,0,0,0]', b'["a.com","x",0,0,0]', b'["a.com",5,0,-1,0]'),
        *(b'["a.com",5,0,0,256]', b'{"load":null,"known_until":"2026-01-01"}'),
        b'{"load":{"asked":"2026-01-01T00:00:00Z"},"known_until":null}',
    ],
)
def test_what_nobody_wrote_is_skipped(value: bytes) -> None:
    assert decode_row(b"001000000000001AAA", value) is None
    assert decode_cursor(value) is None
    assert decode_row(value, encode_row(row(1))) is None


async def test_rows_are_acknowledged_before_their_cursor(topic: Log) -> None:
    rows = [row(number) for number in range(2_500)]
    await store(topic).save(rows, CURSOR, no_fence)
    assert [record.key for record in topic.records[:-1]] == [one.id.encode() for one in rows]
    assert topic.records[-1].key == b"cursor"
    found = await pages(store(topic).load())
    assert found[0].from_start
    assert [one for page in found for one in page.rows] == rows
    assert [page.cursor for page in found if page.cursor] == [CURSOR]


async def test_a_later_load_reads_only_the_rest_unless_it_is_much_later(topic: Log) -> None:
    now = [1.0]
    standby = store(topic, now)
    await store(topic).save([row(1)], None, no_fence)
    await pages(standby.load())
    await store(topic).save([row(2)], CURSOR, no_fence)
    now[0] += 3600
    assert await pages(standby.load()) == [StoredPage([row(2)], CURSOR)]
    now[0] += account_topic.REREAD_SECONDS + 1
    first, second = await pages(standby.load())
    assert (first.from_start, second.rows) == (True, [row(1), row(2)])
    assert topic.reads == [0, 1, 0]


async def test_what_is_not_acknowledged_is_published_again(topic: Log) -> None:
    topic.refuse = [PublishFailed("timed out")] * 2
    with capture_logs():
        await store(topic).save([row(1)], CURSOR, no_fence)
    assert [record.key for record in topic.records] == [row(1).id.encode(), b"cursor"]


@pytest.mark.parametrize(
    "refusals",
    [
        [PublishFailed("refused", permanent=True)],
        [PublishFailed("timed out")] * account_topic.PUBLISH_ATTEMPTS,
    ],
)
async def test_a_broker_that_takes_nothing_fails_the_page(
    topic: Log, refusals: list[PublishFailed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_topic, "PUBLISH_LONGEST_SECONDS", 0.0)
    topic.refuse = list(refusals)
    with capture_logs(), pytest.raises(AccountStoreUnavailable, match=r"sink\.accounts"):
        await store(topic).save([row(1)], CURSOR, no_fence)
    assert topic.records == []


async def test_a_writer_that_was_replaced_publishes_nothing(topic: Log) -> None:
    def fence() -> None:
        raise WriterFenced("replaced")

    with pytest.raises(WriterFenced):
        await store(topic).save([row(1)], CURSOR, fence)
    assert topic.records == []


def person(number: int) -> dict[str, Any]:
    return {"emails": [{"email": f"p{number}@acme.example"}], "surname": f"Person {number}"}


def org_of_acme(**settings: Any) -> dict[str, Any]:
    acme = {"Name": "Acme", "Website": "acme.example"}
    return {"accounts": [acme], "settings": settings}


async def test_a_sink_without_accounts_pauses_and_says_why() -> None:
    hidden = org_of_acme(hidden_fields=["Account.Website"])
    with capture_logs() as logs:
        async with simulated_org(hidden) as org, running_sink(org.sync) as sink:
            sink.offer("g/1", 1, person(1))
            await sink.until(
                lambda: sink.health.waiting_for == "salesforce: accounts", "the sink waits"
            )
            assert org.people() == []
            org.world.change_settings({"hidden_fields": []})
            await sink.until_committed(skip=30.0)
            assert [row["LastName"] for row in org.records("Contact")] == ["Person 1"]
    (paused, *_) = [entry for entry in logs if entry["event"] == "salesforce is away"]
    assert paused["reason"] == "accounts"
    assert "PEOPLE_CREATE=leads" in paused["detail"]
    assert org.counts[SyncWarning.ACCOUNTS_REFUSED, "invalid_field"] >= 1


async def test_a_successor_asks_only_for_what_changed(topic: Log) -> None:
    def successor(org: SimulatedOrg) -> Any:
        return org.new_sync(org.client, org.sync.policy, store(topic))

    async with simulated_org(org_of_acme()) as org:
        async with running_sink(successor(org)) as sink:
            sink.offer("g/1", 1, person(1))
            await sink.until_committed()
        assert [record.key for record in topic.records][-1] == b"cursor"
        topic_before = len(topic.records)
        for account in org.world.org.tables["Account"].rows.values():
            account["SystemModstamp"] = "2020-01-01T00:00:00.000+0000"
        org.now += 3600
        async with running_sink(successor(org)) as sink:
            sink.offer("g/2", 1, person(2))
            await sink.until_committed()
            assert len(org.records("Contact")) == 2
        assert len(topic.records) == topic_before + 1, "no row, and the next cursor"


async def test_no_batch_starts_before_the_accounts_are_restored(topic: Log) -> None:
    async with simulated_org(org_of_acme()) as org:
        restored = False

        class Slow(AccountTopic):
            async def load(self) -> AsyncIterator[StoredPage]:
                while not restored:
                    await sink.until_polled()
                async for page in super().load():
                    yield page

        slow = Slow(KAFKA, "sink.accounts", topic)
        async with running_sink(org.new_sync(org.client, org.sync.policy, slow)) as sink:
            sink.offer("g/1", 1, person(1))
            await sink.until_polled(5)
            assert org.calls.total() == 0
            restored = True
            await sink.until_committed()


async def test_domains_of_contacts_are_read_as_they_were_published(topic: Log) -> None:
    known = ContactDomain("acme.com", "001000000000001AAA", 9, 10)
    cursor = ContactDomainCursor(datetime(2026, 2, 1, tzinfo=UTC), "rules")
    await store(topic).save_contact_domains([known, ContactDomain("gone.com")], cursor, no_fence)
    assert topic.records[-1].key == b"contacts-cursor"
    assert [record.value is None for record in topic.records] == [False, True, False]
    _, page = await pages(store(topic).load())
    assert list(page.contact_domains) == [known, ContactDomain("gone.com")]
    assert page.contact_cursor == cursor


@pytest.mark.parametrize("value", [b"", b"7", b'["x",1,2]', b'["001000000000001AAA",3,2]'])
def test_a_domain_of_contacts_that_nobody_wrote_is_skipped(value: bytes) -> None:
    assert decode_contact_domain(b"contacts/acme.com", value) is None
