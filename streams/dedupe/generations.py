"""Which generation of dedupe is the live one, and how another one takes over.

A generation is a consumer group with a table of its own: that of KAFKA_DEDUPE_GENERATION. One of
them forwards at a time. The commits of the groups say which: a group that handed its work over says
so in the metadata of its commits (`Handover`), and the group that took it over has offsets.

A switch writes in this order, so that no two generations are live at any moment:

1. The old group's commits get the handover. Kafka refuses that while the group has members.
2. The rest of the old table is copied.
3. The new group gets the old one's offsets.

Between the first and the third step no generation is live, and its workers wait. The step that is
missing is made up for by the same switch again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_TO = "handed-to="
_SWITCH = "switch="

# A number in a note: more digits are none of ours.
_MAX_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Handover:
    """A group's work was given to another generation."""

    to: int
    switch: int
    """Counts the switches: of two handovers the later one has the higher number."""

    @property
    def words(self) -> str:
        """The words of the metadata of a commit."""
        return f"{_TO}{self.to} {_SWITCH}{self.switch}"


def parse_handover(metadata: str | None) -> Handover | None:
    """The handover in the metadata of a commit; None where there is none.

    Words that are not understood count as a handover only if they name a generation.
    """
    found: dict[str, int] = {}
    for word in (metadata or "").replace("\0", " ").split():
        for name in (_TO, _SWITCH):
            digits = word.removeprefix(name)
            if word.startswith(name) and digits.isascii() and digits.isdigit():
                found[name] = int(digits[:_MAX_DIGITS])
    return Handover(found[_TO], found.get(_SWITCH, 0)) if _TO in found else None


@dataclass(frozen=True, slots=True)
class Generation:
    """What the group of a generation has committed."""

    number: int
    offsets: Mapping[int, int]
    """By partition of contacts.events; a partition without a commit is left out."""
    handover: Handover | None = None

    @property
    def live(self) -> bool:
        """Whether its workers are the ones that forward."""
        return bool(self.offsets) and self.handover is None


def not_live(own: Generation, others: Iterable[Generation]) -> str | None:
    """Why the workers of a generation must not work now; None if they may. For an operator.

    Without offsets generation 1 is the one of a new deployment, unless another one has any. A
    further generation works only once a switch has given it offsets: it would take every event for
    news.
    """
    if own.handover is not None:
        return f"generation {own.number} gave its work to another one. {after_handover(own)}"
    if own.offsets:
        return None
    if own.number > 1:
        return (
            f"generation {own.number} has no offsets yet, and would forward every event again. It "
            f"begins after: contactstream dedupe-state switch --to {own.number} --execute"
        )
    started = [each.number for each in others if each.offsets]
    if started:
        return (
            f"generation 1 has no offsets, and generation {started[0]} has. See: contactstream "
            "dedupe-state. Then set KAFKA_DEDUPE_GENERATION to the live one"
        )
    return None


def after_handover(own: Generation) -> str:
    """What an operator does with workers whose generation gave its work to another one."""
    to = own.handover.to if own.handover else own.number
    return (
        f"Set KAFKA_DEDUPE_GENERATION={to}. The way back is: contactstream dedupe-state switch "
        f"--to {own.number} --execute"
    )


class SwitchRefused(ValueError):
    """A switch that must not be made. The text says why, and what to do; for an operator."""


@dataclass(frozen=True, slots=True)
class SwitchPlan:
    """From which generation to which one, and what that takes."""

    source: Generation
    target: int
    handover: Handover | None
    """What the commits of the source shall say; None where its own handover is taken back."""

    @property
    def takes_back(self) -> bool:
        """Whether it only ends a switch that was begun: the generation goes on as it was."""
        return self.handover is None


def source_of(generations: Sequence[Generation]) -> Generation:
    """The generation whose table counts: the live one, or that of the switch under way.

    Raises SwitchRefused where there is none, or more than one.
    """
    live = [each for each in generations if each.live]
    if len(live) > 1:
        numbers = " and ".join(str(each.number) for each in live)
        raise SwitchRefused(
            f"the groups of the generations {numbers} all have offsets, so that it is not known "
            "which one is live. Stop all workers of dedupe, and delete the offsets of the groups "
            "that are not"
        )
    if live:
        return live[0]
    handed = [(each.handover.switch, each) for each in generations if each.handover]
    if not handed:
        raise SwitchRefused(
            "no generation of dedupe that is known has committed offsets. If its changelog is "
            "lost, set KAFKA_DEDUPE_GENERATION to the live one for this command. If no worker ever "
            "ran, start one: contactstream dedupe"
        )
    return max(handed, key=lambda one: one[0])[1]


def plan_switch(generations: Sequence[Generation], target: int) -> SwitchPlan:
    """How `target` becomes the live generation. Raises SwitchRefused."""
    source = source_of(generations)
    if source.number == target:
        if source.handover is None:
            raise SwitchRefused(f"generation {target} is the live one already")
        return SwitchPlan(source, target, None)
    last = max((each.handover.switch for each in generations if each.handover), default=0)
    return SwitchPlan(source, target, Handover(target, last + 1))


def members_refusal(number: int, group: str, members: int, *, leaves: bool) -> str | None:
    """Why workers in a group keep it from being switched; None without members.

    `leaves`: the generation is the one that gives its work away.
    """
    if not members:
        return None
    stop = (
        "Stop them first, with SIGTERM, and wait for their end; events wait meanwhile"
        if leaves
        else "Stop them: they began before the switch"
    )
    return (
        f"{members} workers of generation {number} are in the group {group}. {stop}. One that was "
        "killed counts for DEDUPE_SESSION_TIMEOUT seconds more"
    )
