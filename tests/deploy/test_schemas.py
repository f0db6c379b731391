"""Every combination is valid for several versions of Kubernetes, and for the operators' own kinds.

Strict: a key that the API does not know is an error, as a typing mistake would be one.
"""

import copy
import functools
import json
import re
from typing import Any

import jsonschema
import pytest

from deploy.kubernetes.generator.manifests import Manifest
from tests.deploy.crd_schemas import SCHEMAS
from tests.support.manifests import CHART, COMBINATIONS, name_of, rendered

# From the oldest that has what the manifests use on, to the newest that the schemas know.
VERSIONS = ("1.30", "1.34", "1.37")

CUSTOM = {path.stem: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}


def problem(manifest: Manifest, version: str) -> str:
    """What is wrong with an object; empty when nothing is."""
    return _problem(json.dumps(manifest, sort_keys=True), version)


@functools.cache  # most objects are the same in several combinations
def _problem(text: str, version: str) -> str:
    manifest = json.loads(text)
    try:
        if manifest["kind"] in CUSTOM:
            jsonschema.validate(manifest, CUSTOM[manifest["kind"]])
            return ""
        try:
            import kubernetes_validate
        except ImportError:
            pytest.fail("the API's schemas are not installed: `make test` installs them")
        kubernetes_validate.validate(manifest, version, strict=True)
    except jsonschema.ValidationError as error:
        return f"{name_of(manifest)}: {error.json_path}: {error.message}"
    return ""


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_every_object_is_valid_for_every_version(combination: str) -> None:
    found = [
        f"{version}: {wrong}"
        for manifest in rendered(combination)
        for version in (VERSIONS if manifest["kind"] not in CUSTOM else VERSIONS[:1])
        if (wrong := problem(manifest, version))
    ]
    assert found == []


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_nothing_of_a_combination_has_the_name_of_something_else(combination: str) -> None:
    names = [name_of(each) for each in rendered(combination)]
    assert sorted(names) == sorted(set(names))


def example(kind: str) -> Manifest:
    for combination in COMBINATIONS:
        for manifest in rendered(combination):
            if manifest["kind"] == kind:
                return copy.deepcopy(manifest)
    pytest.fail(f"no combination has a {kind}")


@pytest.mark.parametrize("kind", ["Deployment", "HorizontalPodAutoscaler", *sorted(CUSTOM)])
def test_a_misspelt_key_is_seen(kind: str) -> None:
    manifest = example(kind)
    manifest["spec"]["replicaz"] = 1
    assert re.search("replicaz", problem(manifest, VERSIONS[0]))


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [("KafkaTopic", "partitions", "four"), ("PodMonitor", "selector", "contactstream")],
)
def test_a_value_of_the_wrong_type_is_seen(kind: str, key: str, value: Any) -> None:
    manifest = example(kind)
    manifest["spec"][key] = value
    assert problem(manifest, VERSIONS[0])


def test_the_chart_asks_for_the_oldest_version() -> None:
    assert f'">={VERSIONS[0]}.0-0"' in (CHART / "Chart.yaml").read_text()
