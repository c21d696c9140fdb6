"""Manifests of the tests as plain dicts. Small requests and few folds: many pods share two cores."""

import json
from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]

API_VERSION = "modelloop.dev/v1alpha1"
SMALL = {"requests": {"cpu": "20m", "memory": "64Mi"}}
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
NEVER = "0 0 1 1 *"
"""A schedule for monitors whose windows are looked at by `kubectl create job --from=cronjob/…`."""
CANCER = "builtin://breast_cancer"


def build_training(name: str, **spec: Any) -> Object:
    """A training that takes a second or two; `spec` replaces fields of the specification."""
    defaults: Object = {
        "data": {"uri": CANCER, "target": "target"},
        "candidates": [{"estimator": "LogisticRegression"}],
        "gates": [{"metric": "f1", "min": 0.8}],
        "folds": 2,
        "resources": SMALL,
    }
    return _build("ModelTraining", name, defaults | spec)


def build_deployment(name: str, training: str | None = None, **spec: Any) -> Object:
    """A deployment behind a NodePort."""
    defaults: Object = {
        "trainingRef": {"name": training or name},
        "service": {"type": "NodePort"},
        "rollout": {"bakeTime": "10s"},
        "resources": SMALL,
    }
    return _build("ModelDeployment", name, defaults | spec)


def build_monitor(name: str, deployment: str | None = None, **spec: Any) -> Object:
    """A monitor that looks only when asked to, with the usual share of a core: others wait for its work."""
    defaults: Object = {
        "deploymentRef": {"name": deployment or name},
        "schedule": NEVER,
        "window": "10m",
        "minRows": 30,
    }
    return _build("ModelMonitor", name, defaults | spec)


def build_claim(name: str, **spec: Any) -> Object:
    """A PersistentVolumeClaim of the default class."""
    defaults = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": defaults | spec}


def build_secret(name: str, data: Mapping[str, str]) -> Object:
    """A Secret of plain text values."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": dict(data)}


def build_pod(name: str, image: str, program: str, claims: Mapping[str, str]) -> Object:
    """A pod that the restricted standard admits and that runs a Python program; `claims`: name to mount path."""
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-c", program],
        "resources": SMALL,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": claim, "mountPath": path} for claim, path in claims.items()],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 2,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims],
        },
    }


def to_text(body: Object) -> str:
    """For `kubectl apply -f -`."""
    return json.dumps(body)


def _build(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
