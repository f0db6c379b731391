"""The reader derives own domains, puts them in force and ends that when the setting does."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from streams.control import ControlTable
from streams.grant_addresses import GrantAddress, GrantAddresses, address_record
from streams.kafka.records import KafkaRecord
from streams.metrics import ReaderMetrics
from streams.own_domains import OwnDomains
from streams.reader.context import ReaderContext
from streams.reader.gate import Gate
from streams.reader.own_domain_keeper import OwnDomainKeeper
from streams.settings import KafkaSettings, load
from streams.topics import topics

TOPICS = topics(load(KafkaSettings, {}))
NOW = 1_800_000_000.0


class Topic:
    """contactstream.control, as the readers of a deployment share it."""

    def __init__(self) -> None:
        self.records: list[KafkaRecord] = []

    async def publish(self, records: Sequence[KafkaRecord]) -> None:
        self.records += records

    def table(self) -> ControlTable:
        table = ControlTable()
        for record in self.records:
            table.apply(record)
        return table


async def run(topic: Topic, derives: bool, *addresses: str, times: int = 1) -> OwnDomains | None:
    """A reader with these grants starts and looks; returns what is in force then."""
    known = GrantAddresses()
    for number, address in enumerate(addresses):
        known.apply(address_record(TOPICS, GrantAddress(f"g{number}", address, "google"), 9))
    gate, metrics = Gate(lambda: 0, 1, lambda _: None), ReaderMetrics(CollectorRegistry())
    context = ReaderContext(TOPICS, topic.publish, gate, metrics)
    keeper = OwnDomainKeeper(context, topic.table(), known, derives, lambda: NOW)
    await keeper.put_in_force()
    for _ in range(times if derives else 0):
        await keeper.keep()
    return topic.table().own_domains


async def test_new_domains_are_published_once() -> None:
    topic = Topic()
    own = await run(topic, True, "ada@acme.com", "bob@gmail.com", times=3)
    assert own == OwnDomains({"acme.com": int(NOW * 1000)})
    assert len(topic.records) == 2, "it comes into force, and one domain is found"
    await run(topic, True, "ada@acme.com")
    assert len(topic.records) == 2, "a successor has nothing to add"


async def test_without_grants_it_is_in_force_all_the_same() -> None:
    assert await run(Topic(), True) == OwnDomains()


async def test_a_setting_that_names_domains_ends_it_and_writes_nothing_else() -> None:
    topic = Topic()
    assert await run(topic, False, "ada@acme.com") is None
    assert topic.records == []
    await run(topic, True, "ada@acme.com")
    assert await run(topic, False, "ada@acme.com") is None
