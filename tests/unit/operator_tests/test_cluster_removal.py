"""The note that versions go with their training: what it waits for, and what it never waits for."""

from datetime import timedelta
from typing import Any

import pytest

from modelloop.desired.labels import TRAINING as TRAINING_LABEL
from modelloop.desired.labels import VERSIONS_FINALIZER
from modelloop.desired.names import removal_name
from modelloop.errors import ForbiddenError
from tests.unit.operator_tests.api_server import ApiServer
from tests.unit.operator_tests.whole_operator import TRAINING, Operator, condition, run_cluster

Object = dict[str, Any]
LATE_POD = "late"
LATER = "2026-03-01T13:00:00Z"


def trained() -> tuple[ApiServer, Operator, str]:
    """A training with a champion; the name of its note."""
    server = ApiServer()
    made = server.add({**TRAINING, "spec": {**TRAINING["spec"], "deletionPolicy": "Delete"}})
    operator = Operator(server)
    for _ in range(4):
        operator.work()
        run_cluster(server, operator)
    operator.work()
    assert condition(server, "ModelTraining", "cancer", "Ready")["status"] == "True"
    return server, operator, removal_name("cancer", made["metadata"]["uid"])


def remove(server: ApiServer, operator: Operator, kind: str, name: str) -> None:
    """An object is gone."""
    body = server.objects.pop((kind, "team", name))
    server.version += 1
    body["metadata"]["resourceVersion"] = str(server.version)
    operator.cluster.observe_deletion(kind, body)


def delete(server: ApiServer, operator: Operator, note: str) -> None:
    """The training is gone with its children, and the garbage collector asks for the note's end."""
    for kind, _, name in list(server.objects):
        if kind in ("ModelTraining", "Job", "Pod") and name != LATE_POD:
            remove(server, operator, kind, name)
    changed = server.change("ConfigMap", note, metadata={"deletionTimestamp": LATER})
    operator.cluster.observe("ConfigMap", changed)


def finalizers(server: ApiServer, note: str) -> list[str]:
    found: list[str] = server.objects["ConfigMap", "team", note]["metadata"]["finalizers"]
    return found


def removals(server: ApiServer) -> list[str]:
    return [name for kind, _, name in server.objects if kind == "Job" and name.endswith("-r")]


def test_the_versions_are_removed_when_no_pod_of_a_run_is_left() -> None:
    server, operator, note = trained()
    pod = {
        "kind": "Pod",
        "metadata": {"namespace": "team", "name": LATE_POD, "labels": {TRAINING_LABEL: "cancer"}},
        "spec": {"containers": [{"name": "trainer"}]},
        "status": {"phase": "Running"},
    }
    operator.cluster.observe("Pod", server.add(pod))
    delete(server, operator, note)
    operator.work()
    assert removals(server) == [], "it may still write"
    remove(server, operator, "Pod", LATE_POD)
    operator.work()
    assert removals(server) == [note]
    assert finalizers(server, note) == [VERSIONS_FINALIZER]
    job = server.objects["Job", "team", note]
    done = server.change("Job", note, status={"conditions": [{"type": "Complete", "status": "True"}]})
    assert [owner["kind"] for owner in job["metadata"]["ownerReferences"]] == ["ConfigMap"]
    operator.cluster.observe("Job", done)
    operator.work()
    assert finalizers(server, note) == []


def test_finalizers_of_others_stay() -> None:
    server, operator, note = trained()
    server.change("ConfigMap", note, metadata={"finalizers": ["foregroundDeletion", VERSIONS_FINALIZER]})
    del server.objects["PersistentVolumeClaim", "team", "modelloop-store"]
    delete(server, operator, note)
    operator.work()
    assert finalizers(server, note) == ["foregroundDeletion"], "without the volume there is nothing to remove"
    assert removals(server) == []


def test_a_refused_job_is_tried_again_and_holds_up_no_new_training_of_the_name() -> None:
    server, operator, note = trained()
    delete(server, operator, note)
    server.refused.add(f"Job/{note}")
    new = server.add({**TRAINING, "metadata": {**TRAINING["metadata"], "uid": "another"}})
    operator.cluster.observe("ModelTraining", new)
    operator.work()
    assert removals(server) == []
    assert [key for key in server.objects if key[0] == "Job"], "the new training's run begins"
    server.refused.clear()
    operator.wait(timedelta(seconds=10))
    assert removals(server) == [note]


def test_a_namespace_that_ends_is_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    server, operator, note = trained()
    delete(server, operator, note)

    async def refuse(*_: object) -> None:
        text = (
            f'jobs "{note}" is forbidden: unable to create new content in namespace team because it is being terminated'
        )
        raise ForbiddenError(text, 403)

    monkeypatch.setattr(server, "create", refuse)
    operator.work()
    assert finalizers(server, note) == []
