"""The state of a namespace in a form that compares: no times, no uids, no versions of the API server.

Two namespaces that went through the same story, disturbed or not, must be equal in this form.
"""

import json
import re
from typing import Any

from modelloop.cluster.resources import CHILDREN, CUSTOM
from modelloop.desired import names
from tests.cluster.cluster_api import Api, Object

KINDS = tuple(resource.kind for resource in (*CUSTOM, *CHILDREN) if resource.kind != "Pod")
MAX_RUNS = 12

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d[-:]\d\d[-:]\d\d(\.\d+)?(Z|\+00:00)")
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What the API server and the controllers add, or what is a hash of something with a uid in it.
_METADATA = ("name", "labels", "ownerReferences")
_DROPPED_FIELDS = {
    "Service": ("clusterIP", "clusterIPs"),
    "Job": ("selector", "managedBy"),
}
_DROPPED_STATUS = {"Job", "Deployment", "CronJob", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
"""The controllers' statuses; what the operator makes of them is compared."""


def read_namespace(api: Api, namespace: str) -> list[Object]:
    """Everything that the operator watches or makes in a namespace, but pods."""
    return [{"kind": kind, **body} for kind in KINDS for body in api.list(kind, namespace)]


def normalise(objects: list[Object], namespace: str) -> dict[str, Any]:
    """Objects by `kind/name` with everything replaced that differs between two equal stories."""
    replaced = {namespace: "<namespace>"}
    for body in objects:
        if body["kind"] == "ModelTraining":
            uid = body["metadata"]["uid"]
            replaced |= {names.run_id(uid, number): f"<run {number}>" for number in range(1, MAX_RUNS)}
    result = {}
    for body in objects:
        text = json.dumps(_keep(body))
        for old, new in replaced.items():
            text = text.replace(old, new)
        clean = json.loads(_UID.sub("<uid>", _TIME.sub("<time>", text)))
        result[f"{body['kind']}/{clean['metadata']['name']}"] = clean
    return result


def _keep(body: Object) -> Object:
    kind, metadata = body["kind"], {key: body["metadata"][key] for key in _METADATA if key in body["metadata"]}
    metadata["labels"] = {
        key: value for key, value in metadata.get("labels", {}).items() if "batch.kubernetes" not in key
    }
    kept = {key: value for key, value in body.items() if key not in ("apiVersion", "metadata", "status", "kind")}
    for field in _DROPPED_FIELDS.get(kind, ()):
        kept.get("spec", {}).pop(field, None)
    if kind == "Job":
        labels = kept["spec"]["template"]["metadata"]["labels"]
        kept["spec"]["template"]["metadata"]["labels"] = {
            key: value for key, value in labels.items() if "modelloop" in value or "modelloop" in key
        }
    if kind not in _DROPPED_STATUS:
        kept["status"] = body.get("status")
    return {"metadata": metadata, **kept}


def differences(found: Any, expected: Any, path: str = "") -> list[str]:
    """Where two plain values differ, as `path: found … expected …`."""
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = sorted(found.keys() | expected.keys())
        return [
            line
            for key in keys
            for line in differences(found.get(key, "(absent)"), expected.get(key, "(absent)"), f"{path}.{key}")
        ]
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        return [
            line
            for index, pair in enumerate(zip(found, expected, strict=True))
            for line in differences(*pair, f"{path}[{index}]")
        ]
    if found == expected:
        return []
    return [f"{path}: found {str(found)[:300]}, expected {str(expected)[:300]}"]
