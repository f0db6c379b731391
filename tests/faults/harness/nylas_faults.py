"""The faults of Nylas that a storm injects: the rules that the simulator is given."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.faults.harness.schedule import Step
from tests.faults.harness.simulators import Simulator

RANDOM_FAULTS: Mapping[str, Any] = {
    "share": 0.08,  # of all calls, during the whole storm
    "kinds": [
        "nylas_limit",
        "provider_limit",
        "server_error",
        "bad_gateway",
        "unavailable",
        "provider_timeout",
        "empty",
        "text_error",
        "html",
        "truncated",
        "cut",
    ],
}

FAULTS: dict[str, Sequence[Mapping[str, Any]]] = {
    "429": ({"kind": "nylas_limit", "times": 3},),
    "429 with Retry-After": ({"kind": "provider_limit", "retry_after": 2, "times": 3},),
    "500": ({"kind": "server_error", "times": 2}, {"kind": "unavailable", "times": 2}),
    "HTML": ({"kind": "html", "times": 2}, {"kind": "bad_gateway", "times": 2}),
    "nothing": ({"kind": "hang", "seconds": 3, "times": 2},),
    "cut": ({"kind": "cut", "times": 2}, {"kind": "truncated", "times": 2}),
    "cursor lost": ({"kind": "lost_cursor", "times": 1},),
    "pages that shift": ({"kind": "moved_missed", "times": 2}, {"kind": "moved_twice", "times": 1}),
}
"""By the step's target. Each rule ends by itself after so many calls."""


async def inject(nylas: Simulator, step: Step) -> bool:
    """Has the simulator answer its next calls with the step's fault."""
    await nylas.send("/_sim/faults", {"rules": list(FAULTS[step.target])})
    return True


async def clear(nylas: Simulator) -> None:
    """Ends every fault, the random ones too."""
    await nylas.send("/_sim/faults", {"clear": True})
