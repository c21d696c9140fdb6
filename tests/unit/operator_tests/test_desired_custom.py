"""The pod of a run that brings images and keys of its own: what each container may see, and what its failure says."""

import json
from typing import Any

import pytest

from modelkit.contract.codec import loads
from modelkit.contract.config import ServerConfig, TrainerConfig
from modelkit.contract.environment import CONFIG
from modelloop.api.common import VersionStatus
from modelloop.api.training import RunStatus, Trigger
from modelloop.cluster.cache import Cache
from modelloop.cluster.parse import parse_pod
from modelloop.cluster.scrape import JOB_NAME_LABEL, find_targets
from modelloop.cluster.slim import slim
from modelloop.decide.pods import Problem, find_problem, find_stated_failure
from modelloop.desired.deployment import build_server
from modelloop.desired.labels import object_labels
from modelloop.desired.training import begin_run, build_job, pod_hash, spec_hash
from tests.unit.operator_tests.operator_states import (
    NOW,
    SETTINGS,
    UID,
    deployment_spec,
    digest_of,
    result,
    training_spec,
)
from tests.unit.operator_tests.training_world import begun

Object = dict[str, Any]
CUSTOM = {
    "candidates": [],
    "task": "Classification",
    "image": "example/train:1",
    "command": ["python", "train.py"],
    "args": ["--fast"],
    "params": {"depth": 3},
}
ETL = {"image": "example/etl:1", "env": [{"name": "BATCH", "value": "7"}], "secretRef": {"name": "source"}}
WORK = {"data": {"uri": "work://rows.csv", "target": "target"}, "prepare": ETL}
SIGNED = {"sign": {"secretName": "keys"}}


def begin(**fields: Any) -> RunStatus:
    return begin_run(
        training_spec(**fields),
        namespace="team",
        name="cancer",
        uid=UID,
        number=3,
        trigger=Trigger(reason="Created"),
        champion=None,
        feedback=None,
        now=NOW,
    )


def build(**fields: Any) -> Object:
    spec = training_spec(**fields)
    return build_job(spec, begin(**fields), namespace="team", name="cancer", uid=UID, settings=SETTINGS)


def pod_of(**fields: Any) -> Object:
    spec: Object = build(**fields)["spec"]["template"]["spec"]
    return spec


def containers(spec: Object) -> dict[str, Object]:
    return {item["name"]: item for item in (*spec.get("initContainers", []), *spec["containers"])}


def mounts(container: Object) -> dict[str, tuple[str, bool]]:
    """Volume and whether it is read-only, by path."""
    return {entry["mountPath"]: (entry["name"], entry.get("readOnly", False)) for entry in container["volumeMounts"]}


def variables(container: Object) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def test_a_plain_run_has_the_pod_that_it_had() -> None:
    spec = pod_of()
    assert "initContainers" not in spec
    assert [volume["name"] for volume in spec["volumes"]] == ["work", "store"]


def test_the_containers_of_a_custom_run_come_in_order() -> None:
    assert list(containers(pod_of(**CUSTOM, **WORK))) == ["prepare", "stage", "custom", "trainer"]
    assert list(containers(pod_of(**CUSTOM))) == ["stage", "custom", "trainer"]
    assert list(containers(pod_of(**WORK))) == ["prepare", "trainer"]


def test_the_custom_image_sees_its_inputs_and_outputs_and_nothing_else() -> None:
    custom = containers(pod_of(**CUSTOM, **SIGNED, data={"uri": "pvc://rows/a.csv", "target": "target"}))["custom"]
    work = "/var/lib/modelloop/work"
    assert mounts(custom) == {
        work: ("custom-scratch", False),
        "/tmp": ("custom-scratch", False),
        f"{work}/inputs": ("inputs", True),
        f"{work}/outputs": ("outputs", False),
    }
    assert "envFrom" not in custom
    assert variables(custom) == {
        "HOME": work,
        "TMPDIR": "/tmp",
        "MODELLOOP_INPUTS": f"{work}/inputs",
        "MODELLOOP_OUTPUTS": f"{work}/outputs",
        "MODELLOOP_NAME": "cancer",
        "MODELLOOP_NAMESPACE": "team",
        "MODELLOOP_RUN": "3",
    }
    assert (custom["image"], custom["command"], custom["args"]) == (
        "example/train:1",
        ["python", "train.py"],
        ["--fast"],
    )
    assert custom["ports"][0]["containerPort"] == 9090


def test_the_trainers_own_steps_run_its_own_image() -> None:
    found = containers(pod_of(**CUSTOM))
    for name, args in (("stage", ["-m", "modelkit.train", "stage"]), ("trainer", ["-m", "modelkit.train"])):
        assert (found[name]["image"], found[name]["args"]) == (SETTINGS.trainer_image, args)
    config = loads(TrainerConfig, variables(found["trainer"])[CONFIG])
    assert variables(found["stage"])[CONFIG] == variables(found["trainer"])[CONFIG]
    assert config.custom is not None
    assert (config.custom.inputs, config.custom.params) == ("/var/lib/modelloop/work/inputs", {"depth": 3})
    assert mounts(found["stage"])[config.custom.inputs] == ("inputs", False)
    assert mounts(found["trainer"])[config.custom.outputs] == ("outputs", True)
    assert mounts(found["stage"])["/var/lib/modelloop/work"] == mounts(found["trainer"])["/var/lib/modelloop/work"]
    assert pod_of(image="example/other:1")["containers"][0]["image"] == "example/other:1"


