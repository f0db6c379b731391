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
    """The code that is handed this stage's metrics."""
    files = (
        file.read_text() for file in sorted(STREAMS.rglob("*.py")) if file.name != "metrics.py"
    )
    return "\n".join(ast.unparse(ast.parse(text)) for text in files if stage.__name__ in text)


@pytest.mark.parametrize(("stage", "name"), declared())
def test_every_metric_is_written(stage: type, name: str) -> None:
    written = rf"metrics\.{name}\.(labels|inc|set|set_function|set_to_current_time|observe)\("
    assert re.search(written, users(stage)), f"{name} is declared and never written"
