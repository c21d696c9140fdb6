"""Keeps of an object only what decisions need: thousands of objects must fit into little memory."""

from collections.abc import Callable
from typing import Any

from modelloop.desired.labels import (
    APPLIED_HASH_ANNOTATION,
    APPROVE_ANNOTATION,
    COMPONENT,
    RETRAIN_ANNOTATION,
    REVISION,
    ROLLOUT_ANNOTATIONS,
    ROUTE_REVISION_ANNOTATION,
    RUN_ANNOTATION,
    TEMPLATE_HASH_ANNOTATION,
    VERSIONS_FINALIZER,
)

Object = dict[str, Any]

_ANNOTATIONS = (
    RUN_ANNOTATION, APPROVE_ANNOTATION, RETRAIN_ANNOTATION, REVISION, TEMPLATE_HASH_ANNOTATION, APPLIED_HASH_ANNOTATION,
    ROUTE_REVISION_ANNOTATION, *ROLLOUT_ANNOTATIONS.values(),
)  # fmt: skip


def slim(kind: str, body: Object) -> Object:
    """A reduced copy of `body`."""
    metadata = body["metadata"]
    kept: Object = {
        key: metadata[key]
        for key in ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp")
        if key in metadata
    }
    if "deletionTimestamp" in metadata:
        kept["deletionTimestamp"] = metadata["deletionTimestamp"]
    if VERSIONS_FINALIZER in metadata.get("finalizers", ()):
        kept["finalizers"] = list(metadata["finalizers"])
    if labels := metadata.get("labels"):
        kept["labels"] = dict(labels)
    if owners := metadata.get("ownerReferences"):
        kept["ownerReferences"] = [{"uid": owner["uid"], "kind": owner["kind"]} for owner in owners]
    annotations = metadata.get("annotations") or {}
    if chosen := {key: annotations[key] for key in _ANNOTATIONS if key in annotations}:
        kept["annotations"] = chosen
    result: Object = {"kind": kind, "metadata": kept}
    reduce = _REDUCERS.get(kind, _keep_all)
    return result | reduce(body)


def _keep_all(body: Object) -> Object:
    return {key: value for key, value in body.items() if key not in ("metadata", "kind", "apiVersion")}


def _job(body: Object) -> Object:
    # The pod template can't change after creation, so that a Job's presence is all there is to compare.
    status, spec = body.get("status", {}), body.get("spec", {})
    kept = {key: spec[key] for key in ("ttlSecondsAfterFinished", "suspend") if key in spec}
    conditions = [
        {key: condition.get(key, "") for key in ("type", "status", "reason", "message", "lastTransitionTime")}
        for condition in status.get("conditions", [])
    ]
    started = {"startTime": status["startTime"]} if status.get("startTime") else {}
    return {"spec": kept, "status": {"conditions": conditions, **started}}


def main_container(pod: Object) -> Object:
    """The container that does the work; webhooks may have put others, such as a mesh's proxy, before it."""
    containers = pod.get("spec", {}).get("containers") or [{}]
    component = (pod["metadata"].get("labels") or {}).get(COMPONENT)
    found: Object = next((item for item in containers if item.get("name") == component), containers[0])
    return found


def _container(container: Object, secrets: set[str]) -> Object:
    mounts = [
        {"name": mount["name"], "mountPath": mount["mountPath"]}
        for mount in container.get("volumeMounts", [])
        if mount["name"] in secrets
    ]
    kept: Object = {
        "name": container.get("name", ""),
        "image": container.get("image", ""),
        "resources": {"limits": container.get("resources", {}).get("limits", {})},
        "envFrom": container.get("envFrom", []),
    }
    policy = {"restartPolicy": container["restartPolicy"]} if "restartPolicy" in container else {}
    return kept | policy | ({"volumeMounts": mounts} if mounts else {})


def _volume(volume: Object) -> Object | None:
    if "persistentVolumeClaim" in volume:
        return volume
    if "secret" in volume:
        items = [{"key": item["key"]} for item in volume["secret"].get("items") or []]
        name = {"secretName": volume["secret"].get("secretName", "")}
        return {"name": volume["name"], "secret": name | ({"items": items} if items else {})}
    return None


def _container_status(container: Object) -> Object:
    return {key: container.get(key) for key in ("name", "ready", "restartCount", "state", "lastState", "imageID")}


def _pod(body: Object) -> Object:
    spec, status = body.get("spec", {}), body.get("status", {})
    main = main_container(body)
    volumes = [kept for volume in spec.get("volumes", []) if (kept := _volume(volume)) is not None]
    secrets = {volume["name"] for volume in volumes if "secret" in volume}
    before = [_container(item, secrets) for item in spec.get("initContainers") or []]
    first = {"initContainers": before} if before else {}
    began = status.get("initContainerStatuses") or []
    return {
        "spec": {
            "containers": [_container(main, secrets)],
            **first,
            "volumes": volumes,
        },
        "status": {
            "phase": status.get("phase", ""),
            "podIP": status.get("podIP", ""),
            "reason": status.get("reason", ""),
            "message": status.get("message", ""),
            "conditions": [
                {key: condition.get(key, "") for key in ("type", "status", "reason", "message")}
                for condition in status.get("conditions", [])
                if condition.get("type") in ("PodScheduled", "Ready")
            ],
            **({"initContainerStatuses": [_container_status(item) for item in began]} if began else {}),
            "containerStatuses": [
                _container_status(container)
                for container in status.get("containerStatuses", [])
                if container.get("name") == main.get("name")
            ],
        },
    }


def _spec(body: Object) -> Object:
    # Their controllers write what they have counted several times a minute; no decision rests on it.
    return {"spec": body.get("spec", {})}


def _data(body: Object) -> Object:
    return {"data": body.get("data") or {}}


_REDUCERS: dict[str, Callable[[Object], Object]] = {
    "Job": _job,
    "Pod": _pod,
    "HorizontalPodAutoscaler": _spec,
    "PodDisruptionBudget": _spec,
    "NetworkPolicy": _spec,
    "ConfigMap": _data,
}
