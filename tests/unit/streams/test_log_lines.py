"""A log line about a record says which one, and never names a contact in clear."""

import ast
from collections.abc import Iterator
from pathlib import Path

import streams

ROOT = Path(streams.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
# What would name a person or quote a contact.
PERSONAL = {"key", "contact_key", "contact_id", "email", "address", "name", "value", "body"}


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
            ):
                yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def called(node: ast.expr) -> str:
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return node.func.id if is_call else ""  # type: ignore[attr-defined]


def problems(call: ast.Call) -> Iterator[str]:
    given = {each.arg: each.value for each in call.keywords if each.arg}
    if any(each.arg is None and called(each.value) == "place" for each in call.keywords):
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
