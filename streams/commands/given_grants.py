"""The grants that a user names, by ID or by address, for commands that select by grant."""

from collections.abc import Collection, Sequence
from difflib import get_close_matches

import click

from streams.grant_addresses import GrantAddresses


def given_grant_ids(
    given: Sequence[str], known: Collection[str], addresses: GrantAddresses
) -> tuple[str, ...]:
    """The IDs of the given grants, each once, in their order.

    `known` are IDs; those in `addresses` count too. Raises click.UsageError for a grant that is
    neither, with the closest one.
    """
    found: dict[str, None] = {}
    ids = {*known, *addresses.by_grant}
    for each in given:
        grants = addresses.grants_of(each) if "@" in each else [each] if each in ids else []
        if not grants:
            raise click.UsageError(_unknown(each, ids, addresses))
        found |= dict.fromkeys(grants)
    return tuple(found)


def _unknown(given: str, ids: Collection[str], addresses: GrantAddresses) -> str:
    words = ids
    what = "no grant has this ID"
    if "@" in given:
        words = {addresses.address(grant) or "" for grant in addresses.by_grant} - {""}
        what = "no grant has this address"
    close = get_close_matches(given.lower(), words, 1)
    hint = f"did you mean {close[0]}? See" if close else "see"
    return f"--grant {given}: {what}; {hint} contactstream grants list"