def test_the_preparing_image_writes_what_the_trainer_reads() -> None:
    spec = pod_of(**WORK)
    found = containers(spec)
    data = "/var/lib/modelloop/work/data"
    assert mounts(found["prepare"])[data] == ("prepared", False)
    assert mounts(found["trainer"])[data] == ("prepared", True)
    assert loads(TrainerConfig, variables(found["trainer"])[CONFIG]).data.uri == f"file://{data}/rows.csv"
    assert variables(found["prepare"])["MODELLOOP_WORK"] == data
    assert variables(found["prepare"])["BATCH"] == "7"
    assert found["prepare"]["envFrom"] == [{"secretRef": {"name": "source"}}]
    assert "command" not in found["prepare"]


@pytest.mark.parametrize(
    "fields",
    [
        {"data": {"uri": "pvc://raw/a.csv", "target": "target"}, "prepare": ETL},
        WORK | {"prepare": ETL | {"claimRef": {"name": "raw"}}},
    ],
    ids=["the data's", "its own"],
)
def test_the_preparing_image_sees_a_claim_read_only(fields: Object) -> None:
    spec = pod_of(**fields)
    assert mounts(containers(spec)["prepare"])["/var/lib/modelloop/data/raw"] == ("data", True)
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "raw", "readOnly": True}} in spec["volumes"]


@pytest.mark.parametrize("fields", [CUSTOM, WORK, CUSTOM | WORK | SIGNED], ids=["custom", "prepare", "all"])
def test_every_container_is_restricted_and_every_volume_is_there_once(fields: Object) -> None:
    spec = pod_of(**fields)
    names = [volume["name"] for volume in spec["volumes"]]
    assert len(names) == len(set(names))
    for container in containers(spec).values():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(names)
        assert container["resources"]["limits"]


def test_exit_code_2_of_any_container_is_never_tried_again() -> None:
    rules = build(**CUSTOM, **WORK)["spec"]["podFailurePolicy"]["rules"]
    failing = [rule["onExitCodes"] for rule in rules if rule["action"] == "FailJob"]
    assert [(rule["containerName"], rule["values"]) for rule in failing] == [
        ("trainer", [2]), ("prepare", [2]), ("stage", [2]), ("custom", [2]),
    ]  # fmt: skip


def test_the_private_key_goes_to_the_trainer_and_the_public_one_to_the_server() -> None:
    spec = pod_of(**SIGNED)
    (key,) = [volume for volume in spec["volumes"] if volume["name"] == "key"]
    assert key["secret"]["secretName"] == "keys"
    assert [item["key"] for item in key["secret"]["items"]] == ["private.pem"]
    config = loads(TrainerConfig, variables(containers(spec)["trainer"])[CONFIG])
    assert config.sign is not None
    assert config.sign.private_key == "/var/lib/modelloop/key/private.pem"
    assert begin(**SIGNED).signing_secret == "keys"


@pytest.mark.parametrize(
    ("signed", "asked", "expected"),
    [(None, None, None), ("keys", None, "keys"), (None, "mine", "mine"), ("keys", "mine", "mine")],
)
def test_a_server_verifies_what_is_signed_or_what_the_user_asks(
    signed: str | None, asked: str | None, expected: str | None
) -> None:
    spec = deployment_spec(**({"verify": {"secretName": asked}} if asked else {}))
    version = VersionStatus(number=1, path="models/a", digest=digest_of(1), signing_secret=signed)
    server = build_server(spec, version, namespace="team", name="cancer", uid=UID, settings=SETTINGS)
    pod = server["spec"]["template"]["spec"]
    keys = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "key"]
    config = loads(ServerConfig, variables(pod["containers"][0])[CONFIG])
    assert [key["secretName"] for key in keys] == ([expected] if expected else [])
    assert all([item["key"] for item in key["items"]] == ["public.pem"] for key in keys)
    assert config.public_key == ("/var/lib/modelloop/key/public.pem" if expected else None)


@pytest.mark.parametrize(("signed", "expected"), [(True, "keys"), (False, None)])
def test_the_champion_remembers_who_signed_it_when_somebody_did(signed: bool, expected: str | None) -> None:
    world = begun(spec=training_spec(**SIGNED))
    world.complete(result(signed=signed))
    world.settle()
    assert world.status.champion is not None
    assert world.status.champion.signing_secret == expected


def test_another_image_of_a_custom_run_is_another_model() -> None:
    one, other = training_spec(**CUSTOM), training_spec(**CUSTOM | {"image": "example/train:2"})
    assert spec_hash(one) != spec_hash(other)
    more = training_spec(**WORK | {"prepare": ETL | {"resources": {"limits": {"memory": "8Gi"}}}})
    assert spec_hash(more) == spec_hash(training_spec(**WORK))
    assert pod_hash(more) != pod_hash(training_spec(**WORK))


