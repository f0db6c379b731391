"""Calls kubectl, as an operator does."""

import base64
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# One request to the API server, or one command in a pod. Its Python starts in a second, and in a
# minute where thirty processes share two cores.
REQUEST_SECONDS = 120.0
# For a pod to be gone, or a whole workload to be replaced, on two cores under load.
ROLLOUT_SECONDS = 420.0
# Between two looks at the cluster.
LOOK_SECONDS = 0.5


class ClusterError(AssertionError):
    """A call of kubectl failed, or took too long; the text has its output."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace of the cluster that KUBECONFIG names."""

    name: str

    def run(self, *arguments: str, seconds: float = REQUEST_SECONDS, text: str = "") -> str:
        """Runs kubectl in the namespace and returns its output. Raises ClusterError."""
        command = ["kubectl", "--namespace", self.name, *arguments]
        try:
            ended = subprocess.run(
                command, input=text, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{' '.join(command)}\nnot within {seconds:.0f} s") from error
        if ended.returncode:
            raise ClusterError(f"{' '.join(command)}\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def get(self, kind: str, *arguments: str) -> dict[str, Any]:
        """An object, or a list of objects, as JSON has it."""
        found: dict[str, Any] = json.loads(self.run("get", kind, *arguments, "--output=json"))
        return found

    def secret_value(self, name: str, key: str) -> str:
        """The text of a key of a Secret."""
        return base64.b64decode(self.get("secret", name)["data"][key]).decode()

    def pods(self, component: str) -> list[dict[str, Any]]:
        """The pods of a stage that are not being deleted."""
        found = self.get("pods", f"--selector=app.kubernetes.io/component={component}")
        return [one for one in found["items"] if "deletionTimestamp" not in one["metadata"]]

    def pod(self, component: str) -> str:
        """The name of a running pod of a stage."""
        for one in self.pods(component):
            if one["status"]["phase"] == "Running":
                return str(one["metadata"]["name"])
        raise ClusterError(f"no pod of {component} is running")

    def python(self, pod: str, code: str, *arguments: str) -> str:
        """What a Python program prints in the first container of a pod."""
        return self.run("exec", pod, "--", "python", "-c", code, *arguments)

    def command(self, *arguments: str, seconds: float = REQUEST_SECONDS) -> str:
        """What a contactstream command prints in the pod of the console. It has to end with 0."""
        pod = self.pod("console")
        return self.run("exec", pod, "--", "contactstream", *arguments, seconds=seconds)

    def status(self) -> dict[str, Any]:
        """`contactstream status --json`, whatever it ends with."""
        pod = self.pod("console")
        code = (
            "import subprocess; print(subprocess.run(['contactstream', 'status', '--json'],"
            " capture_output=True, text=True).stdout)"
        )
        found: dict[str, Any] = json.loads(self.python(pod, code))
        return found

    def rolled_out(self, workload: str) -> None:
        """Returns once every pod of a workload is of its newest version and ready."""
        self.run(
            "rollout",
            "status",
            workload,
            f"--timeout={ROLLOUT_SECONDS:.0f}s",
            seconds=ROLLOUT_SECONDS + REQUEST_SECONDS,
        )

    def service(self, name: str) -> str:
        """The address of a Service inside the cluster."""
        return str(self.get("service", name)["spec"]["clusterIP"])

    def apply(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Creates or changes objects."""
        body = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.run("apply", "--filename=-", text=json.dumps(body))


def until(condition: Callable[[], bool], what: str, seconds: float = ROLLOUT_SECONDS) -> float:
    """Waits until the condition holds; returns the seconds that took.

    A call of kubectl that fails counts as not yet. Raises ClusterError.
    """
    began = time.monotonic()
    problem = ""
    while time.monotonic() - began < seconds:
        try:
            if condition():
                return time.monotonic() - began
        except ClusterError as error:
            problem = str(error)
        time.sleep(LOOK_SECONDS)
    raise ClusterError(f"not within {seconds:.0f} s: {what}\n{problem}")
