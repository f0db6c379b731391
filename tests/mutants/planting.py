"""Plants faults in a copy of the project, by mutmut: in `mutants/`, beside the code.

The copy of a module holds every function with each of its faults; the environment variable
MUTANT_UNDER_TEST chooses the one that is called. `[tool.mutmut]` in pyproject.toml names the
modules. mutmut leaves out functions with a decorator, the methods of decorated
classes (dataclasses), and what a module does when it is imported.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mutmut import __main__ as mutmut
from mutmut.configuration import Config
from mutmut.mutation.data import SourceFileMutationData

COPY = Path("mutants")
CHOICE = "MUTANT_UNDER_TEST"


@dataclass(frozen=True, slots=True)
class Change:
    """What a fault does to its function: the lines that it replaces, without indentation."""

    function: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A planted fault. `name` is mutmut's, `module` the path of the file."""

    module: str
    name: str

    @property
    def function(self) -> str:
        """mutmut's name of the function that the fault is in."""
        return mutmut.mangled_name_from_mutant_name(self.name)

    @property
    def tests(self) -> str:
        """The name of the file with the tests that have to catch the fault."""
        return Path(nearest_tests(self.module)).name

    def change(self) -> Change:
        """Reads the difference between the function and the faulty one. Parses both."""
        diff = mutmut.get_diff_for_mutant(self.name, path=self.module).splitlines()[3:]
        before, after = (
            " ".join(line[1:].strip() for line in diff if line.startswith(sign)) for sign in "-+"
        )
        function, _ = mutmut.orig_function_and_class_names_from_key(self.name)
        return Change(function, before, after)


def modules() -> list[str]:
    """The modules in which faults are planted, by their paths."""
    return list(Config.get().only_mutate)


def nearest_tests(module: str) -> str:
    """The file with the tests of a module: the unit tests mirror the source tree."""
    path = Path(module)
    return str(Path("tests/unit") / path.parent / f"test_{path.name}")


def plant(chosen: Iterable[str]) -> list[Fault]:
    """Makes the copy with all faults, and returns those in the chosen modules.

    From now on this process imports the product from the copy, without any fault.
    """
    os.environ[CHOICE] = "mutant_generation"
    Config.get().track_dependencies = False
    COPY.mkdir(exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.setup_source_paths()
        mutmut.create_mutants(os.cpu_count() or 1)
    os.environ[CHOICE] = ""
    return [Fault(module, name) for module in chosen for name in _names(module)]


def _names(module: str) -> list[str]:
    data = SourceFileMutationData(path=Path(module))
    data.load()
    return list(data.exit_code_by_key)
