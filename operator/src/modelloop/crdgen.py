"""Writes crds/*.yaml from the API models: JSON Schema of pydantic made structural.

Run by `make generate` as `python -m modelloop.crdgen <directory>`; `make verify` fails when the committed files
differ.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from modelloop.api.common import GROUP, VERSION
from modelloop.api.kinds import KINDS, NAME_RULE, Kind

Schema = dict[str, Any]

_DROPPED = ("title", "$defs", "discriminator")


def structural(schema: Schema) -> Schema:
    """`schema` in the form that apiextensions accepts: no `$ref`, null union, title or `additionalProperties: false`.

    See the Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions", on structural schemas.
    """
    return _node(schema, schema.get("$defs", {}))


def _node(node: Schema, definitions: dict[str, Schema]) -> Schema:
    node = _resolve(node, definitions)
    node = _without_null(node, definitions)
    out = {key: value for key, value in node.items() if key not in _DROPPED}
    for bound, name in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in out:  # OpenAPI 3.0 writes an exclusive bound as a flag beside the bound
            out[name], out[bound] = out[bound], True
    if "const" in out:
        out["enum"] = [out.pop("const")]
    if out.get("x-kubernetes-int-or-string"):
        out.pop("anyOf", None)
    if "properties" in out:
        out["properties"] = {name: _node(item, definitions) for name, item in out["properties"].items()}
    if isinstance(out.get("items"), dict):
        out["items"] = _node(out["items"], definitions)
    if isinstance(out.get("additionalProperties"), dict):
        out["additionalProperties"] = _node(out["additionalProperties"], definitions)
    elif out.get("additionalProperties", 0) in (False, True, None):
        out.pop("additionalProperties", None)
    if "default" in out:
        out["default"] = _without_nulls(out["default"])
        if out["default"] is None:
            del out["default"]
    if out.get("format") not in (None, "date-time"):
        del out["format"]
    return dict(sorted(out.items()))


def _without_nulls(default: Any) -> Any:
    """A default with the fields left out that aren't set: the API server takes no null for them."""
    if isinstance(default, dict):
        return {key: _without_nulls(value) for key, value in default.items() if value is not None}
    if isinstance(default, list):
        return [_without_nulls(value) for value in default]
    return default


def _resolve(node: Schema, definitions: dict[str, Schema]) -> Schema:
    reference = node.get("$ref")
    if reference is None:
        return node
    target = definitions[reference.rsplit("/", 1)[1]]
    siblings = {key: value for key, value in node.items() if key != "$ref"}
    # A field's own description is closer to the user than its type's.
    return _resolve(target, definitions) | siblings


def _without_null(node: Schema, definitions: dict[str, Schema]) -> Schema:
    if "anyOf" not in node or node.get("x-kubernetes-int-or-string"):
        return node
    options = [option for option in node["anyOf"] if option.get("type") != "null"]
    if len(options) != 1:
        raise ValueError(f"only unions with null can be made structural; found {node['anyOf']}")
    siblings = {key: value for key, value in node.items() if key != "anyOf"}
    return _resolve(options[0], definitions) | siblings


def build_crd(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of `kind`."""
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}} | ({"scale": kind.scale} if kind.scale else {}),
        "additionalPrinterColumns": [column.to_crd() for column in kind.columns],
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": kind.description,
                "required": ["spec"],
                "x-kubernetes-validations": [NAME_RULE],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object"},
                    "spec": structural(kind.spec.model_json_schema(by_alias=True)),
                    "status": structural(kind.status.model_json_schema(by_alias=True)),
                },
            }
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/part-of": "modelloop", "app.kubernetes.io/name": "modelloop"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short_name],
                "categories": ["modelloop"],
            },
            "versions": [version],
        },
    }


class _NoAliasDumper(yaml.SafeDumper):
    """Writes repeated parts out: YAML anchors are refused by some tools."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def main(directory: str) -> None:
    """Write one file per kind into `directory`."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        text = yaml.dump(build_crd(kind), Dumper=_NoAliasDumper, sort_keys=False, width=110)
        (target / f"{GROUP}_{kind.plural}.yaml").write_text(
            "# Generated from operator/src/modelloop/api by `make generate`; do not edit.\n" + text
        )


if __name__ == "__main__":
    main(sys.argv[1])
