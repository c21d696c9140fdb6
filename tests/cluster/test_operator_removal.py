"""deletionPolicy: with Delete the versions go with their training; nothing ever holds the training itself."""

from collections.abc import Callable

import pytest

from modelkit.contract.codec import loads
from modelkit.contract.config import RemovalConfig
from modelkit.contract.environment import CONFIG
from modelloop.desired.labels import COMPONENT, REMOVAL, VERSIONS_FINALIZER
from modelloop.desired.names import removal_name, version_name
from tests.cluster.cluster_api import Api, Object, wait_for
from tests.cluster.cluster_loop import NAME, containers, deployment, is_ready, training
from tests.cluster.cluster_node import Node, Program, environment_of, failed, running
from tests.cluster.cluster_operator import OperatorProcess

Operators = Callable[..., OperatorProcess]
GC_SECONDS = 60
"""The garbage collector of a new control plane looks for new kinds every half minute."""


@pytest.fixture
def trained(api: Api, node: Node, namespace: str, operator: Operators) -> tuple[OperatorProcess, str]:
    """A training with a champion, whose versions go with it; the operator and the training's uid."""
    node.play(namespace, containers())
    made = api.apply(training(namespace, deletionPolicy="Delete"))
    process = operator()
    wait_for(lambda: is_ready(api.get("ModelTraining", namespace, NAME)), what="a champion")
    return process, str(made["metadata"]["uid"])


def note(api: Api, namespace: str, uid: str) -> Object | None:
    return api.find("ConfigMap", namespace, removal_name(NAME, uid))


def removal_pods(api: Api, namespace: str) -> list[Object]:
    return api.list("Pod", namespace, f"{COMPONENT}={REMOVAL}")


def waits(program: Program) -> Program:
    """Removals go on for ever."""
    return lambda pod: [running(pod)] if pod["spec"]["containers"][0]["name"] == REMOVAL else program(pod)


@pytest.mark.parametrize("state", ["up", "down"])
def test_a_deleted_training_goes_at_once_and_its_versions_after_it(
    api: Api, node: Node, namespace: str, trained: tuple[OperatorProcess, str], operator: Operators, state: str
) -> None:
    process, uid = trained
    node.play(namespace, waits(containers()))
    if state == "down":
        process.kill()
    api.delete("ModelTraining", namespace, NAME)
    assert api.find("ModelTraining", namespace, NAME) is None, "nothing holds the training"
    if state == "down":
        wait_for(
            lambda: "deletionTimestamp" in (note(api, namespace, uid) or {})["metadata"], GC_SECONDS, what="its end"
        )
        operator()
    (pod,) = wait_for(lambda: removal_pods(api, namespace), GC_SECONDS, what="the pod that removes")
    config = loads(RemovalConfig, environment_of(pod)[CONFIG])
    assert (config.namespace, config.name, config.uid, config.keep_versions) == (namespace, NAME, uid, ())
    assert note(api, namespace, uid) is not None, "it stays until the versions are gone"
    node.play(namespace, containers())
    api.delete("Pod", namespace, pod["metadata"]["name"])
    wait_for(lambda: note(api, namespace, uid) is None, GC_SECONDS, what="the end of the note")
    wait_for(
        lambda: not api.list("Job", namespace) and not removal_pods(api, namespace),
        GC_SECONDS,
        what="the end of its Job",
    )


def test_versions_that_a_deployment_names_are_kept(
    api: Api, node: Node, namespace: str, trained: tuple[OperatorProcess, str]
) -> None:
    _, uid = trained
    api.apply(deployment(namespace))
    wait_for(lambda: is_ready(api.get("ModelDeployment", namespace, NAME)), what="a served version")
    node.play(namespace, waits(containers()))
    api.delete("ModelTraining", namespace, NAME)
    (pod,) = wait_for(lambda: removal_pods(api, namespace), GC_SECONDS, what="the pod that removes")
    assert loads(RemovalConfig, environment_of(pod)[CONFIG]).keep_versions == (version_name(uid, 1),)


def test_without_the_policy_nothing_is_noted_and_taking_it_back_removes_nothing(
    api: Api, node: Node, namespace: str, trained: tuple[OperatorProcess, str]
) -> None:
    _, uid = trained
    made = note(api, namespace, uid)
    assert made is not None
    assert made["metadata"]["finalizers"] == [VERSIONS_FINALIZER]
    assert "finalizers" not in api.get("ModelTraining", namespace, NAME)["metadata"]
    api.delete("ConfigMap", namespace, made["metadata"]["name"])
    wait_for(
        lambda: (note(api, namespace, uid) or made)["metadata"]["uid"] != made["metadata"]["uid"],
        what="a new note in place of the one that somebody deleted",
    )
    api.patch("ModelTraining", namespace, NAME, {"spec": {"deletionPolicy": "Retain"}})
    wait_for(lambda: note(api, namespace, uid) is None, what="the end of the note")
    api.delete("ModelTraining", namespace, NAME)
    wait_for(lambda: not api.list("Job", namespace), GC_SECONDS, what="the end of the run's Job")
    assert removal_pods(api, namespace) == []


def test_a_namespace_that_is_deleted_is_not_held_up(
    api: Api, node: Node, namespace: str, trained: tuple[OperatorProcess, str]
) -> None:
    _, uid = trained
    api.delete("Namespace", None, namespace)
    wait_for(lambda: note(api, namespace, uid) is None, GC_SECONDS, what="the end of the note")
    assert removal_pods(api, namespace) == []


def test_a_removal_that_failed_is_tried_again(
    api: Api, node: Node, namespace: str, trained: tuple[OperatorProcess, str]
) -> None:
    _, uid = trained

    def fails(pod: Object) -> list[Object]:
        return [running(pod), failed(pod, 1)]

    node.play(namespace, fails)
    api.delete("ModelTraining", namespace, NAME)
    wait_for(lambda: len(removal_pods(api, namespace)) >= 2, GC_SECONDS, what="a second attempt")
    assert note(api, namespace, uid) is not None
    # As when its time is over.
    api.delete("Job", namespace, removal_name(NAME, uid))
    node.play(namespace, containers())
    wait_for(lambda: note(api, namespace, uid) is None, GC_SECONDS, what="the end of the note")
