"""Makes strict JSON schemas of custom resource definitions: those in tests/deploy/schemas.

    python -m tests.deploy.crd_schemas VERSION CRD.yaml ...

writes one file for each definition, `KIND.json`, with the version of the operator that it is from.
The descriptions are left out, and a key that the definition does not have is an error.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

SCHEMAS = Path(__file__).parent / "schemas"

# What Kubernetes adds to JSON Schema, and what only documents.
LEFT_OUT = ("description", "example", "format", "nullable")


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema that allows only the keys that the definition has."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in LEFT_OUT or key.startswith("x-kubernetes-"):
            continue
        if key == "pattern" and "(?i)" in value:
            continue  # Go's regular expressions; Python refuses it in this place
        if key == "properties":
            found[key] = {name: strict(inner) for name, inner in value.items()}
        elif key in ("items", "additionalProperties", "not") and isinstance(value, dict):
            found[key] = strict(value)
        elif key in ("oneOf", "anyOf", "allOf"):
            # They repeat some properties, and would refuse the others.
            continue
        else:
            found[key] = value
    free = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if "properties" in found and not free:
        found.setdefault("additionalProperties", False)
    return found


def schema_of(definition: dict[str, Any], operator: str) -> dict[str, Any]:
    """The schema of the stored version of a definition."""
    spec = definition["spec"]
    version = next(each for each in spec["versions"] if each["storage"])
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    schema["properties"]["apiVersion"] = {"const": f"{spec['group']}/{version['name']}"}
    schema["properties"]["kind"] = {"const": spec["names"]["kind"]}
    return {"$comment": f"made by tests/deploy/crd_schemas.py from {operator}", **schema}


def main() -> None:
    """The command."""
    operator, *files = sys.argv[1:]
    for file in files:
        definition = yaml.safe_load(Path(file).read_text())
        target = SCHEMAS / f"{definition['spec']['names']['kind']}.json"
        target.write_text(json.dumps(schema_of(definition, operator), sort_keys=True) + "\n")
        print(target.name)


if __name__ == "__main__":
    main()
