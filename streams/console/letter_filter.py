"""Which dead letters a page shows and an action takes: the filter in the address of the page."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.salesforce.emails import normalise
from streams.commands.dead_letters.open_letters import OpenLetter, address_hash
from streams.commands.plan_input import PlanError, parse_moment
from streams.console.state.letters import takes
from streams.selection import (
    Selection,
    UnusableSelection,
    encode_selection,
    known_word,
    make_selection,
)

# Names of the fields, in the order of the form.
FORM_FIELDS = ("reason", "grant", "key", "kind", "stage", "since", "until", "state", "email_hash")
FIELDS = (*FORM_FIELDS, "id")
STATES = ("open", "superseded")
STAGES = ("bridge", "reader", "dedupe", "sink")

# As `address_hash` makes them.
_HASH = re.compile(r"[0-9a-f]{16}")


class UnusableFilter(ValueError):
    """A field of the filter holds what selects nothing; the text says which, and what it takes."""


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """All conditions must hold."""

    selection: Selection
    state: str
    """One of STATES, or empty for both."""
    stage: str
    """One of STAGES, or empty for all."""
    email_hash: str
    """Of an address that the contact has, by `address_hash`; empty for all."""
    letter_id: str
    """Of one letter; empty for all."""
    fields: Mapping[str, str]
    """As they were given, for links and forms; without empty ones."""

    @property
    def takes_everything(self) -> bool:
        """Whether nothing limits it."""
        return self.selection.takes_everything and not self._further

    @property
    def _further(self) -> dict[str, str]:
        """The conditions beside the selection, by their fields."""
        conditions = {
            "state": self.state,
            "stage": self.stage,
            "email_hash": self.email_hash,
            "id": self.letter_id,
        }
        return {name: value for name, value in conditions.items() if value}

    def takes(self, letter: OpenLetter) -> bool:
        """Whether all conditions hold but that of the state."""
        return (
            (not self.letter_id or letter.letter_id == self.letter_id)
            and (not self.stage or letter.stage == self.stage)
            and (not self.email_hash or letter.has_address(self.email_hash))
            and takes(self.selection, letter)
        )

    def takes_state(self, *, superseded: bool) -> bool:
        """Whether the condition of the state holds."""
        return not self.state or superseded is (self.state == "superseded")

    def for_audit(self) -> dict[str, Any]:
        """The conditions as the audit keeps them."""
        return encode_selection(self.selection) | self._further


def parse_filter(given: Mapping[str, Any], now: float) -> LetterFilter:
    """The filter of an address or a form, at `now` (epoch seconds). Raises UnusableFilter.

    An address in `email` becomes the field `email_hash`.
    """
    fields = {name: str(given.get(name) or "").strip() for name in FIELDS}
    fields = {name: value for name, value in fields.items() if value}
    if email := str(given.get("email") or "").strip():
        fields["email_hash"] = _hashed(email)
    hashed = fields.get("email_hash", "")
    if hashed and not _HASH.fullmatch(hashed):
        raise UnusableFilter(
            f"email_hash {hashed}: no hash of an address; type the address into the form"
        )
    if fields.get("state", "open") not in STATES:
        raise UnusableFilter(f"state {fields['state']}: it may be {', '.join(STATES)}")

    def moment_ms(name: str) -> int | None:
        text = fields.get(name)
        return None if text is None else int(parse_moment(text, now, name) * 1000)

    def listed(name: str) -> list[str]:
        return [fields[name]] if name in fields else []

    try:
        if stage := fields.get("stage", ""):
            known_word("stage", stage, STAGES)
        selection = make_selection(
            now_ms=int(now * 1000),
            since_ms=moment_ms("since"),
            until_ms=moment_ms("until"),
            grants=listed("grant"),
            keys=listed("key"),
            kinds=listed("kind"),
            reasons=listed("reason"),
        )
    except (UnusableSelection, PlanError) as error:
        raise UnusableFilter(str(error)) from error
    return LetterFilter(
        selection,
        fields.get("state", ""),
        fields.get("stage", ""),
        fields.get("email_hash", ""),
        fields.get("id", ""),
        fields,
    )


def _hashed(email: str) -> str:
    address = normalise(email)
    if address is None:
        raise UnusableFilter(f"email {email}: no email address that Salesforce would take")
    return address_hash(address)
