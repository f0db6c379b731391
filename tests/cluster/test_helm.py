"""The Helm chart on a real Kubernetes: it installs, becomes ready, upgrades, and leaves nothing."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.installation import (
    KUBERNETES,
    STAGES,
    Images,
    allow_from_namespace,
    remove,
    secret,
)
from tests.cluster.kubectl import REQUEST_SECONDS, ROLLOUT_SECONDS, Namespace
from tests.cluster.traffic import TESTS_PORT
from tests.support.manifests import CHART

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

RELEASE = "contactstream"
# Beside the deployment of the other tests, whose Kafka it uses by the listener without a login.
NAMESPACE = "contactstream-helm"


def helm(*arguments: str, values: dict[str, Any] | None = None) -> str:
    """Runs helm and returns what it prints."""
    program = shutil.which("helm")
    if program is None:
        pytest.fail("helm is not installed: go install helm.sh/helm/v3/cmd/helm@v3.19.0")
    command = [program, "--namespace", NAMESPACE, *arguments]
    if values is not None:
        command += ["--values", "-"]
    ended = subprocess.run(
        command,
        input=json.dumps(values or {}),
        capture_output=True,
        text=True,
        timeout=ROLLOUT_SECONDS + REQUEST_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.fixture
def own(namespace: Namespace) -> Iterator[Namespace]:
    """A namespace with the Secrets that the page makes, and a way to Kafka."""
    found = Namespace(NAMESPACE)
    remove(found)
    manifest = yaml.safe_load((KUBERNETES / "overlays/production/namespace.yaml").read_text())
    manifest["metadata"]["name"] = NAMESPACE
    found.apply([manifest])
    values = {
        "contactstream-nylas": {"api-key": "nyk_demo"},
        "contactstream-nylas-webhook": {"secrets": ""},
        "contactstream-salesforce": {"client-secret": "demo"},
        "contactstream-console": {"token": "a-token-of-the-helm-test"},
    }
    found.apply([secret(name, data) for name, data in values.items()])
    namespace.apply([allow_from_namespace(NAMESPACE)])
    yield found
    remove(found)
    namespace.run("delete", "networkpolicy", f"from-{NAMESPACE}", "--ignore-not-found")


def chart_values(namespace: Namespace, image: str) -> dict[str, Any]:
    """The smallest requests, and the Kafka of the other tests with a topic prefix of its own."""
    kafka = namespace.get("pod", namespace.pod("kafka"))["status"]["podIP"]
    repository, _, tag = image.rpartition(":")
    small = {"resources": {"requests": {"cpu": "10m", "memory": "96Mi"}}}
    return {
        "image": {"repository": repository, "tag": tag},
        "settings": {
            "KAFKA_BOOTSTRAP_SERVERS": f"{kafka}:{TESTS_PORT}",
            "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
            "KAFKA_SASL_USERNAME_FILE": None,
            "KAFKA_SASL_PASSWORD_FILE": None,
            "KAFKA_SSL_CA_LOCATION": None,
            "KAFKA_REPLICATION_FACTOR": "1",
            "KAFKA_TOPIC_PREFIX": "helm.",
        },
        "org": {
            "SALESFORCE_MODE": "report-only",
            "SALESFORCE_PRIVATE_KEY_FILE": None,
            "SALESFORCE_CLIENT_SECRET_FILE": "/run/secrets/contactstream/salesforce/client-secret",
        },
        **dict.fromkeys((*STAGES, "console"), small),
    }


def test_the_chart_installs_and_upgrades_and_uninstalls(
    namespace: Namespace, own: Namespace, images: Images
) -> None:
    values = chart_values(namespace, images.new)
    waiting = ("--wait", "--wait-for-jobs", f"--timeout={ROLLOUT_SECONDS:.0f}s")
    helm("install", RELEASE, str(CHART), *waiting, values=values)
    before = {stage: pods_of(own, stage) for stage in STAGES}
    assert all(before.values())
    # A changed setting reaches every process.
    values["settings"]["OPS_LOG_FORMAT"] = "console"
    helm("upgrade", RELEASE, str(CHART), *waiting, values=values)
    for stage in STAGES:
        assert pods_of(own, stage), stage
        assert not before[stage] & pods_of(own, stage), stage
    helm("uninstall", RELEASE, "--wait", f"--timeout={ROLLOUT_SECONDS:.0f}s")
    kinds = "deployments,statefulsets,services,configmaps,jobs,cronjobs,networkpolicies,hpa,pdb"
    left = own.run("get", kinds, "--output=name", "--selector=app.kubernetes.io/name=contactstream")
    assert left == ""


def pods_of(namespace: Namespace, stage: str) -> set[str]:
    return {one["metadata"]["uid"] for one in namespace.pods(stage)}
