"""Installs the production overlay with Kafka and the simulators, as its own page says.

    KUBECONFIG=... make cluster ARGS="--image localhost/contactstream:new"

The machine that runs the tests has to reach the addresses of pods and Services. Where the nodes
cannot pull the image, load it into them before.
"""

import json
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.kubectl import REQUEST_SECONDS, ROLLOUT_SECONDS, ClusterError, Namespace
from tests.cluster.traffic import TESTS_PORT
from tests.faults.harness.load import SECRET

REPOSITORY = Path(__file__).resolve().parents[2]
NAMESPACE = "contactstream"
# Kustomize follows relative paths only, so the overlay of the tests lies in the repository.
FOLDER = REPOSITORY / ".local" / "cluster"
STAGES = ("bridge", "dedupe", "reader", "sink")


@dataclass(frozen=True, slots=True)
class Images:
    """The images of the nodes that a test installs."""

    new: str
    """Of this checkout."""
    kafka: str
    previous: str = ""
    """Of the version before; empty where there is none to compare with."""


def write_overlay(images: Images, image: str, name: str = "overlay") -> Path:
    """An overlay of the production overlay: with simulators, and with this image everywhere."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kubernetes = Path("../../../deploy/kubernetes")
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": [str(kubernetes / "overlays/production"), "access.json"],
        "components": [str(kubernetes / "components/simulators")],
        "images": [
            _image("registry.example.com/contactstream", image),
            _image("contactstream", images.new),  # the simulators
            _image("apache/kafka", images.kafka),
        ],
        "configMapGenerator": [
            _merged("contactstream-settings", KAFKA_SECURITY_PROTOCOL="PLAINTEXT"),
            _merged("contactstream-org", SALESFORCE_USERNAME=""),
        ],
        "patches": [{"path": "kafka.json"}, _SMALL_REQUESTS],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization, indent=2))
    (folder / "access.json").write_text(json.dumps(_access()))
    (folder / "kafka.json").write_text(json.dumps(_KAFKA_LISTENER))
    return folder


def _merged(name: str, **settings: str) -> dict[str, object]:
    literals = [f"{variable}={value}" for variable, value in settings.items()]
    return {"name": name, "behavior": "merge", "literals": literals}


def _image(known: str, wanted: str) -> dict[str, str]:
    name, _, tag = wanted.rpartition(":")
    return {"name": known, "newName": name, "newTag": tag}


def _access() -> dict[str, object]:
    """A policy for the tests, which read topics and the org from outside of the cluster."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "tests"},
        "spec": {
            "podSelector": {
                "matchExpressions": [
                    {
                        "key": "app.kubernetes.io/component",
                        "operator": "In",
                        "values": ["kafka", "salesforce-simulator", "nylas-simulator"],
                    }
                ]
            },
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"ipBlock": {"cidr": f"{_own_address()}/32"}}],
                    "ports": [{"port": TESTS_PORT}, {"port": 8000}],
                }
            ],
        },
    }


def _own_address() -> str:
    """The address of this machine as pods see it, where nothing between translates addresses."""
    (pod, *_) = Namespace("kube-system").get("pods", "--selector=k8s-app=kube-dns")["items"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((pod["status"]["podIP"], 53))  # nothing is sent
        return str(way.getsockname()[0])


_KAFKA_LISTENER = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "contactstream-kafka"},
    "spec": {
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "kafka",
                        "env": [
                            {
                                "name": "POD_IP",
                                "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}},
                            },
                            {
                                "name": "KAFKA_LISTENERS",
                                "value": "PLAINTEXT://:9092,CONTROLLER://localhost:9093,"
                                f"INTERNAL://localhost:9094,TESTS://:{TESTS_PORT}",
                            },
                            {
                                "name": "KAFKA_ADVERTISED_LISTENERS",
                                "value": "PLAINTEXT://contactstream-kafka:9092,"
                                f"INTERNAL://localhost:9094,TESTS://$(POD_IP):{TESTS_PORT}",
                            },
                            {
                                "name": "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
                                "value": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,"
                                "INTERNAL:PLAINTEXT,TESTS:PLAINTEXT",
                            },
                        ],
                    }
                ]
            }
        }
    },
}

# A machine of two cores has no room for the requests of production. Little load makes the
# autoscaler act.
_SMALL_REQUESTS = {
    "target": {
        "kind": "Deployment|StatefulSet",
        "name": "contactstream-(bridge|dedupe|reader|sink|console)",
    },
    "patch": json.dumps(
        [
            {
                "op": "replace",
                "path": "/spec/template/spec/containers/0/resources/requests",
                "value": {"cpu": "30m", "memory": "128Mi"},
            }
        ]
    ),
}

SECRETS: dict[str, dict[str, str]] = {
    "contactstream-nylas-webhook": {"secrets": SECRET},
    "contactstream-nylas": {"api-key": "nyk_demo"},
    "contactstream-salesforce": {"client-secret": "demo", "private-key": ""},
    "contactstream-console": {"token": "a-token-of-the-cluster-tests"},
    # Kafka's listener of the simulators has no login.
    **{
        f"contactstream-kafka-{role}": {"username": role, "password": "unused", "ca.crt": ""}
        for role in (*STAGES, "console", "operator", "topics")
    },
}


def secret(name: str, values: dict[str, str]) -> dict[str, object]:
    """A Secret as an object."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": values,
    }


def install(folder: Path) -> Namespace:
    """Makes the namespace anew, and installs an overlay by rollout.sh. Minutes."""
    namespace = Namespace(NAMESPACE)
    remove(namespace)
    production = REPOSITORY / "deploy/kubernetes/overlays/production"
    namespace.run("apply", f"--filename={production / 'namespace.yaml'}")
    namespace.apply([secret(name, values) for name, values in SECRETS.items()])
    roll_out(folder)
    return namespace


def roll_out(folder: Path) -> None:
    """Applies an overlay in the order that is safe for an upgrade. Minutes."""
    script = REPOSITORY / "deploy/kubernetes/rollout.sh"
    ended = subprocess.run(
        [str(script), str(folder)],
        capture_output=True,
        text=True,
        timeout=3 * ROLLOUT_SECONDS,
        check=False,
    )
    if ended.returncode:
        raise ClusterError(f"rollout.sh {folder}\n{ended.stdout}{ended.stderr}")


def remove(namespace: Namespace) -> None:
    """Deletes the namespace with all that is in it."""
    namespace.run(
        "delete",
        "namespace",
        namespace.name,
        "--ignore-not-found",
        f"--timeout={ROLLOUT_SECONDS:.0f}s",
        seconds=ROLLOUT_SECONDS + REQUEST_SECONDS,
    )


def workloads() -> Sequence[str]:
    """The stages as kubectl names them, in the order in which they are replaced."""
    return (
        "deployment/contactstream-sink",
        "statefulset/contactstream-dedupe",
        "deployment/contactstream-reader",
        "deployment/contactstream-bridge",
    )
