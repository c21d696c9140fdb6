"""Says why a pod doesn't run, in words that name the thing, its value and what to do."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from modelkit.contract.codec import ContractError
from modelkit.contract.environment import ExitCode
from modelkit.contract.exchange import PREPARE
from modelkit.contract.result import read_termination_message
from modelloop.api.runtime import RUNTIME_CONTAINER
from modelloop.decide.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFiles:
    """A Secret that a container sees as a folder of files."""

    path: str
    secret: str
    keys: tuple[str, ...] = ()
    """Which of its keys; empty: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedPod:
    """The parts of a pod and its main container that decisions need."""

    name: str
    created: datetime
    phase: str
    evicted: str = ""
    """Why the kubelet evicted it, when it did."""
    init_container: str = ""
    """The init container or sidecar that keeps the pod from its work; what follows is of it then, not of the main
    container."""
    image: str = ""
    memory_limit: str = ""
    claims: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    secret_files: tuple[SecretFiles, ...] = ()
    unschedulable: str = ""
    """Message of PodScheduled=False."""
    waiting_reason: str = ""
    waiting_message: str = ""
    restarts: int = 0
    exit_code: int | None = None
    """Of the last termination of the main container."""
    terminated_reason: str = ""
    terminated_message: str = ""
    started: datetime | None = None
    """When its main container, or its last one that ended, began."""
    finished: datetime | None = None
    """When that ended; None while it runs."""
    steps_seconds: float = 0.0
    """How long the init containers before it ran, in all."""
    image_id: str = ""
    """The image that runs, by its digest, as the container runtime says."""
    running: bool = False
    ready: bool = False
    deleting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a pod doesn't do its work. `blocked`: it never ran, and won't until something outside changes."""

    reason: str
    message: str
    blocked: bool = False


# The kubelet's reasons for a container that waits: pkg/kubelet/images/types.go, kuberuntime/kuberuntime_container.go.
_PULL_REASONS = {
    "ErrImagePull", "ImagePullBackOff", "ImageInspectError", "InvalidImageName", "ErrImageNeverPull",
    "RegistryUnavailable", "SignatureValidationFailed",
}  # fmt: skip
_CONFIG_REASONS = {
    "CreateContainerConfigError", "CreateContainerError", "PreCreateHookError", "PreStartHookError",
    "RunContainerError",
}  # fmt: skip
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}")
_CLAIM_WORDS = ("persistentvolume", "persistent volume", "pvc(s)")


def find_problem(pod: ObservedPod) -> Problem | None:
    """Why `pod` doesn't do its work; None when it runs, succeeded, or is just starting."""
    if pod.waiting_reason in _PULL_REASONS:
        return Problem(
            reason=Reason.IMAGE_PULL_FAILED,
            message=f"image {pod.image!r} can't be pulled ({pod.waiting_reason}): "
            f"{pod.waiting_message or 'no details'}; correct {_field(pod, 'image')}, or make the image available to "
            "the nodes",
            blocked=True,
        )
    if pod.waiting_reason in _CONFIG_REASONS:
        blames_secret = bool(pod.secrets) and "secret" in pod.waiting_message.lower()
        return Problem(
            reason=Reason.CONTAINER_CONFIG_ERROR,
            message=f"{_container(pod)} can't be made: {pod.waiting_message or pod.waiting_reason}"
            + (f"; it needs the Secret {_names(pod.secrets)}: create it in this namespace" if blames_secret else ""),
            blocked=True,
        )
    if pod.evicted:
        return Problem(
            reason=Reason.EVICTED,
            message=f"the node evicted the pod: {pod.evicted}; it is tried again; raise spec.resources.requests of "
            "what ran short, or use less of it",
        )
    if pod.unschedulable:
        return _unschedulable(pod)
    if pod.terminated_reason == "OOMKilled":
        return Problem(
            reason=Reason.OUT_OF_MEMORY,
            message=f"{_container(pod) if pod.init_container else 'the pod'} used more than "
            + (f"its memory limit of {pod.memory_limit}" if pod.memory_limit else "the memory of its node")
            + f" and was killed (OOMKilled); raise {_field(pod, 'resources.limits.memory')} or use less data",
        )
    ended_early = pod.exit_code == 0 and pod.init_container == RUNTIME_CONTAINER
    if (pod.exit_code not in (None, 0) or ended_early) and not pod.running:
        if (stated := find_stated_failure(pod)) is not None:
            return stated
        return Problem(
            reason=Reason.CRASH_LOOP if pod.restarts > 1 else Reason.EXITED,
            message=f"{_container(pod)} ended with exit code {pod.exit_code}"
            + (f" after {pod.restarts} restarts" if pod.restarts else "")
            # An image that knows nothing of messages leaves its log, whose end tells most.
            + (
                f": {pod.terminated_message[slice(-600, None) if pod.init_container else slice(600)]}"
                if pod.terminated_message
                else ""
            ),
        )
    return None