def observe(states: dict[str, Object], main: Object | None = None, **fields: Any) -> Problem | None:
    """What is said of a pod whose init containers are in `states`."""
    body = {
        "metadata": {
            "name": "pod-1",
            "creationTimestamp": "2026-03-01T12:00:00Z",
            "labels": object_labels("ModelTraining", "cancer"),
        },
        "spec": pod_of(**(fields or CUSTOM | WORK)),
        "status": {
            "phase": "Pending",
            "initContainerStatuses": [
                {"name": name, "restartCount": 0, "state": state, "lastState": {}} for name, state in states.items()
            ],
            "containerStatuses": [
                {
                    "name": "trainer",
                    "restartCount": 0,
                    "state": main or {"waiting": {"reason": "PodInitializing"}},
                    "lastState": {},
                }
            ],
        },
    }
    pod = parse_pod(slim("Pod", body))
    assert pod == parse_pod(body)
    return find_stated_failure(pod) or find_problem(pod)


REFUSED = {"outcome": "Failed", "reason": "ColumnNotFound", "message": "no a"}
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}


def ended(code: int, message: str = "", reason: str = "Error") -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


@pytest.mark.parametrize(
    ("states", "reason", "texts"),
    [
        (
            {"prepare": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}},
            "ImagePullFailed",
            ["'example/etl:1'", "spec.prepare.image"],
        ),
        (
            {"prepare": DONE, "stage": DONE, "custom": {"waiting": {"reason": "ErrImagePull"}}},
            "ImagePullFailed",
            ["'example/train:1'", "correct spec.image"],
        ),
        (
            {"prepare": ended(2, json.dumps({"reason": "NoSource", "message": "the table is empty"}))},
            "NoSource",
            ["the init container 'prepare': the table is empty"],
        ),
        (
            {"prepare": ended(2, json.dumps({"reason": "no reason!", "message": "it broke"}))},
            "Exited",
            ["the init container 'prepare': it broke"],
        ),
        (
            {"prepare": DONE, "stage": DONE, "custom": ended(1, "x" * 900 + "\nKeyError: weights")},
            "Exited",
            ["the init container 'custom' ended with exit code 1", "KeyError: weights"],
        ),
        (
            {"prepare": ended(137, reason="OOMKilled")},
            "OutOfMemory",
            ["the init container 'prepare'", "2Gi", "spec.prepare.resources.limits.memory"],
        ),
        (
            {
                "prepare": DONE,
                "stage": ended(2, '{"outcome": "Failed", "reason": "ColumnNotFound", "message": "no a"}'),
            },
            "ColumnNotFound",
            ["no a"],
        ),
        (
            {"prepare": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "source" not found'}}},
            "ContainerConfigError",
            ["the init container 'prepare' can't be made", "Secret 'source'"],
        ),
    ],
    ids=["etl image", "training image", "stated", "odd reason", "log", "memory", "our own step", "secret"],
)
def test_a_failure_before_the_trainer_names_its_container(
    states: dict[str, Object], reason: str, texts: list[str]
) -> None:
    problem = observe(states)
    assert problem is not None
    assert problem.reason == reason
    assert all(text in problem.message for text in texts), problem.message


@pytest.mark.parametrize(
    "states",
    [
        {"prepare": {"running": {"startedAt": "2026-03-01T12:00:00Z"}}},
        {"prepare": DONE, "stage": {"waiting": {"reason": "PodInitializing"}}},
        {"prepare": DONE, "stage": DONE, "custom": DONE},
    ],
)
def test_containers_that_do_their_work_are_no_problem(states: dict[str, Object]) -> None:
    assert observe(states) is None


@pytest.mark.parametrize(("running", "asked"), [("prepare", False), ("stage", True), ("custom", True)])
def test_the_progress_of_a_step_that_has_some_is_asked_for(running: str, asked: bool) -> None:
    cache = Cache()
    labels = {**object_labels("ModelTraining", "cancer"), JOB_NAME_LABEL: "cancer-3"}
    body = {
        "metadata": {"name": "pod-1", "namespace": "team", "labels": labels},
        "spec": pod_of(**CUSTOM | WORK),
        "status": {
            "phase": "Pending",
            "podIP": "10.0.0.9",
            "initContainerStatuses": [{"name": running, "state": {"running": {}}}],
            "containerStatuses": [{"name": "trainer", "state": {"waiting": {"reason": "PodInitializing"}}}],
        },
    }
    cache.put("Pod", body)
    assert [target.address for target in find_targets(cache)] == (["10.0.0.9"] if asked else [])


def test_what_the_trainer_says_counts_once_it_has_begun() -> None:
    main = ended(2, '{"outcome": "Failed", "reason": "BadPredictions", "message": "29 rows"}')
    problem = observe({"prepare": DONE, "stage": DONE, "custom": ended(1)}, main)
    assert problem is not None
    assert problem.reason == "BadPredictions"
