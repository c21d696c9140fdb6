"""The route in whole passes: written before anything goes that it names, and read by every pod at once."""

import asyncio
import copy
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from modelkit.contract.codec import loads
from modelkit.contract.environment import HTTP_PORT
from modelkit.contract.route import ROUTE_FILE, RouteConfig, RouteReport
from modelloop.cluster.cache import Key
from modelloop.cluster.route import RouteTeller
from modelloop.decide.route import ObservedReport
from modelloop.desired.labels import DIGEST, ROUTE_REVISION_ANNOTATION
from modelloop.desired.names import digest_label, server_name
from tests.unit.operator_tests.api_server import ApiServer, CrashError, address_of
from tests.unit.operator_tests.operator_states import digest_of
from tests.unit.operator_tests.whole_operator import (
    DEPLOYMENT,
    TRAINING,
    Operator,
    condition,
    essence,
    settled,
)

Object = dict[str, Any]
KEY = Key("ModelDeployment", "team", "cancer")
STEPS = [{"shadow": 20, "hold": "10s"}, {"weight": 20, "hold": "10s"}, {"weight": 60, "hold": "10s"}]
CANARY = {"strategy": "Canary", "steps": STEPS, "bakeTime": "30s", "analysis": {"dryRun": True}}
STABLE, CANDIDATE = (server_name("cancer", digest_of(number)) for number in (1, 2))


class WatchedServer(ApiServer):
    """Looks after every write at what clients and pods would find."""

    def _count(self, write: str) -> None:
        public = self.objects.get(("Service", "team", "cancer"))
        deployments = {
            body["metadata"]["labels"][DIGEST]: body
            for (kind, _, _), body in self.objects.items()
            if kind == "Deployment"
        }
        if public is not None:
            assert public["spec"]["selector"][DIGEST] in deployments, f"{write}: the Service leads nowhere"
        if ROUTE_FILE in self.objects.get(("ConfigMap", "team", "cancer-route"), {}).get("data", {}):
            told = route(self)
            services = {
                f"{body['spec']['clusterIP']}:{HTTP_PORT}": body
                for (kind, _, _), body in self.objects.items()
                if kind == "Service"
            }
            for digest, peer in told.peers.items():
                label = digest_label(digest)
                assert services[peer.http]["spec"]["selector"][DIGEST] == label, write
                assert deployments[label]["spec"]["replicas"] > 0, f"{write}: the route leads nowhere"
        super()._count(write)


def route(server: ApiServer) -> RouteConfig:
    """What pods read."""
    return loads(RouteConfig, server.objects["ConfigMap", "team", "cancer-route"]["data"][ROUTE_FILE])


def canary_server(**rollout: Any) -> ApiServer:
    server = WatchedServer()
    server.add(TRAINING)
    server.add({**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], "replicas": 2, "rollout": rollout or CANARY}})
    return server


def begin(**rollout: Any) -> tuple[ApiServer, Operator]:
    """Version 1 serves, version 2 is at its first step."""
    server = canary_server(**rollout)
    operator = Operator(server)
    settled(server, operator)
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", spec={"seed": 5}))
    settled(server, operator)
    return server, operator


