"""Deployments that serve one version each, as they are found, and what keeps them from serving. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime

from modelloop.api.common import VersionStatus
from modelloop.decide.pods import ObservedPod, Problem, find_problem, find_stated_failure, newest


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedServer:
    """A Deployment that serves one version, and its pods."""

    name: str
    digest_label: str
    template_hash: str
    wanted: int
    available: int
    """Pods that have been Ready, of any template."""
    updated: int
    """Pods of the newest template."""
    total: int
    settled: bool
    """The Deployment controller has seen the newest spec."""
    selector: str = ""
    """Label selector of its pods."""
    matches: bool = True
    """Its template and size are what the spec asks for now."""
    pods: tuple[ObservedPod, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Every wanted pod is Ready and of the newest template."""
        return (
            self.matches
            and self.settled
            and self.available >= self.wanted
            and self.updated >= self.wanted
            and self.total == self.updated
        )

    @property
    def ready(self) -> int:
        """Pods that answer."""
        return sum(pod.ready for pod in self.pods)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A version that should be served, and where the Deployment for it would be."""

    version: VersionStatus
    deployment: str
    template_hash: str


def find_server_problem(server: ObservedServer | None) -> Problem | None:
    """What keeps a server's newest pod from being Ready."""
    if server is None:
        return None
    pod = newest(pod for pod in server.pods if not pod.ready and not pod.deleting)
    return find_problem(pod) if pod is not None else None


def find_crash(server: ObservedServer | None, since: datetime) -> Problem | None:
    """How a container of a server has ended since it got traffic; None when none has.

    A pod that was evicted, deleted or lost with its node isn't the version's fault. Nor is one that says why it ended:
    that is said before it serves, and keeps one more pod from being Ready, such as when the store was changed.
    """
    pods = server.pods if server is not None else ()
    for pod in sorted(pods, key=lambda pod: pod.name):
        if pod.evicted or pod.deleting or pod.exit_code is None or pod.terminated_reason in _NOT_ITS_FAULT:
            continue
        if find_stated_failure(pod) is not None:
            continue
        ended = pod.started if pod.running else pod.finished
        if ended is None or ended < since:
            continue
        # As if it hadn't been started again yet: then it has a problem.
        problem = find_problem(_ended(pod))
        if problem is not None:
            return problem
    return None


_NOT_ITS_FAULT = ("ContainerStatusUnknown", "Unknown")
"""What the kubelet says of containers that ended with their node."""


def _ended(pod: ObservedPod) -> ObservedPod:
    return replace(pod, running=False, ready=False)
