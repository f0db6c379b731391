"""What a check of an org found, and the remedies that several checks share."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

DEPLOY = "deploy deploy/salesforce/force-app into the org"
PERMIT = "assign the permission set Contactstream to the user"
SEE_SETUP = "assign the permission set Contactstream_Doctor to the user, or check it in Setup"


class CheckupStatus(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"  # it works, but not as well as it could; or it could not be checked
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class CheckupFinding:
    """What one check found. `remedy` is empty if nothing has to be done."""

    check: str
    status: CheckupStatus
    finding: str
    remedy: str = ""


def ok(check: str, finding: str) -> CheckupFinding:
    return CheckupFinding(check, CheckupStatus.OK, finding)


def warn(check: str, finding: str, remedy: str) -> CheckupFinding:
    return CheckupFinding(check, CheckupStatus.WARN, finding, remedy)


def fail(check: str, finding: str, remedy: str) -> CheckupFinding:
    return CheckupFinding(check, CheckupStatus.FAIL, finding, remedy)


def failed(findings: Collection[CheckupFinding]) -> bool:
    """Whether any of the findings is a failure."""
    return any(finding.status is CheckupStatus.FAIL for finding in findings)
