"""What users are told of a server's pod that misses a Secret, or whose other model server doesn't run."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelkit.artifact.signature import InputColumn, Signature
from modelkit.contract.config import ServerConfig
from modelkit.contract.result import TrainingResult, termination_message
from modelkit.errors import RefusedError
from modelkit.serve.auth import Auth
from modelkit.serve.batch import Features
from modelkit.serve.outcome import write_reason
from modelkit.serve.redaction import read_redaction
from modelkit.serve.tls import Certificate
from modelloop.api.common import VersionStatus
from modelloop.cluster.parse import parse_pod
from modelloop.cluster.slim import slim
from modelloop.decide.pods import ObservedPod, find_problem, is_refusal
from modelloop.desired.deployment import build_server
from modelloop.desired.serving import build_server_config
from tests.unit.operator_tests.operator_states import SETTINGS, UID, deployment_spec, digest_of

Object = dict[str, Any]
TIME = "2026-03-01T12:00:00Z"
VERSION = VersionStatus(number=2, path="models/team/x/2-y", digest=digest_of(2))
SECRETS: Object = {
    "tls": {"secretName": "churn-cert"},
    "auth": {"secretName": "churn-tokens"},
    "capture": {"columns": [{"name": "zip", "action": "Hash"}], "hashKey": {"secretName": "churn-capture"}},
    "verify": {"secretName": "churn-signing"},
}
RUNTIME: Object = {"runtime": {"image": "example/triton:1", "port": 8000, "resources": {"limits": {"memory": "4Gi"}}}}
RUNNING: Object = {"running": {"startedAt": TIME}}
STARTING: Object = {"waiting": {"reason": "PodInitializing"}}
BACK_OFF: Object = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}


def ended(code: int, message: str = "", reason: str = "Error") -> Object:
    times = {"startedAt": TIME, "finishedAt": TIME}
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, **times}}


def stated(reason: str, message: str) -> str:
    return termination_message(TrainingResult(outcome="Failed", reason=reason, message=message))


def observe(fields: Object, **states: Object | tuple[Object, Object]) -> ObservedPod:
    """The pod of a spec, with containers by name in a state, or in a state after another."""
    spec = deployment_spec(**fields)
    template = build_server(spec, VERSION, namespace="team", name="churn", uid=UID, settings=SETTINGS)["spec"][
        "template"
    ]
    first = {container["name"] for container in template["spec"].get("initContainers", [])}
    statuses: dict[str, list[Object]] = {"containerStatuses": [], "initContainerStatuses": []}
    for name, state in states.items():
        now, last = state if isinstance(state, tuple) else (state, {})
        kind = "initContainerStatuses" if name in first else "containerStatuses"
        statuses[kind].append({"name": name, "restartCount": 3 if last else 0, "state": now, "lastState": last})
    body: Object = copy.deepcopy(template)
    body["metadata"] |= {"name": "churn-0", "creationTimestamp": TIME}
    body["status"] = {"phase": "Running", **statuses}
    parsed = parse_pod(slim("Pod", body))
    assert parsed == parse_pod(body), "slimming loses nothing that is parsed"
    return parsed


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "/var/lib/modelloop/tls/tls.crt and /var/lib/modelloop/tls/tls.key aren't a usable certificate and its key",
            "Secret 'churn-cert', which must be in this namespace with tls.crt and tls.key",
        ),
        ("there is no token in /var/lib/modelloop/tokens", "Secret 'churn-tokens', which must be in this namespace"),
        (
            "the key /var/lib/modelloop/capture-key/key can't be read",
            "Secret 'churn-capture', which must be in this namespace with key",
        ),
        (
            "the key /var/lib/modelloop/key/public.pem can't be read",
            "Secret 'churn-signing', which must be in this namespace with public.pem",
        ),
    ],
)
def test_the_secret_and_its_keys_are_named_and_waited_for(said: str, words: str) -> None:
    pod = observe(SECRETS, server=(BACK_OFF, ended(2, stated("BadSecret", said))))
    problem = find_problem(pod)
    assert problem is not None
    assert problem.reason == "BadSecret"
    assert problem.message.startswith(said)
    assert words in problem.message
    assert not is_refusal(pod), "the kubelet tries again, and the Secret may be there then"


def _open_certificate(config: ServerConfig) -> None:
    assert config.tls is not None
    Certificate(config.tls)


def _open_tokens(config: ServerConfig) -> None:
    assert config.auth is not None
    Auth(config.auth)


def _open_key(config: ServerConfig) -> None:
    column = InputColumn(name="zip", dtype="string", kind="categorical", nullable=True)
    about: Object = {"model": "churn", "number": 2, "task": "Regression", "target": "y", "metric": "r2", "outputs": ()}
    read_redaction(config.capture, Features.of(Signature(**about, inputs=(column,))))


@pytest.mark.parametrize(
    ("open_files", "secret"),
    [(_open_certificate, "churn-cert"), (_open_tokens, "churn-tokens"), (_open_key, "churn-capture")],
)
def test_what_the_server_itself_says_of_files_that_are_not_there_is_understood(
    tmp_path: Path, open_files: Callable[[ServerConfig], None], secret: str
) -> None:
    config = build_server_config(deployment_spec(**SECRETS), VERSION, namespace="team", name="churn")
    with pytest.raises(RefusedError) as refusal:
        open_files(config)
    write_reason(tmp_path / "log", refusal.value)
    pod = observe(SECRETS, server=(BACK_OFF, ended(2, (tmp_path / "log").read_text())))
    problem = find_problem(pod)
    assert problem is not None
    assert (problem.reason, f"the Secret '{secret}'" in problem.message) == (refusal.value.reason, True)
    assert not is_refusal(pod)


def test_what_the_fetching_container_says_of_the_key_names_its_secret_too() -> None:
    said = stated("SigningKeyMissing", "the key /var/lib/modelloop/key/public.pem can't be read")
    pod = observe(SECRETS | RUNTIME, fetch=ended(2, said), server=STARTING)
    problem = find_problem(pod)
    assert problem is not None
    assert "'churn-signing'" in problem.message
    assert not is_refusal(pod)


def test_what_has_nothing_to_do_with_a_secret_is_refused_for_good() -> None:
    pod = observe(SECRETS, server=ended(2, stated("DigestMismatch", "the manifest's digest differs")))
    problem = find_problem(pod)
    assert problem is not None
    assert problem.message == "the manifest's digest differs"
    assert is_refusal(pod)


def test_one_secret_mounted_twice_is_told_by_the_folder_that_is_named() -> None:
    same = {"secretName": "all"}
    said = stated("BadTokens", "there is no token in /var/lib/modelloop/tokens")
    problem = find_problem(observe({"tls": same, "auth": same}, server=ended(2, said)))
    assert problem is not None
    assert problem.message.endswith("/var/lib/modelloop/tokens is the Secret 'all', which must be in this namespace")


@pytest.mark.parametrize("server", [STARTING, RUNNING], ids=["before the server", "beside the server"])
@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        (
            {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image: not found"}},
            "ImagePullFailed",
            ["example/triton:1", "spec.runtime.image"],
        ),
        (
            {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "hub" not found'}},
            "ContainerConfigError",
            ["the container 'runtime'", 'secret "hub" not found'],
        ),
        ((BACK_OFF, ended(1)), "CrashLoop", ["the container 'runtime' of pod churn-0", "exit code 1 after 3 restarts"]),
        ((BACK_OFF, ended(2)), "CrashLoop", ["exit code 2"]),
        ((BACK_OFF, ended(0, reason="Completed")), "CrashLoop", ["exit code 0 after 3 restarts"]),
        (
            (BACK_OFF, ended(137, reason="OOMKilled")),
            "OutOfMemory",
            ["the container 'runtime'", "4Gi", "spec.runtime.resources.limits.memory"],
        ),
    ],
)
def test_a_runtime_that_does_not_run_is_told(server: Object, state: Any, reason: str, words: list[str]) -> None:
    pod = observe(RUNTIME, fetch=ended(0, reason="Completed"), runtime=state, server=server)
    problem = find_problem(pod)
    assert problem is not None
    assert problem.reason == reason
    assert [word for word in words if word not in problem.message] == []
    assert not is_refusal(pod), "its exit codes aren't ours"


def test_a_runtime_that_runs_holds_up_nothing() -> None:
    after_crash = (RUNNING, ended(1))
    done = ended(0, reason="Completed")
    assert find_problem(observe(RUNTIME, fetch=done, runtime=after_crash, server=RUNNING)) is None
    assert find_problem(observe(RUNTIME, fetch=done, runtime=RUNNING, server=STARTING)) is None


def test_what_the_server_says_goes_before_what_its_runtime_does() -> None:
    said = stated("BadAnswers", "the samples aren't answered as recorded")
    pod = observe(RUNTIME, fetch=ended(0), runtime=(BACK_OFF, ended(1)), server=ended(2, said))
    problem = find_problem(pod)
    assert problem is not None
    assert problem.reason == "BadAnswers"
    assert is_refusal(pod)


def test_sidecars_of_others_hold_up_nothing() -> None:
    spec = build_server(deployment_spec(), VERSION, namespace="team", name="churn", uid=UID, settings=SETTINGS)
    body: Object = copy.deepcopy(spec["spec"]["template"])
    body["metadata"] |= {"name": "churn-0", "creationTimestamp": TIME}
    body["spec"]["initContainers"] = [{"name": "istio-proxy", "restartPolicy": "Always"}]
    proxy = {"name": "istio-proxy", "restartCount": 3, "state": BACK_OFF, "lastState": ended(1)}
    server = {"name": "server", "restartCount": 0, "state": RUNNING, "lastState": {}}
    body["status"] = {"phase": "Running", "initContainerStatuses": [proxy], "containerStatuses": [server]}
    assert find_problem(parse_pod(slim("Pod", body))) is None
