"""A process ends itself at once and with a reason, and operators find every exit code."""

import re
import subprocess
import sys

from streams.runtime.exit_codes import ExitCode
from tests.support.paths import ROOT


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


def test_the_readme_has_every_exit_code() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("<!-- exits -->")[2].partition("<!-- /exits -->")[0]
    listed = re.findall(r"^\| (\d+) \| `(\w+)` \| \S.* \| \S.* \|$", table, re.MULTILINE)
    assert listed == [(str(code.value), code.name.lower()) for code in ExitCode]
