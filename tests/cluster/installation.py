"""Installs the production overlay with Kafka and the simulators, by the commands of its own page.

    KUBECONFIG=... make cluster ARGS="--image localhost/contactstream:new"

The machine that runs the tests has to reach the addresses of pods and Services. Where the nodes
cannot pull the image, load it into them before.
"""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.cluster.kafka_logins import (
    LOGIN_ROLES,
    TLS_SECRET,
    listener_patch,
    make_users,
    tls_files,
)
from tests.cluster.kubectl import REQUEST_SECONDS, ROLLOUT_SECONDS, ClusterError, Namespace, until
from tests.cluster.page import Desk, block
from tests.cluster.signatures import signed_with
from tests.cluster.traffic import TESTS_PORT
from tests.faults.harness.load import SECRET

REPOSITORY = Path(__file__).resolve().parents[2]
NAMESPACE = "contactstream"
# Kustomize follows relative paths only, so the overlay of the tests lies in the repository.
FOLDER = REPOSITORY / ".local" / "cluster"
KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
STAGES = ("bridge", "dedupe", "reader", "sink")

# The address at which the simulator of Nylas finds the bridge.
WEBHOOK_URL = "http://contactstream-bridge/"
WEBHOOK_SECRET = "contactstream-nylas-webhook"
PASSWORDS = {role: f"first-password-of-{role}" for role in LOGIN_ROLES}
# A mounted Secret reaches a pod within the kubelet's sync period and the time its cache lives: two
# minutes, and more on a busy machine.
SECRET_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Images:
    """The images of the nodes that a test installs."""

    new: str
    """Of this checkout."""
    kafka: str
    previous: str = ""
    """Of the version before; empty where there is none to compare with."""


def write_overlay(images: Images, image: str, name: str = "overlay") -> Path:
    """A copy of the production overlay, changed as the page says, and the simulators beside it."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(KUBERNETES / "overlays" / "production", folder)
    kubernetes = "../../../deploy/kubernetes"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    kustomization["resources"] = [f"{kubernetes}/base", "simulators", "access.json"]
    kustomization["components"] = [f"{kubernetes}/components/network-policy"]
    kustomization["images"] = [
        image_override("contactstream", image),
        image_override("apache/kafka", images.kafka),
    ]
    kustomization["patches"] = [{"path": "kafka.json"}, _SMALL_REQUESTS]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    _set(
        folder / "settings.env",
        KAFKA_BOOTSTRAP_SERVERS="contactstream-kafka:9092",
        NYLAS_API_URL="http://contactstream-nylas-simulator",
        KAFKA_REPLICATION_FACTOR="1",
        # What is lost is counted, and held people would look like it.
        SINK_CREATIONS_PER_DAY="0",
        SINK_CREATIONS_PER_GRANT="0",
        SINK_REPLACED_VALUES_PER_HOUR="0",
    )
    _set(
        folder / "org.env",
        SALESFORCE_LOGIN_URL="http://contactstream-salesforce-simulator",
    )
    _copy_simulators(folder / "simulators", images)
    (folder / "access.json").write_text(json.dumps(_access()))
    (folder / "kafka.json").write_text(json.dumps(listener_patch()))
    return folder


def _set(file: Path, **settings: str) -> None:
    """Gives settings of a file other values, and adds those that it does not name."""
    lines = [
        line for line in file.read_text().splitlines() if line.partition("=")[0] not in settings
    ]
    lines += [f"{variable}={value}" for variable, value in settings.items()]
    file.write_text("\n".join(lines) + "\n")


def _copy_simulators(folder: Path, images: Images) -> None:
    """Kafka and the simulators, without the settings that their component has for other overlays.

    Nylas has no destination at first: the page creates it.
    """
    folder.mkdir()
    names = ("kafka.yaml", "nylas.yaml", "salesforce.yaml", "network-policy.yaml")
    for name in names:
        manifests = list(
            yaml.safe_load_all((KUBERNETES / "components" / "simulators" / name).read_text())
        )
        for manifest in manifests:
            for container in _containers(manifest):
                if container["image"] == "contactstream":
                    # Not that of the stages, which may be of another version.
                    container["image"] = images.new
                args = container.get("args", [])
                container["args"] = [each for each in args if not each.startswith("--webhook")]
        (folder / name).write_text(yaml.safe_dump_all(manifests))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(names),
        "labels": [
            {"pairs": {"app.kubernetes.io/part-of": "contactstream"}, "includeTemplates": True}
        ],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization))


def _containers(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    if manifest["kind"] not in ("Deployment", "StatefulSet"):
        return []
    found: list[dict[str, Any]] = manifest["spec"]["template"]["spec"]["containers"]
    return found


def image_override(known: str, wanted: str) -> dict[str, str]:
    """What kustomize calls an image: another one in the place of that of the manifests."""
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


def allow_from_namespace(name: str) -> dict[str, object]:
    """A policy that lets the pods of another namespace use Kafka's listener without a login."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"from-{name}"},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/component": "kafka"}},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [
                        {
                            "namespaceSelector": {
                                "matchLabels": {"kubernetes.io/metadata.name": name}
                            }
                        }
                    ],
                    "ports": [{"port": TESTS_PORT}],
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


