"""Whole rollouts of a version 2 over a version 1 that serves, with an operator that may die on the way.

What the pods would report, and what people would annotate, is played; see `cluster_reports`.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelloop.desired.labels import DIGEST, ROLLOUT_ANNOTATIONS, ROUTE_REVISION_ANNOTATION
from modelloop.desired.names import digest_label, route_name
from tests.cluster.cluster_api import Object, connection_of, make_namespace, wait_for
from tests.cluster.cluster_loop import NAME, containers, deployment, digest_of
from tests.cluster.cluster_operator import OperatorProcess
from tests.cluster.cluster_proxy import Moment, Proxy
from tests.cluster.cluster_reports import Reporters
from tests.cluster.cluster_state import differences, normalise, read_namespace
from tests.cluster.cluster_story import SHORT, World, wait_for_quiet
from tests.cluster.cluster_timeline import Timeline

REPLICAS = 2
STORY_SECONDS = 120.0
QUIET_SECONDS = 0.7


@dataclass(frozen=True, kw_only=True)
class Act:
    """Somebody waits for something and does something."""

    when: Callable[["RolloutStory"], bool]
    do: Callable[["RolloutStory"], None]


@dataclass(frozen=True, kw_only=True)
class Script:
    """What happens to version 2."""

    steps: Sequence[Object]
    bake: str = "2s"
    is_bad: bool = False
    """Its answers are, from the beginning."""
    begins_promoted: bool = False
    """The story begins when it serves alone."""
    acts: Sequence[Act] = ()
    results: Sequence[tuple[int, str]] = ()
    """Numbers and results of what the history says in the end, newest first; the first version's is left out."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a rollout ended."""

    state: dict[str, Any]
    created: Counter[str]
    """How many objects of each kind were ever made."""
    told: Counter[str]
    """How often each thing was told in an Event."""
    writes: Counter[str]
    """How many writes of each kind there were."""
    killed: int
    faults: list[str] = field(default_factory=list)
    log: str = ""


