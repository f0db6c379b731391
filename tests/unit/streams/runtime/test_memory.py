"""The memory pools of the C library: the reader's threads share a few of them."""

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from streams.runtime.memory import MAX_ARENAS, limit_malloc_arenas
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

THREADS = """
import ctypes, sys, threading
from streams.runtime.memory import limit_malloc_arenas
limit_malloc_arenas()
libc, together = ctypes.CDLL(None), threading.Barrier(12)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
def work():
    libc.malloc(4096)
    together.wait(30)
threads = [threading.Thread(target=work) for _ in range(12)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="counts the pools of glibc")
def test_the_readers_threads_share_few_pools_of_memory(tmp_path: Path) -> None:
    report = tmp_path / "malloc.xml"
    subprocess.run([sys.executable, "-c", THREADS, str(report)], cwd=ROOT, check=True, timeout=60)
    assert 1 <= report.read_text().count("<heap nr=") <= MAX_ARENAS


def test_another_c_library_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []

    def without_mallopt(name: object) -> object:
        asked.append(name)
        return object()

    monkeypatch.setattr(ctypes, "CDLL", without_mallopt)
    limit_malloc_arenas()
    assert asked == [None]
