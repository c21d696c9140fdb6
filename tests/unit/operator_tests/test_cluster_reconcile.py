"""Whole passes over an in-memory API server: refusals end in the status, crashes duplicate nothing."""

import asyncio
import copy
from datetime import datetime, timedelta
from typing import Any

import pytest

from modelkit.contract.codec import dumps, format_time
from modelloop.cluster.cache import Cache, Key, key_of
from modelloop.cluster.cluster import Cluster
from modelloop.cluster.reconcile import Reconciler
from modelloop.decide.plan import Event
from modelloop.desired.names import digest_label
from tests.unit.operator_tests.api_server import ApiServer, CrashError
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
            _complete(server, body)
            continue
        generation = body["metadata"]["generation"]
        if kind == "Deployment" and body.get("status", {}).get("observedGeneration") != generation:
            size = body["spec"]["replicas"]
            labels = body["spec"]["template"]["metadata"]["labels"]
            for index in range(size):
                _add_pod(server, f"{name}-{index}", labels, {"phase": "Running"} | _ready())
            counts = {"replicas": size, "availableReplicas": size, "updatedReplicas": size}
            server.change(kind, name, status={"observedGeneration": generation, **counts})
    operator.see()


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


def _complete(server: ApiServer, job: Object) -> None:
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


def test_the_three_smallest_manifests_end_ready() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    operator.wait(timedelta(minutes=5))
    settled(server, operator)
    for kind, name in (("ModelTraining", "cancer"), ("ModelDeployment", "cancer"), ("ModelMonitor", "drift")):
        assert condition(server, kind, name, "Ready")["status"] == "True", kind
        assert not condition(server, kind, name, "Stalled")
    service = server.objects["Service", "team", "cancer"]
    assert service["spec"]["selector"]["modelloop.dev/version-digest"] == digest_label(digest_of(1))
    jobs = [body for (kind, _, _), body in server.objects.items() if kind == "Job"]
    assert [job["spec"]["ttlSecondsAfterFinished"] for job in jobs] == [3600]


def test_a_restart_writes_nothing() -> None:
    server = loop_server()
    settled(server, Operator(server))
    count = len(server.writes)
    restarted = Operator(server)
    restarted.work()
    assert server.writes[count:] == []


def essence(server: ApiServer) -> Object:
    """What is stored, without what a later clock or another order of writes may change."""
    kept: Object = {}
    for key, body in sorted(server.objects.items()):
        text = copy.deepcopy({name: body.get(name) for name in ("spec", "status")})
        kept["/".join(key)] = text
    return kept


def test_a_crash_after_any_write_loses_nothing_and_makes_nothing_twice() -> None:
    reference = loop_server()
    settled(reference, Operator(reference))
    total = len(reference.writes)
    assert total >= 10
    for crash_after in range(1, total + 1):
        server = loop_server()
        server.crash_after = crash_after
        operator = Operator(server)
        crashed = False
        for _ in range(2):
            try:
                settled(server, operator)
            except CrashError:
                crashed = True
                operator = Operator(server)
        assert crashed
        assert essence(server) == essence(reference), f"after write {crash_after}: {server.writes[crash_after - 1]}"
        created = [write for write in server.writes if write.startswith("apply Job")]
        assert len(set(created)) == 1


