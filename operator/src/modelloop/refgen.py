"""Writes docs/reference.md from the CRDs: every field of every kind, with type, default and rules.

Run by `make generate` as `python -m modelloop.refgen <file>`; `make verify` fails when the committed file differs.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelloop.api.kinds import KINDS, Kind
from modelloop.crdgen import build_crd

Schema = dict[str, Any]

_HEADER = """# Field reference

Generated from `operator/src/modelloop/api` by `make generate`; do not edit.

Group `modelloop.dev`, version `v1alpha1`. A field without a default is optional unless marked *required*.
"""


def build_reference() -> str:
    """The whole reference as Markdown."""
    return "\n".join([_HEADER, *(line for kind in KINDS for line in _describe_kind(kind))]) + "\n"


def _describe_kind(kind: Kind) -> Iterator[str]:
    schema = build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    yield f"## {kind.name}\n\n{kind.description} Short name `{kind.short_name}`.\n"
    for part in ("spec", "status"):
        node = schema["properties"][part]
        yield f"### {kind.name} `{part}`\n"
        rules = _rules(node)
        if rules:
            yield f"{rules}\n"
        yield "| field | type | default | meaning |\n|---|---|---|---|"
        yield from _describe_fields(node, "")
        yield ""


def _describe_fields(node: Schema, prefix: str) -> Iterator[str]:
    required = set(node.get("required", []))
    for name, child in node.get("properties", {}).items():
        path = f"{prefix}{name}"
        default = "*required*" if name in required else _default(child)
        meaning = _cell(f"{child.get('description', '')} {_limits(child)} {_rules(child)}")
        yield f"| `{path}` | {_type(child)} | {default} | {meaning} |"
        nested = child.get("items", child) if child.get("type") == "array" else child
        suffix = "[]." if child.get("type") == "array" else "."
        yield from _describe_fields(nested, f"{path}{suffix}")


def _type(node: Schema) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "quantity" if "quantity" in _rules(node) else "number or percentage"
    if node.get("type") == "array":
        return f"list of {_type(node['items'])}"
    if "additionalProperties" in node:
        return f"map of {_type(node['additionalProperties'])}"
    if node.get("format") == "date-time":
        return "time"
    return str(node.get("type", "object"))


def _default(node: Schema) -> str:
    if "default" not in node or isinstance(node["default"], dict):
        return ""
    return f"`{json.dumps(node['default'])}`"


def _limits(node: Schema) -> str:
    parts = []
    if "enum" in node:
        parts.append("One of " + ", ".join(f"`{value}`" for value in node["enum"]) + ".")
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and not node.get("format"):
        parts.append(f"{'Above' if node.get('exclusiveMinimum') else 'At least'} {low}.")
    if high is not None:
        parts.append(f"{'Below' if node.get('exclusiveMaximum') else 'At most'} {high}.")
    if "maxItems" in node:
        parts.append(f"At most {node['maxItems']} items.")
    return " ".join(parts)


def _rules(node: Schema) -> str:
    messages = [rule["message"] for rule in node.get("x-kubernetes-validations", [])]
    return f"Rules: {'; '.join(messages)}." if messages else ""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(build_reference(), encoding="utf-8")
