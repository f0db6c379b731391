"""Keeps an undo and the sink apart: an undo writes only while a person has paused writing.

Two writers would overwrite each other between the other one's look and its write. The sink obeys a
pause before each request, so that nothing of it is on its way once its longest call has ended.
"""

from collections.abc import Callable

import click

from connectors.salesforce.api.client import CALL_SECONDS
from streams.commands.breakers import read_control
from streams.control import RELEASE_OBEYED_SECONDS, PausedPart
from streams.settings import KafkaSettings

# After the pause began, a request of the sink may still be on its way for so long.
SETTLED_SECONDS = RELEASE_OBEYED_SECONDS + CALL_SECONDS

REMEDY = 'contactstream pause writes --until 2h --why "an undo"'


class NotPaused(click.ClickException):
    """Writing is not paused, or not any more. What was restored stays restored."""

    exit_code = 2


def end_of_pause(kafka: KafkaSettings, now: float) -> tuple[float, float]:
    """When writing is paused for certain, and until when, in epoch seconds. Blocks.

    Raises NotPaused, and click.ClickException where the topic cannot be read.
    """
    pause = read_control(kafka).pause_of(PausedPart.WRITES, int(now * 1000))
    if pause is None:
        raise NotPaused(
            "writing is not paused: the sink and an undo would overwrite each other. First: "
            f"{REMEDY}"
        )
    return pause.begun_ms / 1000 + SETTLED_SECONDS, pause.until_ms / 1000


def wait_until_settled(
    kafka: KafkaSettings,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    say: Callable[[str], None],
) -> None:
    """Returns once writing is paused and no request of the sink is on its way. Blocks.

    That is for SETTLED_SECONDS after the pause began at the most. Raises as `end_of_pause` does.
    """
    settled, _ = end_of_pause(kafka, clock())
    if (left := settled - clock()) > 0:
        say(f"waits {left:.0f} s for calls that the sink had sent before it was paused")
        sleep(left)


def paused_fence(
    kafka: KafkaSettings, clock: Callable[[], float]
) -> tuple[Callable[[], None], Callable[[], None]]:
    """`look`, which reads whether the pause lasts, and the fence, which obeys what `look` read.

    The fence is called before each request. It does not block, and raises NotPaused when the pause
    would end before the request has ended.
    """
    until = 0.0

    def look() -> None:
        nonlocal until
        _, until = end_of_pause(kafka, clock())

    def fence() -> None:
        if clock() + CALL_SECONDS > until:
            raise NotPaused(
                f"the pause of writing ends within {CALL_SECONDS:.0f} s. Extend it, and run the "
                f"command again: {REMEDY}"
            )

    return look, fence
