"""The catalogue of metrics: every declared metric is written.

A reason that can occur has its series from the start.
"""

import ast
import re
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from streams.metrics import BridgeMetrics, DedupeMetrics, ReaderMetrics, SinkMetrics
from tests.support.paths import ROOT

STREAMS = ROOT / "streams"
STAGES = (BridgeMetrics, ReaderMetrics, DedupeMetrics, SinkMetrics)


def declared() -> list[Any]:
    return [
        pytest.param(stage, name, id=f"{stage.__name__}.{name}")
        for stage in STAGES
        for name in vars(stage(CollectorRegistry()))
    ]


def users(stage: type) -> str:
    """The code of the stage that the metrics belong to, and of the org that the sink opens."""
    folder = STREAMS / stage.__name__.removesuffix("Metrics").lower()
    files = [*sorted(folder.rglob("*.py")), STREAMS / "org.py"]
    return "\n".join(ast.unparse(ast.parse(file.read_text())) for file in files)


@pytest.mark.parametrize(("stage", "name"), declared())
def test_every_metric_is_written(stage: type, name: str) -> None:
    assert re.search(rf"metrics\.{name}\b", users(stage)), f"{name} is declared and never written"
