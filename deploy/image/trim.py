"""Makes the environment of the image smaller and its processes start sooner.

The Dockerfile runs it once, with the environment complete:

    python trim.py ENVIRONMENT

1. Removes what only compilers, type checkers and the packages' own tests read, and the programs of
   the packages but our own.
2. Removes the debug symbols of shared libraries, of which Cython's are the most.
3. Writes the bytecode of every module that our own modules import, and of no other. All bytecode
   would take as much space as the sources; without any, a process compiles for a second at start.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

# One library of at most 15 MB.
STRIP_SECONDS = 60.0
# All modules once without bytecode takes seconds; a build may share its processors.
IMPORT_SECONDS = 300.0

UNUSED_SUFFIXES = {".c", ".cpp", ".h", ".pxd", ".pxi", ".pyi", ".pyx"}
# Only folders that the packages' code does not import.
UNUSED_FOLDERS = {"test", "tests"}

# Runs in the environment. The bytecode is not checked against its source, whose time differs from
# build to build; nobody changes a source in an image.
WRITE_BYTECODE = """
import importlib, pkgutil, py_compile, sys

def ours():
    for name in ("connectors", "streams"):
        package = importlib.import_module(name)
        yield from (each.name for each in pkgutil.walk_packages(package.__path__, f"{name}."))

def main():
    for name in list(ours()):
        importlib.import_module(name)
    files = {getattr(module, "__file__", None) or "" for module in sys.modules.values()}
    for file in sorted(files):
        if file.startswith(sys.prefix) and file.endswith(".py"):
            py_compile.compile(
                file,
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )

main()
"""

PROGRAMS = {"contactstream", "python", "python3", "python3.11"}


def unused_programs(environment: Path) -> Iterator[Path]:
    """The programs that packages install for their developers, and the scripts for shells."""
    return (path for path in (environment / "bin").iterdir() if path.name not in PROGRAMS)


def unused_files(packages: Path) -> Iterator[Path]:
    """The files and folders below `packages` that no running process reads."""
    for path in packages.rglob("*"):
        if path.name in UNUSED_FOLDERS if path.is_dir() else path.suffix in UNUSED_SUFFIXES:
            yield path


def shared_libraries(packages: Path) -> Iterator[Path]:
    """Every `*.so` and `*.so.1` below `packages`."""
    return (path for path in packages.rglob("*.so*") if path.is_file())


def remove(paths: Iterable[Path]) -> None:
    """Removes files, and folders with all that is in them."""
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # its folder may be gone


def strip(libraries: Iterable[Path]) -> None:
    """Removes the debug symbols. Raises CalledProcessError."""
    for library in libraries:
        command = ["strip", "--strip-unneeded", str(library)]
        subprocess.run(command, check=True, timeout=STRIP_SECONDS)  # noqa: S603


def write_bytecode(environment: Path) -> None:
    """Writes the bytecode of what our modules import. Raises CalledProcessError."""
    command = [str(environment / "bin" / "python"), "-B", "-c", WRITE_BYTECODE]
    subprocess.run(command, check=True, timeout=IMPORT_SECONDS)  # noqa: S603


def main() -> None:
    """Trims the environment of the command line."""
    environment = Path(sys.argv[1])
    (packages,) = environment.glob("lib/python3*/site-packages")
    remove(unused_programs(environment))
    remove(unused_files(packages))
    strip(sorted(shared_libraries(packages)))
    write_bytecode(environment)


if __name__ == "__main__":
    main()
