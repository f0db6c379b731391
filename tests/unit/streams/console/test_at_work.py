"""One action and one search at a time, also when two people press a button at once."""

import asyncio
import threading
from collections.abc import Callable

import click
import pytest

from streams.commands.explain.answer import Answer
from streams.commands.explain.question import Question, parse_question
from streams.console.letter_actions import AtWork
from streams.console.person_search import FoundPerson, PersonSearch
from streams.console.reading import NotReadable

ADA = parse_question("g1/ada")


async def test_of_two_actions_that_are_asked_for_at_once_one_is_done() -> None:
    at_work, release, done = AtWork(), threading.Event(), list[str]()

    def work(progress: Callable[[int], None]) -> int:
        release.wait(10)
        done.append("done")
        progress(1)
        return 1

    first = asyncio.create_task(at_work.run("redrive", 1, work))
    await asyncio.sleep(0)
    with pytest.raises(NotReadable, match="redrive: 0 of 1 letters are done"):
        await at_work.run("redrive", 1, work)
    release.set()
    assert await first == 1
    assert done == ["done"]
    assert at_work.line == ""


async def test_everybody_who_waits_for_a_search_hears_why_it_failed() -> None:
    release = threading.Event()

    def failing(_question: Question) -> FoundPerson:
        release.wait(10)
        raise click.ClickException("no broker answers")

    search = PersonSearch(failing)
    asked = [asyncio.create_task(search.ask(ADA)) for _ in range(2)]
    await asyncio.sleep(0)
    release.set()
    for each in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(each, NotReadable)
        assert str(each) == "no broker answers"


async def test_a_search_that_failed_is_made_again() -> None:
    answers = [click.ClickException("no broker"), ValueError("a bug")]

    def twice_failing(question: Question) -> FoundPerson:
        if answers:
            raise answers.pop(0)
        return FoundPerson(Answer(question), {})

    search = PersonSearch(twice_failing)
    with pytest.raises(NotReadable):
        await search.ask(ADA)
    with pytest.raises(ValueError, match="a bug"):
        await search.ask(ADA)
    assert (await search.ask(ADA)).answer.question == ADA


async def test_searches_run_one_after_the_other() -> None:
    running, most = [0], [0]

    def counting(question: Question) -> FoundPerson:
        running[0] += 1
        most[0] = max(most[0], running[0])
        running[0] -= 1
        return FoundPerson(Answer(question), {})

    search = PersonSearch(counting)
    await asyncio.gather(*(search.ask(parse_question(f"g1/{number}")) for number in range(4)))
    assert most == [1]
