"""The API server takes every combination of the manifests, by its own schemas and admission.

The definitions of Prometheus' operator and of Strimzi have to be there; no operator has to run.
"""

from collections.abc import Iterator

import pytest

from tests.cluster.kubectl import ClusterError, Namespace
from tests.support.manifests import COMBINATIONS, KUBERNETES, rendered

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

DEFINITIONS = ("podmonitors.monitoring.coreos.com", "kafkatopics.kafka.strimzi.io")
DEFAULT = Namespace("default")


@pytest.fixture(scope="module", autouse=True)
def _definitions() -> None:
    try:
        DEFAULT.run("get", "crd", *DEFINITIONS)
    except ClusterError as error:
        pytest.fail(f"install the definitions of the operators' kinds, which need no pod: {error}")


def namespace_of(combination: str) -> Namespace:
    (name,) = {each["metadata"].get("namespace") for each in rendered(combination)} - {None}
    return Namespace(name)


@pytest.fixture(scope="module")
def _namespaces() -> Iterator[None]:
    """The namespaces of all combinations, because a dry run makes none."""
    made = []
    for name in {namespace_of(each).name for each in COMBINATIONS}:
        if not DEFAULT.run("get", "namespace", name, "--ignore-not-found", "--output=name"):
            DEFAULT.run("create", "namespace", name)
            made.append(name)
    yield
    for name in made:
        DEFAULT.run("delete", "namespace", name)


@pytest.mark.usefixtures("_namespaces")
@pytest.mark.parametrize("combination", COMBINATIONS)
def test_the_api_server_takes_every_object(combination: str) -> None:
    said = namespace_of(combination).run(
        "apply",
        "--server-side",
        # Where another test has installed the same object, by another way.
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        f"--kustomize={KUBERNETES / combination}",
    )
    taken = [line for line in said.splitlines() if line.endswith("(server dry run)")]
    assert len(taken) == len(rendered(combination))


def test_the_api_server_refuses_a_misspelt_key() -> None:
    """Otherwise the test above would say nothing."""
    with pytest.raises(AssertionError, match="replicaz"):
        DEFAULT.run(
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "--filename=-",
            text='{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"},'
            ' "spec": {"replicaz": 1}}',
        )
