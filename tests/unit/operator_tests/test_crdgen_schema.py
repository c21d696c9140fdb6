"""The CRDs: structural, bounded, without surprises for the API server, and as committed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from modelloop.api.common import ApiModel
from modelloop.api.kinds import KINDS, Kind
from modelloop.crdgen import build_crd, main, structural

Schema = dict[str, Any]
CRDS = Path(__file__).parents[3] / "crds"
KNOWN = {
    "additionalProperties", "default", "description", "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "items",
    "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum", "pattern",
    "properties", "required", "type", "x-kubernetes-int-or-string", "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
}  # fmt: skip
"""What apiextensions.k8s.io/v1 knows of JSON Schema, as far as we use it."""


def schema_of(kind: Kind) -> Schema:
    schema: Schema = build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def walk(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every node of a schema with its path."""
    yield path or "(root)", schema
    for name, item in schema.get("properties", {}).items():
        yield from walk(item, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


NODES = [
    (f"{kind.name}{path}", node)
    for kind in KINDS
    for part in ("spec", "status")
    for path, node in walk(schema_of(kind)["properties"][part], f".{part}")
]


def where(wrong: list[str]) -> str:
    return "\n".join(wrong)


def test_every_keyword_is_one_that_the_api_server_knows() -> None:
    wrong = [f"{path}: {sorted(set(node) - KNOWN)}" for path, node in NODES if set(node) - KNOWN]
    assert not wrong, where(wrong)


def test_every_node_has_a_type() -> None:
    wrong = [
        path
        for path, node in NODES
        if "type" not in node
        and not node.get("x-kubernetes-int-or-string")
        and not node.get("x-kubernetes-preserve-unknown-fields")
    ]
    assert not wrong, where(wrong)


def test_no_node_has_properties_beside_additional_properties() -> None:
    wrong = [path for path, node in NODES if "properties" in node and "additionalProperties" in node]
    assert not wrong, where(wrong)


def test_every_list_map_and_string_is_bounded() -> None:
    wrong = []
    for path, node in NODES:
        kind = node.get("type")
        if kind == "array" and "maxItems" not in node:
            wrong.append(f"{path}: maxItems")
        if "additionalProperties" in node and "maxProperties" not in node:
            wrong.append(f"{path}: maxProperties")
        if kind == "string" and not {"maxLength", "enum", "format"} & set(node):
            wrong.append(f"{path}: maxLength")
        if node.get("x-kubernetes-preserve-unknown-fields") and "maxProperties" not in node:
            wrong.append(f"{path}: maxProperties")
    assert not wrong, where(wrong)


def test_exclusive_bounds_are_flags_beside_their_bound() -> None:
    for path, node in NODES:
        for flag, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if flag in node:
                assert node[flag] is True, path
                assert isinstance(node[bound], int | float), path


def test_keys_of_list_maps_are_required_or_have_a_default() -> None:
    for path, node in NODES:
        if node.get("x-kubernetes-list-type") == "map":
            items = node["items"]
            for key in node["x-kubernetes-list-map-keys"]:
                assert key in items["required"] or "default" in items["properties"][key], path


def test_defaults_fit_their_own_schema_and_hold_no_null() -> None:
    def fits(value: Any, node: Schema) -> bool:
        if value is None:
            return False
        if isinstance(value, dict):
            known = node.get("properties", {})
            missing = set(node.get("required", [])) - set(value)
            return not missing and all(fits(item, known[key]) for key, item in value.items() if key in known or known)
        if isinstance(value, list):
            return len(value) <= node["maxItems"] and all(fits(item, node["items"]) for item in value)
        return value in node["enum"] if "enum" in node else True

    for path, node in NODES:
        if "default" in node:
            assert fits(node["default"], node), f"{path}: {node['default']}"


def test_every_rule_has_a_message_that_says_must() -> None:
    rules = [(path, rule) for path, node in NODES for rule in node.get("x-kubernetes-validations", [])]
    assert len(rules) > 20
    for path, rule in rules:
        assert "must" in rule["message"], f"{path}: {rule['message']}"


def test_patterns_compile() -> None:
    for _, node in NODES:
        re.compile(node.get("pattern", ""))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_printer_columns_and_scale_point_at_fields_that_are_there(kind: Kind) -> None:
    version = build_crd(kind)["spec"]["versions"][0]
    paths = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    paths += [path for key, path in version["subresources"].get("scale", {}).items() if key != ""]
    for path in paths:
        if path.startswith(".metadata."):
            continue
        node = schema_of(kind)
        for name in re.sub(r"\[[^\]]*\]", "", path).strip(".").split("."):
            node = node.get("items", node)["properties"][name]
        assert node["type"] in ("string", "integer", "number"), path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_status_can_be_written_field_by_field(kind: Kind) -> None:
    assert "required" not in schema_of(kind)["properties"]["status"], "the first patch says only what differs"


def test_the_committed_files_are_what_make_generate_writes(tmp_path: Path) -> None:
    main(str(tmp_path))
    for written in tmp_path.iterdir():
        committed = CRDS / written.name
        assert committed.read_text() == written.read_text(), f"{committed} is behind the API models: run make generate"
        assert yaml.safe_load(written.read_text())["kind"] == "CustomResourceDefinition"
        assert "&id" not in written.read_text()


# -- the pass itself ------------------------------------------------------------------------------------------------


class Inner(ApiModel):
    """An inner thing."""

    size: Annotated[int, Field(gt=1, lt=9)] = 2
    note: str | None = None


class Outer(ApiModel):
    """An outer thing."""

    one: Annotated[Inner, Field(description="Closer to the user.")] = Inner()
    maybe: Inner | None = None
    many: tuple[Inner, ...] = ()
    named: Annotated[dict[str, float], Field(max_length=3)] = {}  # noqa: RUF012


def test_references_are_inlined_and_a_fields_own_description_wins() -> None:
    schema = structural(Outer.model_json_schema(by_alias=True))
    assert schema["properties"]["one"]["description"] == "Closer to the user."
    assert schema["properties"]["many"]["items"]["description"] == "An inner thing."
    assert "$defs" not in schema
    assert "$ref" not in str(schema)


def test_a_union_with_null_becomes_an_optional_field_without_a_default() -> None:
    schema = structural(Outer.model_json_schema(by_alias=True))
    assert schema["properties"]["maybe"]["type"] == "object"
    assert "default" not in schema["properties"]["maybe"]
    assert schema["properties"]["one"]["default"] == {"size": 2}
    assert "anyOf" not in str(schema)
    assert "title" not in str(schema)


def test_exclusive_bounds_are_written_the_old_way() -> None:
    size = structural(Outer.model_json_schema(by_alias=True))["properties"]["one"]["properties"]["size"]
    assert (size["minimum"], size["exclusiveMinimum"], size["maximum"], size["exclusiveMaximum"]) == (1, True, 9, True)


def test_a_union_of_two_types_is_refused() -> None:
    with pytest.raises(ValueError, match="only unions with null"):
        structural({"properties": {"x": {"anyOf": [{"type": "string"}, {"type": "object"}]}}})