def find_stated_failure(pod: ObservedPod) -> Problem | None:
    """What trainer, server or monitor said of its failure; None for what a crash or the container runtime left."""
    try:
        # All three leave outcome, reason and message; the trainer's form holds them.
        result = read_termination_message(pod.terminated_message)
    except ContractError:
        return _users_failure(pod) if pod.init_container else None
    if not result.reason:
        return None
    message = result.message or "no details"
    blamed = _blamed_secret(pod)
    if blamed is not None:
        keys = f" with {' and '.join(blamed.keys)}" if blamed.keys else ""
        message += f"; {blamed.path} is the Secret {blamed.secret!r}, which must be in this namespace{keys}"
    return Problem(reason=result.reason[:128], message=message)


def is_refusal(pod: ObservedPod) -> bool:
    """Whether a container of ours said that no further attempt can go better.

    What it says of a Secret isn't: that may be put right while the kubelet tries again. Exit codes of images of the
    user's own mean what they mean.
    """
    return (
        pod.exit_code == ExitCode.REFUSED
        and not pod.running
        and pod.init_container != RUNTIME_CONTAINER
        and _blamed_secret(pod) is None
    )


def _blamed_secret(pod: ObservedPod) -> SecretFiles | None:
    """The Secret whose files the termination message names."""
    return next((files for files in pod.secret_files if files.path in pod.terminated_message), None)


def _users_failure(pod: ObservedPod) -> Problem | None:
    """What an image of the user's own said in the contract's short form: a reason and a message."""
    try:
        plain = json.loads(pod.terminated_message)
    except ValueError:
        return None
    if not isinstance(plain, dict) or not isinstance(plain.get("message"), str):
        return None
    reason = plain.get("reason")
    known = isinstance(reason, str) and _REASON.fullmatch(reason)
    return Problem(
        reason=str(reason) if known else Reason.EXITED, message=f"{_container(pod)}: {plain['message'][:1500]}"
    )


def _container(pod: ObservedPod) -> str:
    if pod.init_container == RUNTIME_CONTAINER:
        return f"the container {pod.init_container!r} of pod {pod.name}"
    return f"the init container {pod.init_container!r}" if pod.init_container else "the container"


def _field(pod: ObservedPod, name: str) -> str:
    brought = pod.init_container in (PREPARE, RUNTIME_CONTAINER)
    return f"spec.{pod.init_container}.{name}" if brought else f"spec.{name}"


def _unschedulable(pod: ObservedPod) -> Problem:
    text = pod.unschedulable
    if any(word in text.lower() for word in _CLAIM_WORDS):
        return Problem(
            reason=Reason.CLAIM_NOT_BOUND,
            message=f"the pod's claim {_names(pod.claims)} isn't bound: {text}; check `kubectl describe pvc`, the "
            "storage class and that the claim exists in this namespace",
            blocked=True,
        )
    return Problem(
        reason=Reason.UNSCHEDULABLE,
        message=f"no node can take the pod: {text}; lower spec.resources.requests or add nodes",
        blocked=True,
    )


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in names) or "(none)"


def newest(pods: Iterable[ObservedPod]) -> ObservedPod | None:
    """The pod that was created last."""
    return max(pods, key=lambda pod: (pod.created, pod.name), default=None)
