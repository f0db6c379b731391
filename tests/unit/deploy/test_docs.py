"""What the documents say of the code is true: tables, paths, links, commands and example output."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.runtime.exit_codes import ExitCode
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support import docs
from tests.support.docs import GENERATED, GeneratedBlock, block, documents, missing_lines
from tests.support.paths import ROOT

README_WORDS = range(600, 801)
PATH = re.compile(
    r"(?:streams|connectors|tests|deploy|\.github|\.ci)/[\w./-]*"  # from the top
    r"|(?:[\w.-]+/)*[\w.-]+(?:/|\.(?:py|md|lock|xml))"  # or inside of the document's folder
)
SYMBOL = re.compile(r"((?:[\w.-]+/)+[\w.-]+\.py)::([\w.]+)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@pytest.mark.parametrize("each", GENERATED, ids=lambda each: f"{each.document}:{each.mark}")
def test_a_generated_table_is_up_to_date(each: GeneratedBlock) -> None:
    assert block(each.document, each.mark) == each.text(), "run: make docs"


def test_every_exit_code_is_in_the_table() -> None:
    table = block("deploy/docs/exit-codes.md", "exits")
    shown = re.findall(r"^\| (\d+) \| `(\w+)` \| \S.* \| \S.* \|$", table, re.MULTILINE)
    assert shown == [(str(code.value), code.name.lower()) for code in ExitCode]


def test_every_topic_is_in_the_table_of_contents() -> None:
    table = block("deploy/docs/topics.md", "contents")
    shown = re.findall(r"^\| `(\S+)` (?:\| \S.* ){4}\|$", table, re.MULTILINE)
    assert sorted(shown) == sorted(topic.name for topic in topics(load(KafkaSettings, {})).all())


def test_the_readme_has_the_length_that_somebody_reads() -> None:
    assert docs.words("README.md") in README_WORDS


def test_every_document_is_linked() -> None:
    linked = {target for document in documents() for target, _ in relative_links(document)}
    assert [name for name in documents() if name != "README.md" and name not in linked] == []


def relative_links(document: str) -> Iterator[tuple[str, str]]:
    """Path (relative to the repository) and anchor of each link that leads into the repository."""
    folder = (ROOT / document).parent
    for _, target in docs.LINK.findall(docs.prose(document)):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (folder / name).resolve() if name else ROOT / document
        yield path.relative_to(ROOT).as_posix(), anchor


def anchors(document: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = HEADING.findall(docs.prose(document))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents())
def test_every_link_leads_somewhere(document: str) -> None:
    for path, anchor in relative_links(document):
        assert (ROOT / path).exists(), f"{document} links to {path}"
        if anchor:
            assert anchor in anchors(path), f"{document} links to {path}#{anchor}"


def named(document: str) -> Iterator[tuple[str, str]]:
    """The paths that a document names between backticks, each with a symbol in it or nothing."""
    for span in docs.code_spans(document):
        if found := SYMBOL.fullmatch(span):
            yield found[1], found[2]
        elif PATH.fullmatch(span):
            yield span, ""


def located(document: str, path: str) -> Path | None:
    """The file or folder that a document means: from the top, or somewhere in its own folder.

    A name without a folder may be that of any file of the project.
    """
    if (ROOT / path).exists():
        return ROOT / path
    folders = [(ROOT / document).parent]
    if "/" not in path:
        folders = [ROOT / name for name in ("streams", "connectors", "tests", "deploy")]
    return next((found for each in folders for found in each.rglob(path.rstrip("/"))), None)


@pytest.mark.parametrize("document", documents())
def test_every_path_that_a_document_names_exists(document: str) -> None:
    missing = [path for path, _ in named(document) if located(document, path) is None]
    assert missing == []


@pytest.mark.parametrize("document", documents())
def test_every_function_and_class_that_a_document_names_exists(document: str) -> None:
    missing = []
    for path, symbol in named(document):
        place = located(document, path)
        if symbol and (place is None or not defines(place, symbol)):
            missing.append(f"{path}::{symbol}")
    assert missing == []


def defines(file: Path, symbol: str) -> bool:
    """Whether a module defines a class, a function or, by `Class.name`, a method."""
    body = ast.parse(file.read_text()).body
    for name in symbol.split("."):
        definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = [node for node in body if isinstance(node, definitions) and node.name == name]
        if not found:
            return False
        body = found[0].body
    return True


@pytest.mark.parametrize("document", documents())
def test_a_line_of_a_document_fits_the_screen(document: str) -> None:
    lines = (ROOT / document).read_text().splitlines()
    # a table or a link cannot be broken
    wrapped = [line for line in lines if not line.startswith("|") and "](http" not in line]
    assert [line for line in wrapped if len(line) > 100] == []


PRINTED = """\
┃stage   ┃ contacts┃
│sink    │    2,055│
│        │        7│
│all     │        8│
│total   │        8│
match rate 26.1%, error rate 0.0%
"""


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ("│sink │ 2,055│\n...\nmatch rate 31.0%, error rate 0.0%\n", []),
        ("│all │ 9│", []),
        ("│sink │ 2,056│", ["│sink │ 2,056│"]),
        ("│total │ 8│\n│sink │ 2,055│", ["│sink │ 2,055│"]),
    ],
    ids=["shortened", "a number that varies", "another number", "another order"],
)
def test_a_shortened_output_is_compared_with_the_whole(shown: str, missing: list[str]) -> None:
    assert missing_lines(shown, PRINTED) == missing


def test_numbers_may_be_left_out_of_the_comparison() -> None:
    assert missing_lines("│sink │ 2,056│", PRINTED, exact=False) == []