class RolloutStory:
    """A namespace of its own, an operator behind a proxy, a node, pods that report, and people."""

    def __init__(
        self,
        world: World,
        timeline: Timeline,
        script: Script,
        *,
        overrides: dict[str, float] | None = None,
        **extra: str,
    ) -> None:
        self.world, self.script, self._timeline = world, script, timeline
        self.namespace = make_namespace(world.api)
        self.proxy = Proxy(world.background, *connection_of(world.cluster.kubeconfig), world.folder)
        self.operator = OperatorProcess(
            kubeconfig=self.proxy.kubeconfig,
            namespace=self.namespace,
            log=world.folder / f"operator-{self.namespace}.log",
            zygote=world.zygote,
            overrides=SHORT | (overrides or {}),
            extra=extra,
        )
        self.proxy.faults.kill = self.operator.kill_from_afar
        self.reporters = Reporters(
            world.api, world.background, self.namespace, NAME, [digest_of(number) for number in (1, 2, 3)]
        )
        self.killed = 0
        self._acts = list(script.acts)

    # -- what is done ----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Version 1 serves, or version 2 after it, and the operator is at rest."""
        self.world.node.play(self.namespace, self.reporters.play(containers()))
        self.apply(1)
        self.operator.start()
        self._wait_until_served(1)
        if self.script.begins_promoted:
            self.apply(2, strategy="BlueGreen")
            self._wait_until_served(2)
        wait_for_quiet(self.proxy, QUIET_SECONDS)
        self.proxy.writes.clear()

    def begin(self) -> None:
        """Ask for version 2."""
        if self.script.is_bad:
            self.reporters.failing.add(digest_of(2))
        if not self.script.begins_promoted:
            self.apply(2)

    def play(self, expected: Ending | None, *, kill_again_after: int = 0) -> Ending:
        """From the beginning to the end; `expected` is how an undisturbed story ended.

        kill_again_after: every operator that comes after one that was killed is killed after as many writes.
        """
        self.begin()
        faults = self.play_on(expected, kill_again_after)
        return self.end(expected, faults)

    def play_on(self, expected: Ending | None, kill_again_after: int = 0) -> list[str]:
        """The same after its beginning, and the operator stays; returns what is wrong when the end doesn't come."""
        deadline = time.monotonic() + STORY_SECONDS
        # An operator that was killed at the very end has to come back and find nothing to do.
        while not self.is_over(expected) or self.proxy.killed:
            if self.operator.wait(0):
                assert self.proxy.killed, f"the operator ended by itself:\n{self.operator.tail()}"
                self.killed, self.proxy.killed = self.killed + 1, False
                self.proxy.faults.kill_at = len(self.proxy.writes) + kill_again_after if kill_again_after else 0
                self.operator.start()
            if self._acts and self._acts[0].when(self):
                self._acts.pop(0).do(self)
            if time.monotonic() > deadline:
                return self._compare(expected) or [f"the end never came: {self.status()}"]
            time.sleep(0.4)
        return []

    def end(self, expected: Ending | None, faults: Sequence[str] = ()) -> Ending:
        """End everything, and say how it was."""
        breaches = self._timeline.find_breaches(self.namespace, NAME)
        ending = Ending(
            state=self.read(),
            created=self._created(),
            told=self._told(),
            writes=Counter(kind_of(write) for write in self.proxy.writes),
            killed=self.killed,
            faults=[*(faults or self._compare(expected)), *self._told_twice(expected), *breaches],
            log=self.operator.tail(),
        )
        self.operator.kill()
        self.proxy.close()
        self.reporters.close()
        return ending

    def apply(self, number: int, strategy: str = "Canary") -> None:
        """Ask for a version."""
        rollout: Object = {"strategy": strategy, "analysis": {"interval": "1s"}, "bakeTime": "1s"}
        if strategy == "Canary":
            rollout |= {"steps": list(self.script.steps), "bakeTime": self.script.bake}
        model = {"uri": f"pvc://models/models/team/{NAME}/{number}-0a1b2c3d", "digest": digest_of(number)}
        body = deployment(self.namespace, model=model, rollout=rollout, replicas=REPLICAS)
        del body["spec"]["trainingRef"]
        self.world.api.apply(body)

    def annotate(self, name: str) -> None:
        """What people ask for."""
        patch = {"metadata": {"annotations": {ROLLOUT_ANNOTATIONS[name]: "now"}}}
        self.world.api.patch("ModelDeployment", self.namespace, NAME, patch)

    # -- what is seen ----------------------------------------------------------------------------------------------

    def status(self) -> Object:
        """Of the ModelDeployment."""
        found: Object = self.world.api.get("ModelDeployment", self.namespace, NAME).get("status") or {}
        return found

    def is_in(self, state: str) -> bool:
        """Whether the rollout is in this state."""
        return bool((self.status().get("rollout") or {}).get("state") == state)

    def selects(self, number: int) -> bool:
        """Whether the public Service selects this version."""
        selector = self.world.api.get("Service", self.namespace, NAME)["spec"]["selector"]
        return bool(selector[DIGEST] == digest_label(digest_of(number)))

    def read(self) -> dict[str, Any]:
        """The namespace's state in comparable form: without times, and without the numbers of an analysis."""
        objects = read_namespace(self.world.api, self.namespace)
        for body in objects:
            if body["kind"] == "ModelDeployment":
                body["status"] = _outline(body["status"])
        return normalise(objects, self.namespace)

    def is_over(self, expected: Ending | None) -> bool:
        """Whether nothing is left to do."""
        status = self.status()
        results = [(record["number"], record["result"]) for record in status.get("history", [])]
        if results[:-1] != list(self.script.results) or self._acts:
            return False
        if not self._is_at_rest(status) or not self._are_all_told():
            return False
        return expected is None or not self._compare(expected)

    def _wait_until_served(self, number: int) -> None:
        def is_served() -> bool:
            status = self.status()
            stable = status.get("stable") or {}
            return stable.get("number") == number and self._is_at_rest(status)

        wait_for(is_served, 60, what=f"version {number} serving alone", every=0.3)

    def _is_at_rest(self, status: Object) -> bool:
        if any(status.get(role) for role in ("rollout", "candidate", "previous")):
            return False
        api, stable = self.world.api, status["stable"]
        left = [body["metadata"]["name"] for body in api.list("Deployment", self.namespace)]
        services = [body["metadata"]["name"] for body in api.list("Service", self.namespace)]
        return (
            left == [stable["deployment"]]
            and services == sorted([NAME, stable["deployment"]])
            and self.selects(stable["number"])
            and status["readyReplicas"] == status["replicas"] == REPLICAS
            and len(api.list("PodDisruptionBudget", self.namespace)) == 1
        )

    def _are_all_told(self) -> bool:
        """Whether all pods follow the route that there is."""
        api = self.world.api
        route = api.get("ConfigMap", self.namespace, route_name(NAME))
        revision = route["metadata"]["annotations"][ROUTE_REVISION_ANNOTATION]
        pods = api.list("Pod", self.namespace, DIGEST)
        told = [pod["metadata"].get("annotations", {}).get(ROUTE_REVISION_ANNOTATION, "") for pod in pods]
        return len(told) == REPLICAS and all(value.partition(".")[0] == revision for value in told)

    def _created(self) -> Counter[str]:
        """How many objects of each kind were ever made in the namespace."""
        kinds: Counter[str] = Counter()
        for name, count in self.world.node.created[self.namespace].items():
            kinds[name.split("/")[0]] += count
        return kinds

    def _told(self) -> Counter[str]:
        events = self.world.api.list("Event", self.namespace)
        mine = [event for event in events if event.get("source", {}).get("component") == "modelloop"]
        return Counter(event["reason"] for event in mine)

    def _told_twice(self, expected: Ending | None) -> list[str]:
        """Events that an undisturbed story doesn't have. One that is missing was lost with its operator."""
        more = self._told() - (Counter() if expected is None else expected.told)
        return (
            [] if expected is None else [f"told too often: {reason}, {count} times" for reason, count in more.items()]
        )

    def _compare(self, expected: Ending | None) -> list[str]:
        """What differs from the expected end."""
        if expected is None:
            return []
        created = differences(dict(self._created()), dict(expected.created), "created")
        return differences(self.read(), expected.state) + created


def kind_of(write: str) -> str:
    """`PATCH deployments`: a write without its namespace, and without its object's name unless users know it."""
    method, _, path = write.partition(" ")
    plural, *rest = path.partition("/namespaces/")[2].split("/")[1:]
    kept = rest[1:] if plural != "services" or rest != [NAME] else rest
    return " ".join((method, "/".join((plural, *kept))))


def kill_at(story: RolloutStory, kind: str, number: int, moment: Moment) -> None:
    """The operator dies at the write of that kind with that number."""
    faults = story.proxy.faults
    faults.counts = lambda write: kind_of(write) == kind
    faults.kill_at, faults.moment = number, moment


def _outline(status: Object) -> Object:
    versions = {role: (status.get(role) or {}).get("number") for role in ("stable", "candidate", "previous")}
    kept = ("observedGeneration", "replicas", "readyReplicas", "selector", "address", "handled")
    return (
        versions
        | {name: status.get(name) for name in kept}
        | {
            "history": [[record[name] for name in ("number", "result", "reason")] for record in status["history"]],
            "failed": [[entry[name] for name in ("number", "reason")] for entry in status.get("failed", [])],
            "conditions": {item["type"]: [item["status"], item["reason"]] for item in status["conditions"]},
        }
    )
