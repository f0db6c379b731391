"""The network policies on a real Kubernetes: exactly the arrows of the flow, each one tried."""

import contextlib
import json
from collections.abc import Iterator, Mapping

import pytest

from tests.cluster.installation import STAGES
from tests.cluster.kubectl import ClusterError, Namespace, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

# A pod of another application in the same namespace, and one of the namespace of Prometheus.
STRANGER, PROMETHEUS = "stranger", "prometheus"
APP = "app.kubernetes.io"
MONITORING = Namespace("monitoring")
# Pods of Jobs, which live for seconds. In the test, pods with their labels stand for them.
JOBS = ("operator", "topics")
# From the source to what it may connect to. Everything else between these is refused.
BRIDGE, KAFKA = "contactstream-bridge:80", "contactstream-kafka:9092"
NYLAS, ORG = "contactstream-nylas-simulator:80", "contactstream-salesforce-simulator:80"
CONSOLE = "contactstream-console:8765"
METRICS = {f"{one}:9100" for one in (*STAGES, "console")}
ALLOWED = {
    "bridge": {BRIDGE, KAFKA},
    "dedupe": {BRIDGE, KAFKA},
    "reader": {BRIDGE, KAFKA, NYLAS},
    "sink": {BRIDGE, KAFKA, ORG},
    "console": {BRIDGE, KAFKA, NYLAS, ORG, *METRICS},
    "operator": {BRIDGE, KAFKA, NYLAS, ORG},
    "topics": {BRIDGE, KAFKA},
    "nylas-simulator": {BRIDGE},
    "salesforce-simulator": {BRIDGE},
    STRANGER: {BRIDGE},
    PROMETHEUS: {BRIDGE, *METRICS},
}
# For a pod of an image that is there.
START_SECONDS = 120.0
CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def reaches(target):
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 3).close()
    except OSError:
        return False
    return True

with ThreadPoolExecutor(32) as pool:
    print(json.dumps(dict(zip(sys.argv[1:], pool.map(reaches, sys.argv[1:])))))
"""


@pytest.fixture(scope="module")
def made(namespace: Namespace) -> Iterator[dict[str, Namespace]]:
    """The pods that only this test makes: where each of them is."""
    there = MONITORING.run("get", "namespace", MONITORING.name, "--ignore-not-found")
    if not there:
        MONITORING.run("create", "namespace", MONITORING.name)
    known = namespace.get("pod", namespace.pod("sink"))["metadata"]["labels"]
    ours = {name: known[name] for name in (f"{APP}/name", f"{APP}/part-of")}
    labels = {one: ours | {f"{APP}/component": one} for one in JOBS}
    pods = dict.fromkeys((STRANGER, *JOBS), namespace) | {PROMETHEUS: MONITORING}
    try:
        for name, place in pods.items():
            place.apply([idle_pod(namespace, name, labels.get(name, {}))])
        for name, place in pods.items():
            ready = f"--timeout={START_SECONDS:.0f}s"
            place.run(
                "wait", f"pod/{name}", "--for=condition=ready", ready, seconds=2 * START_SECONDS
            )
        yield pods
    finally:
        for name, place in pods.items():
            place.run("delete", "pod", name, "--grace-period=0", "--force", "--ignore-not-found")
        if not there:
            MONITORING.run("delete", "namespace", MONITORING.name, "--wait=false")


def idle_pod(namespace: Namespace, name: str, labels: Mapping[str, str]) -> dict[str, object]:
    """A pod of our image that does nothing, under the restrictions of the sink."""
    sink = namespace.get("pod", namespace.pod("sink"))
    container = sink["spec"]["containers"][0]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": sink["spec"]["securityContext"],
            "containers": [
                {
                    "name": name,
                    "image": container["image"],
                    "imagePullPolicy": "IfNotPresent",
                    "securityContext": container["securityContext"],
                    "command": ["python", "-c", "import time; time.sleep(3600)"],
                }
            ],
        },
    }


def address(namespace: Namespace, service: str) -> str:
    name, _, port = service.partition(":")
    return f"{namespace.service(name)}:{port}"


def targets(namespace: Namespace) -> dict[str, str]:
    """By address: what it is. Services by name, and the operations port of each stage."""
    found = {address(namespace, one): one for one in (BRIDGE, KAFKA, NYLAS, ORG, CONSOLE)}
    for stage in (*STAGES, "console"):
        ip = namespace.get("pod", namespace.pod(stage))["status"]["podIP"]
        found[f"{ip}:9100"] = f"{stage}:9100"
    return found


def settled(
    place: Namespace, pod: str, known: dict[str, str], allowed: set[str]
) -> dict[str, bool]:
    """Which of the known targets the pod reaches, once it reaches those that are allowed.

    The rules follow a new pod's address after a moment. Without that it returns what it finds.
    """
    found: dict[str, bool] = {}

    def reaches_the_allowed() -> bool:
        nonlocal found
        answer: dict[str, bool] = json.loads(place.python(pod, CONNECT, *known))
        found = {known[one]: is_open for one, is_open in answer.items()}
        return all(found[one] for one in allowed)

    with contextlib.suppress(ClusterError):
        until(reaches_the_allowed, f"{pod} reaches {allowed}", 30.0)
    return found


def test_each_arrow_of_the_flow_is_open_and_every_other_one_is_closed(
    namespace: Namespace, made: dict[str, Namespace]
) -> None:
    known = targets(namespace)
    wrong = []
    tried = 0
    for source, allowed in ALLOWED.items():
        place = made.get(source, namespace)
        pod = source if source in made else namespace.pod(source)
        for target, is_open in settled(place, pod, known, allowed).items():
            if target.partition(":")[0] in (source, f"contactstream-{source}"):
                continue  # a pod reaches itself
            tried += 1
            if is_open is not (target in allowed):
                wrong.append(f"{source} -> {target}: {'open' if is_open else 'closed'}")
    print(f"\nnetwork policies: {tried} pairs tried")
    assert wrong == []
    assert tried > 90


def test_nothing_reaches_the_world_but_the_ports_that_are_named(namespace: Namespace) -> None:
    """The address of the API server stands for any other service of the company."""
    api = f"{Namespace('default').service('kubernetes')}:443"
    for stage in STAGES:
        pod = namespace.pod(stage)
        assert json.loads(namespace.python(pod, CONNECT, api)) == {api: False}, stage
