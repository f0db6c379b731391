"""Faults that the simulated API plays on demand: rules that match calls, and a seeded random mode.

A rule is {"kind", "on", "grant_id", "after", "times", "retry_after", "seconds"}: it lets `after`
matching calls pass, then acts on `times` of them (null: until cleared). `on` is one of contacts (a
page), contact (one), groups (of a grant), grants, grant, webhooks, or "" for any; `grant_id`
narrows it. `retry_after` and `seconds` are in seconds.

Kinds: nylas_limit (429 of Nylas' own limit, never a Retry-After), provider_limit (429 of the
provider, with Retry-After where `retry_after` is given), quota (429 quota_exceeded_error, as a
forum thread shows it), server_error (500), bad_gateway (502, HTML), unavailable (503),
provider_timeout (504), empty (504 without a body), unauthorized (401), text_error (500 whose
`error` is a text), html (200, HTML), truncated (the body ends early), hang (no answer for
`seconds`), cut (the connection ends), slow (answers after `seconds`); and on pages alone:
lost_cursor (400 for a page token), repeated_cursor (the same token again), moved_missed (a contact
that was still to come moves before the pages served, and is missed), moved_twice (a contact that
was served comes again at the end).
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

ANY_CALL = (
    "nylas_limit",
    "provider_limit",
    "quota",
    "server_error",
    "bad_gateway",
    "unavailable",
    "provider_timeout",
    "empty",
    "unauthorized",
    "text_error",
    "html",
    "truncated",
    "hang",
    "cut",
    "slow",
)
ON_PAGES = ("lost_cursor", "repeated_cursor", "moved_missed", "moved_twice")
KINDS = (*ANY_CALL, *ON_PAGES)
# What a random fault may be unless told otherwise: what a client must survive without a human.
PASSING = (
    "nylas_limit",
    "provider_limit",
    "server_error",
    "bad_gateway",
    "unavailable",
    "provider_timeout",
    "empty",
    "text_error",
    "truncated",
    "cut",
)
CALLS = ("", "contacts", "contact", "groups", "grants", "grant", "webhooks")


@dataclass(slots=True)
class Rule:
    kind: str
    on: str = ""
    grant_id: str = ""
    after: int = 0
    times: int | None = 1
    retry_after: float | None = None
    seconds: float = 0.0

    def takes(self, call: str, grant_id: str, later_page: bool) -> bool:
        """Whether the rule acts on this call; a matching call uses it up by one."""
        if self.on not in ("", call) or self.grant_id not in ("", grant_id) or self.times == 0:
            return False
        if self.kind in ON_PAGES and call != "contacts":
            return False
        if self.kind in ("lost_cursor", "repeated_cursor") and not later_page:
            return False
        if self.after:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(slots=True)
class Faults:
    """The rules in force, first match first, then the random mode.

    In random mode a seeded generator fails `share` of the calls.
    """

    rules: list[Rule] = field(default_factory=list)
    share: float = 0.0
    kinds: tuple[str, ...] = PASSING
    random: random.Random = field(default_factory=lambda: random.Random(0))
    played: Counter[str] = field(default_factory=Counter)

    def next(self, call: str, grant_id: str, *, later_page: bool) -> Rule | None:
        """The fault for this call, or None. `later_page`: the call carries a page token."""
        found = next((rule for rule in self.rules if rule.takes(call, grant_id, later_page)), None)
        if found is None and self.share and self.random.random() < self.share:
            chosen = Rule(
                self.random.choice(self.kinds),
                retry_after=self.random.choice((None, 0.01)),
                seconds=0.01,
            )
            found = chosen if chosen.takes(call, grant_id, later_page) else None
        if found is not None:
            self.played[found.kind] += 1
        return found
