"""What `contactstream doctor` finds out about lookups of full size, against a simulated org."""

from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from connectors.salesforce.checkup import CheckupFinding, CheckupStatus
from connectors.salesforce.simulator.faults import parse_fault
from connectors.salesforce.simulator.server import app
from connectors.salesforce.simulator.world import World
from streams.commands.doctor.deployment import Deployment
from streams.commands.doctor.org import examine_org
from streams.settings import SalesforceSettings, load

CHECK = "full-size lookup"


async def examined(world: World) -> dict[str, CheckupFinding]:
    async with TestServer(app(world)) as server:
        environ = {
            "SALESFORCE_CLIENT_ID": "id",
            "SALESFORCE_CLIENT_SECRET": "secret",
            "SALESFORCE_LOGIN_URL": str(server.make_url("")).rstrip("/"),
        }
        settings = load(SalesforceSettings, environ)
        return {one.check: one for one in await examine_org(Deployment(None, settings, None, None))}


async def test_an_org_that_takes_a_lookup_of_full_size_passes() -> None:
    world = World()
    found = await examined(world)
    assert found[CHECK].status is CheckupStatus.OK
    assert world.calls["composite_query"] == 1
    assert not world.org.writes


@pytest.mark.parametrize(
    "settings",
    [{"query_uri_limit": 60_000}, {"statement_limit": 50_000}, {"query_value_limit": 99}],
)
async def test_an_org_that_refuses_a_lookup_for_its_size_is_a_warning(
    settings: dict[str, Any],
) -> None:
    finding = (await examined(World({"settings": settings})))[CHECK]
    assert finding.status is CheckupStatus.WARN
    assert "refused for their size" in finding.finding
    assert "proxy" in finding.remedy


async def test_a_proxy_that_refuses_the_request_is_a_warning() -> None:
    world = World()
    fault = {"effect": "status", "kind": "composite_query", "status": 413, "body": "html"}
    world.faults.queue.append(parse_fault(fault))
    assert (await examined(world))[CHECK].status is CheckupStatus.WARN


async def test_an_org_that_refuses_the_lookup_for_another_reason_is_a_failure() -> None:
    world = World()
    fault = {"effect": "status", "kind": "composite_query", "status": 400, "code": "INVALID_TYPE"}
    world.faults.queue.append(parse_fault(fault))
    assert (await examined(world))[CHECK].status is CheckupStatus.FAIL


@pytest.mark.parametrize(
    ("world", "check"),
    [
        ({"settings": {"hidden_fields": ["Contact.Email"]}}, "Contact.Email"),
        ({"settings": {"daily_limit": 1000, "daily_used": 950}}, "daily API calls"),
    ],
)
async def test_what_another_finding_reports_is_not_reported_again(
    world: dict[str, Any], check: str
) -> None:
    found = await examined(World(world))
    assert found[check].status is CheckupStatus.FAIL
    assert CHECK not in found
