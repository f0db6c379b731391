"""The Nylas checks of `contactstream doctor`: the API key, and which grants can be read."""

import asyncio

from connectors.nylas.client import NylasClient
from connectors.nylas.errors import NylasError, Refused
from connectors.nylas.grants import list_grants, unreadable
from connectors.salesforce.checkup.findings import CheckupFinding, fail, ok, warn
from streams.commands.doctor.clock import clock_findings
from streams.runtime.wall_clock import ClockWatch
from streams.settings import NylasSettings

# The grants, page after page. The client itself would wait for minutes when Nylas throttles it.
NYLAS_SECONDS = 30.0

# The reasons of `unreadable` that a person can do something about.
REMEDIES = {
    "expired": "have its owner sign in again",
    "no_scope": "add a scope for contacts to the connector, and have its owner sign in again",
    "blocked": "unblock it in the Nylas dashboard",
}


async def examine_nylas(nylas: NylasSettings | None) -> list[CheckupFinding]:
    """Findings about the key and its grants.

    Empty when no key is set, as on a host that runs only the sink.
    """
    key = nylas.api_key.get_secret_value() if nylas else ""
    if nylas is None or not key:
        return []
    clock = ClockWatch("Nylas")
    findings = await _examine_grants(nylas.api_url, key, clock)
    return [*findings, *clock_findings(clock)]


async def _examine_grants(url: str, key: str, clock: ClockWatch) -> list[CheckupFinding]:
    try:
        async with (
            asyncio.timeout(NYLAS_SECONDS),
            NylasClient(url, key, tries=2, on_date=clock.on_date) as client,
        ):
            grants = await list_grants(client)
    except Refused as error:
        remedy = "check NYLAS_API_KEY, and NYLAS_API_URL: a key is valid in one region"
        return [fail("Nylas key", str(error), remedy)]
    except (NylasError, TimeoutError) as error:
        finding = str(error) or f"no answer within {NYLAS_SECONDS:.0f} s"
        return [fail("Nylas key", finding, f"check that {url} can be reached from here")]
    findings = [ok("Nylas key", f"gives access to {len(grants)} grants")]
    if not grants:
        findings.append(warn("grants", "there are none", "have somebody connect an account"))
    findings += [
        warn(f"grant {grant.id}", f"its address book cannot be read: {reason}", REMEDIES[reason])
        for grant in grants
        if (reason := unreadable(grant)) in REMEDIES
    ]
    return findings
