"""The logs do not contain the values of the variables around an exception."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from streams.runtime.logs import configure
from streams.settings import ProcessSettings, load

ADDRESS = "ariadne@labyrinth.example"


@pytest.fixture
def restored() -> Iterator[None]:
    """Restores the process's logging for other tests."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()


def fail(contact: dict[str, Any]) -> None:
    address = contact["email"]
    raise ValueError(f"an address of {len(address)} characters")


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
    assert "an address of 25 characters" in logged
    assert "test_logs.py" in logged
    assert ADDRESS not in logged
    if form == "json":
        line = json.loads(logged)
        assert (line["event"], line["stage"]) == ("failed", "bridge")
        assert line["exception"][0]["frames"][-1]["name"] == "fail"