@pytest.mark.parametrize(
    ("kind", "name", "child"),
    [
        ("ModelTraining", "cancer", "Job"),
        ("ModelTraining", "cancer", "PersistentVolumeClaim"),
        ("ModelDeployment", "cancer", "Deployment"),
        ("ModelDeployment", "cancer", "Service"),
        ("ModelMonitor", "drift", "CronJob"),
        ("ModelMonitor", "drift", "Role"),
    ],
)
def test_what_the_api_server_refuses_ends_in_the_status_and_clears_itself(kind: str, name: str, child: str) -> None:
    server = loop_server()
    server.refused = {child}
    operator = Operator(server)
    settled(server, operator)
    ready = condition(server, kind, name, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ApplyFailed")
    assert "exceeded quota" in ready["message"]
    assert condition(server, kind, name, "Stalled")["status"] == "True"
    assert operator.later[Key(kind, "team", name)] <= timedelta(seconds=30)
    server.refused = set()
    operator.wait(timedelta(seconds=30))
    settled(server, operator)
    assert condition(server, kind, name, "Ready")["status"] == "True"
    assert not condition(server, kind, name, "Stalled")


@pytest.mark.parametrize(
    ("child", "name", "owner"),
    [
        ("Service", "cancer", ("ModelDeployment", "cancer")),
        ("Role", "drift-monitor", ("ModelMonitor", "drift")),
        ("ServiceAccount", "drift-monitor", ("ModelMonitor", "drift")),
    ],
)
def test_a_refusal_long_after_everything_was_ready_is_shown_at_once(
    child: str, name: str, owner: tuple[str, str]
) -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    operator.wait(timedelta(minutes=5))
    settled(server, operator)
    gone = server.objects.pop((child, "team", name))
    server.refused = {child}
    server.version += 1
    gone["metadata"]["resourceVersion"] = str(server.version)
    operator.cluster.observe_deletion(child, gone)
    operator.work()
    assert condition(server, *owner, "Stalled")["reason"] == "ApplyFailed"
    server.refused = set()
    operator.wait(timedelta(seconds=30))
    assert (child, "team", name) in server.objects
    assert not condition(server, *owner, "Stalled")


def test_a_selector_that_somebody_changes_is_put_right() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    operator.cluster.observe("Service", server.change("Service", "cancer", spec={"selector": {"app": "mine"}}))
    operator.work()
    selector = server.objects["Service", "team", "cancer"]["spec"]["selector"]
    assert selector["modelloop.dev/version-digest"] == digest_label(digest_of(1))


def test_a_label_that_somebody_takes_away_is_put_back_though_it_told_the_owner() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    name = next(name for kind, _, name in server.objects if kind == "Deployment")
    labels = {"modelloop.dev/deployment": None}
    operator.cluster.observe("Deployment", server.change("Deployment", name, metadata={"labels": labels}))
    operator.work()
    assert server.objects["Deployment", "team", name]["metadata"]["labels"]["modelloop.dev/deployment"] == "cancer"
    assert condition(server, "ModelDeployment", "cancer", "Ready")["status"] == "True"


def test_a_status_that_somebody_else_wrote_meanwhile_is_read_again() -> None:
    server = loop_server()
    operator = Operator(server)
    server.change("ModelTraining", "cancer", metadata={"annotations": {"modelloop.dev/run": "now"}})
    settled(server, operator)
    status = server.objects["ModelTraining", "team", "cancer"]["status"]
    assert status["runs"] == 1
    assert [entry["id"] for entry in status["handled"]] == ["now"]


def test_a_deleted_custom_resource_is_left_alone() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    count = len(server.writes)
    body = server.objects["ModelTraining", "team", "cancer"]
    body = body | {"metadata": body["metadata"] | {"deletionTimestamp": "2026-03-01T13:00:00Z"}}
    operator.cluster.observe("ModelTraining", server.add(body))
    operator.work()
    assert server.writes[count:] == []
    assert asyncio.run(operator.reconciler.reconcile(key_of("ModelTraining", TRAINING))) is None


def test_a_candidate_that_is_refused_does_not_hold_up_the_service_of_the_stable_version() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    operator.wait(timedelta(minutes=5))
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", spec={"seed": 5}))
    server.refused = {"Service"}
    settled(server, operator)
    assert server.objects["ModelDeployment", "team", "cancer"]["status"]["stable"]["number"] == 2
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", spec={"seed": 6}))
    server.refused = {"Service", f"Deployment/cancer-{digest_of(3)[7:17]}"}
    settled(server, operator)
    server.refused -= {"Service"}
    operator.wait(timedelta(seconds=30))
    selector = server.objects["Service", "team", "cancer"]["spec"]["selector"]
    assert selector["modelloop.dev/version-digest"] == digest_label(digest_of(2))


def test_a_new_version_is_rolled_out_and_the_previous_one_goes_after_the_bake_time() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    operator.wait(timedelta(minutes=5))
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", spec={"seed": 5}))
    settled(server, operator)
    selector = server.objects["Service", "team", "cancer"]["spec"]["selector"]
    assert selector["modelloop.dev/version-digest"] == digest_label(digest_of(2))
    assert sum(kind == "Deployment" for kind, _, _ in server.objects) == 2
    operator.wait(timedelta(minutes=1))
    settled(server, operator)
    assert sum(kind == "Deployment" for kind, _, _ in server.objects) == 1
    reasons = [event.reason for event in operator.recorder.events]
    assert reasons.count("Approved") == 2
    assert reasons.count("Promoted") == 2


def test_a_warm_version_of_another_size_is_scaled_before_it_takes_over_again() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    operator.wait(timedelta(minutes=5))
    champion = server.objects["ModelTraining", "team", "cancer"]["status"]["champion"]
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", spec={"seed": 5}))
    settled(server, operator)
    operator.cluster.observe("ModelDeployment", server.change("ModelDeployment", "cancer", spec={"replicas": 3}))
    settled(server, operator)
    back = server.change("ModelTraining", "cancer", status={"champion": champion}, spec={"seed": None})
    operator.cluster.observe("ModelTraining", back)
    operator.work()
    status = server.objects["ModelDeployment", "team", "cancer"]["status"]
    assert (status["stable"]["number"], status["candidate"]["number"]) == (2, 1)
    settled(server, operator)
    status = server.objects["ModelDeployment", "team", "cancer"]["status"]
    assert (status["stable"]["number"], status["previous"]["number"]) == (1, 2)
    assert status["readyReplicas"] == 3


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


def test_drift_ends_in_one_retrain_whose_version_is_served() -> None:
    server = loop_server()
    operator = Operator(server)
    settled(server, operator)
    operator.wait(timedelta(minutes=5))
    windows = [breached_window(NOW + timedelta(minutes=minutes)) for minutes in (1, 2)]
    operator.cluster.observe("ModelMonitor", server.change("ModelMonitor", "drift", status={"windows": windows}))
    settled(server, operator)
    training = server.objects["ModelTraining", "team", "cancer"]["status"]
    assert training["runs"] == 2
    assert training["history"][0]["trigger"]["reason"] == "Monitor"
    assert training["champion"]["feedback"]["until"] == windows[-1]["end"]
    assert server.objects["ModelDeployment", "team", "cancer"]["status"]["stable"]["number"] == 2
    monitor = server.objects["ModelMonitor", "team", "drift"]["status"]
    assert monitor["retrains"] == 1
    assert monitor["windows"] == windows, "only the monitor's pod writes them"
    operator.wait(timedelta(days=1))
    settled(server, operator)
    assert server.objects["ModelTraining", "team", "cancer"]["status"]["runs"] == 2


def test_a_crash_after_any_write_of_a_retrain_asks_and_trains_once() -> None:
    served = loop_server()
    first = Operator(served)
    settled(served, first)
    first.wait(timedelta(minutes=5))
    quiet = len(served.writes)

    def drifted(crash_after: int | None) -> tuple[ApiServer, int]:
        server = copy.deepcopy(served)
        operator = Operator(server, first.now)
        server.crash_after = None if crash_after is None else quiet + crash_after
        windows = [breached_window(NOW + timedelta(minutes=minutes)) for minutes in (1, 2)]
        operator.cluster.observe("ModelMonitor", server.change("ModelMonitor", "drift", status={"windows": windows}))
        for _ in range(2):
            try:
                settled(server, operator)
            except CrashError:
                operator = Operator(server, operator.now)
        return server, len(server.writes) - quiet

    reference, total = drifted(None)
    for crash_after in range(1, total + 1):
        server, _ = drifted(crash_after)
        assert essence(server) == essence(reference), f"after write {crash_after} of {total}"
