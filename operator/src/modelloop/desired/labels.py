"""Labels and annotations of every object that the operator makes."""

from typing import Any

from modelloop.api.common import API_VERSION
from modelloop.api.rollout import COMMANDS

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "modelloop"
COMPONENT = "app.kubernetes.io/component"
"""trainer, worker, server, monitor or removal; also the name of the pod's main container."""
SELECTOR = f"{MANAGED_BY}={MANAGER}"
"""What the operator watches among Jobs, Pods, Deployments and the like."""

TRAINING = "modelloop.dev/training"
DEPLOYMENT = "modelloop.dev/deployment"
MONITOR = "modelloop.dev/monitor"
OWNER_LABELS = {"ModelTraining": TRAINING, "ModelDeployment": DEPLOYMENT, "ModelMonitor": MONITOR}
DIGEST = "modelloop.dev/version-digest"
RUN = "modelloop.dev/run-number"

APPLIED_HASH_ANNOTATION = "modelloop.dev/applied-hash"
"""Hash of what the operator applied: a later pass sees a field that it no longer wants."""
RUN_ANNOTATION = "modelloop.dev/run"
APPROVE_ANNOTATION = "modelloop.dev/approve"
RETRAIN_ANNOTATION = "modelloop.dev/retrain"
"""By which a person asks a ModelMonitor for a retrain; the value is any new token."""
ROLLOUT_ANNOTATIONS = {name: f"modelloop.dev/{name}" for name in COMMANDS}
"""What a person may ask of a rollout, by its name; the value is any new token."""
ROUTE_REVISION_ANNOTATION = "modelloop.dev/route-revision"
"""Of a route's ConfigMap, and of a server's pod: the route that it was last made to read. The kubelet refreshes a pod's
mounts when it changes."""
REVISION = "modelloop.dev/revision"
"""Label or annotation of a ModelTraining: the revision of the repository that it was applied from."""
QUEUE = "kueue.x-k8s.io/queue-name"
"""Label of a Job that Kueue starts."""
REMOVAL = "removal"
"""Component of the pods that remove a deleted training's versions, and of the note that says so."""
VERSIONS_FINALIZER = "modelloop.dev/versions"
"""Holds that note until the versions are removed. Never on anything that a user has made."""
WORKER = "worker"
"""Component of the pods that share a run's search."""
TEMPLATE_HASH_ANNOTATION = "modelloop.dev/template-hash"

_COMPONENTS = {"ModelTraining": "trainer", "ModelDeployment": "server", "ModelMonitor": "monitor"}


def object_labels(kind: str, name: str) -> dict[str, str]:
    """Labels of an object owned by the custom resource `kind`/`name`."""
    return {
        "app.kubernetes.io/name": f"modelloop-{_COMPONENTS[kind]}",
        "app.kubernetes.io/instance": name,
        COMPONENT: _COMPONENTS[kind],
        "app.kubernetes.io/part-of": "modelloop",
        MANAGED_BY: MANAGER,
        OWNER_LABELS[kind]: name,
    }


def owner_reference(kind: str, name: str, uid: str, *, controller: bool = True) -> dict[str, Any]:
    """An owner reference: the garbage collector removes the child, with the operator up or down."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": controller,
        "blockOwnerDeletion": True,
    }
