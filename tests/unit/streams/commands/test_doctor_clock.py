"""`contactstream doctor` names a clock that is an hour off, whatever else fails because of it."""

import time
from email.utils import formatdate
from functools import partial

import httpx
import pytest

from connectors.salesforce.checkup.findings import CheckupFinding, CheckupStatus
from streams.commands.doctor.deployment import load_deployment
from streams.commands.doctor.nylas import examine_nylas
from streams.commands.doctor.org import examine_org

ENVIRON = {
    "NYLAS_API_KEY": "key",
    "NYLAS_API_URL": "http://nylas.example",
    "SALESFORCE_LOGIN_URL": "http://org.example",
    "SALESFORCE_CLIENT_ID": "id",
    "SALESFORCE_CLIENT_SECRET": "secret",
}


def answers_with(monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
    """Every request is refused, with the Date of a server whose clock we are so far ahead of."""

    def refuse(_: httpx.Request) -> httpx.Response:
        date = formatdate(time.time() - ahead, usegmt=True)
        return httpx.Response(400, json={"error": "invalid_grant"}, headers={"Date": date})

    monkeypatch.setattr(
        httpx, "AsyncClient", partial(httpx.AsyncClient, transport=httpx.MockTransport(refuse))
    )


async def findings() -> dict[str, CheckupFinding]:
    deployment = load_deployment(ENVIRON)
    found = [*await examine_nylas(deployment.nylas), *await examine_org(deployment)]
    return {one.check: one for one in found}


@pytest.mark.parametrize("service", ["Nylas", "Salesforce"])
async def test_a_clock_that_is_an_hour_off_is_a_failure_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    answers_with(monkeypatch, 3600)
    one = (await findings())[f"clock, by {service}"]
    assert one.status is CheckupStatus.FAIL
    assert f"ahead of the clock of {service}" in one.finding
    assert "NTP" in one.remedy


@pytest.mark.parametrize("service", ["Nylas", "Salesforce"])
async def test_a_clock_that_is_right_passes(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    answers_with(monkeypatch, 0)
    assert (await findings())[f"clock, by {service}"].status is CheckupStatus.OK
