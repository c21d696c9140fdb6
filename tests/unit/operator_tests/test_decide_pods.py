"""Why a pod doesn't run: the states that kubelet and scheduler really report, and what users are told."""

from datetime import timedelta

import pytest

from modelloop.cluster.parse import parse_pod
from modelloop.cluster.slim import slim
from modelloop.decide.pods import ObservedPod, find_problem, newest
from tests.unit.operator_tests.operator_states import NOW, pod

IMAGE = "example/trainer:typo"


@pytest.mark.parametrize(
    ("observed", "reason", "blocked", "words"),
    [
        pytest.param(
            pod(
                image=IMAGE,
                waiting_reason="ErrImagePull",
                waiting_message=f'failed to pull and unpack image "{IMAGE}": failed to resolve reference: not found',
            ),
            "ImagePullFailed",
            True,
            [IMAGE, "ErrImagePull", "not found", "spec.image"],
            id="an image that isn't there",
        ),
        pytest.param(
            pod(
                image=IMAGE,
                waiting_reason="ImagePullBackOff",
                waiting_message=f'Back-off pulling image "{IMAGE}": ErrImagePull: denied',
            ),
            "ImagePullFailed",
            True,
            [IMAGE, "ImagePullBackOff", "denied"],
            id="an image that isn't there, later",
        ),
        pytest.param(
            pod(
                image="a::b",
                waiting_reason="InvalidImageName",
                waiting_message='Failed to apply default image tag "a::b": couldn\'t parse image name "a::b"',
            ),
            "ImagePullFailed",
            True,
            ["'a::b'", "InvalidImageName", "spec.image"],
            id="an image name that is none",
        ),
        pytest.param(
            pod(
                image=IMAGE,
                waiting_reason="ErrImageNeverPull",
                waiting_message=f'Container image "{IMAGE}" is not present with pull policy of Never',
            ),
            "ImagePullFailed",
            True,
            [IMAGE, "pull policy of Never"],
            id="an image that must not be pulled",
        ),
        pytest.param(
            pod(image=IMAGE, waiting_reason="ImageInspectError", waiting_message="failed to inspect image"),
            "ImagePullFailed",
            True,
            [IMAGE, "ImageInspectError"],
            id="a broken image",
        ),
        pytest.param(
            pod(waiting_reason="CreateContainerConfigError", waiting_message='secret "s3" not found', secrets=("s3",)),
            "ContainerConfigError",
            True,
            ['secret "s3" not found', "'s3'", "create it in this namespace"],
            id="a missing Secret",
        ),
        pytest.param(
            pod(
                unschedulable="0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: "
                "3 No preemption victims found for incoming pod."
            ),
            "Unschedulable",
            True,
            ["Insufficient cpu", "spec.resources.requests"],
            id="too much CPU",
        ),
        pytest.param(
            pod(
                unschedulable="0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
                claims=("modelloop-store",),
            ),
            "Unschedulable",
            True,
            ["node affinity"],
            id="no node of the kind",
        ),
        pytest.param(
            pod(exit_code=137, terminated_reason="OOMKilled", memory_limit="64Mi", phase="Failed"),
            "OutOfMemory",
            False,
            ["64Mi", "OOMKilled", "spec.resources.limits.memory"],
            id="out of memory",
        ),
        pytest.param(
            pod(exit_code=137, terminated_reason="OOMKilled", phase="Failed"),
            "OutOfMemory",
            False,
            ["memory of its node", "spec.resources.limits.memory"],
            id="out of memory without a limit",
        ),
        pytest.param(
            pod(exit_code=1, terminated_reason="Error", terminated_message="Traceback: boom", phase="Failed"),
            "Exited",
            False,
            ["exit code 1", "Traceback: boom"],
            id="an exit code",
        ),
        pytest.param(
            pod(
                exit_code=128,
                terminated_reason="StartError",
                terminated_message='exec: "python": executable file not found in $PATH',
                phase="Failed",
            ),
            "Exited",
            False,
            ["exit code 128", "executable file not found"],
            id="an image without the program",
        ),
        pytest.param(
            pod(
                waiting_reason="CrashLoopBackOff",
                waiting_message="back-off 40s restarting failed container",
                exit_code=1,
                restarts=3,
                terminated_message="store: permission denied",
                phase="Running",
            ),
            "CrashLoop",
            False,
            ["exit code 1 after 3 restarts", "store: permission denied"],
            id="a crash loop",
        ),
    ],
)
def test_a_problem_names_the_thing_its_value_and_what_to_do(
    observed: ObservedPod, reason: str, blocked: bool, words: list[str]
) -> None:
    problem = find_problem(observed)
    assert problem is not None
    assert (problem.reason, problem.blocked) == (reason, blocked)
    for word in words:
        assert word in problem.message


@pytest.mark.parametrize(
    "text",
    [
        '0/1 nodes are available: persistentvolumeclaim "models" not found. preemption: not eligible',
        'persistentvolumeclaim "models" not found',
        'persistentvolumeclaim "models" is being deleted',
        "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found",
        "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.",
        "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity.",
        "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
    ],
)
def test_a_claim_that_does_not_bind_is_told_from_a_lack_of_nodes(text: str) -> None:
    problem = find_problem(pod(unschedulable=text, claims=("models",)))
    assert problem is not None
    assert problem.reason == "ClaimNotBound"
    assert "'models'" in problem.message
    assert "kubectl describe pvc" in problem.message
    assert problem.blocked


@pytest.mark.parametrize(
    "observed",
    [
        pod(),
        pod(waiting_reason="ContainerCreating"),
        pod(waiting_reason="PodInitializing"),
        pod(phase="Running", running=True),
        pod(phase="Running", running=True, exit_code=1, restarts=1),
        pod(phase="Succeeded", exit_code=0, terminated_reason="Completed"),
    ],
    ids=["new", "creating", "initializing", "running", "running again", "succeeded"],
)
def test_a_pod_that_runs_ran_or_starts_has_no_problem(observed: ObservedPod) -> None:
    assert find_problem(observed) is None


def test_a_secret_is_not_blamed_for_another_fault() -> None:
    problem = find_problem(
        pod(waiting_reason="CreateContainerError", waiting_message="context deadline exceeded", secrets=("s3",))
    )
    assert problem is not None
    assert "Secret" not in problem.message


def test_a_secret_that_is_missing_is_named_among_several() -> None:
    problem = find_problem(
        pod(
            waiting_reason="CreateContainerConfigError",
            waiting_message='secret "data-keys" not found',
            secrets=("store-keys", "data-keys"),
        )
    )
    assert problem is not None
    assert "'store-keys', 'data-keys'" in problem.message


def test_the_newest_pod_is_the_last_one_made() -> None:
    pods = [pod("b", created=NOW), pod("a", created=NOW + timedelta(seconds=1)), pod("c", created=NOW)]
    found = newest(pods)
    assert found is not None
    assert found.name == "a"
    assert newest([]) is None


def test_an_evicted_pod_tells_what_ran_short_although_its_job_tries_again() -> None:
    body = {
        "metadata": {"name": "p", "namespace": "n", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "trainer", "image": "t"}]},
        "status": {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: ephemeral-storage.",
        },
    }
    problem = find_problem(parse_pod(slim("Pod", body)))
    assert problem is not None
    assert problem.reason == "Evicted"
    assert "ephemeral-storage" in problem.message
    assert "spec.resources.requests" in problem.message
