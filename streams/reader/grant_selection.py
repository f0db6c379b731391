"""Decides which of the listed grants a run reads: plain functions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from connectors.nylas.grants import Grant, unreadable
from streams.runs import Run

# Runs that these events ask for read a grant that somebody has just connected.
SIGN_IN_EVENTS = ("grant.created", "grant.updated")


@dataclass(frozen=True, slots=True)
class GrantSelection:
    """The grants of a run."""

    read: tuple[Grant, ...]
    skipped: Mapping[str, str]
    """ID of a grant that cannot be read, and why."""
    unknown_addresses: tuple[str, ...] = ()
    """Addresses that the run names and no grant has."""


def select_grants(
    run: Run, listed: Sequence[Grant], not_synced: Callable[[Grant], str] = lambda _: ""
) -> GrantSelection:
    """Which grants a run reads. A run may name them by ID or by address.

    `not_synced` says why the mailbox of a grant is not synced; empty if it is.

    An ID that the listing lacks is read all the same, and so is a grant that has just signed in and
    is listed as invalid: a listing may be older than the notification that asked for the run.
    """
    names = {_folded(name) for name in run.grants or ()}
    selected = [
        grant
        for grant in listed
        if run.grants is None or grant.id in names or _folded(grant.email) in names
    ]
    found = {name for grant in selected for name in (grant.id, _folded(grant.email))}
    unlisted = [name for name in run.grants or () if _folded(name) not in found]
    signed_in = run.by in SIGN_IN_EVENTS
    reasons = {
        grant.id: not_synced(grant) or unreadable(replace(grant, valid=grant.valid or signed_in))
        for grant in selected
    }
    others = [Grant(name) for name in unlisted if "@" not in name]
    reasons |= {grant.id: reason for grant in others if (reason := not_synced(grant))}
    return GrantSelection(
        read=tuple(grant for grant in selected if not reasons[grant.id])
        + tuple(grant for grant in others if grant.id not in reasons),
        skipped={grant: reason for grant, reason in reasons.items() if reason},
        unknown_addresses=tuple(name for name in unlisted if "@" in name),
    )


def _folded(name: str) -> str:
    """An address in lower case; an ID unchanged, because its case matters."""
    return name.casefold() if "@" in name else name
