"""Searches the topics for one person, one search at a time, as the command explain does."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from connectors.salesforce.policy import Policy
from streams.commands.explain.answer import Answer
from streams.commands.explain.investigate import investigate
from streams.commands.explain.question import Question
from streams.commands.explain.timeline import ContactRecords
from streams.console.reading import PAGE_SECONDS, NotReadable
from streams.events import UnreadableRecord, parse_change
from streams.settings import KafkaSettings

# Each search reads whole topics with a core. More people than this wait for minutes.
MAX_WAITING = 4

# What was found is kept for a look at it, and for a reveal: that needs no second search.
KEEP_SECONDS = 60.0
MAX_KEPT = 8


@dataclass(frozen=True, slots=True)
class FoundPerson:
    """What became of somebody, and what contacts.changes holds of each contact."""

    answer: Answer
    contents: Mapping[str, Mapping[str, Any]]
    """By contact key; personal data. Without contacts that were deleted or erased."""


Search = Callable[[Question], FoundPerson]
"""Blocks. Raises click.ClickException."""


def topic_search(kafka: KafkaSettings, policy: Callable[[], Policy]) -> Search:
    """A search through the topics of a deployment."""

    def search(question: Question) -> FoundPerson:
        found = investigate(kafka, policy(), question, lambda _topic, _records: None)
        contents = {key: newest(records) for key, records in found.found.contacts.items()}
        return FoundPerson(
            found.answer, {key: value for key, value in contents.items() if value is not None}
        )

    return search


def newest(records: ContactRecords) -> Mapping[str, Any] | None:
    """The contact as contacts.changes has it; None if it was deleted or never forwarded."""
    if not records.changes:
        return None
    record = records.changes[-1]
    try:
        change = parse_change(record.key, record.value, record.headers)
    except UnreadableRecord:
        return None
    return None if change is None else change.contact


class PersonSearch:
    """Lets one search run at a time, and keeps what the last ones found for KEEP_SECONDS."""

    def __init__(
        self,
        search: Search,
        within: float = PAGE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._search, self._within, self._clock = search, within, clock
        self._one = asyncio.Lock()
        self._begun: OrderedDict[Question, tuple[float, asyncio.Task[FoundPerson]]] = OrderedDict()

    async def ask(self, question: Question) -> FoundPerson:
        """What is found. Raises NotReadable, also while the search goes on."""
        self._forget()
        if question not in self._begun:
            if sum(not task.done() for _, task in self._begun.values()) >= MAX_WAITING:
                raise NotReadable("others are being searched; ask again in a minute")
            self._begun[question] = self._clock(), asyncio.create_task(self._alone(question))
        _, task = self._begun[question]
        try:
            return await asyncio.wait_for(asyncio.shield(task), self._within)
        except TimeoutError as error:
            raise NotReadable(
                f"the topics are large: the search takes longer than {self._within:.0f} s and "
                "goes on. Ask again in a few seconds."
            ) from error
        except click.ClickException as error:
            raise NotReadable(error.format_message()) from error
        finally:
            self._forget_failure(question, task)

    def _forget_failure(self, question: Question, task: asyncio.Task[FoundPerson]) -> None:
        """A search that failed is made again when somebody asks again."""
        failed = task.done() and (task.cancelled() or task.exception() is not None)
        if failed and question in self._begun and self._begun[question][1] is task:
            del self._begun[question]

    async def _alone(self, question: Question) -> FoundPerson:
        async with self._one:
            found = await asyncio.to_thread(self._search, question)
        if question in self._begun:
            self._begun[question] = self._clock(), self._begun[question][1]
        return found

    def _forget(self) -> None:
        now = self._clock()
        done = [each for each, (_, task) in self._begun.items() if task.done()]
        old = [each for each in done if now - self._begun[each][0] > KEEP_SECONDS]
        for each in old or done[: max(0, len(self._begun) - MAX_KEPT)]:
            del self._begun[each]
