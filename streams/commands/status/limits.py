"""How much of the sink's limits is used, and what to do about it: plain functions over plain data.

The sink holds what is beyond a limit, or waits. `contactstream status` says so from NEAR_SHARE on,
so that a person can decide before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.salesforce.api.budget import Usage
from streams.settings import SinkSettings
from streams.sink.spent import Spent

# Of a limit. What is left lasts for hours then, where a whole day's limit is used up in a day.
NEAR_SHARE = 0.8

_HELD = "whoever is beyond it is held: raise it, or see contactstream held"


@dataclass(frozen=True, slots=True)
class LimitUse:
    """What is used of one limit. Amounts are numbers of `what`, of data storage MB."""

    what: str
    used: int
    limit: int
    setting: str
    """The environment variable that sets the limit."""
    remedy: str

    @property
    def share(self) -> float:
        """Of the limit; more than 1 where more is used."""
        return self.used / self.limit

    def __str__(self) -> str:
        """In words, for a person."""
        return f"{self.what}: {self.used:,} of {self.limit:,}"


def limit_uses(
    sink: SinkSettings,
    spent: Spent,
    max_calls: int,
    own_calls: int,
    storage: Usage | None,
) -> list[LimitUse]:
    """The use of every limit that is set.

    `max_calls` is SALESFORCE_MAX_CALLS_PER_DAY. `storage` is the org's data storage in MB; None
    where it is not known.
    """
    uses = [
        LimitUse(
            "creations of today (UTC)",
            spent.creations,
            sink.creations_per_day,
            "SINK_CREATIONS_PER_DAY",
            _HELD,
        ),
        *(
            LimitUse(
                f"creations of today (UTC) from grant {grant}",
                count,
                sink.creations_per_grant,
                "SINK_CREATIONS_PER_GRANT",
                _HELD,
            )
            for grant, count in spent.of_grant.most_common(1)
        ),
        LimitUse(
            "replaced values of this hour (UTC)",
            spent.replaced,
            sink.replaced_values_per_hour,
            "SINK_REPLACED_VALUES_PER_HOUR",
            "what bulk runs would replace beyond it is held: raise it, or see contactstream held",
        ),
        LimitUse(
            "own Salesforce calls of today (UTC)",
            own_calls,
            max_calls,
            "SALESFORCE_MAX_CALLS_PER_DAY",
            "bulk runs wait for tomorrow from 80 % on, and all writing at 100 %: raise it",
        ),
    ]
    if storage is not None and sink.storage_share < 1:
        uses.append(
            LimitUse(
                "MB of the org's data storage",
                storage.used,
                int(storage.allowed * sink.storage_share),
                "SINK_STORAGE_SHARE",
                "new people are held beyond it: make room in the org, or raise it",
            )
        )
    return [use for use in uses if use.limit > 0]


def limit_problems(uses: Iterable[LimitUse]) -> Iterable[str]:
    """A sentence for each limit that is nearly or wholly used."""
    for use in uses:
        if use.share >= NEAR_SHARE:
            yield f"{use} ({use.share:.0%}), by {use.setting}; {use.remedy}"


def limit_entry(use: LimitUse) -> Mapping[str, Any]:
    """The use of a limit as JSON takes it."""
    return {"what": use.what, "used": use.used, "limit": use.limit, "setting": use.setting}
