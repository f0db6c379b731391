"""The logs contain neither an exception's text nor the values of the variables around it."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from streams.runtime.logs import RateLimit, configure
from streams.settings import ProcessSettings, load

ADDRESS = "ariadne@labyrinth.example"


@pytest.fixture
def restored() -> Iterator[None]:
    """Restores the process's logging for other tests."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    yield
    sys.excepthook, threading.excepthook = hooks
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()


def fail(contact: dict[str, Any]) -> None:
    address = contact["email"]
    raise ValueError(f"{address} cannot be read")


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("logger", ["structlog", "logging"])
def test_an_exception_is_logged_with_its_place_and_without_the_variables_around_it(
    form: str, logger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(load(ProcessSettings, {"OPS_LOG_FORMAT": form}), "bridge")
    try:
        fail({"email": ADDRESS})
    except ValueError:
        if logger == "structlog":
            structlog.get_logger().exception("failed")
        else:
            logging.getLogger("somebody.else").exception("failed")
    logged = capsys.readouterr().err
    assert "ValueError" in logged
    assert "test_logs.py" in logged
    assert ADDRESS not in logged
    if form == "json":
        line = json.loads(logged)
        assert (line["event"], line["stage"]) == ("failed", "bridge")
        assert line["exception"][0]["frames"][-1]["name"] == "fail"


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("form", ["json", "console"])
def test_causes_groups_and_crashes_are_logged_without_their_texts(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(load(ProcessSettings, {"OPS_LOG_FORMAT": form}), "bridge")
    try:
        try:
            fail({"email": ADDRESS})
        except ValueError as error:
            error.add_note(ADDRESS)
            raise ExceptionGroup(ADDRESS, [error, KeyError(ADDRESS)]) from error
    except ExceptionGroup as error:
        structlog.get_logger().critical("ended", exc_info=error)
        sys.excepthook(type(error), error, error.__traceback__)

    def crash() -> None:
        raise RuntimeError(ADDRESS)

    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()
    logged = capsys.readouterr().err
    assert all(name in logged for name in ("ExceptionGroup", "ValueError", "KeyError"))
    assert "RuntimeError" in logged
    assert ADDRESS not in logged


@pytest.mark.usefixtures("restored")
def test_messages_of_libraries_name_an_exception_by_its_type_and_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(load(ProcessSettings, {"OPS_LOG_FORMAT": "json"}), "dedupe")
    try:
        fail({"email": ADDRESS})
    except ValueError as error:
        logging.getLogger("mode").log(logging.ERROR, "crashed reason=%r", error)
        logging.getLogger("mode").log(logging.ERROR, "crashed %(why)s", {"why": error})
        logging.getLogger("asyncio").log(
            logging.ERROR,
            f"Task exception was never retrieved\nfuture: <Task exception={error!r}>",
            exc_info=error,
        )
    logged = capsys.readouterr().err
    assert logged.count("ValueError") >= 3
    assert "Task exception was never retrieved" in logged
    assert ADDRESS not in logged
    assert len(logged.splitlines()) == 3


def test_librdkafkas_lines_pass_once_in_a_while_each_and_say_how_many_did_not() -> None:
    now = 0.0
    limit = RateLimit(clock=lambda: now)
    passed = []
    for second in range(61):
        now = float(second)
        for facility in ("FAIL", "ERROR"):
            record = logging.LogRecord(
                "k", logging.WARNING, "", 0, "%s [%s] %s", (facility, "c", "down"), None
            )
            if limit.filter(record):
                passed.append((second, record.getMessage()))
    assert passed == [
        (0, "FAIL [c] down"),
        (0, "ERROR [c] down"),
        (30, "FAIL [c] down (29 more like it)"),
        (30, "ERROR [c] down (29 more like it)"),
        (60, "FAIL [c] down (29 more like it)"),
        (60, "ERROR [c] down (29 more like it)"),
    ]
