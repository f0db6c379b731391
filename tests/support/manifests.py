"""The manifests of deploy/kubernetes and deploy/helm, rendered for the tests."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.generator.chart import WORKLOADS, pod_template
from deploy.kubernetes.generator.manifests import Manifest, NoKustomize, parse, render
from tests.support.paths import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
CHART = ROOT / "deploy" / "helm"

COMBINATIONS = sorted(
    f"{path.parent.parent.name}/{path.parent.name}"
    for folder in ("overlays", "tests")
    for path in (KUBERNETES / folder).glob("*/kustomization.yaml")
)
"""Every overlay, and every combination of components of deploy/kubernetes/tests."""


@functools.cache
def rendered(combination: str) -> tuple[Manifest, ...]:
    """The objects of an overlay, which must not be changed. Fails without kustomize."""
    try:
        return tuple(render(KUBERNETES / combination))
    except NoKustomize as error:
        pytest.fail(str(error))


def rendered_chart(values: Path | None) -> list[Manifest]:
    """The objects of the Helm chart, with its defaults or with a file of values over them."""
    try:
        from helm_python import Chart
    except ImportError:
        pytest.fail("Helm's code is not installed: `make test` installs it")
    chart = Chart.load(CHART)
    given: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    if values is not None:
        given = merged(given, yaml.safe_load(values.read_text()))
    chart.validate_schema(given)
    files = chart.render(given, name="contactstream", namespace="contactstream")
    return [manifest for text in files.values() for manifest in parse(text)]


def merged(values: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Values with others over them, as Helm does it: maps are merged, everything else replaced."""
    found = dict(values)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = merged(found[key], value) if both else value
    return found


def name_of(manifest: Manifest) -> str:
    """Kind and name of an object, for a message."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def of_kind(combination: str, *kinds: str) -> list[Manifest]:
    """The objects of some kinds."""
    return [each for each in rendered(combination) if each["kind"] in kinds]


def the(combination: str, kind: str, name: str) -> Manifest:
    """One object. Fails when there is none."""
    for each in of_kind(combination, kind):
        if each["metadata"]["name"] == name:
            return each
    pytest.fail(f"{combination} has no {kind} {name}")


@dataclass(frozen=True, slots=True)
class Pod:
    """The pods of a workload."""

    workload: Manifest

    @property
    def name(self) -> str:
        """Kind and name of the workload."""
        return name_of(self.workload)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the pods."""
        found: dict[str, str] = pod_template(self.workload)["metadata"]["labels"]
        return found

    @property
    def component(self) -> str:
        """Which part of the product it is."""
        return self.labels["app.kubernetes.io/component"]

    @property
    def spec(self) -> Manifest:
        """The pod's specification."""
        found: Manifest = pod_template(self.workload)["spec"]
        return found

    @property
    def containers(self) -> list[Manifest]:
        """Its containers, and the ones before them."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    @property
    def main(self) -> Manifest:
        """Its only container that stays."""
        (container,) = self.spec["containers"]
        found: Manifest = container
        return found


def pods(combination: str) -> list[Pod]:
    """The pods of every workload."""
    return [Pod(each) for each in of_kind(combination, *WORKLOADS)]


def pod(combination: str, component: str) -> Pod:
    """The pods of one component. Fails when there are none."""
    for each in pods(combination):
        if each.component == component:
            return each
    pytest.fail(f"{combination} has no pods of {component}")


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector takes an object with these labels."""
    wanted = selector.get("matchLabels", {})
    expressions = selector.get("matchExpressions", ())
    assert {each["operator"] for each in expressions} <= {"In", "NotIn"}, "no other is used"
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        (labels.get(each["key"]) in each["values"]) is (each["operator"] == "In")
        for each in expressions
    )


def environment(combination: str, container: Manifest) -> Iterator[tuple[str, str]]:
    """The variables of a container: those of its ConfigMaps, then its own."""
    for source in container.get("envFrom", ()):
        yield from the(combination, "ConfigMap", source["configMapRef"]["name"])["data"].items()
    for variable in container.get("env", ()):
        yield variable["name"], variable["value"]
