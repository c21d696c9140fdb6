"""Turns cached objects into what the decisions observe. Pure: dicts in, frozen dataclasses out."""

from datetime import UTC, datetime
from typing import Any, Literal

from modelloop.api.runtime import RUNTIME_CONTAINER
from modelloop.cluster.slim import main_container
from modelloop.decide.pods import ObservedPod, SecretFiles
from modelloop.decide.runs import ObservedJob
from modelloop.decide.servers import ObservedServer
from modelloop.desired.labels import DIGEST, QUEUE, TEMPLATE_HASH_ANNOTATION

Object = dict[str, Any]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_TERMINATION = 4096


def parse_timestamp(text: str | None) -> datetime:
    """A Kubernetes time; the epoch for none."""
    return datetime.fromisoformat(text) if text else EPOCH


def is_owned_by(child: Object, owner: Object) -> bool:
    """Whether `owner` itself, not an earlier object of its name, owns `child`."""
    uid = owner["metadata"]["uid"]
    return any(reference["uid"] == uid for reference in child["metadata"].get("ownerReferences", []))


def find_status(conditions: list[Object], type_: str) -> Object:
    """The condition of a type, or an empty dict."""
    return next((condition for condition in conditions if condition.get("type") == type_), {})


def parse_job(job: Object) -> ObservedJob:
    """A Job's state."""
    conditions = job.get("status", {}).get("conditions", [])
    failed, complete = find_status(conditions, "Failed"), find_status(conditions, "Complete")
    resting = find_status(conditions, "Suspended")
    started = job.get("status", {}).get("startTime")
    state: Literal["Active", "Complete", "Failed"] = "Active"
    if complete.get("status") == "True":
        state = "Complete"
    elif failed.get("status") == "True":
        state = "Failed"
    return ObservedJob(
        name=job["metadata"]["name"],
        created=parse_timestamp(job["metadata"].get("creationTimestamp")),
        state=state,
        message=failed.get("message", ""),
        reason=failed.get("reason", ""),
        ttl_set="ttlSecondsAfterFinished" in job.get("spec", {}),
        started=parse_timestamp(started) if started else None,
        suspended=bool(job.get("spec", {}).get("suspend")),
        resting=resting.get("status") == "True",
        resumed=_time_of(resting) if resting.get("status") == "False" else None,
        queue=job["metadata"].get("labels", {}).get(QUEUE, ""),
        ended=None if state == "Active" else _time_of(complete if state == "Complete" else failed),
    )


def _time_of(condition: Object) -> datetime | None:
    text = condition.get("lastTransitionTime")
    return parse_timestamp(text) if text else None


def _time_in(state: Object, name: str) -> datetime | None:
    text = state.get(name)
    return parse_timestamp(text) if text else None


def _speaker(pod: Object) -> tuple[Object, Object, str]:
    """The container whose state is the pod's: its spec, its status, and its name when it isn't the main container.

    That is the main container, but for one that waits for an init container which can't begin or has failed, and for
    one whose other model server doesn't run. Other sidecars, which are init containers with a restart policy of their
    own, hold up nothing.
    """
    main, status = main_container(pod), pod.get("status", {})
    statuses = status.get("containerStatuses") or []
    container: Object = next((item for item in statuses if item.get("name") == main.get("name")), {})
    state = container.get("state") or {}
    if "terminated" in state:
        return main, container, ""
    specs = {item.get("name"): item for item in pod.get("spec", {}).get("initContainers", [])}
    for item in status.get("initContainerStatuses") or []:
        name = str(item.get("name", ""))
        spec = specs.get(name, {})
        counts = name == RUNTIME_CONTAINER if "restartPolicy" in spec else "running" not in state
        if counts and _holds_up(item.get("state") or {}):
            return spec, item, name
    return main, container, ""


def _holds_up(state: Object) -> bool:
    waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
    return bool(waiting.get("reason", "PodInitializing") != "PodInitializing" or terminated.get("exitCode", 0))


