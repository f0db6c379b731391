"""What `contactstream doctor` says of a simulated org: its version, and lookups of full size."""

from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from connectors.salesforce.api.client import Fence, SalesforceClient, no_fence
from connectors.salesforce.api.errors import OrgUnavailable
from connectors.salesforce.checkup import CheckupFinding, CheckupStatus
from connectors.salesforce.simulator.faults import parse_fault
from connectors.salesforce.simulator.server import app
from connectors.salesforce.simulator.world import World
from streams.commands.doctor.deployment import Deployment
from streams.commands.doctor.org import examine_org
from streams.settings import SalesforceSettings, load

CHECK = "full-size lookup"


async def examined(world: World, **further: str) -> dict[str, CheckupFinding]:
    async with TestServer(app(world)) as server:
        environ = {
            "SALESFORCE_CLIENT_ID": "id",
            "SALESFORCE_CLIENT_SECRET": "secret",
            "SALESFORCE_LOGIN_URL": str(server.make_url("")).rstrip("/"),
            **further,
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


@pytest.mark.parametrize("version", ["99.0", "20.0"])
async def test_a_version_that_the_org_lacks_is_the_one_failure_and_says_what_to_set(
    version: str,
) -> None:
    found = await examined(World(), SALESFORCE_API_VERSION=version)
    failed = [one for one in found.values() if one.status is CheckupStatus.FAIL]
    assert [one.check for one in failed] == ["API version"]
    assert failed[0].finding == f"the org does not serve {version}"
    assert "set SALESFORCE_API_VERSION to " in failed[0].remedy
    assert found["the org"].finding == "not examined"


async def test_an_org_that_does_not_list_its_versions_is_examined_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    get = SalesforceClient.get

    async def without_versions(
        self: SalesforceClient, path: str, kind: str = "get", fence: Fence = no_fence
    ) -> Any:
        if kind == "versions":
            raise OrgUnavailable("maintenance")
        return await get(self, path, kind, fence)

    monkeypatch.setattr(SalesforceClient, "get", without_versions)
    found = await examined(World())
    assert found["API version"].status is CheckupStatus.FAIL
    assert "SALESFORCE_API_VERSION" not in found["API version"].remedy
    assert found[CHECK].status is CheckupStatus.OK
