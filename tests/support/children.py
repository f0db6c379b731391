"""The command with which a test starts a child process, whatever the test itself was started by."""

import sys
from collections.abc import Sequence

from deploy.local.broker import dying_with_parent

RESTORE_SIGINT = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


def child_command(command: Sequence[str]) -> list[str]:
    """The command as a child of the tests: it ends with them, and SIGINT ends it.

    A shell without job control starts a background job (`make test &`) with SIGINT ignored. A child
    inherits that, and Python then installs no handler that raises KeyboardInterrupt: Ctrl-C, which
    some tests send, would do nothing. So a small Python restores the default and becomes the
    command, with the same process ID. A `preexec_fn` could do the same, but may deadlock in a
    process with threads, which the tests have.
    """
    # -I and -S: without site-packages and the environment, which makes the start short.
    restored = [sys.executable, "-I", "-S", "-c", RESTORE_SIGINT, *command]
    return dying_with_parent(restored)
