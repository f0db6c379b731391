"""What goes wrong, when, and in which order: decided by a seed before the storm begins."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """One thing that goes wrong."""

    KILL = "kill -9"
    TERM = "SIGTERM"
    FREEZE = "SIGSTOP, SIGCONT"  # for longer than the session, so that somebody else takes over
    JOIN = "a dedupe worker joins"
    LEAVE = "a dedupe worker leaves"
    ROLLING = "rolling restart"
    BROKER_KILL = "broker killed and started"
    BROKER_STOP = "broker stopped and started"
    BROKER_FREEZE = "broker frozen"
    BLACK_HOLE = "connections black-holed"
    RESET = "connections reset"
    POISON = "poison in a topic"
    ORG = "Salesforce misbehaves"


STAGES = ("bridge", "dedupe", "sink", "reader")
MENU: tuple[tuple[Fault, int], ...] = (
    (Fault.KILL, 30),
    (Fault.TERM, 15),
    (Fault.FREEZE, 8),
    (Fault.JOIN, 8),
    (Fault.LEAVE, 8),
    (Fault.ROLLING, 4),
    (Fault.BROKER_KILL, 3),
    (Fault.BROKER_STOP, 2),
    (Fault.BROKER_FREEZE, 3),
    (Fault.BLACK_HOLE, 4),
    (Fault.RESET, 6),
    (Fault.POISON, 8),
    (Fault.ORG, 8),
)


@dataclass(frozen=True)
class Step:
    """A fault at a time after the start, in seconds; `target` is a stage where the fault has one."""

    at: float
    fault: Fault
    target: str
    seconds: float
    dice: float
    """From 0 to 1: which replica, which poison."""


def schedule(seed: int, seconds: float, every: float, only: Sequence[Fault] = ()) -> list[Step]:
    """A fault every so many seconds on average; each kind that is on the menu comes at least once when there is time for it."""
    choose = random.Random(seed)
    menu = [(fault, weight) for fault, weight in MENU if not only or fault in only]
    faults = [fault for fault, _ in menu]
    choose.shuffle(faults)
    steps, at = [], 3.0
    while at < seconds:
        fault = faults.pop() if faults else choose.choices([one for one, _ in menu], [weight for _, weight in menu])[0]
        stage = choose.choice(("dedupe", "sink")) if fault is Fault.FREEZE else choose.choice(STAGES)
        steps.append(Step(at, fault, stage, choose.uniform(1.0, 4.0), choose.random()))
        at += choose.uniform(0.3, 1.7) * every
    return steps
