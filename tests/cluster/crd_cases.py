"""Walks the schemas of the three kinds: for every constraint a manifest that keeps it and one that breaks it."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.cluster_api import Object
from tests.cluster.cluster_loop import deployment, monitor, training

CRDS = Path(__file__).resolve().parents[2] / "crds"
NAMESPACE = "default"
BASES: dict[str, Callable[..., Object]] = {
    "ModelTraining": training,
    "ModelDeployment": deployment,
    "ModelMonitor": monitor,
}

# What else has to be said so that a value is judged by itself and not by a rule that spans fields.
_S3_DATA = {"data.uri": "s3://bucket/rows.csv"}
_S3_STORE = {"storage.uri": "s3://bucket/models"}
CUSTOM = {"candidates": [], "command": ["train"], "image": "example/train:1", "task": "Classification"}
STORED = {"uri": "s3://models/churn/3-0a1b2c3d", "digest": f"sha256:{'0a' * 32}"}
PROMETHEUS = {"address": "http://prometheus:9090", "checks": [{"name": "errors", "query": "up", "max": 1}]}
CONTEXTS: dict[str, Object] = {
    "ModelTraining.data.secretRef": _S3_DATA | {"data.secretRef.name": "keys"},
    "ModelTraining.storage.secretRef": _S3_STORE | {"storage.secretRef.name": "keys"},
    "ModelTraining.data.format": {"data.uri": "s3://bucket/rows"},
    "ModelTraining.data.columns[]": {"data.columns": [{"name": "zip", "type": "Category"}]},
    "ModelTraining.validation.columns[]": {"validation.columns": [{"name": "zip"}]},
    "ModelTraining.validation.columns[].maxUnseenShare": {"validation.columns": [{"name": "zip", "values": ["a"]}]},
    "ModelTraining.split.validationFraction": {"testFraction": 0.2},
    "ModelTraining.slices[]": {"slices": [{"name": "old", "column": "age", "min": 60}]},
    "ModelTraining.slices[].values": {"slices": [{"name": "old", "column": "age"}]},
    "ModelTraining.gates[].slice": {"gates": [{"metric": "f1", "min": 0.5}]},
    "ModelTraining.preprocessing.columns[]": {"preprocessing.columns": [{"name": "zip"}]},
    "ModelTraining.featureSelection": {"featureSelection": {"method": "TreeImportance"}},
    "ModelTraining.candidates[].search[]": {
        "candidates": [
            {"estimator": "LogisticRegression", "search": [{"name": "C", "type": "Float", "min": 1, "max": 2}]}
        ],
    },
    "ModelTraining.compress": {"compress": {"methods": ["Pruning"], "maxDrop": 0.01}},
    "ModelTraining.compress.student": {
        "compress": {"methods": ["Distillation"], "maxDrop": 0.01, "student": {"estimator": "LogisticRegression"}},
    },
    "ModelTraining.gates[].maxDrop": {"gates": [{"metric": "f1"}]},
    "ModelTraining.gates[].confidence": {"gates": [{"metric": "f1", "maxDrop": 0.1}]},
    **{
        f"{kind}.tolerations[].{field}": {"tolerations": [toleration]}
        for kind in ("ModelTraining", "ModelDeployment")
        for field, toleration in {
            "value": {"key": "gpu", "operator": "Equal"},
            "effect": {"key": "gpu"},
            "operator": {"key": "gpu"},
            "tolerationSeconds": {"key": "gpu", "effect": "NoExecute"},
        }.items()
    },
    "ModelTraining.prepare": {"prepare": {"image": "example/etl:1"}},
    "ModelTraining.prepare.secretRef": {"prepare": {"image": "example/etl:1", "secretRef": {"name": "keys"}}},
    "ModelTraining.prepare.claimRef": {"prepare": {"image": "example/etl:1", "claimRef": {"name": "raw"}}},
    "ModelTraining.prepare.env[]": {"prepare": {"image": "example/etl:1", "env": [{"name": "A", "value": "b"}]}},
    "ModelTraining.command": CUSTOM,
    "ModelTraining.args": CUSTOM,
    "ModelTraining.sign": {"sign": {"secretName": "keys"}},
    "ModelDeployment.verify": {"verify": {"secretName": "keys"}},
    "ModelDeployment.model": {"model": STORED, "trainingRef": None},
    "ModelDeployment.model.secretRef": {"model": STORED | {"secretRef": {"name": "keys"}}, "trainingRef": None},
    "ModelDeployment.rollout.steps[]": {"rollout": {"steps": [{"weight": 10}]}},
    "ModelDeployment.rollout.steps[].shadow": {"rollout": {"steps": [{}]}},
    "ModelDeployment.rollout.sticky": {"rollout": {"strategy": "Canary", "sticky": {"header": "x-user"}}},
    "ModelDeployment.rollout.sticky.column": {"rollout": {"strategy": "Canary", "sticky": {}}},
    "ModelDeployment.rollout.analysis.prometheus": {"rollout.analysis.prometheus": PROMETHEUS},
    "ModelDeployment.rollout.analysis.prometheus.checks[].min": {
        "rollout.analysis.prometheus": PROMETHEUS | {"checks": [{"name": "errors", "query": "up"}]},
    },
    "ModelTraining.budget": {"budget": {"cpuHours": 1}},
    "ModelDeployment.service.nodePort": {"service.type": "NodePort"},
    "ModelDeployment.service.grpcNodePort": {"service.type": "NodePort"},
    "ModelDeployment.capture.columns": {
        "capture": {"columns": [{"name": "zip", "action": "Drop"}], "hashKey": {"secretName": "keys"}}
    },
    "ModelDeployment.capture.hashKey": {"capture.hashKey": {"secretName": "keys"}},
    "ModelDeployment.tls": {"tls.secretName": "keys"},
    "ModelDeployment.auth": {"auth.secretName": "keys"},
    "ModelDeployment.autoscaling": {"autoscaling.maxReplicas": 1000},
    "ModelDeployment.disruptionBudget": {"disruptionBudget.maxUnavailable": 1},
    "ModelDeployment.topologySpreadConstraints[]": {"topologySpreadConstraints": [{"topologyKey": "zone"}]},
    "ModelDeployment.topologySpreadConstraints[].minDomains": {
        "topologySpreadConstraints": [{"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    },
    "ModelDeployment.networkPolicy.from[]": {"networkPolicy.from": [{"podSelector": {}}]},
    **{
        f"ModelDeployment.networkPolicy.from[].{selector}.matchExpressions[]": {
            "networkPolicy.from": [
                {selector: {"matchExpressions": [{"key": "team", "operator": "In", "values": ["a"]}]}}
            ],
        }
        for selector in ("podSelector", "namespaceSelector")
    },
    "ModelDeployment.networkPolicy.from[].ipBlock": {"networkPolicy.from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
    "ModelDeployment.runtime": {"runtime": {"image": "example/triton:1", "port": 8000}},
    "ModelDeployment.runtime.secretRef": {"runtime.secretRef.name": "keys"},
    "ModelDeployment.runtime.env[]": {"runtime.env": [{"name": "A", "value": "b"}]},
    "ModelMonitor.fairness": {"fairness.columns": ["sex"]},
    "ModelMonitor.retrain.followUps": {"retrain.followUps": {"runs": 1}},
    "ModelMonitor.notify": {"notify.secretName": "webhook"},
    "ModelMonitor.alarm.windows": {"alarm.breaches": 1},
    "ModelMonitor.alarm.breaches": {"alarm.windows": 10},
}
"""By the path of the field or of what holds it."""
ITEMS: dict[str, Callable[[int], Any]] = {
    "ModelTraining.candidates": lambda _: {"estimator": "LogisticRegression"},
    "ModelTraining.gates": lambda number: {"metric": METRICS[number % len(METRICS)], "min": 0.5},
    "ModelTraining.data.features": lambda number: f"column {number}",
    "ModelTraining.data.columns": lambda number: {"name": f"column {number}", "type": "Category"},
    "ModelTraining.candidates[].search": lambda number: {"name": f"p{number}", "type": "Choice", "values": [1]},
    "ModelTraining.candidates[].search[].values": lambda number: number,
    "ModelTraining.validation.columns": lambda number: {"name": f"column {number}"},
    "ModelTraining.validation.columns[].values": lambda number: f"value {number}",
    "ModelTraining.preprocessing.columns": lambda number: {"name": f"column {number}"},
    "ModelTraining.slices": lambda number: {"name": f"slice {number}", "column": "age", "min": number},
    "ModelTraining.slices[].values": lambda number: f"value {number}",
    "ModelTraining.compress.methods": lambda number: ("Pruning", "Quantization")[number % 2],
    "ModelTraining.prepare.env": lambda number: {"name": f"V{number}", "value": "x"},
    "ModelTraining.prepare.command": lambda number: f"word-{number}",
    "ModelTraining.prepare.args": lambda number: f"word-{number}",
    "ModelTraining.command": lambda number: f"word-{number}",
    "ModelTraining.args": lambda number: f"word-{number}",
    "ModelTraining.tolerations": lambda number: {"key": f"taint-{number}", "operator": "Exists"},
    "ModelDeployment.tolerations": lambda number: {"key": f"taint-{number}", "operator": "Exists"},
    "ModelDeployment.capture.columns": lambda number: {"name": f"column {number}", "action": "Drop"},
    "ModelDeployment.topologySpreadConstraints": lambda number: {"topologyKey": f"rack-{number}"},
    "ModelDeployment.networkPolicy.from": lambda _: {"podSelector": {}},
    **{
        f"ModelDeployment.networkPolicy.from[].{selector}.{name}": item
        for selector in ("podSelector", "namespaceSelector")
        for name, item in {
            "matchExpressions": lambda number: {"key": f"label-{number}", "operator": "Exists"},
            "matchExpressions[].values": lambda number: f"value-{number}",
        }.items()
    },
    "ModelDeployment.networkPolicy.from[].ipBlock.except": lambda number: f"10.0.{number}.0/24",
    "ModelDeployment.runtime.env": lambda number: {"name": f"V{number}", "value": "x"},
    "ModelDeployment.runtime.command": lambda number: f"word-{number}",
    "ModelDeployment.runtime.args": lambda number: f"word-{number}",
    "ModelDeployment.rollout.steps": lambda _: {"weight": 10},
    "ModelDeployment.rollout.analysis.prometheus.checks": lambda number: {
        "name": f"check-{number}",
        "query": "up",
        "max": 1,
    },
    "ModelMonitor.fairness.columns": lambda number: f"column {number}",
    "ModelMonitor.retrain.checks": lambda number: RETRAIN_CHECKS[number % len(RETRAIN_CHECKS)],
}
"""A good item of each list."""
TOGETHER = {
    "ModelTraining.candidates",
    "ModelTraining.command",
    "ModelTraining.task",
    "ModelTraining.candidates[].search[].type",
    "ModelTraining.slices[].values",
    "ModelTraining.compress.methods[]",
    *(
        f"ModelDeployment.networkPolicy.from[].{selector}.matchExpressions[].{field}"
        for selector in ("podSelector", "namespaceSelector")
        for field in ("operator", "values")
    ),
}
"""Judged together with other fields, see REJECTED and ACCEPTED of test_crd_constraints."""
RETRAIN_CHECKS = ("Drift", "MultivariateDrift", "PredictionDrift", "Quality", "EstimatedQuality", "Calibration")
METRICS = ("f1", "accuracy", "precision", "recall", "roc_auc", "log_loss", "mse", "rmse", "mae", "r2")


@dataclass(frozen=True, slots=True)
class Case:
    """One value of one field, and whether the API server must take it."""

    kind: str
    path: str
    """As in a manifest's spec, e.g. `gates[0].maxDrop`."""
    about: str
    body: Object
    accepted: bool

    @property
    def id(self) -> str:
        """For people."""
        return f"{self.kind} {self.path} {self.about}"


