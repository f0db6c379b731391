"""Stands for the end of a process and for its clock, in tests of what ends it."""

from dataclasses import dataclass
from typing import NoReturn

from streams.runtime.exit_codes import ExitCode


class Died(BaseException):
    """Raised where the process would end; its arguments are the exit code and the reason."""


def die(code: ExitCode, reason: str) -> NoReturn:
    """Passed in the place of `streams.runtime.exit_codes.die`."""
    raise Died(code, reason)


@dataclass
class Clock:
    """A clock that the test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now
