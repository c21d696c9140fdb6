"""The samples: short, and accepted by the schemas in crds/. CEL rules need an API server: see the cluster tests."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft4Validator

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "manifests" / "samples"
CUSTOM = [
    path.relative_to(SAMPLES).as_posix()
    for path in sorted(SAMPLES.glob("*/*.yaml"))
    if path.name in {"training.yaml", "deployment.yaml", "monitor.yaml"}
]


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with unknown fields refused, as `kubectl apply` does with strict validation."""
    out = {key: closed(value) if isinstance(value, dict) else value for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        out["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        out["additionalProperties"] = False
    return out


def read_schema(kind: str) -> dict[str, Any]:
    """The schema of `kind` in the generated CRD. OpenAPI 3.0 writes exclusive bounds as JSON Schema's draft 4 did."""
    path = ROOT / "crds" / f"modelloop.dev_{kind.lower()}s.yaml"
    crd = yaml.safe_load(path.read_text())
    schema = closed(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


@pytest.mark.parametrize("path", CUSTOM)
def test_a_sample_meets_its_schema(path: str) -> None:
    sample = yaml.safe_load((SAMPLES / path).read_text())
    errors = list(Draft4Validator(read_schema(sample["kind"])).iter_errors(sample))
    assert not errors, [error.message for error in errors]


def test_the_check_notices_an_unknown_field() -> None:
    sample = yaml.safe_load((SAMPLES / "minimal" / "training.yaml").read_text())
    sample["spec"]["data"]["tarket"] = "target"
    assert not Draft4Validator(read_schema("ModelTraining")).is_valid(sample)


def test_the_smallest_manifest_of_each_kind_has_under_15_lines() -> None:
    smallest = [path for path in CUSTOM if path.startswith("minimal/")]
    assert len(smallest) == 3
    for path in smallest:
        assert len((SAMPLES / path).read_text().splitlines()) < 15


@pytest.mark.parametrize("folder", ["cancer", "minimal"])
def test_the_samples_refer_to_each_other(folder: str) -> None:
    training, deployment, monitor = (
        yaml.safe_load((SAMPLES / folder / f"{name}.yaml").read_text())
        for name in ("training", "deployment", "monitor")
    )
    assert deployment["spec"]["trainingRef"]["name"] == training["metadata"]["name"]
    assert monitor["spec"]["deploymentRef"]["name"] == deployment["metadata"]["name"]
