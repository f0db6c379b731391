"""The schedule of faults: what goes wrong when, decided by a seed before the storm begins."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """One thing that goes wrong."""

    KILL = "kill -9"
    TERM = "SIGTERM"
    FREEZE = "SIGSTOP, SIGCONT"  # for longer than the session, so that another one takes over
    ROLLING = "rolling restart"
    JOIN = "a dedupe worker joins"
    LEAVE = "a dedupe worker leaves"
    BURST = "dedupe workers come and go"
    CLOCK = "the clock jumps"
    BROKER_KILL = "broker killed and started"
    BROKER_STOP = "broker stopped and started"
    BROKER_FREEZE = "broker frozen"
    BLACK_HOLE = "connections black-holed"
    DELAY = "connections delayed"
    RESET = "connections reset"
    LOST_END = "contacts.outcomes loses its end"  # as by a power cut of a broker without a replica
    TOPIC_ANEW = "topic deleted and made anew"
    LIMIT = "topic takes only small batches"
    REASSIGN = "partitions move to other brokers"
    LOST_DISK = "a broker loses its disk"
    LATE_CALLS = "calls of a killed sink applied late"
    TERM_AWAY = "SIGTERM while the broker is away"
    TERM_ORG = "SIGTERM while Salesforce hangs"
    GROW = "partitions are added at the end"
    POISON = "poison"
    ORG = "Salesforce"
    NYLAS = "Nylas"
    REDRIVE = "dead letters redriven"
    DISCARD = "superseded dead letters discarded"
    REPLAY = "a replay is asked for"


STAGES = ("bridge", "dedupe", "sink", "reader")

TARGETS: dict[Fault, Sequence[str]] = {
    Fault.KILL: STAGES,
    Fault.TERM: STAGES,
    Fault.ROLLING: STAGES,
    Fault.CLOCK: STAGES,
    Fault.FREEZE: ("dedupe", "sink"),
    Fault.TERM_AWAY: STAGES,
    # Nobody's data: what a run had done is asked for again by the next run.
    Fault.TOPIC_ANEW: ("reader.runs",),
    Fault.GROW: ("contacts.events", "contacts.changes"),
    Fault.LIMIT: (
        "contacts.events",
        "contacts.changes",
        "contacts.outcomes",
        "contactstream-dedupe-seen-changelog",
    ),
    # The table's changelog is left out: an entry that cannot be read ends dedupe whenever it is
    # read, by design (test_changelog_poison.py).
    Fault.POISON: (
        "contacts.events",
        "contacts.changes",
        "contacts.refetch",
        "contacts.outcomes",
        "contacts.dead-letter",
        "grants.events",
        "reader.runs",
    ),
    Fault.ORG: (
        "500",
        "503",
        "429",
        "403 concurrent",
        "403 daily limit",
        "HTML",
        "reset",
        "nothing",
        "cut after the work",
        "500 after the work",
        "late",
        "parts missing",
        "rows missing",
        "row locks",
        "rows refused for good",
        "session expired",
        "several at once",
    ),
    Fault.NYLAS: (
        "429",
        "429 with Retry-After",
        "500",
        "HTML",
        "nothing",
        "cut",
        "cursor lost",
        "pages that shift",
    ),
    Fault.REPLAY: ("events", "changes"),
}

PROXY_FAULTS = (Fault.BLACK_HOLE, Fault.DELAY, Fault.RESET)
"""These need the proxy, which a cluster does not have."""

ONE_NODE_FAULTS = (*PROXY_FAULTS, Fault.LOST_END, Fault.TERM_AWAY)
"""These need a single broker: the others of a cluster go on without it."""

CLUSTER_FAULTS = (Fault.REASSIGN, Fault.LOST_DISK)
"""These need three brokers."""

LAST_FAULTS = (Fault.GROW,)
"""These stop stages for good, so that they are no steps: each comes once, when all work is done."""

EARLY_FAULTS = (Fault.LOST_END,)
"""These come early in the first pass, because the load that follows makes their loss good."""

WEIGHTS: dict[Fault, int] = {
    Fault.KILL: 30,
    Fault.TERM: 15,
    Fault.FREEZE: 8,
    Fault.ROLLING: 4,
    Fault.JOIN: 8,
    Fault.LEAVE: 8,
    Fault.BURST: 3,
    Fault.CLOCK: 4,
    Fault.BROKER_KILL: 3,
    Fault.BROKER_STOP: 2,
    Fault.BROKER_FREEZE: 3,
    Fault.BLACK_HOLE: 4,
    Fault.DELAY: 4,
    Fault.RESET: 6,
    Fault.LOST_END: 2,
    Fault.TOPIC_ANEW: 2,
    Fault.LIMIT: 4,
    Fault.REASSIGN: 4,
    Fault.LOST_DISK: 2,
    Fault.LATE_CALLS: 4,
    Fault.TERM_AWAY: 3,
    Fault.TERM_ORG: 3,
    Fault.GROW: 0,
    Fault.POISON: 8,
    Fault.ORG: 12,
    Fault.NYLAS: 6,
    Fault.REDRIVE: 4,
    Fault.DISCARD: 2,
    Fault.REPLAY: 3,
}

QUICK_FAULTS = (
    Fault.POISON,
    Fault.ORG,
    Fault.NYLAS,
    Fault.CLOCK,
    Fault.RESET,
    Fault.REDRIVE,
    Fault.DISCARD,
    Fault.REPLAY,
)
"""Over at once, or active while the next one comes: the next fault follows twice as fast."""


@dataclass(frozen=True)
class Step:
    """One fault at its time."""

    at: float
    """Seconds after the start."""
    fault: Fault
    target: str
    """A stage, a topic or a kind, where the fault has several; otherwise empty."""
    seconds: float
    """How long it lasts, where it lasts; some faults take a multiple."""
    draw: float
    """From 0 to 1, chosen at random: decides which replica or which contact it is."""
    in_first_pass: bool

    @property
    def name(self) -> str:
        """Its name in the report."""
        return fault_name(self.fault, self.target)


def fault_name(fault: Fault, target: str) -> str:
    """The name in the report of a fault on a target."""
    return f"{fault.value}: {target}" if target else fault.value


def impossible(nodes: int) -> Sequence[Fault]:
    """The faults that need another number of brokers."""
    return CLUSTER_FAULTS if nodes == 1 else ONE_NODE_FAULTS


def first_pass(only: Sequence[Fault] = (), *, nodes: int = 1) -> list[tuple[Fault, str]]:
    """Every fault on every target once, and kill -9 twice.

    With the second kill -9, a pass kills or terminates at least twenty processes.
    """
    without = impossible(nodes)
    faults = [fault for fault in WEIGHTS if (not only or fault in only) and fault not in without]
    once = [(fault, target) for fault in faults for target in TARGETS.get(fault, ("",))]
    return once + [(fault, target) for fault, target in once if fault is Fault.KILL]


def schedule(
    seed: int, seconds: float, every: float, only: Sequence[Fault] = (), *, nodes: int = 1
) -> list[Step]:
    """A fault every so many seconds on average.

    First the first pass in a random order, then faults at random by their weights.
    """
    choose = random.Random(seed)
    first = [one for one in first_pass(only, nodes=nodes) if one[0] not in LAST_FAULTS]
    choose.shuffle(first)
    for step in [one for one in first if one[0] in EARLY_FAULTS]:
        first.remove(step)
        first.insert(choose.randint(0, len(first) // 4), step)
    joins, leaves = (Fault.JOIN, ""), (Fault.LEAVE, "")
    if joins in first and leaves in first:  # only a worker that joined can leave
        one, other = sorted((first.index(joins), first.index(leaves)))
        first[one], first[other] = joins, leaves
    kinds = sorted({fault for fault, _ in first}, key=list(WEIGHTS).index)
    steps: list[Step] = []
    at = 3.0
    while first and (at < seconds or len(steps) < len(first)):
        if len(steps) < len(first):
            fault, target = first[len(steps)]
        else:
            fault = choose.choices(kinds, [WEIGHTS[one] for one in kinds])[0]
            target = choose.choice(TARGETS.get(fault, ("",)))
        pause = every / 2 if fault in QUICK_FAULTS else every
        steps.append(
            Step(
                at,
                fault,
                target,
                choose.uniform(1.0, 4.0),
                choose.random(),
                len(steps) < len(first),
            )
        )
        at += choose.uniform(0.3, 1.7) * pause
    return steps
