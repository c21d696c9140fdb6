"""What the cache keeps of an object is all that the decisions need, and they understand what the kubelet writes."""

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelloop.cluster.parse import EPOCH, is_owned_by, parse_job, parse_pod, parse_server, parse_timestamp
from modelloop.cluster.slim import slim
from modelloop.decide.pods import find_problem
from modelloop.desired.labels import object_labels
from tests.unit.operator_tests.pod_checks import pod_spec
from tests.unit.operator_tests.test_desired_objects import build_all

Object = dict[str, Any]
TIME = "2026-03-01T12:00:00Z"


def pod(status: Object | None = None, kind: str = "Job", **metadata: Any) -> Object:
    """A pod of a built workload, as the API server returns it."""
    spec = pod_spec(build_all()[kind])
    assert spec is not None
    owner = {"Job": "ModelTraining", "Deployment": "ModelDeployment", "CronJob": "ModelMonitor"}[kind]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "pod-1",
            "namespace": "team",
            "uid": "u",
            "resourceVersion": "7",
            "creationTimestamp": TIME,
            "labels": object_labels(owner, "cancer"),
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "o", "controller": True}],
            **metadata,
        },
        "spec": copy.deepcopy(spec) | {"nodeName": "node", "tolerations": [{"key": "x"}]},
        "status": status or {"phase": "Pending"},
    }


def container(state: Object, last: Object | None = None, name: str = "trainer", **fields: Any) -> Object:
    return {"name": name, "ready": False, "restartCount": 0, "state": state, "lastState": last or {}, **fields}


STATES: dict[str, Object] = {
    "new": {},
    "unschedulable": {
        "phase": "Pending",
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": '0/1 nodes are available: persistentvolumeclaim "modelloop-store" not found.',
            }
        ],
    },
    "pulling fails": {
        "phase": "Pending",
        "containerStatuses": [container({"waiting": {"reason": "ErrImagePull", "message": "not found"}})],
    },
    "running": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [container({"running": {"startedAt": TIME}}, ready=True)],
    },
    "succeeded": {
        "phase": "Succeeded",
        "containerStatuses": [
            container({"terminated": {"exitCode": 0, "reason": "Completed", "message": '{"outcome":"Succeeded"}'}})
        ],
    },
    "out of memory": {
        "phase": "Failed",
        "containerStatuses": [container({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})],
    },
    "crash loop": {
        "phase": "Running",
        "containerStatuses": [
            container(
                {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                {"terminated": {"exitCode": 1, "reason": "Error", "message": "boom"}},
                restartCount=4,
            )
        ],
    },
    "beside a mesh's proxy": {
        "phase": "Running",
        "containerStatuses": [
            container({"running": {}}, name="istio-proxy", ready=True),
            container({"terminated": {"exitCode": 2, "reason": "Error", "message": "bad data"}}),
        ],
    },
}


def with_proxy(body: Object) -> Object:
    """As a mesh that wants to start first changes it."""
    body["spec"]["containers"].insert(0, {"name": "istio-proxy", "image": "example/proxy:1"})
    return body


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("proxied", [False, True], ids=["alone", "with a proxy"])
def test_a_pod_says_the_same_after_it_was_slimmed(state: str, proxied: bool) -> None:
    body = pod(STATES[state], annotations={"x": "y"})
    body = with_proxy(body) if proxied else body
    before = copy.deepcopy(body)
    slimmed = slim("Pod", body)
    assert parse_pod(slimmed) == parse_pod(body)
    assert slim("Pod", slimmed) == slimmed
    assert body == before
    assert "managedFields" not in str(slimmed)
    assert "tolerations" not in str(slimmed)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("new", None),
        ("running", None),
        ("succeeded", None),
        ("unschedulable", "ClaimNotBound"),
        ("pulling fails", "ImagePullFailed"),
        ("out of memory", "OutOfMemory"),
        ("crash loop", "CrashLoop"),
        ("beside a mesh's proxy", "Exited"),
    ],
)
def test_a_pods_state_is_understood(state: str, reason: str | None) -> None:
    problem = find_problem(parse_pod(slim("Pod", with_proxy(pod(STATES[state])))))
    assert (problem.reason if problem else None) == reason


def test_a_pod_tells_its_image_limit_claims_and_secrets() -> None:
    body = pod(STATES["running"])
    body["spec"]["containers"][0]["envFrom"] = [{"prefix": "X", "secretRef": {"name": "keys"}}, {"configMapRef": {}}]
    parsed = parse_pod(slim("Pod", body))
    assert (parsed.name, parsed.image, parsed.memory_limit) == ("pod-1", "example/trainer:1", "2Gi")
    assert (parsed.claims, parsed.secrets) == (("modelloop-store",), ("keys",))
    assert parsed.created == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert parsed.ready
    assert parsed.running


def test_a_pod_that_is_being_deleted_is_not_ready() -> None:
    parsed = parse_pod(slim("Pod", pod(STATES["running"], deletionTimestamp=TIME)))
    assert parsed.deleting
    assert not parsed.ready


def test_the_last_termination_is_told_while_a_container_runs_again() -> None:
    status = {
        "phase": "Running",
        "containerStatuses": [container({"running": {}}, {"terminated": {"exitCode": 1, "message": "boom"}})],
    }
    parsed = parse_pod(slim("Pod", pod(status)))
    assert (parsed.running, parsed.exit_code, parsed.terminated_message) == (True, 1, "boom")


def job(*conditions: Object, **spec: Any) -> Object:
    return {
        "metadata": {"name": "cancer-1", "namespace": "team", "creationTimestamp": TIME, "resourceVersion": "1"},
        "spec": {"template": {"spec": {"containers": []}}, **spec},
        "status": {"conditions": list(conditions), "active": 1},
    }


