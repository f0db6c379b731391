"""The reader's allocator: threads that come and go do not each keep a pool of memory."""

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from streams.reader.process import ARENAS, limit_malloc_arenas
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

THREADS = """
import ctypes, sys, threading
from streams.reader.process import limit_malloc_arenas
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


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the pools that are counted are glibc's"
)
def test_the_readers_threads_share_few_pools_of_memory(tmp_path: Path) -> None:
    told = tmp_path / "malloc.xml"
    subprocess.run([sys.executable, "-c", THREADS, str(told)], cwd=ROOT, check=True, timeout=60)
    assert 1 <= told.read_text().count("<heap nr=") <= ARENAS


def test_where_the_library_has_no_such_option_the_reader_starts_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []

    def without_mallopt(name: object) -> object:
        asked.append(name)
        return object()

    monkeypatch.setattr(ctypes, "CDLL", without_mallopt)
    limit_malloc_arenas()
    assert asked == [None]