def _steps_seconds(status: Object, speaker: str) -> float:
    """How long init containers ran that have ended, but for the one that speaks for the pod."""
    seconds = 0.0
    for item in status.get("initContainerStatuses") or []:
        terminated = (item.get("state") or {}).get("terminated") or {}
        began, ended = _time_in(terminated, "startedAt"), _time_in(terminated, "finishedAt")
        if item.get("name") != speaker and began is not None and ended is not None:
            seconds += max((ended - began).total_seconds(), 0.0)
    return seconds


def _secret_files(spec: Object, container: Object) -> tuple[SecretFiles, ...]:
    secrets = {volume["name"]: volume["secret"] for volume in spec.get("volumes", []) if "secret" in volume}
    return tuple(
        SecretFiles(
            path=mount["mountPath"],
            secret=secrets[mount["name"]].get("secretName", ""),
            keys=tuple(item["key"] for item in secrets[mount["name"]].get("items") or []),
        )
        for mount in container.get("volumeMounts", [])
        if mount["name"] in secrets
    )


def parse_pod(pod: Object) -> ObservedPod:
    """The parts of a pod and of its main container that decisions need."""
    spec, status, metadata = pod.get("spec", {}), pod.get("status", {}), pod["metadata"]
    main, container, first = _speaker(pod)
    state, last = container.get("state") or {}, container.get("lastState") or {}
    waiting = state.get("waiting") or {}
    terminated = state.get("terminated") or last.get("terminated") or {}
    conditions = status.get("conditions", [])
    scheduled, ready = find_status(conditions, "PodScheduled"), find_status(conditions, "Ready")
    return ObservedPod(
        name=metadata["name"],
        created=parse_timestamp(metadata.get("creationTimestamp")),
        phase=status.get("phase", ""),
        evicted=status.get("message", "") if status.get("reason") == "Evicted" else "",
        init_container=first,
        image=main.get("image", ""),
        memory_limit=str(main.get("resources", {}).get("limits", {}).get("memory", "")),
        claims=tuple(
            volume["persistentVolumeClaim"]["claimName"]
            for volume in spec.get("volumes", [])
            if "persistentVolumeClaim" in volume
        ),
        secrets=tuple(source["secretRef"]["name"] for source in main.get("envFrom", []) if source.get("secretRef")),
        secret_files=_secret_files(spec, main),
        unschedulable=scheduled.get("message", "") if scheduled.get("status") == "False" else "",
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        restarts=int(container.get("restartCount") or 0),
        exit_code=terminated.get("exitCode"),
        terminated_reason=terminated.get("reason", ""),
        terminated_message=(terminated.get("message") or "")[:MAX_TERMINATION],
        started=_time_in(state.get("running") or terminated, "startedAt"),
        finished=None if "running" in state else _time_in(terminated, "finishedAt"),
        steps_seconds=_steps_seconds(status, first),
        image_id=(container.get("imageID") or "").removeprefix("docker-pullable://"),
        running="running" in state,
        ready=ready.get("status") == "True" and "deletionTimestamp" not in metadata,
        deleting="deletionTimestamp" in metadata,
    )


def parse_server(deployment: Object, pods: list[Object], *, matches: bool) -> ObservedServer:
    """A Deployment that serves one version, with its pods."""
    metadata, spec, status = deployment["metadata"], deployment.get("spec", {}), deployment.get("status", {})
    digest = metadata.get("labels", {}).get(DIGEST, "")
    selector = spec.get("selector", {}).get("matchLabels", {})
    return ObservedServer(
        name=metadata["name"],
        digest_label=digest,
        selector=",".join(f"{label}={value}" for label, value in sorted(selector.items())),
        template_hash=metadata.get("annotations", {}).get(TEMPLATE_HASH_ANNOTATION, ""),
        wanted=int(spec.get("replicas", 1)),
        available=int(status.get("availableReplicas") or 0),
        updated=int(status.get("updatedReplicas") or 0),
        total=int(status.get("replicas") or 0),
        settled=int(status.get("observedGeneration") or 0) >= int(metadata.get("generation") or 0),
        matches=matches,
        pods=tuple(parse_pod(pod) for pod in pods if pod["metadata"].get("labels", {}).get(DIGEST) == digest),
    )
