"""The sink reads to which Accounts the Contacts' domains lead, and goes on after a fault."""

from typing import Any

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from connectors.salesforce.api.errors import WriterFenced
from connectors.salesforce.contact_domain_loading import READ_EVERY_SECONDS
from connectors.salesforce.policy import Policy
from connectors.salesforce.simulator.schema import make_id
from streams.metrics import SinkMetrics
from streams.sink.contact_domain_keeper import ContactDomainKeeper
from tests.support.salesforce_org import simulated_org

ACCOUNT = make_id("001", 1)


def world(contacts: int) -> dict[str, Any]:
    listed = [
        {"LastName": f"L{number}", "Email": f"l{number}@acme.com", "AccountId": ACCOUNT}
        for number in range(contacts)
    ]
    return {"accounts": [{"Id": ACCOUNT, "Name": "Acme"}], "contacts": listed}


def allowed() -> None:
    """A fence that lets the batch go on."""


def fenced() -> None:
    raise WriterFenced("another sink is the writer")


async def test_what_is_read_anew_shows_in_the_metric_and_a_fault_ends_nothing() -> None:
    registry = CollectorRegistry()
    async with simulated_org(world(9), Policy(contact_share=0.8)) as org:
        keeper = ContactDomainKeeper(org.sync, SinkMetrics(registry))
        await org.sync.start()
        await keeper.keep(allowed)
        assert registry.get_sample_value("contactstream_sink_contact_domains") == 1
        for contact in org.records("Contact"):
            org.world.delete("Contact", contact["Id"])
        org.now += READ_EVERY_SECONDS
        with capture_logs() as logged:
            await keeper.keep(fenced)
        assert [line["event"] for line in logged] == [
            "a reading of the Contacts ended at its write fence"
        ]
        org.now += READ_EVERY_SECONDS
        await keeper.keep(allowed)
        assert registry.get_sample_value("contactstream_sink_contact_domains") == 0
