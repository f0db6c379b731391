"""A memory limit for a process under test, as a container has it: a cgroup of its own."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT_V1 = Path("/sys/fs/cgroup/memory")
ROOT_V2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A cgroup with a limit. Beyond it the kernel kills a process of it (OOM)."""

    folder: Path

    def add(self, pid: int) -> None:
        """From now on the process counts, with what it allocates."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    @property
    def peak_bytes(self) -> int:
        """The most memory that was ever in use, including the page cache."""
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            if (self.folder / name).exists():
                return int((self.folder / name).read_text())
        return 0


@contextmanager
def memory_limit(limit_bytes: int) -> Iterator[MemoryLimit | None]:
    """A new cgroup with this limit; None where the machine lets us make none."""
    folder = (ROOT_V1 if ROOT_V1.exists() else ROOT_V2) / f"contactstream-{uuid.uuid4().hex[:8]}"
    name = "memory.limit_in_bytes" if ROOT_V1.exists() else "memory.max"
    try:
        folder.mkdir()
        (folder / name).write_text(str(limit_bytes))
    except OSError:
        if folder.exists():
            folder.rmdir()
        yield None
        return
    try:
        yield MemoryLimit(folder)
    finally:
        folder.rmdir()
