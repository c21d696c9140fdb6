"""One story of the thin loop from the first manifest to version 2, with an operator that may die on the way."""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devcluster.cluster import Cluster
from tests.cluster.cluster_api import Api, Object, connection_of, server_context, wait_for
from tests.cluster.cluster_loop import (
    ALL_CHILDREN,
    NAME,
    breached_windows,
    containers,
    is_ready,
    manifests,
    monitor_config,
    number_of,
    patch_windows,
)
from tests.cluster.cluster_node import Background, Node
from tests.cluster.cluster_operator import OperatorProcess
from tests.cluster.cluster_proxy import Proxy
from tests.cluster.cluster_state import differences, normalise, read_namespace
from tests.cluster.cluster_zygote import Zygote

SHORT = {"modelloop.decide.bake.MIN_BAKE": 1.0}
"""There are no endpoints here that need 10 s to follow a selector."""
STORY_SECONDS = 90.0


@dataclass(frozen=True, kw_only=True)
class World:
    """What all stories of a session share."""

    cluster: Cluster
    api: Api
    node: Node
    background: Background
    zygote: Zygote
    folder: Path


@dataclass(frozen=True, kw_only=True)
class End:
    """How a story ended."""

    state: dict[str, Any]
    created: Counter[str]
    """How many objects of each kind were ever made, whatever became of them."""
    writes: list[str]
    killed: bool
    faults: list[str] = field(default_factory=list)
    """Where the end differs from the one that was expected."""
    log: str = ""


class Story:
    """A namespace of its own, an operator behind a proxy, a user, a node and a monitor's pod."""

    def __init__(self, world: World, namespace: str, overrides: dict[str, float] | None = None, **extra: str) -> None:
        self.world, self.namespace = world, namespace
        self.proxy = Proxy(world.background, *connection_of(world.cluster.kubeconfig), world.folder)
        self.operator = OperatorProcess(
            kubeconfig=self.proxy.kubeconfig,
            namespace=namespace,
            log=world.folder / f"operator-{namespace}.log",
            zygote=world.zygote,
            overrides=SHORT | (overrides or {}),
            extra=extra,
        )
        self.proxy.faults.kill = self.operator.kill_from_afar
        self._windows_written = False

    def begin(self) -> None:
        """Apply the manifests and start the operator."""
        self.world.node.play(self.namespace, containers())
        for body in manifests(self.namespace, **ALL_CHILDREN):
            self.world.api.apply(body)
        self.operator.start()

    def play(self, expected: End | None) -> End:
        """From the beginning to the end; `expected` is how an undisturbed story ended."""
        faults = self.play_on(expected)
        end = End(
            state=self.read(),
            created=self.created(),
            writes=list(self.proxy.writes),
            killed=self.proxy.killed,
            faults=faults or self.compare(expected),
            log=self.operator.tail(),
        )
        self.close()
        return end

    def play_on(self, expected: End | None) -> list[str]:
        """The same, and the operator stays; returns what is wrong when the end doesn't come."""
        self.begin()
        restarted = False
        deadline = time.monotonic() + STORY_SECONDS
        while not self._is_over(expected):
            if not restarted and self.operator.wait(0):
                assert self.proxy.killed, f"the operator ended by itself:\n{self.operator.tail()}"
                self.operator.start()
                restarted = True
            if time.monotonic() > deadline:
                return self.compare(expected) or ["the end never came"]
            time.sleep(0.3)
        return []

    def close(self) -> None:
        """End the operator. The namespace stays: deleting a hundred costs more than the whole session.

        But for the autoscaler, which would ask for metrics in vain from now on.
        """
        self.operator.kill()
        self.world.api.delete("HorizontalPodAutoscaler", self.namespace, NAME)
        self.proxy.close()

    def read(self) -> dict[str, Any]:
        """The namespace's state in comparable form."""
        return normalise(read_namespace(self.world.api, self.namespace), self.namespace)

    def created(self) -> Counter[str]:
        """How many objects of each kind were ever made in the namespace."""
        kinds: Counter[str] = Counter()
        for name, count in self.world.node.created[self.namespace].items():
            kinds[name.split("/")[0]] += count
        return kinds

    def compare(self, expected: End | None) -> list[str]:
        """What differs from the expected end."""
        if expected is None:
            return []
        return differences(self.read(), expected.state) + differences(
            dict(self.created()), dict(expected.created), "created"
        )

    # -- the monitor's pod and the end -----------------------------------------------------------------------------

    def _is_over(self, expected: End | None) -> bool:
        api, namespace = self.world.api, self.namespace
        if not self._windows_written:
            watched = api.get("ModelMonitor", namespace, NAME)
            if is_ready(watched):
                self.write_windows()
            return False
        if not is_done(api.get("ModelDeployment", namespace, NAME)):
            return False
        if expected is not None:
            return not differences(self.read(), expected.state)
        return is_settled(read_namespace(api, namespace))

    def write_windows(self) -> None:
        """What the monitor's pod does, by its own ServiceAccount's token."""
        world, namespace = self.world, self.namespace
        config = monitor_config(world.api.get("CronJob", namespace, NAME))
        token = world.api.token(namespace, f"{NAME}-monitor")
        pod = Api(world.cluster.server, server_context(world.cluster.kubeconfig), token)
        patch_windows(pod, namespace, NAME, breached_windows(config))
        pod.close()
        self._windows_written = True


def is_done(deployment: Object) -> bool:
    """Version 2 serves alone."""
    roles = [number_of(deployment, role) for role in ("stable", "candidate", "previous")]
    return roles == [2, None, None] and is_ready(deployment)


def is_settled(objects: list[Object]) -> bool:
    """Nothing is left to do for the operator once version 2 serves."""
    by_kind: dict[str, list[Object]] = {}
    for body in objects:
        by_kind.setdefault(body["kind"], []).append(body)
    jobs = by_kind.get("Job", [])
    (cron_job,) = by_kind["CronJob"]
    return (
        len(by_kind["Deployment"]) == len(by_kind["PodDisruptionBudget"]) == 1
        and all("ttlSecondsAfterFinished" in job["spec"] for job in jobs)
        and monitor_config(cron_job).version.number == 2
        and is_ready(by_kind["ModelTraining"][0])
        and is_ready(by_kind["ModelMonitor"][0])
    )


def wait_for_quiet(proxy: Proxy, seconds: float) -> None:
    """Wait until no write has come for `seconds`."""
    seen: list[tuple[int, float]] = [(-1, 0.0)]

    def is_quiet() -> bool:
        count, now = len(proxy.writes), time.monotonic()
        if count != seen[0][0]:
            seen[0] = (count, now)
        return now - seen[0][1] >= seconds

    wait_for(is_quiet, seconds + 30, what="an operator that writes nothing")
