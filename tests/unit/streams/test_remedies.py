"""Every command that the code or a document tells an operator to run exists."""

import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner

from connectors.nylas.administration import check
from streams.cli import main
from tests.support.docs import code_lines, code_spans, documents
from tests.support.paths import ROOT

NAMED = re.compile(r'contactstream( [a-z][\w-]*(?: [\w.:/={}-]*[\w}]| "[^"]+")*)')
"""A command in a text, with the words and quoted texts after it up to the next punctuation."""

# Of what a text fills in, "1" is an ID as well as a number.
STANDS_FOR = {"FILE": "-", "ID": "an-id", "URL": "https://webhooks.example/nylas", "{}": "1"}


def commands(text: str) -> list[str]:
    return [found.strip() for found in NAMED.findall(text)]


def texts(tree: ast.AST) -> Iterator[str]:
    """The strings of a module without its docstrings, which no operator sees."""
    nodes = list(ast.walk(tree))
    left_out = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # docstrings
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            left_out |= {id(part) for part in node.values}
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in left_out
        ):
            yield node.value


def commands_in_the_code() -> Iterator[tuple[str, str]]:
    for folder in ("streams", "connectors"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            code = file.read_text()
            if "contactstream" not in code:
                continue  # parsing takes long
            for text in texts(ast.parse(code)):
                for command in commands(text):
                    yield file.relative_to(ROOT).as_posix(), command


def commands_in_the_documents() -> Iterator[tuple[str, str]]:
    for document in documents():
        typed = [line.partition(" #")[0] for line in code_lines(document)]
        for text in code_spans(document) + typed:
            for command in commands(text):
                yield document, command


COMMANDS = sorted({*commands_in_the_code(), *commands_in_the_documents()})


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The parsed arguments of each command; the commands themselves do nothing."""
    taken: list[dict[str, Any]] = []

    def note(**values: Any) -> None:
        if click.get_current_context().invoked_subcommand is None:
            taken.append(values)

    def quiet(command: click.Command) -> None:
        for each in command.commands.values() if isinstance(command, click.Group) else ():
            quiet(each)
        if command.callback is not None:
            monkeypatch.setattr(command, "callback", note)

    quiet(main)
    return taken


def test_the_texts_are_found() -> None:
    assert ("connectors/nylas/administration.py", "reconcile --all") in COMMANDS
    assert ("README.md", "topics create") in COMMANDS
    assert ("deploy/docs/run-for-real.md", "topics check") in COMMANDS
    assert commands("then: contactstream reconcile --all, and `contactstream plan FILE`.") == [
        "reconcile --all",
        "plan FILE",
    ]


@pytest.mark.parametrize(("file", "command"), COMMANDS)
def test_a_command_in_a_message_exists(
    parsed: list[dict[str, Any]], file: str, command: str
) -> None:
    words = [STANDS_FOR.get(word, word) for word in shlex.split(command)]
    result = CliRunner().invoke(main, words)
    while (
        result.exit_code and len(words) > 1 and words[-1].isalpha() and words[-1].islower()
    ):  # the sentence goes on
        words.pop()
        result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, f"{file} says `contactstream {command}`: {result.output}"
    (values,) = parsed
    if words[0] in ("backfill", "reconcile"):  # which the command itself refuses
        assert values["everything"] != bool(values["grants"]), (
            f"{file} says `contactstream {command}`: which grants?"
        )


def test_the_remedy_for_a_missing_webhook_creates_one(parsed: list[dict[str, Any]]) -> None:
    (finding,) = check([])
    (command,) = commands(finding.remedy)
    result = CliRunner().invoke(main, [STANDS_FOR.get(word, word) for word in command.split()])
    assert result.exit_code == 0, result.output
    assert [values["url"] for values in parsed] == [STANDS_FOR["URL"]]