def secret(name: str, values: dict[str, str]) -> dict[str, object]:
    """A Secret as an object."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": values,
    }


def desk(folder: Path) -> Desk:
    """The folder of an operator who follows the page with an overlay."""
    return Desk(
        FOLDER / "desk",
        {
            "deploy/kubernetes/overlays/production": str(folder),
            "https://webhook.example.com/": WEBHOOK_URL,
        },
    )


def install(folder: Path) -> Namespace:
    """Makes the namespace anew, and installs an overlay as the page says. Minutes."""
    namespace = Namespace(NAMESPACE)
    remove(namespace)
    shutil.rmtree(FOLDER / "desk", ignore_errors=True)
    operator = desk(folder)
    (FOLDER / "tls").mkdir(exist_ok=True)
    ca, broker = tls_files(FOLDER / "tls")
    operator.set_up(
        os.environ["KUBECONFIG"],
        {
            "api-key": "nyk_demo",
            "private-key": _private_key(),
            "ca.crt": ca,
            **{f"password-{role}": password for role, password in PASSWORDS.items()},
        },
    )
    page = "Install it"
    operator.run(block(page, "create secret generic contactstream-salesforce"))
    operator.run(block(page, "for role in"))
    _start_kafka(namespace, folder, broker)
    operator.run(block(page, "rollout.sh"))
    operator.run(block(page, "webhooks create"))
    _let_tests_send(namespace)
    return namespace


def let_it_write(folder: Path) -> str:
    """The last step of the page, and what it prints: what was planned, and the mode `mirror`."""
    return desk(folder).run(block("Install it", "mode set mirror"))


def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _start_kafka(namespace: Namespace, folder: Path, tls: Mapping[str, str]) -> None:
    """Kafka is there before the page begins, with the users that it asks for."""
    namespace.apply([secret(TLS_SECRET, dict(tls))])
    rendered = namespace.run("kustomize", str(folder))
    # Its policy lets the tests in, which make the users.
    is_kafka = "app.kubernetes.io/component=kafka"
    namespace.run("apply", "--filename=-", f"--selector={is_kafka}", text=rendered)
    namespace.apply([_access()])
    namespace.rolled_out("statefulset/contactstream-kafka")
    make_users(namespace, PASSWORDS)


def _let_tests_send(namespace: Namespace) -> None:
    """Adds the secret that the tests sign with, as if it were that of another destination."""
    known = namespace.secret_value(WEBHOOK_SECRET, "secrets")
    namespace.apply([secret(WEBHOOK_SECRET, {"secrets": f"{known}{SECRET} # tests\n"})])

    def is_known() -> bool:
        return all(
            signed_with(SECRET, f"http://{pod['status']['podIP']}:8080/") == 200
            for pod in namespace.pods("bridge")
        )

    seconds = until(is_known, "every bridge knows the secret of the tests", SECRET_SECONDS)
    print(f"\nevery bridge had the new secrets of the webhook after {seconds:.0f} s")


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
