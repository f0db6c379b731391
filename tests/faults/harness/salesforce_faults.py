"""The faults of Salesforce that a storm injects: the rules that the simulator is given."""

from collections.abc import Mapping
from typing import Any

from tests.faults.harness.schedule import Step
from tests.faults.harness.simulators import Simulator

REFUSAL_CODE = "INACTIVE_OWNER_OR_USER"
REFUSAL_MESSAGE = "this row is refused by the storm"

# The login is left out: the sink waits a minute after a failed login.
CALLS = ["composite_query", "composite_write", "composite_mixed"]


def _status(status: int, times: int, **fields: Any) -> Mapping[str, Any]:
    """A rule: the next calls are answered with this status and a Retry-After of one second."""
    return {
        "effect": "status",
        "kinds": CALLS,
        "status": status,
        "retry_after": 1,
        "times": times,
        **fields,
    }


def _write(effect: str, times: int, **fields: Any) -> Mapping[str, Any]:
    """A rule for the next calls that write."""
    return {"effect": effect, "kind": "composite_write", "times": times, **fields}


FAULTS: dict[str, Mapping[str, Any]] = {
    "500": _status(500, 2),
    "503": _status(503, 3),
    "429": _status(429, 2),
    "403 concurrent": _status(403, 2),
    "403 daily limit": _status(
        403, 2, code="REQUEST_LIMIT_EXCEEDED", message="TotalRequests Limit exceeded."
    ),
    "HTML": _status(503, 2, body="html"),
    "reset": {"effect": "reset", "kinds": CALLS, "times": 3},
    "nothing": {"effect": "hang", "kinds": CALLS, "seconds": 3, "times": 2},
    "cut after the work": _write("cut_after", 2),
    "500 after the work": _write("status_after", 2, status=500),
    "late": _write("delay_after", 2, seconds=4),
    "parts missing": _write("short", 1),
    "rows missing": _write("short_rows", 1),
    "row locks": _write("rows", 2, code="UNABLE_TO_LOCK_ROW", every=50),
    "rows refused for good": _write(
        "rows", 40, code=REFUSAL_CODE, message=REFUSAL_MESSAGE, every=200
    ),
    "session expired": {"effect": "expire", "times": 1},
}
"""By the step's target. Each rule ends by itself after so many calls."""

SEVERAL_AT_ONCE = "several at once"
# Only faults after which the sink waits for less than ten seconds. The simulator's random 503 is
# left out: it has no Retry-After, and then the sink waits a minute.
RANDOM_RATES = {
    "reset": 0.1,
    "hang": 0.05,
    "delay_after": 0.1,
    "cut_after": 0.1,
    "short": 0.05,
    "short_rows": 0.05,
    "expire": 0.1,
    "lock": 0.02,
}


async def inject(salesforce: Simulator, seed: int, step: Step) -> bool:
    """Has the simulator answer its next calls with the step's fault."""
    if step.target == SEVERAL_AT_ONCE:
        random = {"seed": seed, "rates": RANDOM_RATES, "kinds": CALLS, "seconds": 2.0, "limit": 15}
        await salesforce.send("/_sim/faults/random", random, "PUT")
    else:
        await salesforce.send("/_sim/faults", {"faults": [dict(FAULTS[step.target])]})
    return True