def read_spec_schema(kind: str) -> Object:
    """The schema of a kind's spec, as committed."""
    for path in sorted(CRDS.glob("modelloop.dev_*.yaml")):
        crd = yaml.safe_load(path.read_text())
        if crd["spec"]["names"]["kind"] == kind:
            schema: Object = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
            return schema
    raise LookupError(kind)


def walk(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    """Every node of a schema with its path: `a.b`, items as `a[]`, values of a map as `a{}`."""
    yield path, schema
    for name, node in schema.get("properties", {}).items():
        yield from walk(node, f"{path}.{name}".lstrip("."))
    if isinstance(schema.get("items"), dict):
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


def with_value(body: Object, path: str, value: Any) -> Object:
    """A copy of a manifest with a field of its spec set; the first item of lists, the key `memory` of maps."""
    result = copy.deepcopy(body)
    holder: Any = result["spec"]
    steps = path.replace("{}", ".memory").replace("[]", ".0").split(".")
    last = steps[-1]
    for step, following in pairwise(steps):
        if isinstance(holder, list):
            holder = holder[int(step)]
            continue
        if step not in holder or not isinstance(holder[step], dict | list):
            holder[step] = [{}] if following == "0" else {}
        holder = holder[step]
    if isinstance(holder, list):
        holder[int(last)] = value
    else:
        holder[last] = value
    return result


def without(body: Object, path: str) -> Object:
    """A copy of a manifest that lacks a field of its spec."""
    result = copy.deepcopy(body)
    holder: Any = result["spec"]
    *parents, last = path.replace("[]", ".0").split(".")
    for step in parents:
        holder = holder[int(step)] if isinstance(holder, list) else holder[step]
    del holder[last]
    return result


def base_for(kind: str, path: str) -> Object:
    """A good manifest in which a field can be judged by itself."""
    body = BASES[kind](NAMESPACE)
    for place, fields in CONTEXTS.items():
        if f"{kind}.{path}".startswith(place):
            for field, value in fields.items():
                body = with_value(body, field, value)
    return body


def cases_of(kind: str) -> Iterator[Case]:
    """A case on either side of every constraint of a kind's spec."""
    for path, node in walk(read_spec_schema(kind)):
        if path:
            yield from _value_cases(kind, path, node)
        for name in node.get("required", []):
            field = f"{path}.{name}".lstrip(".")
            yield Case(kind, field, "missing", without(base_for(kind, field), field), False)
        if "properties" in node:
            field = f"{path}.colour".lstrip(".")
            yield Case(kind, field, "unknown field", with_value(base_for(kind, path), field, "red"), False)


def _value_cases(kind: str, path: str, node: Object) -> Iterator[Case]:
    for about, value, accepted in (*_scalars(node), *_lists(f"{kind}.{path}", node), *_maps(node)):
        if f"{kind}.{path}" in TOGETHER and accepted:
            continue
        yield Case(kind, path, about, with_value(base_for(kind, path), path, value), accepted)


def _scalars(node: Object) -> Iterator[tuple[str, Any, bool]]:
    step = 1 if node.get("type") == "integer" else 0.001
    for bound, sign in (("minimum", 1), ("maximum", -1)):
        if bound in node:
            is_open = node.get(f"exclusive{bound.title()}", False)
            yield f"at its {bound}", node[bound], not is_open
            yield f"beyond its {bound}", node[bound] - sign * step, False
            yield f"within its {bound}", node[bound] + sign * step, True
    for value in node.get("enum", []):
        if len(node["enum"]) <= 6:
            yield f"is {value}", value, True
    if "enum" in node:
        yield "is none of the enum", "Nonsense", False
    if "pattern" in node:
        yield "breaks its pattern", "!", False
    if "maxLength" in node and "enum" not in node:
        yield "longer than allowed", "a" * (node["maxLength"] + 1), False
    if "minLength" in node:
        yield "empty", "", False
    wrong = {"integer": "many", "number": "many", "boolean": "maybe", "string": 7, "object": "text", "array": "text"}
    if node.get("type") in wrong:
        yield "of a wrong type", wrong[node["type"]], False
    if "default" in node:
        yield "its own default", node["default"], True


def _lists(place: str, node: Object) -> Iterator[tuple[str, Any, bool]]:
    if node.get("type") != "array":
        return
    item = ITEMS[place]
    if "maxItems" in node:
        yield "with too many items", [item(number) for number in range(node["maxItems"] + 1)], False
    if "minItems" in node:
        yield "with too few items", [], False
    if node.get("x-kubernetes-list-type") in ("map", "set"):
        yield "with an item twice", [item(0), item(0)], False
    yield "with one item", [item(0)], True


def _maps(node: Object) -> Iterator[tuple[str, Any, bool]]:
    if "maxProperties" in node:
        yield "with too many keys", {f"key{number}": 1 for number in range(node["maxProperties"] + 1)}, False
        is_text = (node.get("additionalProperties") or {}).get("type") == "string"
        yield "with one key", {"key": "1" if is_text else 1}, True
