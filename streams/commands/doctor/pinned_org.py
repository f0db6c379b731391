"""The check of `contactstream doctor` that the login leads to the org of this deployment."""

import click

from connectors.salesforce.checkup.findings import CheckupFinding, fail, ok
from streams.commands.breakers import read_control
from streams.commands.doctor.deployment import Deployment
from streams.commands.org.command import logged_in_org, pin_line
from streams.control_org import OrgPin

CHECK = "org of this deployment"


def examine_pin(deployment: Deployment) -> list[CheckupFinding]:
    """The finding; none without settings of Kafka or Salesforce. Blocks for up to two minutes.

    None either where Kafka or the login fails, which is a finding of its own elsewhere.
    """
    if deployment.kafka is None or deployment.salesforce is None:
        return []
    try:
        # Does not wait for a broker or a topic: other findings say which of them is missing.
        pin = read_control(deployment.kafka, broker_seconds=0.0).org
        here = logged_in_org(deployment.salesforce)
    except click.ClickException:
        return []
    return [pin_finding(pin, here)]


def pin_finding(pin: OrgPin | None, here: str) -> CheckupFinding:
    """Whether the sink may work in the org of the login."""
    if pin is None:
        return ok(CHECK, f"none is pinned yet; the first sink pins {here}")
    if pin.org_id != here:
        return fail(
            CHECK,
            f"{pin_line(pin)}, and the login leads to org {here}",
            "correct SALESFORCE_LOGIN_URL and the credentials, or, after the refresh of a "
            "sandbox: contactstream org adopt --dry-run",
        )
    return ok(CHECK, pin_line(pin))
