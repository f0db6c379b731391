"""The rules and alerts of deploy/monitoring as an object of Prometheus' operator."""

from pathlib import Path

import yaml

from deploy.kubernetes.generator.manifests import Manifest

RULES = Path(__file__).resolve().parents[2] / "monitoring" / "rules"


def prometheus_rule() -> Manifest:
    """The PrometheusRule with every group of deploy/monitoring/rules."""
    groups = [
        group
        for file in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(file.read_text())["groups"]
    ]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "contactstream",
            "labels": {
                "app.kubernetes.io/name": "contactstream",
                "app.kubernetes.io/part-of": "contactstream",
            },
        },
        "spec": {"groups": groups},
    }
