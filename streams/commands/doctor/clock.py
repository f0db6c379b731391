"""The check of the clock of this machine, as `contactstream doctor` reports it."""

from connectors.salesforce.checkup.findings import CheckupFinding, fail, ok
from streams.runtime.wall_clock import CLOCK_REMEDY, ClockWatch


def clock_findings(clock: ClockWatch) -> list[CheckupFinding]:
    """How far this machine's clock is from that of a service; empty if the service gave no time."""
    if clock.ahead is None:
        return []
    check = f"clock, by {clock.service}"
    if clock.fault:
        return [fail(check, clock.fault, CLOCK_REMEDY)]
    return [ok(check, f"{abs(clock.ahead):.0f} s off")]
