"""A log line about a record says which one, and never names a contact in clear."""

import ast
from collections.abc import Iterator
from pathlib import Path

import streams

ROOT = Path(streams.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
# What would name a person or quote a contact.
PERSONAL = {"key", "contact_key", "contact_id", "email", "address", "name", "value", "body"}


# A function that has a variable with this name works on one record. A request of HTTP, a type of
# aiohttp.web, is none.
RECORD_NAMES = {"record", "row", "request"}
# What these functions log is about a whole batch, or about a number of records.
ABOUT_MANY = {
    "dedupe/producer.py:_deliver",
    "reader/deletion_guard.py:report",
    "reader/mailbox_keeper.py:keep",
    "reader/mailbox_keeper.py:put_in_force",
    "runtime/logs.py:log_dead_letters",
    "sink/batch_runner.py:_failed",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def calls_in(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "log"
        ):
            yield node


def modules() -> Iterator[tuple[str, ast.AST]]:
    for file in sorted(ROOT.rglob("*.py")):
        if "structlog" in (text := file.read_text()):
            yield file.relative_to(ROOT).as_posix(), ast.parse(text)


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    for module, tree in modules():
        for call in calls_in(tree):
            yield f"{module}:{call.lineno}", call


def works_on_a_record(function: Function) -> bool:
    stored = {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    given = {
        each.arg
        for each in function.args.args
        if each.annotation is None or not ast.unparse(each.annotation).startswith("web.")
    }
    return bool(RECORD_NAMES & (stored | given))


def has_place(call: ast.Call) -> bool:
    return any(each.arg is None and called(each.value) == "place" for each in call.keywords)


def without_place(module: str, tree: ast.AST) -> Iterator[str]:
    """The log calls of functions that work on one record, and do not say which."""
    for function in ast.walk(tree):
        if (
            isinstance(function, Function)
            and f"{module}:{function.name}" not in ABOUT_MANY
            and works_on_a_record(function)
        ):
            for call in calls_in(function):
                if not has_place(call):
                    yield f"{module}:{call.lineno}"


def called(node: ast.expr) -> str:
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return node.func.id if is_call else ""  # type: ignore[attr-defined]


def problems(call: ast.Call) -> Iterator[str]:
    given = {each.arg: each.value for each in call.keywords if each.arg}
    if has_place(call):
        given |= dict.fromkeys(("topic", "partition", "offset"), ast.Constant(0))
    if "offset" in given and not {"topic", "partition"} <= given.keys():
        yield "names an offset without topic and partition: use **place(record)"
    if found := PERSONAL & given.keys():
        yield f"carries personal data: {sorted(found)}"
    if "contact" in given and called(given["contact"]) != "reference":
        yield "names the contact in clear: use contact=reference(key)"


def test_a_line_about_a_record_says_which_and_names_no_contact() -> None:
    calls = list(log_calls())
    assert len(calls) > 50
    assert [f"{at} {text}" for at, call in calls for text in problems(call)] == []


def test_a_function_that_works_on_one_record_logs_which() -> None:
    assert [at for module, tree in modules() for at in without_place(module, tree)] == []


def test_the_rule_about_one_record_finds_a_line_without_its_place() -> None:
    source = """
def one(record):
    log.warning("skipped", error="x")
    log.warning("skipped", **place(record))
def two():
    log.info("ready")
"""
    assert list(without_place("module", ast.parse(source))) == ["module:3"]
