"""The catalogue of metrics: every declared metric is written.

A reason that can occur has its series from the start.
"""

import ast
import functools
import re
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from streams.metrics import (
    BridgeMetrics,
    ConsoleMetrics,
    DedupeMetrics,
    ProcessMetrics,
    ReaderMetrics,
    SinkMetrics,
)
from streams.reader.grant_events import STATUSES
from streams.runtime.ops import Health
from tests.support.paths import ROOT

STREAMS = ROOT / "streams"
STAGES = (BridgeMetrics, ReaderMetrics, DedupeMetrics, SinkMetrics)
PROCESSES = (*STAGES, ConsoleMetrics)


def declared() -> list[Any]:
    return [
        pytest.param(stage, name, id=f"{stage.__name__}.{name}")
        for stage in PROCESSES
        for name in vars(stage(CollectorRegistry()))
    ]


@functools.cache
def users(stage: type) -> str:
    """The code of the stage that the metrics belong to, and of the org that the sink opens."""
    folder = STREAMS / stage.__name__.removesuffix("Metrics").lower()
    files = [*sorted(folder.rglob("*.py")), STREAMS / "org.py"]
    return "\n".join(ast.unparse(ast.parse(file.read_text())) for file in files)


def test_every_process_says_what_it_is_and_whether_it_is_ready() -> None:
    registry, health = CollectorRegistry(), Health(60.0)
    ProcessMetrics(registry, "sink", health)
    said = {"version": version("contactstream"), "stage": "sink"}
    assert registry.get_sample_value("contactstream_build_info", said) == 1
    assert registry.get_sample_value("contactstream_ready", {"stage": "sink"}) == 0
    health.ready()
    assert registry.get_sample_value("contactstream_ready", {"stage": "sink"}) == 1


@pytest.mark.parametrize("stage", ["bridge", "reader", "dedupe", "sink"])
def test_every_stage_says_what_its_process_is(stage: str) -> None:
    process = (STREAMS / stage / "process.py").read_text()
    assert f'ProcessMetrics(registry, "{stage}", health)' in process


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_unfinished_before_a_stage_has_taken_anything(
    stage: Callable[[CollectorRegistry], object],
) -> None:
    registry, began = CollectorRegistry(), time.time()
    stage(registry)
    (name,) = (each for each in registry._names_to_collectors if "_oldest_unfinished_" in each)
    assert began <= (registry.get_sample_value(name) or 0) <= time.time()


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_of_a_grant_has_its_series_from_the_start(status: str) -> None:
    registry = CollectorRegistry()
    ReaderMetrics(registry)
    assert registry.get_sample_value("contactstream_reader_grants", {"status": status}) == 0


@pytest.mark.parametrize(("stage", "name"), declared())
def test_every_metric_is_written(stage: type, name: str) -> None:
    assert re.search(rf"metrics\.{name}\b", users(stage)), f"{name} is declared and never written"
