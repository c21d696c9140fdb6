"""The operator without its watches, over an in-memory API server, and a cluster whose workloads do well."""

import asyncio
import copy
from datetime import datetime, timedelta
from typing import Any

from modelkit.contract.codec import dumps, format_time
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.cluster import Cluster
from modelloop.cluster.reconcile import Reconciler
from modelloop.decide.plan import Event
from tests.unit.operator_tests.api_server import ApiServer, address_of
from tests.unit.operator_tests.operator_states import NOW, SETTINGS, digest_of, result

Object = dict[str, Any]
CUSTOM = ("ModelTraining", "ModelDeployment", "ModelMonitor")


class Recorder:
    """Keeps Events instead of posting them."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, _kind: str, _body: Object, event: Event) -> None:
        self.events.append(event)


class Operator:
    """The operator without its watches: it is told of what changed, and works until nothing is left."""

    def __init__(self, server: ApiServer, now: datetime = NOW) -> None:
        self.server = server
        self.now = now
        self.cache = Cache()
        self.woken: list[Key] = []
        self.later: dict[Key, timedelta] = {}
        self.recorder = Recorder()
        self.cluster = Cluster(server, self.cache, self.recorder, self.wake)  # type: ignore[arg-type]
        self.reconciler = Reconciler(self.cluster, SETTINGS, clock=lambda: self.now)
        self.see()

    def wake(self, key: Key) -> None:
        if key not in self.woken:
            self.woken.append(key)

    def see(self) -> None:
        """Take in everything that the API server holds, as a fill or an audit does."""
        for key in [key for kind in CUSTOM for key in self.cache.keys(kind)]:
            if (key.kind, key.namespace, key.name) not in self.server.objects:
                self.cache.forget(key)
        for (kind, _, _), body in list(self.server.objects.items()):
            self.cluster.observe(kind, copy.deepcopy(body))

    def work(self, limit: int = 60) -> int:
        """Pass over whatever is woken until nothing is; how many passes that took."""
        passes = 0
        while self.woken:
            passes += 1
            assert passes <= limit, f"still not quiet: {self.server.writes[-10:]}"
            key = self.woken.pop(0)
            again = asyncio.run(self.reconciler.reconcile(key))
            self.later.pop(key, None)
            if again is not None:
                if again <= timedelta(0):
                    self.wake(key)
                else:
                    self.later[key] = again
        return passes

    def wait(self, delay: timedelta) -> None:
        """Time passes, and timers fire."""
        self.now += delay
        for key, when in list(self.later.items()):
            if when <= delay:
                self.wake(key)
        self.work()


def custom(kind: str, name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "modelloop.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "team"},
        "spec": spec,
    }


TRAINING = custom(
    "ModelTraining",
    "cancer",
    data={"uri": "builtin://breast_cancer", "target": "target"},
    candidates=[{"estimator": "LogisticRegression"}],
    gates=[{"metric": "f1", "min": 0.9}],
)
DEPLOYMENT = custom("ModelDeployment", "cancer", trainingRef={"name": "cancer"})
MONITOR = custom("ModelMonitor", "drift", deploymentRef={"name": "cancer"}, schedule="*/15 * * * *", retrain={})


def condition(server: ApiServer, kind: str, name: str, type_: str) -> Object:
    conditions = server.objects[kind, "team", name].get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == type_), {})


def run_cluster(server: ApiServer, operator: Operator) -> None:
    """What the cluster's controllers and the workloads do with what is there."""
    for (kind, _, name), body in list(server.objects.items()):
        if kind == "Job" and not body.get("status"):
            complete(server, body)
            continue
        generation = body["metadata"]["generation"]
        if kind == "Deployment" and body.get("status", {}).get("observedGeneration") != generation:
            size = body["spec"]["replicas"]
            labels = body["spec"]["template"]["metadata"]["labels"]
            for index in range(size):
                _add_pod(
                    server,
                    f"{name}-{index}",
                    labels,
                    {"phase": "Running", "podIP": address_of(f"{name}-{index}")} | _ready(),
                )
            counts = {"replicas": size, "availableReplicas": size, "updatedReplicas": size}
            server.change(kind, name, status={"observedGeneration": generation, **counts})
    for (kind, _, name), body in list(server.objects.items()):
        if kind == "Pod" and not _is_wanted(server, name, body):
            del server.objects[kind, "team", name]
            server.version += 1
            body["metadata"]["resourceVersion"] = str(server.version)
            operator.cluster.observe_deletion(kind, body)
    operator.see()


def _is_wanted(server: ApiServer, name: str, pod: Object) -> bool:
    """Whether a pod isn't one that its Deployment has no more need of."""
    if pod["metadata"]["labels"].get("app.kubernetes.io/component") != "server":
        return True
    owner, _, index = name.rpartition("-")
    deployment = server.objects.get(("Deployment", "team", owner))
    return deployment is not None and int(index) < deployment["spec"]["replicas"]


def _ready() -> Object:
    return {"conditions": [{"type": "Ready", "status": "True"}]}


def _add_pod(server: ApiServer, name: str, labels: Object, status: Object) -> None:
    server.add(
        {
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "team", "labels": dict(labels)},
            "spec": {"containers": [{"name": labels["app.kubernetes.io/component"]}]},
            "status": status,
        }
    )


def complete(server: ApiServer, job: Object) -> None:
    """What a trainer leaves behind: its pod and the end of its Job."""
    name = job["metadata"]["name"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    number = int(job["metadata"]["labels"]["modelloop.dev/run-number"])
    text = dumps(result(digest=digest_of(number), path=f"models/team/cancer/{number}-x"))
    ended = {"exitCode": 0, "reason": "Completed", "message": text}
    labels = job["spec"]["template"]["metadata"]["labels"] | {"batch.kubernetes.io/job-name": name}
    status = {"phase": "Succeeded", "containerStatuses": [{"name": container["name"], "state": {"terminated": ended}}]}
    _add_pod(server, f"{name}-x", labels, status)
    done = {"type": "Complete", "status": "True", "lastTransitionTime": format_time(NOW)}
    server.change("Job", name, status={"conditions": [done]})


def settled(server: ApiServer, operator: Operator) -> None:
    """Let operator and cluster go on until neither has anything left to do."""
    for _ in range(12):
        before = server.version
        operator.work()
        run_cluster(server, operator)
        operator.work()
        if server.version == before:
            return
    raise AssertionError(f"never quiet: {server.writes[-10:]}")


def loop_server() -> ApiServer:
    server = ApiServer()
    for body in (TRAINING, DEPLOYMENT, MONITOR):
        server.add(body)
    return server


def essence(server: ApiServer) -> Object:
    """What is stored, without what a later clock or another order of writes may change."""
    kept: Object = {}
    for key, body in sorted(server.objects.items()):
        text = copy.deepcopy({name: body.get(name) for name in ("spec", "status")})
        kept["/".join(key)] = text
    return kept


def breached_window(end: datetime, number: int = 1) -> Object:
    check = {"name": "Drift", "state": "Breached", "message": "3 of 30 features drifted"}
    return {
        "start": format_time(end - timedelta(hours=1)),
        "end": format_time(end),
        "version": number,
        "digest": digest_of(number),
        "rows": 500,
        "labels": 100,
        "checks": [check],
    }
