"""The API server takes every combination of the manifests, by its own schemas and admission.

The definitions of Prometheus' operator and of Strimzi have to be there; no operator has to run.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.cluster.kubectl import ClusterError, Namespace
from tests.support.manifests import COMBINATIONS, rendered

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

DEFINITIONS = ("podmonitors.monitoring.coreos.com", "kafkatopics.kafka.strimzi.io")
DEFAULT, CHECKED = Namespace("default"), Namespace("contactstream-check")


@pytest.fixture(scope="module", autouse=True)
def _definitions() -> None:
    try:
        DEFAULT.run("get", "crd", *DEFINITIONS)
    except ClusterError as error:
        pytest.fail(f"install the definitions of the operators' kinds, which need no pod: {error}")


@pytest.fixture(scope="module", autouse=True)
def _namespace() -> Iterator[None]:
    """A namespace in which nothing is installed, because a dry run makes none."""
    CHECKED.run("create", "namespace", CHECKED.name)
    yield
    DEFAULT.run("delete", "namespace", CHECKED.name)


def moved(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The object in the namespace of this test.

    In its own one an earlier installation may be, with a Job or a StatefulSet that cannot be
    changed.
    """
    metadata = dict(manifest["metadata"])
    if manifest["kind"] == "Namespace":
        metadata["name"] = CHECKED.name
    if "namespace" in metadata:
        metadata["namespace"] = CHECKED.name
    return {**manifest, "metadata": metadata}


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_the_api_server_takes_every_object(combination: str) -> None:
    objects = [moved(each) for each in rendered(combination)]
    said = CHECKED.run(
        "apply",
        "--server-side",
        "--force-conflicts",  # of the Namespace, which is there
        "--dry-run=server",
        "--validate=strict",
        "--filename=-",
        text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
    )
    taken = [line for line in said.splitlines() if line.endswith("(server dry run)")]
    assert len(taken) == len(objects)


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
