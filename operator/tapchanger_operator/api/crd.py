"""Writes the CustomResourceDefinitions from the models.

``python -m tapchanger_operator.api.crd`` writes ``crds/`` and the chart's copy; ``--check`` fails where they are stale.
"""

from __future__ import annotations

import argparse
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from tapchanger_operator.api.base import GROUP, VERSION
from tapchanger_operator.api.enginebuild import EngineBuildSpec, EngineBuildStatus
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.api.status import TransformerDeploymentStatus

FOLDERS = ("crds", "charts/tapchanger/files/crds")
NAME_LIMIT = 40
"""Longest name of a TransformerDeployment: names of its objects add a revision and stay within a DNS label."""

UNSEEN = -1
"""`status.observedGeneration` of an object that no operator has seen."""

_DROPPED = {"title", "$defs", "discriminator", "propertyNames", "examples"}


def structural(schema: dict[str, Any]) -> dict[str, Any]:
    """Turns Pydantic's JSON schema into a structural schema: references inlined, null unions removed, no titles."""
    definitions = schema.get("$defs", {})

    def visit(node: Any) -> Any:
        if isinstance(node, list):
            return [visit(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            target = definitions[node["$ref"].rsplit("/", 1)[1]]
            return visit({**target, **{key: value for key, value in node.items() if key != "$ref"}})
        if "anyOf" in node:
            return visit(_without_union(node))
        if "const" in node:
            node = {**{key: value for key, value in node.items() if key != "const"}, "enum": [node["const"]]}
        return {
            key: _visit_key(key, value)
            for key, value in node.items()
            if key not in _DROPPED and not (key == "default" and value in _EMPTY)
        }

    def _visit_key(key: str, value: Any) -> Any:
        if key == "properties":
            return {name: visit(child) for name, child in value.items()}
        if key == "default":
            return _without_empties(value)
        if key in ("enum", "required", "x-kubernetes-validations", "x-kubernetes-list-map-keys"):
            return deepcopy(value)  # a type that is used twice would become a YAML alias
        return visit(value)

    visited: dict[str, Any] = visit(schema)
    _tidy(visited)
    return visited


def _without_union(node: dict[str, Any]) -> dict[str, Any]:
    """`X | None` becomes X; `Literal | pattern` becomes one string with both allowed by pattern."""
    options = [option for option in node["anyOf"] if option.get("type") != "null"]
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    if rest.get("default", ...) is None:
        rest.pop("default")
    if len(options) == 1:
        return {**options[0], **rest}
    words = [word for option in options for word in option.get("enum", [option["const"]] if "const" in option else [])]
    patterns = [option["pattern"] for option in options if "pattern" in option]
    pattern = "|".join([f"^{word}$" for word in words] + patterns)
    return {"type": "string", "pattern": pattern, **rest}


_EMPTY: tuple[Any, ...] = (None, {}, [])


def _without_empties(value: Any) -> Any:
    """Defaults that say nothing are left out, so that a stored object shows only what has a meaning."""
    if isinstance(value, list):
        return [_without_empties(item) for item in value]
    if isinstance(value, dict):
        kept = {key: _without_empties(child) for key, child in value.items()}
        return {key: child for key, child in kept.items() if child not in _EMPTY}
    return value


def _tidy(node: Any) -> None:
    """Removes what a structural schema may not hold, in place."""
    if isinstance(node, list):
        for item in node:
            _tidy(item)
        return
    if not isinstance(node, dict):
        return
    if node.get("additionalProperties") is False:
        del node["additionalProperties"]
    if node.get("type") == "array" and "prefixItems" in node:
        del node["prefixItems"]
    for bound in ("exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(node.get(bound), int | float) and not isinstance(node.get(bound), bool):
            node["minimum" if bound == "exclusiveMinimum" else "maximum"] = node[bound]
            node[bound] = True
    for key, child in node.items():
        if key not in ("default", "enum"):
            _tidy(child)


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    return structural(model.model_json_schema(by_alias=True))


def definition(
    *,
    kind: str,
    plural: str,
    short: str,
    spec: type[BaseModel],
    status: type[BaseModel],
    columns: list[dict[str, Any]],
    rules: list[dict[str, str]],
) -> dict[str, Any]:
    """One CustomResourceDefinition with a status subresource."""
    properties = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": _defaults(spec),
        # An object that no operator has seen yet must read as in progress to those who wait for it: by kstatus' rules an
        # observed generation other than the object's says so, while none at all says that all is well.
        "status": {**_defaults(status), "default": {"observedGeneration": UNSEEN}},
    }
    root: dict[str, Any] = {"type": "object", "required": ["spec"], "properties": properties}
    if rules:
        root["x-kubernetes-validations"] = rules
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["all", "ml"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": root},
                }
            ],
        },
    }


def _column(name: str, path: str, kind: str = "string", priority: int = 0) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path, "priority": priority}


def _condition(name: str) -> str:
    return f'.status.conditions[?(@.type=="{name}")].status'


def definitions() -> dict[str, dict[str, Any]]:
    """File name → CustomResourceDefinition."""
    deployment = definition(
        kind="TransformerDeployment",
        plural="transformerdeployments",
        short="tdep",
        spec=TransformerDeploymentSpec,
        status=TransformerDeploymentStatus,
        columns=[
            _column("Ready", _condition("Ready")),
            _column("Stable", ".status.stable.revision"),
            _column("Canary", ".status.canary.revision"),
            _column("Weight", ".status.canary.weight", "integer"),
            _column("P99", ".status.slo.p99"),
            _column("Drift", ".status.drift.verdict"),
            _column("Age", ".metadata.creationTimestamp", "date"),
            _column("Status", ".status.message"),
            _column("Model", ".spec.model.uri", priority=1),
        ],
        rules=[
            {
                "rule": f"self.metadata.name.size() <= {NAME_LIMIT}",
                "message": f"metadata.name may have at most {NAME_LIMIT} characters, since names of its Services add to it",
            },
            {
                "rule": "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "message": "metadata.name becomes a Service's name: lower-case letters, digits and '-', starting with a letter",
            },
        ],
    )
    build = definition(
        kind="EngineBuild",
        plural="enginebuilds",
        short="eb",
        spec=EngineBuildSpec,
        status=EngineBuildStatus,
        columns=[
            _column("Phase", ".status.phase"),
            _column("Engine", ".status.engine"),
            _column("Speedup", ".status.speedup"),
            _column("Model", ".spec.model.uri"),
            _column("Age", ".metadata.creationTimestamp", "date"),
            _column("Status", ".status.message"),
        ],
        rules=[],
    )
    return {f"{GROUP}_{crd['spec']['names']['plural']}.yaml": crd for crd in (deployment, build)}


def render() -> dict[str, str]:
    """File name → YAML text."""
    header = "# Generated by `make generate` from operator/tapchanger_operator/api. Do not edit.\n"
    return {
        name: header + yaml.safe_dump(crd, sort_keys=False, width=120, allow_unicode=True)
        for name, crd in definitions().items()
    }


def main() -> int:
    """Writes the files, or with --check names the stale ones and returns 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a file is stale")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the checkout (default: here)")
    arguments = parser.parse_args()
    stale = []
    for folder in FOLDERS:
        for name, text in render().items():
            path = arguments.root / folder / name
            if path.is_file() and path.read_text() == text:
                continue
            stale.append(str(path.relative_to(arguments.root)))
            if not arguments.check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    if stale:
        sys.stderr.write(f"{'stale' if arguments.check else 'written'}: {', '.join(stale)}\n")
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
