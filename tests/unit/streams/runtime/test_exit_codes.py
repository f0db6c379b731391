"""A process ends itself at once and with a reason, and operators find every exit code."""

import subprocess
import sys

from streams.runtime.exit_codes import ExitCode


def test_a_process_that_ends_itself_runs_nothing_more_and_logs_the_reason() -> None:
    script = (
        "from streams.runtime.exit_codes import ExitCode, die\n"
        "try:\n"
        "    die(ExitCode.RECORDS_MISSING, 'what is missing')\n"
        "finally:\n"
        "    print('acknowledged')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == ExitCode.RECORDS_MISSING
    assert "what is missing" in ended.stdout + ended.stderr
    assert "acknowledged" not in ended.stdout
