"""Checks of the org as a whole: its API version, the logged-in user, the daily calls."""

from collections.abc import Mapping

from connectors.salesforce.api.budget import Usage
from connectors.salesforce.checkup.findings import SEE_SETUP, CheckupFinding, fail, ok, warn


def api_version(versions: object, wanted: str) -> CheckupFinding:
    """Whether the org serves an API version; `versions` is the answer of `/services/data`."""
    check = "API version"
    entries = versions if isinstance(versions, list) else []
    served = [
        str(entry["version"])
        for entry in entries
        if isinstance(entry, Mapping) and "version" in entry
    ]
    if wanted in served:
        return ok(check, f"the org serves {wanted}")
    if not served:
        return warn(check, "the org did not list the versions that it serves", "try again later")
    remedy = f"set SALESFORCE_API_VERSION to {served[-1]} or lower"
    return fail(check, f"the org does not serve {wanted}", remedy)


def user(user_id: str | None) -> CheckupFinding:
    """Whether the login names its user; without it the user's access to records is not known."""
    if user_id is None:
        return warn(
            "user",
            "the login's answer names no user, so it cannot be told which records the user may see",
            "give the external client app the scope to access the identity URL service",
        )
    return ok("user", user_id)


def daily_calls(usage: Usage | None, reserve: float) -> CheckupFinding:
    """Whether API calls are left; `reserve` is the share of the allowed calls to leave unused."""
    check = "daily API calls"
    if usage is None:
        return warn(check, "cannot tell how many calls are left", SEE_SETUP)
    left = usage.allowed - usage.used
    shown = f"{left:,} of {usage.allowed:,} are left"
    if left <= usage.allowed * reserve:
        return fail(
            check,
            f"{shown}: that is only the reserve, so the sink waits",
            "find out which programs use the calls, or buy more",
        )
    if left <= usage.allowed * 2 * reserve:
        remedy = "find out which programs use the calls, before only the reserve is left"
        return warn(check, shown, remedy)
    return ok(check, shown)
