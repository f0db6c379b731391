"""Turns the objects of the production overlay into the templates of the Helm chart.

kustomize is the source. A template is an object as kustomize renders it, with expressions of Helm
in the places that `PLACES` names. tests/deploy compares what the chart renders with the overlay.
"""

import re
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.kubernetes.generator.manifests import Manifest, dump, render, without_hash

KUBERNETES = Path(__file__).resolve().parents[1]
EVERYTHING = KUBERNETES / "tests" / "everything"
"""The production overlay with every component that the chart can switch on."""

WORKLOADS = ("Deployment", "StatefulSet", "Job", "CronJob")
STAGES = ("bridge", "dedupe", "reader", "sink", "console")

IMAGE = """{{- define "contactstream.image" -}}
{{ .Values.image.repository }}
{{- with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag }}{{ end }}
{{- end }}
"""

HEADER = "{{- /* Written by `make docs` from deploy/kubernetes. */}}\n"


@dataclass(frozen=True, slots=True)
class Inline:
    """An expression in the place of a text or a number."""

    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """A value of the chart in the place of a map or a list. An empty one leaves its key out."""

    value: str


Expression = Inline | Block


@dataclass(frozen=True, slots=True)
class Place:
    """Where an expression goes: the kind and the name of an object, and the path inside of it.

    An empty name stands for every object of the kind.
    """

    kind: str
    name: str
    path: tuple[str | int, ...]
    expression: Expression


def _resources(stage: str, kind: str) -> Place:
    path = ("spec", "template", "spec", "containers", 0, "resources")
    return Place(kind, f"contactstream-{stage}", path, Block(f".Values.{stage}.resources"))


BRIDGE_SCALE = ("HorizontalPodAutoscaler", "contactstream-bridge")
INGRESS = ("Ingress", "contactstream-bridge")
HOST = Inline("{{ .Values.ingress.host }}")

PLACES = (
    _resources("bridge", "Deployment"),
    _resources("dedupe", "StatefulSet"),
    _resources("reader", "Deployment"),
    _resources("sink", "Deployment"),
    _resources("console", "Deployment"),
    Place(
        "StatefulSet",
        "contactstream-dedupe",
        ("spec", "replicas"),
        Inline("{{ .Values.dedupe.replicas }}"),
    ),
    Place(*BRIDGE_SCALE, ("spec", "minReplicas"), Inline("{{ .Values.bridge.minReplicas }}")),
    Place(*BRIDGE_SCALE, ("spec", "maxReplicas"), Inline("{{ .Values.bridge.maxReplicas }}")),
    Place(
        *BRIDGE_SCALE,
        ("spec", "metrics", 0, "resource", "target", "averageUtilization"),
        Inline("{{ .Values.bridge.targetCPU }}"),
    ),
    Place(*INGRESS, ("metadata", "annotations"), Block(".Values.ingress.annotations")),
    Place(*INGRESS, ("spec", "ingressClassName"), Inline("{{ .Values.ingress.className }}")),
    Place(*INGRESS, ("spec", "rules", 0, "host"), HOST),
    Place(*INGRESS, ("spec", "tls", 0, "hosts", 0), HOST),
    Place(
        *INGRESS,
        ("spec", "tls", 0, "secretName"),
        Inline("{{ .Values.ingress.tlsSecret }}"),
    ),
    Place("ConfigMap", "contactstream-settings", ("data",), Block(".Values.settings")),
    Place("ConfigMap", "contactstream-org", ("data",), Block(".Values.org")),
)

# The file of each object, by its component or its kind, and the value that switches it on.
CONDITIONS = {
    "console": ".Values.console.enabled",
    "topics": ".Values.topics.enabled",
    "ingress": ".Values.ingress.enabled",
    "network-policy": ".Values.networkPolicy.enabled",
    "pod-monitor": ".Values.monitoring.podMonitor",
    "rules": ".Values.monitoring.rules",
    "dashboards": ".Values.monitoring.dashboards",
}

# Text with braces of its own comes from the files of the chart, which are links to the originals.
RULES = """{{- if .Values.monitoring.rules }}
{{ .Files.Get "files/rules.yaml" }}
{{- end }}
"""
DASHBOARDS = """{{- if .Values.monitoring.dashboards }}
{{- range $path, $_ := .Files.Glob "files/dashboards/*.json" }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: contactstream-dashboard-{{ base $path | trimSuffix ".json" }}
  labels:
    app.kubernetes.io/name: contactstream
    app.kubernetes.io/part-of: contactstream
    grafana_dashboard: "1"
  annotations:
    grafana_folder: contactstream
data:
  {{ base $path }}: |
{{ $.Files.Get $path | indent 4 }}
{{- end }}
{{- end }}
"""
# A mapping of the user's own, which the production overlay does not have.
FILES = """{{- with .Values.files }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: contactstream-files
  labels:
    app.kubernetes.io/part-of: contactstream
    app.kubernetes.io/version: {{ $.Values.image.tag | quote }}
data: {{- toYaml . | nindent 2 }}
{{- end }}
"""


def templates() -> dict[str, str]:
    """The text of each template, by its file name. Blocks. Raises what `render` raises."""
    files: dict[str, list[Manifest]] = {}
    for manifest in render(EVERYTHING):
        name = file_of(manifest)
        if name not in ("rules", "dashboards"):
            files.setdefault(name, []).append(manifest)
    texts = {name: template(name, manifests) for name, manifests in files.items()}
    texts |= {"rules": RULES, "dashboards": DASHBOARDS, "files": FILES}
    found = {f"{name}.yaml": HEADER + text for name, text in texts.items()}
    return {"_image.tpl": HEADER + IMAGE, **found}


