"""The Helm chart renders the same objects as kustomize, and refuses values that it cannot use.

Different on purpose, and left out of the comparison: kustomize appends a hash to the name of a
ConfigMap, where the chart has a checksum in the pods; the chart names no namespace, because that is
the release's; the Job of the topics carries the number of the release.
"""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.generator.__main__ import CHART as TEMPLATES
from deploy.kubernetes.generator.__main__ import chart, objects, stale
from deploy.kubernetes.generator.chart import WORKLOADS, pod_template
from deploy.kubernetes.generator.manifests import Manifest, without_hash
from tests.support.manifests import CHART, merged, name_of, rendered, rendered_chart

# What the chart is asked for, and the overlay that asks for the same.
PAIRS = {
    "overlays/production": None,
    "tests/everything": CHART / "ci" / "everything.yaml",
    "tests/small": CHART / "ci" / "small.yaml",
    "tests/tuned": CHART / "ci" / "tuned.yaml",
}

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


def comparable(manifest: Manifest) -> Manifest:
    """An object without what differs on purpose."""
    found = copy.deepcopy(manifest)
    found["metadata"].pop("namespace", None)
    if found["kind"] == "ConfigMap":
        found["metadata"]["name"] = without_hash(found["metadata"]["name"])
    if found["kind"] == "Job":
        found["metadata"]["name"] = re.sub(r"-\d+$", "", found["metadata"]["name"])
    if found["kind"] in WORKLOADS:
        template = pod_template(found)
        annotations = template["metadata"].pop("annotations", {})
        assert all(key.startswith("checksum/") for key in annotations)
        for volume in template["spec"]["volumes"]:
            if "configMap" in volume:
                volume["configMap"]["name"] = without_hash(volume["configMap"]["name"])
        for container in template["spec"]["containers"]:
            for source in container["envFrom"]:
                reference = source["configMapRef"]
                reference["name"] = without_hash(reference["name"])
    return found


def by_name(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {name_of(each): each for each in map(comparable, manifests)}


@pytest.mark.parametrize("combination", PAIRS)
def test_the_chart_renders_what_the_overlay_renders(combination: str) -> None:
    of_kustomize = by_name(list(rendered(combination)))
    of_helm = by_name(rendered_chart(PAIRS[combination]))
    assert set(of_helm) == set(of_kustomize)
    for name, manifest in of_kustomize.items():
        assert of_helm[name] == manifest, name


def test_every_file_of_values_is_compared() -> None:
    assert set((CHART / "ci").iterdir()) == {path for path in PAIRS.values() if path is not None}


@pytest.mark.parametrize("make", [objects, chart], ids=["objects", "chart"])
def test_what_is_generated_is_up_to_date(make: Any) -> None:
    assert [str(path) for path in stale(make())] == [], "run: make docs"


def test_no_template_is_left_of_something_that_is_gone() -> None:
    assert {path.name for path in TEMPLATES.iterdir()} == {path.name for path in chart()}


def test_changed_settings_restart_the_pods_that_have_them() -> None:
    def checksums(values: dict[str, Any]) -> dict[str, str]:
        from helm_python import Chart

        files = Chart.load(CHART).render(values, name="contactstream", namespace="contactstream")
        (sink,) = [
            each
            for each in yaml.safe_load_all(files["contactstream/templates/sink.yaml"])
            if each and each["kind"] == "Deployment"
        ]
        found: dict[str, str] = sink["spec"]["template"]["metadata"]["annotations"]
        return found

    before = checksums(VALUES)
    assert set(before) == {"checksum/settings", "checksum/org", "checksum/files"}
    for name, over in {
        "settings": {"SINK_LINGER": "3"},
        "org": {"SALESFORCE_USERNAME": "other@example.com"},
        "files": {"mapping.toml": "[fields]"},
    }.items():
        after = checksums(merged(VALUES, {name: over}))
        assert {key for key in after if after[key] != before[key]} == {f"checksum/{name}"}


def test_helm_finds_nothing_wrong_with_the_chart() -> None:
    try:
        from helm_python import lint
    except ImportError:
        pytest.fail("Helm's code is not installed: `make test` installs it")
    found = lint(CHART, strict=True)
    assert found["errors"] == []
    assert [each["error"] for each in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"bridge": {"minReplica": 3}}, "minReplica"),
        ({"dedupe": {"replicas": 0}}, "replicas"),
        ({"image": {"tag": "latest"}}, "tag"),
        ({"image": {"digest": "abc"}}, "digest"),
        ({"settings": {"KAFKA_EVENTS_PARTITIONS": 4}}, "KAFKA_EVENTS_PARTITIONS"),
        ({"ingress": {"enabled": "yes"}}, "enabled"),
        ({"consul": {}}, "consul"),
    ],
)
def test_values_that_cannot_be_used_are_refused(values: dict[str, Any], named: str) -> None:
    from helm_python import Chart, HelmError

    with pytest.raises(HelmError, match=named):
        Chart.load(CHART).validate_schema(merged(VALUES, values))


def leaves(values: dict[str, Any]) -> int:
    """How many values a user may set: maps of free keys count as one."""
    free = ("settings", "org", "files", "resources", "annotations", "nodeSelector")
    return sum(
        leaves(value) if isinstance(value, dict) and key not in free else 1
        for key, value in values.items()
    )


def test_the_chart_stays_thin() -> None:
    assert leaves(VALUES) <= 32


def test_the_chart_has_the_version_of_the_product() -> None:
    chart_file = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{chart_file["appVersion"]}"' in project
    assert chart_file["version"] == chart_file["appVersion"] == VALUES["image"]["tag"]
