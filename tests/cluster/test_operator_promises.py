"""Promises 2, 4 and 6: only approved and verified versions serve, bad data is told, deletion leaves nothing behind."""

from collections.abc import Callable

import pytest

from modelkit.contract.files import version_directory
from modelloop.desired.labels import DIGEST, RUN
from modelloop.desired.names import digest_label
from tests.cluster.cluster_api import Api, Object, condition_of, wait_for
from tests.cluster.cluster_loop import (
    ALL_CHILDREN,
    NAME,
    Change,
    containers,
    deployment,
    digest_of,
    is_ready,
    manifests,
    number_of,
    refuse,
    report,
    server_of,
    training,
)
from tests.cluster.cluster_node import Node, crashing, failed, running
from tests.cluster.cluster_operator import OperatorProcess

Operators = Callable[..., OperatorProcess]


def condition(api: Api, kind: str, namespace: str, type_: str = "Ready", name: str = NAME) -> Object:
    """A condition as it is now."""
    return condition_of(api.get(kind, namespace, name), type_)


def run_again(api: Api, namespace: str, token: str = "again") -> None:
    """Ask for a run by hand."""
    api.patch("ModelTraining", namespace, NAME, {"metadata": {"annotations": {"modelloop.dev/run": token}}})


def history(api: Api, namespace: str) -> list[tuple[int, str, str]]:
    """Number, verdict and reason of the runs that ended, newest first."""
    status = api.get("ModelTraining", namespace, NAME).get("status", {})
    return [(run["number"], run["verdict"], run["reason"]) for run in status.get("history", [])]


def selected(api: Api, namespace: str) -> str:
    """The digest that the public Service selects."""
    return str(api.get("Service", namespace, NAME)["spec"]["selector"][DIGEST])


@pytest.fixture
def serving(api: Api, node: Node, namespace: str, operator: Operators) -> OperatorProcess:
    """Version 1 serves."""
    node.play(namespace, containers())
    api.apply(training(namespace))
    api.apply(deployment(namespace))
    process = operator()
    wait_for(lambda: is_ready(api.get("ModelDeployment", namespace, NAME)), what="version 1 serving")
    return process


# -- promise 2: no rejected, inconclusive or unverified version is served ---------------------------------------------