def job_condition(type_: str, status: str = "True", **fields: str) -> Object:
    return {"type": type_, "status": status, "lastTransitionTime": "2026-03-01T12:05:00Z", **fields}


@pytest.mark.parametrize(
    ("body", "state"),
    [
        (job(), "Active"),
        (job(job_condition("Complete")), "Complete"),
        (job(job_condition("SuccessCriteriaMet")), "Active"),
        (job(job_condition("FailureTarget", reason="PodFailurePolicy")), "Active"),
        (job(job_condition("FailureTarget"), job_condition("Failed", reason="PodFailurePolicy")), "Failed"),
        (job(job_condition("Failed", status="False")), "Active"),
        (job(job_condition("Suspended")), "Active"),
    ],
    ids=["new", "complete", "about to complete", "about to fail", "failed", "not failed", "suspended"],
)
def test_a_jobs_state_is_understood_before_and_after_slimming(body: Object, state: str) -> None:
    parsed = parse_job(slim("Job", body))
    assert parsed == parse_job(body)
    assert parsed.state == state
    assert (parsed.ended is None) == (state == "Active")
    assert parsed.created == datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_jobs_time_to_live_is_seen() -> None:
    assert parse_job(slim("Job", job(ttlSecondsAfterFinished=0))).ttl_set
    assert not parse_job(slim("Job", job())).ttl_set


def test_a_server_counts_the_pods_of_its_own_version() -> None:
    deployment = build_all()["Deployment"]
    deployment["metadata"] |= {"generation": 3, "resourceVersion": "1"}
    deployment["status"] = {"observedGeneration": 3, "replicas": 1, "availableReplicas": 1, "updatedReplicas": 1}
    label = {"modelloop.dev/version-digest": deployment["metadata"]["labels"]["modelloop.dev/version-digest"]}
    pods = [
        slim("Pod", pod(STATES["running"], "Deployment", labels=labels))
        for labels in (label, {"modelloop.dev/version-digest": "other"}, {})
    ]
    server = parse_server(slim("Deployment", deployment), pods, matches=True)
    assert server == parse_server(deployment, pods, matches=True)
    assert len(server.pods) == 1
    assert server.is_complete
    behind = slim("Deployment", deployment | {"status": {"observedGeneration": 2, "replicas": 1}})
    assert not parse_server(behind, pods, matches=True).is_complete


def test_a_child_of_an_earlier_object_of_the_name_is_not_owned() -> None:
    child = slim("Pod", pod())
    assert is_owned_by(child, {"metadata": {"uid": "o"}})
    assert not is_owned_by(child, {"metadata": {"uid": "another"}})


def test_a_missing_time_is_the_epoch() -> None:
    assert parse_timestamp(None) == EPOCH
    assert parse_timestamp(TIME) == datetime(2026, 3, 1, 12, tzinfo=UTC)


TEXT = st.text(max_size=8)
STATE = st.one_of(
    st.just({}),
    st.builds(lambda reason, message: {"waiting": {"reason": reason, "message": message}}, TEXT, TEXT),
    st.just({"running": {"startedAt": TIME}}),
    st.builds(
        lambda code, reason, message: {"terminated": {"exitCode": code, "reason": reason, "message": message}},
        st.integers(0, 255),
        st.sampled_from(["Completed", "Error", "OOMKilled", ""]),
        TEXT,
    ),
)
CONDITION = st.builds(
    lambda type_, status, message: {"type": type_, "status": status, "message": message},
    st.sampled_from(["PodScheduled", "Ready", "Initialized", "DisruptionTarget"]),
    st.sampled_from(["True", "False", "Unknown"]),
    TEXT,
)


@given(
    phase=st.sampled_from(["Pending", "Running", "Failed", "Succeeded", "Unknown", ""]),
    states=st.lists(st.tuples(st.sampled_from(["trainer", "istio-proxy"]), STATE, STATE), max_size=2),
    conditions=st.lists(CONDITION, max_size=3),
    proxied=st.booleans(),
    deleting=st.booleans(),
)
def test_any_pod_says_the_same_after_it_was_slimmed(
    phase: str,
    states: list[tuple[str, Object, Object]],
    conditions: list[Object],
    proxied: bool,
    deleting: bool,
) -> None:
    statuses = [container(state, last, name) for name, state, last in states]
    metadata = {"deletionTimestamp": TIME} if deleting else {}
    body = pod({"phase": phase, "conditions": conditions, "containerStatuses": statuses}, **metadata)
    body = with_proxy(body) if proxied else body
    parsed = parse_pod(slim("Pod", body))
    assert parsed == parse_pod(body)
    find_problem(parsed)


def test_the_time_of_init_containers_that_ended_is_summed_but_for_the_one_that_failed() -> None:
    def step(name: str, seconds: int, code: int = 0) -> Object:
        ended = f"2026-03-01T12:00:{seconds:02d}Z"
        times = {"startedAt": "2026-03-01T12:00:00Z", "finishedAt": ended, "exitCode": code}
        return {"name": name, "state": {"terminated": times}}

    body = pod({"waiting": {"reason": "PodInitializing"}})
    body["spec"]["initContainers"] = [{"name": name} for name in ("prepare", "stage", "custom")]
    body["status"]["initContainerStatuses"] = [step("prepare", 10), step("stage", 5), step("custom", 30)]
    assert parse_pod(slim("Pod", body)).steps_seconds == 45
    body["status"]["initContainerStatuses"][2] = step("custom", 30, code=1)
    failed = parse_pod(slim("Pod", body))
    assert (failed.init_container, failed.steps_seconds) == ("custom", 15)
    assert failed.started is not None
