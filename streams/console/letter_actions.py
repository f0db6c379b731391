"""Redrives and discards dead letters for the console, by the functions of the command."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import click

from streams.audit import AuditEntry, AuditState
from streams.commands.dead_letters.actions import (
    EventsOf,
    action_id,
    carry_out,
    note_reveal,
    plan_redrive,
    whole_letters,
)
from streams.commands.dead_letters.open_letters import OpenLetter
from streams.console.reading import NotReadable
from streams.dead_letters import DeadLetter
from streams.events import now_ms
from streams.settings import KafkaSettings
from streams.topics import topics


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """What an action would do."""

    action_id: str
    chosen: Sequence[OpenLetter]
    refused: Mapping[str, int]
    """How many letters stay open, by why."""
    events_of: EventsOf | None


@dataclass(frozen=True, slots=True)
class Acting:
    """Who acts, on what, and why: for the audit."""

    person: str
    why: str
    selection: Mapping[str, Any]


class LetterActions(Protocol):
    """What the page Dead letters can do. Every method blocks and raises click.ClickException."""

    def whole(self, letter: OpenLetter) -> DeadLetter:
        """A letter with its value."""

    def note_reveal(self, person: str, letter_id: str) -> None:
        """Notes in the audit that a person looks at a record."""

    def plan(self, action: str, letters: Sequence[OpenLetter]) -> PlannedAction:
        """What `redrive` or `discard` would do with these letters."""

    def carry_out(
        self, action: str, planned: PlannedAction, acting: Acting, progress: Callable[[int], None]
    ) -> int:
        """Does it; returns how many letters were closed."""


class KafkaLetterActions:
    """The actions of the command dead-letters."""

    def __init__(self, kafka: KafkaSettings, body_limit: int) -> None:
        self._kafka, self._body_limit = kafka, body_limit

    def whole(self, letter: OpenLetter) -> DeadLetter:
        """A letter with its value. Blocks. Raises click.ClickException when it has gone."""
        return whole_letters(self._kafka, topics(self._kafka), [letter])[0]

    def note_reveal(self, person: str, letter_id: str) -> None:
        """Notes in the audit that a person looks at a record. Blocks."""
        note_reveal(self._kafka, person, letter_id)

    def plan(self, action: str, letters: Sequence[OpenLetter]) -> PlannedAction:
        """What `redrive` or `discard` would do with these letters. Blocks."""
        if action == "discard":
            return PlannedAction(action_id(), letters, {}, None)
        planned = plan_redrive(self._kafka, letters, self._body_limit)
        return PlannedAction(
            planned.action_id, planned.chosen, Counter(planned.refused), planned.events_of
        )

    def carry_out(
        self, action: str, planned: PlannedAction, acting: Acting, progress: Callable[[int], None]
    ) -> int:
        """Does it; returns how many letters were closed. Blocks."""
        audit = AuditEntry(
            planned.action_id,
            AuditState.BEGUN,
            now_ms(),
            acting.person,
            f"dead-letters {action}",
            acting.why,
            acting.selection,
            len(planned.chosen),
        )
        return carry_out(self._kafka, planned.chosen, audit, planned.events_of, progress)


# A browser waits for an action so long; then the page says how far it is.
ANSWER_SECONDS = 10.0


class AtWork:
    """The one action that is at work, and what became of the last one."""

    def __init__(self) -> None:
        self._task: asyncio.Task[int] | None = None
        self._name, self._all, self._done = "", 0, 0
        self._failure = ""

    @property
    def line(self) -> str:
        """What is being done, or how the last action failed; empty otherwise."""
        if self.busy:
            return f"{self._name}: {self._done:,} of {self._all:,} letters are done"
        return self._failure

    @property
    def busy(self) -> bool:
        """Whether an action is at work."""
        return self._task is not None and not self._task.done()

    async def run(
        self, name: str, letters: int, work: Callable[[Callable[[int], None]], int]
    ) -> int | None:
        """Does the work in a thread; how much it did, or None if it takes longer.

        Raises NotReadable when it fails within ANSWER_SECONDS; later the failure is in `line`.
        Raises it too while another action is at work: two people may have pressed at once.
        """
        if self.busy:
            raise NotReadable(f"nothing was done: {self.line}. Wait until it has ended.")
        self._name, self._all, self._done, self._failure = name, letters, 0, ""
        self._task = asyncio.create_task(asyncio.to_thread(work, self._progress))
        self._task.add_done_callback(self._ended)
        try:
            return await asyncio.wait_for(asyncio.shield(self._task), ANSWER_SECONDS)
        except TimeoutError:
            return None
        except click.ClickException as error:
            raise NotReadable(error.format_message()) from error

    def _progress(self, done: int) -> None:
        self._done = done

    def _ended(self, task: asyncio.Task[int]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = f"{self._name} failed: {error}"