UNFIT: dict[str, tuple[Change, str, str]] = {
    "is below a gate": (report(metrics={"f1": 0.5, "accuracy": 0.5}), "Rejected", "f1 0.5 is below the gate's min 0.9"),
    "lacks the gate's metric": (report(metrics={"accuracy": 0.99}), "Inconclusive", "f1 couldn't be measured"),
    "has no digest": (report(digest=None), "Failed", "digest must be sha256:"),
    "has a digest of another form": (report(digest="md5:abc"), "Failed", "digest must be sha256:"),
    "has no path": (report(path=None), "Failed", "path must be set"),
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_a_first_version_is_not_served_when_it(
    api: Api, node: Node, namespace: str, operator: Operators, unfit: str
) -> None:
    change, verdict, message = UNFIT[unfit]
    node.play(namespace, containers(change))
    api.apply(training(namespace))
    api.apply(deployment(namespace))
    operator()
    wait_for(lambda: history(api, namespace), what="the end of the run")
    assert history(api, namespace)[0][:2] == (1, verdict)
    assert message in condition(api, "ModelTraining", namespace)["message"]
    assert number_of(api.get("ModelTraining", namespace, NAME), "champion") is None
    wait_for(lambda: condition(api, "ModelDeployment", namespace).get("reason") == "NoChampion", what="NoChampion")
    assert api.list("Deployment", namespace) == []


@pytest.mark.parametrize("unfit", UNFIT)
def test_version_1_stays_when_version_2(
    api: Api, node: Node, namespace: str, serving: OperatorProcess, unfit: str
) -> None:
    change, verdict, _ = UNFIT[unfit]
    node.play(namespace, containers(change))
    run_again(api, namespace)
    wait_for(lambda: len(history(api, namespace)) == 2, what="the end of run 2")
    assert history(api, namespace)[0][:2] == (2, verdict)
    assert number_of(api.get("ModelTraining", namespace, NAME), "champion") == 1
    assert is_ready(api.get("ModelTraining", namespace, NAME)), "the champion still fits the spec"
    assert is_ready(api.get("ModelDeployment", namespace, NAME))
    made = [name for name in node.created[namespace] if name.startswith("Deployment/")]
    assert made == [f"Deployment/{server_of(1)}"]


def test_a_version_worse_than_the_champion_on_the_same_rows_is_rejected(
    api: Api, node: Node, namespace: str, serving: OperatorProcess
) -> None:
    def worse(config, result):  # type: ignore[no-untyped-def]
        difference = type(next(iter(result.champion.differences.values())))(value=-0.01, low=-0.02, high=-0.005)
        champion = type(result.champion)(number=1, metrics={"f1": 0.95}, differences={"f1": difference})
        return report(champion=champion)(config, result)

    node.play(namespace, containers(worse))
    run_again(api, namespace)
    wait_for(lambda: len(history(api, namespace)) == 2, what="the end of run 2")
    assert history(api, namespace)[0][1] == "Rejected"
    assert (
        "worse than version 1 on the same 100 rows" in condition(api, "ModelTraining", namespace, "Approved")["message"]
    )
    assert number_of(api.get("ModelDeployment", namespace, NAME), "stable") == 1


def test_a_server_that_refuses_the_digest_is_never_promoted_and_the_digest_not_tried_again(
    api: Api, node: Node, namespace: str, serving: OperatorProcess
) -> None:
    refusal = '{"outcome":"Failed","reason":"DigestMismatch","message":"manifest.json has another digest than status"}'

    def refuse_second(pod: Object) -> list[Object]:
        if pod["metadata"]["labels"].get(DIGEST) == digest_label(digest_of(2)):
            return [running(pod, ready=False), crashing(pod, 2, refusal)]
        return list(containers()(pod))

    node.play(namespace, refuse_second)
    run_again(api, namespace)
    wait_for(lambda: api.get("ModelDeployment", namespace, NAME)["status"].get("failed"), what="a failed version")
    status = api.get("ModelDeployment", namespace, NAME)["status"]
    assert (status["failed"][0]["number"], status["failed"][0]["reason"]) == (2, "DigestMismatch")
    assert status["stable"]["number"] == 1
    wait_for(lambda: len(api.list("Deployment", namespace)) == 1, what="the refused version's Deployment to go")
    assert selected(api, namespace) == digest_label(digest_of(1))
    ready = condition(api, "ModelDeployment", namespace)
    assert ready["status"] == "False"
    assert "manifest.json has another digest" in ready["message"]
    assert "version 1 answers meanwhile" in ready["message"]
    assert condition(api, "ModelDeployment", namespace, "Available")["status"] == "True"
    serving.kill()
    serving.start()
    wait_for(lambda: serving.probe("/readyz")[0] == 200 and serving.probe("/metrics")[1].count('outcome="done"'))
    assert len(api.list("Deployment", namespace)) == 1
    assert node.created[namespace][f"Deployment/{server_of(2)}"] == 1


def test_the_served_path_and_digest_are_the_ones_the_trainer_reported(
    api: Api, namespace: str, serving: OperatorProcess
) -> None:
    stable = api.get("ModelDeployment", namespace, NAME)["status"]["stable"]
    job = api.list("Job", namespace)[0]["metadata"]["name"]
    assert stable["digest"] == digest_of(1)
    assert stable["path"] == version_directory(namespace, NAME, f"1-{job.removeprefix(f'{NAME}-')}")


# -- promise 4: bad data is told, the champion keeps serving, nothing is tried in vain --------------------------------


def test_bad_data_ends_in_a_condition_that_names_the_column_and_the_champion_keeps_serving(
    api: Api, node: Node, namespace: str, serving: OperatorProcess
) -> None:
    told = "column 'radius' isn't in pvc://rows/new.csv; its columns are: area, target"
    node.play(namespace, containers(refuse("ColumnNotFound", told)))
    api.apply(training(namespace, data={"uri": "pvc://rows/new.csv", "target": "target", "features": ["radius"]}))
    wait_for(lambda: history(api, namespace)[0] == (2, "Failed", "ColumnNotFound"), what="the failed run")
    for type_ in ("RunSucceeded", "Ready"):
        found = condition(api, "ModelTraining", namespace, type_)
        assert (found["status"], found["reason"]) == ("False", "ColumnNotFound")
        assert told in found["message"]
    assert "version 1 stays the champion" in condition(api, "ModelTraining", namespace)["message"]
    assert is_ready(api.get("ModelDeployment", namespace, NAME))
    assert selected(api, namespace) == digest_label(digest_of(1))
    assert len(api.list("Pod", namespace, f"{RUN}=2")) == 1, "bad data isn't tried again"
    node.play(namespace, containers())
    api.apply(training(namespace, data={"uri": "pvc://rows/good.csv", "target": "target", "features": ["area"]}))
    wait_for(lambda: is_ready(api.get("ModelTraining", namespace, NAME)), what="a Ready training once it is mended")


def test_exit_code_1_is_tried_again_up_to_retries(api: Api, node: Node, namespace: str, operator: Operators) -> None:
    node.play(namespace, lambda pod: [running(pod), failed(pod, 1, "ConnectionError: the store didn't answer")])
    api.apply(training(namespace, retries=1))
    operator()
    wait_for(lambda: history(api, namespace), 60, what="the end of the run")
    assert history(api, namespace)[0][1] == "Failed"
    assert "the store didn't answer" in condition(api, "ModelTraining", namespace)["message"]
    assert len(api.list("Pod", namespace, f"{RUN}=1")) == 2


# -- promise 6: deletion leaves nothing behind, with the operator up or down ------------------------------------------

CHILDREN = (
    "Job", "Pod", "Deployment", "ReplicaSet", "Service", "CronJob", "Role", "RoleBinding",
    "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy",
    "ModelTraining", "ModelDeployment", "ModelMonitor",
)  # fmt: skip


def left_in(api: Api, namespace: str) -> list[str]:
    """What is still there of the operator's objects and of the user's, but the store's claim."""
    names = [f"{kind}/{body['metadata']['name']}" for kind in CHILDREN for body in api.list(kind, namespace)]
    accounts = [body["metadata"]["name"] for body in api.list("ServiceAccount", namespace)]
    return names + [f"ServiceAccount/{name}" for name in accounts if name != "default"]


@pytest.mark.parametrize("state", ["up", "down"])
def test_deleting_all_three_leaves_only_the_store_with_the_operator(
    api: Api, node: Node, namespace: str, operator: Operators, state: str
) -> None:
    node.play(namespace, containers())
    for body in manifests(namespace, **ALL_CHILDREN):
        api.apply(body)
    process = operator()
    for kind in ("ModelTraining", "ModelDeployment", "ModelMonitor"):
        wait_for(lambda kind=kind: is_ready(api.get(kind, namespace, NAME)), what=f"a Ready {kind}")
    if state == "down":
        process.kill()
    for body in manifests(namespace):
        api.delete(body["kind"], namespace, NAME)
    assert [name for name in left_in(api, namespace) if name.startswith("Model")] == [], "nothing holds the deletion up"
    wait_for(lambda: not left_in(api, namespace), 40, what="everything to go")
    assert [body["metadata"]["name"] for body in api.list("PersistentVolumeClaim", namespace)] == ["modelloop-store"]
    if state == "up":
        assert process.probe("/healthz")[0] == 200
        assert left_in(api, namespace) == [], "nothing comes back"


def test_a_training_made_again_under_its_name_starts_anew(
    api: Api, node: Node, namespace: str, serving: OperatorProcess
) -> None:
    (old,) = api.list("Job", namespace)
    api.delete("ModelTraining", namespace, NAME)
    wait_for(lambda: condition(api, "ModelDeployment", namespace).get("reason") == "TrainingNotFound", what="the news")
    assert selected(api, namespace) == digest_label(digest_of(1)), "what serves goes on serving"
    assert condition(api, "ModelDeployment", namespace, "Available")["status"] == "True"
    api.apply(training(namespace))
    wait_for(lambda: is_ready(api.get("ModelTraining", namespace, NAME)), what="a Ready training")
    names = {body["metadata"]["name"] for body in api.list("Job", namespace)}
    assert len(names - {old["metadata"]["name"]}) == 1
    assert history(api, namespace) == [(1, "Approved", "Approved")]
