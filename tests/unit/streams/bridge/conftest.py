"""A running bridge for the tests of this folder."""

from collections.abc import AsyncIterator

import pytest

from tests.support.bridge_harness import RunningBridge, running_bridge


@pytest.fixture
async def bridge() -> AsyncIterator[RunningBridge]:
    async with running_bridge() as one:
        yield one