def pass_time(server: ApiServer, operator: Operator, seconds: int) -> None:
    for _ in range(seconds // 5):
        operator.now += timedelta(seconds=5)
        operator.wake(KEY)
        settled(server, operator)


def say(server: ApiServer, operator: Operator, **annotations: str) -> None:
    metadata = {"annotations": {f"modelloop.dev/{name}": value for name, value in annotations.items()}}
    operator.cluster.observe("ModelDeployment", server.change("ModelDeployment", "cancer", metadata=metadata))
    settled(server, operator)


def names_of(server: ApiServer, kind: str) -> set[str]:
    return {name for found, _, name in server.objects if found == kind}


def revisions(server: ApiServer) -> set[str]:
    """Which routes the pods that serve were told of."""
    return {
        body["metadata"].get("annotations", {}).get(ROUTE_REVISION_ANNOTATION, "").partition(".")[0]
        for (kind, _, name), body in server.objects.items()
        if kind == "Pod" and name.startswith("cancer-") and DIGEST in body["metadata"]["labels"]
    }


def status(server: ApiServer) -> Object:
    found: Object = server.objects["ModelDeployment", "team", "cancer"]["status"]
    return found


# -- what is written ------------------------------------------------------------------------------------------------


def test_every_version_in_play_has_a_service_and_pods_know_their_route() -> None:
    server, operator = begin()
    assert names_of(server, "Service") == {"cancer", STABLE, CANDIDATE}
    told = route(server)
    (rule,) = told.rules.values()
    assert set(told.rules) == {digest_of(1)}
    assert (rule.other, rule.weight, rule.compare) == (digest_of(2), 0, 20)
    peer = told.peers[digest_of(2)]
    address = address_of(f"Service/{CANDIDATE}")
    assert (peer.number, peer.http, peer.grpc) == (2, f"{address}:8080", f"{address}:8081")
    assert list(told.labels) == sorted(f"{address_of(f'{STABLE}-{index}')}:8080" for index in range(2))
    assert revisions(server) == {told.revision}
    count = len(server.writes)
    operator.wake(KEY)
    operator.work()
    Operator(server, operator.now).work()
    assert server.writes[count:] == [], "a further pass and a restart write nothing"


def test_a_whole_rollout_changes_no_template_of_a_pod() -> None:
    server, operator = begin()
    template = server.objects["Deployment", "team", STABLE]["spec"]["template"]
    weights = []
    for _ in range(24):
        pass_time(server, operator, 5)
        weights += [rule.weight for digest, rule in route(server).rules.items() if digest == digest_of(1)]
        assert revisions(server) == {route(server).revision}
        if STABLE in names_of(server, "Deployment"):
            assert server.objects["Deployment", "team", STABLE]["spec"]["template"] == template
    assert list(dict.fromkeys(weights)) == [0, 20, 60, 100]
    assert status(server)["stable"]["number"] == 2
    assert names_of(server, "Deployment") == {CANDIDATE}
    assert names_of(server, "Service") == {"cancer", CANDIDATE}
    assert route(server).rules == {}


def test_a_promotion_turns_the_service_then_the_route() -> None:
    server, operator = begin()
    pass_time(server, operator, 10)
    count = len(server.writes)
    say(server, operator, promote="full-1")
    pass_time(server, operator, 15)
    writes = server.writes[count:]
    assert status(server)["stable"]["number"] == 2
    flip = writes.index("apply Service/cancer")
    assert "apply ConfigMap/cancer-route" in writes[flip:]
    told = route(server)
    assert told.rules[digest_of(1)].weight == 100, "who still asks the old pods gets the new version's answers"
    assert told.rules[digest_of(2)].is_guarded


def test_an_abort_changes_the_route_before_the_candidate_goes_and_its_service_goes_after_its_pods() -> None:
    server, operator = begin()
    pass_time(server, operator, 15)
    assert route(server).rules[digest_of(1)].weight == 20
    count = len(server.writes)
    say(server, operator, abort="1")
    writes = server.writes[count:]
    told, gone = writes.index("apply ConfigMap/cancer-route"), writes.index(f"delete Deployment/{CANDIDATE}")
    patches = [index for index, write in enumerate(writes) if write.startswith(f"patch Pod/{STABLE}")]
    assert len(patches) == 2
    assert told < min(patches) < max(patches) < gone < writes.index(f"delete Service/{CANDIDATE}")
    assert route(server).rules == {}
    assert names_of(server, "Service") == {"cancer", STABLE}


def test_a_rollback_in_the_bake_time_is_one_flip_and_then_the_route() -> None:
    server, operator = begin(bakeTime="30s", analysis={"dryRun": True})
    assert status(server)["stable"]["number"] == 2
    count = len(server.writes)
    say(server, operator, rollback="1")
    writes = server.writes[count:]
    assert writes.index("apply Service/cancer") < writes.index("apply ConfigMap/cancer-route")
    assert status(server)["stable"]["number"] == 1
    assert not any(write.startswith(("create Deployment", "apply Deployment")) for write in writes[:2])
    told = route(server)
    assert {digest: (rule.other, rule.weight) for digest, rule in told.rules.items()} == {
        digest_of(2): (digest_of(1), 100)
    }


# -- pods -----------------------------------------------------------------------------------------------------------


def test_a_new_pod_is_told_as_soon_as_it_has_an_address() -> None:
    server, operator = begin()
    labels = dict(server.objects["Pod", "team", f"{STABLE}-0"]["metadata"]["labels"])
    new = {"kind": "Pod", "metadata": {"name": f"{STABLE}-9", "namespace": "team", "labels": labels}}
    operator.cluster.observe("Pod", server.add(new | {"spec": {}, "status": {"phase": "Pending"}}))
    count = len(server.writes)
    operator.work()
    assert server.writes[count:] == []
    change = server.change("Pod", f"{STABLE}-9", status={"podIP": "10.0.0.9"})
    operator.cluster.observe("Pod", change)
    operator.work()
    assert server.writes[count:] == [f"patch Pod/{STABLE}-9"]
    assert revisions(server) == {route(server).revision}


@pytest.mark.parametrize("ending", ["deleted", "ended"])
def test_a_pod_that_ends_is_left_alone(ending: str) -> None:
    server, operator = begin()
    body = server.objects["Pod", "team", f"{STABLE}-0"]
    metadata = {**body["metadata"], "annotations": {}}
    if ending == "deleted":
        metadata["deletionTimestamp"] = "2026-03-01T13:00:00Z"
    state = {**body["status"], "phase": "Failed" if ending == "ended" else "Running"}
    operator.cluster.observe("Pod", server.add({**body, "metadata": metadata, "status": state}))
    count = len(server.writes)
    operator.work()
    assert f"patch Pod/{STABLE}-0" not in server.writes[count:]


def test_a_pod_that_still_follows_another_route_is_told_again_and_not_for_ever() -> None:
    server, operator = begin()
    now = 0.0
    teller = RouteTeller(operator.cluster, lambda: now)
    revision = route(server).revision

    def tell(*reports: tuple[str, RouteReport]) -> list[str]:
        count = len(server.writes)
        found = [ObservedReport(pod=pod, time=operator.now, report=report) for pod, report in reports]
        asyncio.run(teller.tell(KEY, revision, found))
        return server.writes[count:]

    late = (f"{STABLE}-0", RouteReport(digest=digest_of(1), revision="older"))
    good = (f"{STABLE}-1", RouteReport(digest=digest_of(1), revision=revision))
    unfit = (f"{STABLE}-1", RouteReport(digest=digest_of(1), revision="older", problem="it doesn't fit"))
    assert tell(late, good) == [], "it has a moment"
    now = 2.0
    assert tell(late, unfit) == [f"patch Pod/{STABLE}-0"]
    assert tell(late) == []
    told = []
    for _ in range(1000):
        now += 1.0
        told += tell(late)
    assert len(told) == 5
    assert tell((late[0], good[1])) == []
    now += 1000
    assert tell(late) == [], "it begins anew"
    now += 2
    assert tell(late) == [f"patch Pod/{STABLE}-0"]
    operator.wake(KEY)
    count = len(server.writes)
    operator.work()
    assert server.writes[count:] == [], "told again is told"


def test_a_pod_that_is_gone_when_it_is_told_holds_up_nothing() -> None:
    server, operator = begin()
    del server.objects["Pod", "team", f"{STABLE}-0"]
    say(server, operator, abort="1")
    assert route(server).rules == {}
    assert f"delete Deployment/{CANDIDATE}" in server.writes


def test_scaling_tells_the_pods_who_compares() -> None:
    server, operator = begin()
    before = route(server)
    operator.cluster.observe("ModelDeployment", server.change("ModelDeployment", "cancer", spec={"replicas": 3}))
    settled(server, operator)
    after = route(server)
    assert len(after.labels) == 3
    assert (after.measurement, after.rules) == (before.measurement, before.rules), "what is counted goes on"
    assert revisions(server) == {after.revision}


# -- refusals, other owners, crashes --------------------------------------------------------------------------------


def test_a_candidate_stays_until_the_route_that_names_it_is_changed() -> None:
    server, operator = begin()
    pass_time(server, operator, 15)
    server.refused = {"ConfigMap"}
    say(server, operator, abort="1")
    assert CANDIDATE in names_of(server, "Deployment")
    assert condition(server, "ModelDeployment", "cancer", "Stalled")["reason"] == "ApplyFailed"
    server.refused = set()
    operator.wait(timedelta(seconds=30))
    settled(server, operator)
    assert names_of(server, "Deployment") == {STABLE}
    assert condition(server, "ModelDeployment", "cancer", "Available")["status"] == "True"


@pytest.mark.parametrize("refused", ["ConfigMap", f"Service/{CANDIDATE}", "Pod"])
def test_what_is_refused_of_the_route_holds_up_nothing_that_serves(refused: str) -> None:
    server = canary_server(bakeTime="30s", analysis={"dryRun": True})
    server.refused = {refused}
    operator = Operator(server)
    settled(server, operator)
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", spec={"seed": 5}))
    settled(server, operator)
    pass_time(server, operator, 20)
    assert server.objects["Service", "team", "cancer"]["spec"]["selector"][DIGEST] == digest_label(digest_of(2))
    assert condition(server, "ModelDeployment", "cancer", "Available")["status"] == "True"


@pytest.mark.parametrize(("kind", "name"), [("ConfigMap", "cancer-route"), ("Service", CANDIDATE)])
def test_what_somebody_else_has_made_is_never_taken_over(kind: str, name: str) -> None:
    server = canary_server()
    theirs = {"kind": kind, "metadata": {"name": name, "namespace": "team"}, "spec": {}, "data": {"mine": "1"}}
    server.add(theirs)
    operator = Operator(server)
    settled(server, operator)
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", spec={"seed": 5}))
    settled(server, operator)
    assert server.objects[kind, "team", name]["data"] == {"mine": "1"}
    told = condition(server, "ModelDeployment", "cancer", "Stalled")
    assert f"{kind} {name!r} exists already and belongs to somebody else" in told["message"]
    assert condition(server, "ModelDeployment", "cancer", "Available")["status"] == "True"
    if kind == "Service":
        assert route(server).rules == {}, "nobody is sent to somebody else's address"


def test_a_version_service_of_somebody_else_is_no_peer_and_stays() -> None:
    server, operator = begin()
    labels = {**server.objects["Service", "team", STABLE]["metadata"]["labels"], DIGEST: "0" * 16}
    theirs = {"kind": "Service", "metadata": {"name": "x", "namespace": "team", "labels": labels}, "spec": {}}
    operator.cluster.observe("Service", server.add(theirs))
    operator.work()
    assert "x" in names_of(server, "Service")


def test_what_somebody_edits_is_put_right() -> None:
    server, operator = begin()
    before = route(server)
    change = server.change("ConfigMap", "cancer-route", data={ROUTE_FILE: "{}"})
    operator.cluster.observe("ConfigMap", change)
    operator.work()
    assert route(server) == before
    gone = server.objects.pop(("ConfigMap", "team", "cancer-route"))
    server.version += 1
    gone["metadata"]["resourceVersion"] = str(server.version)
    operator.cluster.observe_deletion("ConfigMap", gone)
    operator.work()
    assert route(server) == before


@pytest.mark.parametrize(("command", "number"), [("promote", 2), ("abort", 1)])
def test_a_crash_after_any_write_of_a_rollout_or_a_rollback_leads_to_the_same_end(command: str, number: int) -> None:
    served = canary_server()
    first = Operator(served)
    settled(served, first)
    quiet = len(served.writes)

    def live(crash_after: int | None) -> ApiServer:
        server = copy.deepcopy(served)
        server.crash_after = None if crash_after is None else quiet + crash_after
        operator = Operator(server, first.now)
        change = server.change("ModelTraining", "cancer", spec={"seed": 5})
        steps = [
            lambda: operator.cluster.observe("ModelTraining", change) and pass_time(server, operator, 15),
            lambda: say(server, operator, **{command: "full-1"}),
            lambda: pass_time(server, operator, 40),
        ]
        for step in steps:
            try:
                step()
            except CrashError:
                operator = Operator(server, operator.now)
                settled(server, operator)
        pass_time(server, operator, 40)
        return server

    def children(server: ApiServer) -> Object:
        kinds = ("Deployment", "Service", "ConfigMap")
        return {key: value for key, value in essence(server).items() if key.split("/")[0] in kinds}

    reference = live(None)
    assert status(reference)["stable"]["number"] == number
    assert len(children(reference)) == 4
    assert len(reference.writes) - quiet >= 10
    for crash_after in range(1, len(reference.writes) - quiet + 1):
        server = live(crash_after)
        assert server.crash_after is None
        assert children(server) == children(reference), f"after write {reference.writes[quiet + crash_after - 1]}"
        assert route(server).rules == route(reference).rules
        assert revisions(server) == {route(server).revision}


# -- metrics --------------------------------------------------------------------------------------------------------


def test_every_end_of_a_rollout_is_counted_once() -> None:
    def count(metric: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(metric, labels) or 0.0

    aborted, promoted = (count("modelloop_rollouts_total", outcome=name) for name in ("aborted", "promoted"))
    reason = count("modelloop_rollbacks_total", reason="Aborted")
    server, operator = begin()
    say(server, operator, abort="1")
    Operator(server, operator.now).work()
    assert count("modelloop_rollouts_total", outcome="aborted") == aborted + 1
    assert count("modelloop_rollbacks_total", reason="Aborted") == reason + 1
    assert count("modelloop_rollouts_total", outcome="promoted") == promoted + 1, "the first version"