def file_of(manifest: Manifest) -> str:
    """The name of the template of an object, without its ending."""
    kind, labels = manifest["kind"], manifest["metadata"].get("labels", {})
    by_kind = {
        "NetworkPolicy": "network-policy",
        "PodMonitor": "pod-monitor",
        "PrometheusRule": "rules",
        "Ingress": "ingress",
    }
    if kind in by_kind:
        return by_kind[kind]
    if kind == "ConfigMap":
        return "dashboards" if "grafana_dashboard" in labels else "settings"
    component = str(labels["app.kubernetes.io/component"])
    return component if component in (*STAGES, "topics") else "operator"


def template(name: str, manifests: Iterable[Manifest]) -> str:
    """A template of these objects, with the expressions of `PLACES` and the condition of `name`."""
    expressions: list[Expression] = []

    def token(expression: Expression) -> str:
        expressions.append(expression)
        return f"EXPRESSION-{len(expressions) - 1}-"

    text = dump([_prepared(each, token) for each in manifests])
    text = _with_expressions(text, expressions)
    condition = CONDITIONS.get(name)
    return f"{{{{- if {condition} }}}}\n{text}{{{{- end }}}}\n" if condition else text


Token = Callable[[Expression], str]


def _prepared(rendered: Manifest, token: Token) -> Manifest:
    """An object with tokens in the places of expressions."""
    manifest = deepcopy(rendered)
    metadata = manifest["metadata"]
    metadata.pop("namespace", None)  # that of the release
    if manifest["kind"] == "ConfigMap":
        metadata["name"] = without_hash(metadata["name"])
    for place in PLACES:
        if manifest["kind"] == place.kind and metadata["name"] == place.name:
            _put(manifest, place.path, token(place.expression))
    version = token(Inline("{{ .Values.image.tag | quote }}"))
    for labels in _labels(manifest):
        if "app.kubernetes.io/version" in labels:
            labels["app.kubernetes.io/version"] = version
    if manifest["kind"] in WORKLOADS:
        _prepare_workload(manifest, token)
    if manifest["kind"] == "Job":
        # A Job cannot be changed, so that each release has one of its own.
        name = metadata["name"]
        metadata["name"] = token(Inline(f"{name}-{{{{ .Release.Revision }}}}"))
    return manifest


def _prepare_workload(manifest: Manifest, token: Token) -> None:
    template = pod_template(manifest)
    spec = template["spec"]
    for container in spec["containers"]:
        container["image"] = token(Inline('{{ include "contactstream.image" . }}'))
        container["imagePullPolicy"] = token(Inline("{{ .Values.image.pullPolicy }}"))
        for source in container["envFrom"]:
            reference = source["configMapRef"]
            reference["name"] = without_hash(reference["name"])
    spec["imagePullSecrets"] = token(Block(".Values.imagePullSecrets"))
    spec["nodeSelector"] = token(Block(".Values.nodeSelector"))
    spec["tolerations"] = token(Block(".Values.tolerations"))
    if manifest["kind"] in ("Deployment", "StatefulSet"):
        # The name of a ConfigMap stays the same here, so that this restarts the pods.
        annotations = template["metadata"].setdefault("annotations", {})
        for value in _config_values(spec):
            digest = Inline(f"{{{{ toYaml .Values.{value} | sha256sum }}}}")
            annotations[f"checksum/{value}"] = token(digest)


def _config_values(spec: Manifest) -> list[str]:
    """The values of the chart that become the ConfigMaps of a pod."""
    used = [
        source["configMapRef"]["name"]
        for container in spec["containers"]
        for source in container["envFrom"]
    ]
    used += [each["configMap"]["name"] for each in spec["volumes"] if "configMap" in each]
    return [name.removeprefix("contactstream-") for name in used]


def pod_template(manifest: Manifest) -> Manifest:
    """The pod template of a workload."""
    spec = manifest["spec"]
    if manifest["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    found: Manifest = spec["template"]
    return found


def _labels(value: Any) -> Iterable[Manifest]:
    """Every map of labels inside of an object."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "labels" and isinstance(inner, dict):
                yield inner
            else:
                yield from _labels(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _labels(inner)


def _put(manifest: Any, path: tuple[str | int, ...], value: str) -> None:
    for step in path[:-1]:
        manifest = manifest[step]
    manifest[path[-1]] = value


_LINE_WITH_TOKEN = re.compile(r"^(?P<before>.*?)'?EXPRESSION-(?P<number>\d+)-'?$", re.MULTILINE)


def _with_expressions(text: str, expressions: list[Expression]) -> str:
    def replaced(found: re.Match[str]) -> str:
        before, expression = found["before"], expressions[int(found["number"])]
        if isinstance(expression, Inline):
            return before + expression.text
        indent = " " * (len(before) - len(before.lstrip()))
        return (
            f"{indent}{{{{- with {expression.value} }}}}\n"
            f"{before}{{{{- toYaml . | nindent {len(indent) + 2} }}}}\n"
            f"{indent}{{{{- end }}}}"
        )

    return _LINE_WITH_TOKEN.sub(replaced, text)
