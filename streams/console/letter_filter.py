"""Which dead letters a page shows and an action takes: the filter in the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streams.commands.dead_letters.open_letters import OpenLetter
from streams.commands.plan_input import PlanError, parse_moment
from streams.console.state.letters import takes
from streams.selection import Selection, UnusableSelection, encode_selection, make_selection

# Names of the fields, in the order of the form.
TEXT_FIELDS = ("reason", "grant", "key", "kind", "since", "until")
FIELDS = (*TEXT_FIELDS, "state", "id")
STATES = ("open", "superseded")


class UnusableFilter(ValueError):
    """A field of the filter holds what selects nothing; the text says which, and what it takes."""


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """All conditions must hold."""

    selection: Selection
    state: str
    """One of STATES, or empty for both."""
    letter_id: str
    """Of one letter; empty for all."""
    fields: Mapping[str, str]
    """As they were given, for links and forms; without empty ones."""

    @property
    def takes_everything(self) -> bool:
        """Whether nothing limits it."""
        return self.selection.takes_everything and not self.letter_id and not self.state

    def takes(self, letter: OpenLetter) -> bool:
        """Whether all conditions hold but that of the state."""
        return (not self.letter_id or letter.letter_id == self.letter_id) and takes(
            self.selection, letter
        )

    def takes_state(self, *, superseded: bool) -> bool:
        """Whether the condition of the state holds."""
        return not self.state or superseded is (self.state == "superseded")

    def for_audit(self) -> dict[str, Any]:
        """The conditions as the audit keeps them."""
        further = {"state": self.state, "id": self.letter_id}
        return encode_selection(self.selection) | {
            name: value for name, value in further.items() if value
        }


def parse_filter(given: Mapping[str, Any], now: float) -> LetterFilter:
    """The filter of an address or a form, at `now` (epoch seconds). Raises UnusableFilter."""
    fields = {name: str(given.get(name) or "").strip() for name in FIELDS}
    fields = {name: value for name, value in fields.items() if value}
    if fields.get("state", "open") not in STATES:
        raise UnusableFilter(f"state {fields['state']}: it may be {', '.join(STATES)}")

    def moment_ms(name: str) -> int | None:
        text = fields.get(name)
        return None if text is None else int(parse_moment(text, now, name) * 1000)

    def listed(name: str) -> list[str]:
        return [fields[name]] if name in fields else []

    try:
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
    return LetterFilter(selection, fields.get("state", ""), fields.get("id", ""), fields)
