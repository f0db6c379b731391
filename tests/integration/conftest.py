"""Starts the processes of these tests by a fork server, which spares the time of their imports.

The tests in tests/faults, the demo and the images start them as in production.
"""

from collections.abc import Iterator

import pytest

from tests.support import processes
from tests.support.forked import ForkServer


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Starts with the first process that it is asked for."""
    server = ForkServer()
    yield server
    server.stop()


@pytest.fixture(scope="module", autouse=True)
def _forked_processes(fork_server: ForkServer) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "start_contactstream", fork_server.start)
        yield
