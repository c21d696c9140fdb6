"""What the lifecycle's fields make of a run's Jobs and of the trainer's configuration."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.codec import loads
from modelkit.contract.config import TrainerConfig
from modelkit.contract.environment import CONFIG
from modelkit.contract.recipe import OriginConfig
from modelloop.api.training import ModelTrainingSpec, ModelTrainingStatus, RunStatus, Trigger
from modelloop.decide.retention import decide_kept_versions
from modelloop.desired import names
from modelloop.desired.labels import COMPONENT, QUEUE, RUN, TRAINING
from modelloop.desired.training import begin_run, build_job, given_resources
from modelloop.desired.workers import build_worker_job
from tests.unit.operator_tests.operator_states import NOW, SETTINGS, UID, digest_of, training_spec
from tests.unit.operator_tests.training_world import last, trained


def run_of(spec: ModelTrainingSpec, **fields: Any) -> RunStatus:
    return begin_run(
        spec, namespace="team", name="cancer", uid=UID, number=3, trigger=Trigger(reason="Created"), champion=None,
        feedback=None, now=NOW, **fields,
    )  # fmt: skip


def job_of(**fields: Any) -> dict[str, Any]:
    spec = training_spec(**fields)
    return build_job(spec, run_of(spec), namespace="team", name="cancer", uid=UID, settings=SETTINGS)


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


# -- where and when ----------------------------------------------------------------------------------------------------


def test_pods_go_where_the_spec_says() -> None:
    tolerations = [{"key": "gpu", "value": "a100", "effect": "NoSchedule"}, {"operator": "Exists"}]
    affinity = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    pod = pod_of(
        job_of(
            nodeSelector={"disk": "ssd"}, tolerations=tolerations, affinity=affinity, priorityClassName="low",
            runtimeClassName="nvidia", resources={"limits": {"nvidia.com/gpu": 2}},
        )
    )  # fmt: skip
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert pod["tolerations"] == [{"operator": "Equal", **tolerations[0]}, tolerations[1]]
    assert pod["affinity"] == affinity
    assert (pod["priorityClassName"], pod["runtimeClassName"]) == ("low", "nvidia")
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_a_plain_job_states_nothing_of_all_that() -> None:
    job = job_of()
    assert not {"suspend", "activeDeadlineSeconds"} & set(job["spec"])
    assert QUEUE not in job["metadata"]["labels"]
    assert not {"nodeSelector", "tolerations", "affinity", "priorityClassName", "runtimeClassName"} & set(pod_of(job))


@pytest.mark.parametrize(("deadline", "seconds"), [("90m", 5400), ("1h30m", 5400), ("1s", 1), ("1500ms", 2)])
def test_a_deadline_is_the_jobs(deadline: str, seconds: int) -> None:
    assert job_of(deadline=deadline)["spec"]["activeDeadlineSeconds"] == seconds


def test_a_queued_job_is_made_suspended_under_the_label_of_its_queue() -> None:
    job = job_of(queueName="team")
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"][QUEUE] == "team"


# -- workers -----------------------------------------------------------------------------------------------------------


def test_workers_are_the_trainers_pods_with_another_program() -> None:
    job = job_of(
        tuning={"parallelism": 3}, deadline="1h", nodeSelector={"disk": "ssd"}, storage={"uri": "pvc://models"}
    )
    workers = build_worker_job(job, 3, suspend=False)
    assert workers["metadata"]["name"] == f"{job['metadata']['name']}-w"
    assert workers["metadata"]["ownerReferences"] == job["metadata"]["ownerReferences"]
    assert workers["metadata"]["labels"][COMPONENT] == "worker"
    assert (workers["metadata"]["labels"][TRAINING], workers["metadata"]["labels"][RUN]) == ("cancer", "3")
    assert workers["spec"]["parallelism"] == 3
    assert not {"completions", "activeDeadlineSeconds", "podFailurePolicy", "suspend"} & set(workers["spec"])
    pod, trainer = pod_of(workers), pod_of(job)
    assert pod["restartPolicy"] == "OnFailure"
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert pod["securityContext"] == trainer["securityContext"]
    assert pod["automountServiceAccountToken"] is False
    (main,), (container,) = trainer["containers"], pod["containers"]
    assert container["name"] == "worker"
    assert container["args"] == ["-m", "modelkit.train.worker"]
    for field in ("image", "env", "resources", "securityContext", "volumeMounts"):
        assert container[field] == main[field], field
    assert "ports" not in container
    assert job == job_of(
        tuning={"parallelism": 3}, deadline="1h", nodeSelector={"disk": "ssd"}, storage={"uri": "pvc://models"}
    ), "the trainer's Job isn't changed"


def test_workers_get_no_preparation_and_no_signing_key() -> None:
    job = job_of()
    pod = pod_of(job)
    pod["initContainers"] = [{"name": "prepare"}]
    pod["volumes"].append({"name": "signing-key", "secret": {"secretName": "key"}})
    pod["containers"][0]["volumeMounts"].append({"name": "signing-key", "mountPath": "/keys"})
    workers = pod_of(build_worker_job(job, 2, suspend=True))
    assert "initContainers" not in workers
    assert "signing-key" not in str(workers)
    assert build_worker_job(job, 2, suspend=True)["spec"]["suspend"] is True


def test_the_longest_name_of_a_training_leaves_room_for_its_workers() -> None:
    assert len(names.worker_job_name(names.job_name("a" * 52, UID, 10**6))) == 63


# -- what the trainer is told ------------------------------------------------------------------------------------------


def test_the_trainer_is_told_where_the_run_comes_from_and_what_to_keep() -> None:
    origin = OriginConfig(image="example/trainer:1", revision="0a1b2c")
    run = run_of(training_spec(), origin=origin, keep_versions=("1-x", "2-y"))
    config = loads(TrainerConfig, run.config)
    assert (config.origin, config.keep_versions, config.uid) == (origin, ("1-x", "2-y"), UID)
    assert run.revision == "0a1b2c"
    job = build_job(training_spec(), run, namespace="team", name="cancer", uid=UID, settings=SETTINGS)
    environment = {entry["name"]: entry.get("value") for entry in pod_of(job)["containers"][0]["env"]}
    assert environment[CONFIG] == run.config


def test_an_estimate_rests_on_limits_or_else_requests() -> None:
    assert given_resources(training_spec()) == (0.25, 2.0)
    limits = {"limits": {"cpu": "1500m", "memory": "512Mi"}, "requests": {"cpu": 1}}
    assert given_resources(training_spec(resources=limits)) == (1.5, 0.5)


# -- what stays in the store -------------------------------------------------------------------------------------------

PREFIX = "models/team/cancer/"


def test_versions_that_any_status_names_are_kept() -> None:
    world = trained()
    champion = world.status.champion
    assert champion is not None
    old = champion.model_copy(update={"path": f"{PREFIX}0-old", "digest": digest_of(9)})
    status = ModelTrainingStatus(champion=old, history=(last(world),))
    served = [f"{PREFIX}7-served", "models/team/cancer-2/1-other", "models/elsewhere/cancer/1-x", "rubbish"]
    kept = decide_kept_versions(status, served, namespace="team", name="cancer")
    assert kept == ("0-old", "1-0a1b2c3d", "7-served")


@given(
    history=st.lists(st.integers(1, 99), max_size=12, unique=True),
    champion=st.none() | st.integers(1, 99),
    served=st.lists(st.integers(1, 99), max_size=6),
)
def test_no_version_in_use_is_ever_left_out(history: list[int], champion: int | None, served: list[int]) -> None:
    world = trained()
    record, chosen = last(world), world.status.champion
    assert chosen is not None
    records = tuple(record.model_copy(update={"number": number, "path": f"{PREFIX}{number}-x"}) for number in history)
    status = ModelTrainingStatus(
        history=records,
        champion=chosen.model_copy(update={"path": f"{PREFIX}{champion}-x"}) if champion is not None else None,
    )
    paths = [f"{PREFIX}{number}-x" for number in served]
    kept = decide_kept_versions(status, paths, namespace="team", name="cancer")
    in_use = {*history, *served, *([champion] if champion is not None else [])}
    assert set(kept) == {f"{number}-x" for number in in_use}
    assert list(kept) == sorted(kept)
