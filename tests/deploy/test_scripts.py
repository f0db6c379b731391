"""rollout.sh and run.sh, with a kubectl that writes down what it was asked."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.kubernetes.generator.manifests import NoKustomize, kustomize_command
from tests.support.manifests import KUBERNETES
from tests.support.paths import ROOT

# It renders, and says that everything went well, or what RESULT says.
KUBECTL = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$CALLS"
case "$*" in
  "kustomize "*) $KUSTOMIZE "$2" ;;
  *"get pods"*) printf '%s' "${PHASE:-Running}" ;;
  *"get job"*) printf '%s' "${RESULT:-SuccessCriteriaMet Complete}" ;;
  *"rollout status deployment/contactstream-${UNREADY:-none}"*) exit 1 ;;
  *"--from=cronjob"*) cat "$JOB" ;;
  "patch "*) exec "$PYTHON" "$PATCH" "$@" ;;
  *"create --filename -") cat >"$CREATED" ;;
esac
"""

JOB = """apiVersion: batch/v1
kind: Job
metadata: {name: run-1}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: operator, image: contactstream:1, args: [doctor]}]
"""


# A command that a document has run.sh run, over its continued lines.
RUN_BY_SCRIPT = re.compile(r"run\.sh \S+\s+((?:[^\n`\\]|\\\n)+)")

# `kubectl patch --local` for one operation of a JSON patch that replaces something.
PATCH = """import json, sys, yaml
(step,) = json.loads(sys.argv[sys.argv.index("--patch") + 1])
assert step["op"] == "replace"
*before, last = [int(key) if key.isdigit() else key for key in step["path"].split("/")[1:]]
patched = yaml.safe_load(sys.stdin)
place = patched
for key in before:
    place = place[key]
place[last] = step["value"]
yaml.safe_dump(patched, sys.stdout)
"""


class Script:
    """Runs a script of deploy/kubernetes beside the written kubectl."""

    def __init__(self, folder: Path) -> None:
        self._calls, self._created = folder / "calls", folder / "created"
        self._calls.touch()
        program = folder / "bin" / "kubectl"
        program.parent.mkdir()
        program.write_text(KUBECTL)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        (folder / "job.yaml").write_text(JOB)
        (folder / "patch.py").write_text(PATCH)
        self._environ = {
            **os.environ,
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "CALLS": str(self._calls),
            "CREATED": str(self._created),
            "JOB": str(folder / "job.yaml"),
            "KUSTOMIZE": " ".join(kustomize_command()),
            "PYTHON": sys.executable,
            "PATCH": str(folder / "patch.py"),
        }

    def run(self, name: str, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [KUBERNETES / name, *words],
            env=self._environ | environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @property
    def calls(self) -> list[str]:
        """What kubectl was asked, without the rendering and the names of files."""
        return [
            " ".join(word for word in line.split() if not word.startswith("/tmp"))
            for line in self._calls.read_text().splitlines()
            if not line.startswith("kustomize")
        ]

    @property
    def created_args(self) -> list[str]:
        """The arguments of the pod that was created."""
        job = yaml.safe_load(self._created.read_text())
        found: list[str] = job["spec"]["template"]["spec"]["containers"][0]["args"]
        return found


@pytest.fixture
def script(tmp_path: Path) -> Script:
    try:
        return Script(tmp_path)
    except NoKustomize as error:
        pytest.fail(str(error))


def parts(calls: list[str]) -> list[str]:
    """What was applied, by component, and what was waited for."""
    found = []
    for call in calls:
        if call.startswith("apply"):
            found.append("apply " + call.partition("app.kubernetes.io/component ")[2])
        elif "rollout status" in call:
            found.append("wait " + call.partition("rollout status ")[2].split()[0])
        elif "delete" in call:
            found.append("delete")
    return found


def test_readers_of_a_topic_are_replaced_before_its_writers(script: Script) -> None:
    assert script.run("rollout.sh", str(KUBERNETES / "overlays/dev")).returncode == 0
    expected = [
        "apply notin (topics, sink, dedupe, reader, bridge, console)",
        "delete",
        "apply in (topics)",
    ]
    for kind, stage in (
        ("deployment", "sink"),
        ("statefulset", "dedupe"),
        ("deployment", "reader"),
        ("deployment", "bridge"),
        ("deployment", "console"),
    ):
        expected += [f"apply in ({stage})", f"wait {kind}/contactstream-{stage}"]
    assert parts(script.calls) == expected


def test_topics_that_cannot_be_created_stop_the_rollout(script: Script) -> None:
    ran = script.run("rollout.sh", str(KUBERNETES / "overlays/dev"), RESULT="FailureTarget Failed")
    assert ran.returncode == 1
    assert "topics" in ran.stderr
    assert "apply in (sink)" not in parts(script.calls)


def test_a_part_that_does_not_become_ready_stops_the_rollout(script: Script) -> None:
    ran = script.run("rollout.sh", str(KUBERNETES / "overlays/dev"), UNREADY="reader")
    assert ran.returncode == 1
    assert parts(script.calls)[-1] == "wait deployment/contactstream-reader"


def test_without_the_job_nothing_waits_for_it(script: Script) -> None:
    assert script.run("rollout.sh", str(KUBERNETES / "tests/strimzi")).returncode == 0
    assert "delete" not in parts(script.calls)
    assert parts(script.calls)[-1] == "wait deployment/contactstream-console"


@pytest.mark.parametrize("words", [(), ("a", "b"), (str(KUBERNETES / "base"),)])
def test_what_cannot_be_rolled_out_is_refused(script: Script, words: tuple[str, ...]) -> None:
    assert script.run("rollout.sh", *words).returncode == 2
    assert script.calls == []


def test_a_command_runs_with_its_arguments_as_they_are(script: Script) -> None:
    words = ["explain", "--why", 'he said "no" \\ yes', "two words", "$HOME", "*"]
    ran = script.run("run.sh", "contactstream", *words)
    assert ran.returncode == 0, ran.stderr
    assert script.created_args == words
    assert any("logs job/" in call for call in script.calls)


def test_a_command_that_fails_fails_the_script(script: Script) -> None:
    assert script.run("run.sh", "contactstream", "doctor", RESULT="Failed").returncode == 1


def test_a_command_needs_a_namespace(script: Script) -> None:
    assert script.run("run.sh", "contactstream").returncode == 2


def test_a_command_of_the_documents_that_the_audit_keeps_says_who_runs_it() -> None:
    """In a pod it is refused otherwise, because the user of a pod is nobody's name."""
    texts = [path.read_text() for path in (ROOT / "deploy").rglob("*.md")]
    commands = [found for text in texts for found in RUN_BY_SCRIPT.findall(text)]
    kept = [each for each in commands if "--why" in each or "--execute" in each]
    assert len(kept) >= 2, commands
    assert [each for each in kept if "--actor" not in each] == []
