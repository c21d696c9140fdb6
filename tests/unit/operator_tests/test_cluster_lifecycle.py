"""Suspension, workers, approval and records in whole passes over an in-memory API server."""

from datetime import timedelta
from typing import Any

import pytest

from modelkit.contract.codec import loads
from modelkit.contract.config import TrainerConfig
from modelkit.contract.environment import CONFIG
from modelkit.contract.recipe import OriginConfig
from tests.unit.operator_tests.api_server import ApiServer, CrashError
from tests.unit.operator_tests.whole_operator import (
    DEPLOYMENT,
    TRAINING,
    Operator,
    condition,
    essence,
    run_cluster,
    settled,
)

Object = dict[str, Any]


def server_with(metadata: Object | None = None, **spec: Any) -> ApiServer:
    server = ApiServer()
    named = {**TRAINING["metadata"], **(metadata or {})}
    server.add({**TRAINING, "metadata": named, "spec": {**TRAINING["spec"], **spec}})
    return server


def change(server: ApiServer, operator: Operator, **parts: Any) -> None:
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", **parts))
    operator.work()


def jobs(server: ApiServer) -> dict[str, Object]:
    return {name: body for (kind, _, name), body in server.objects.items() if kind == "Job"}


def config_of(job: Object) -> TrainerConfig:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return loads(TrainerConfig, next(entry["value"] for entry in container["env"] if entry["name"] == CONFIG))


def training(server: ApiServer) -> Object:
    status: Object = server.objects["ModelTraining", "team", "cancer"]["status"]
    return status


def test_a_suspended_run_keeps_its_job_and_goes_on_in_it() -> None:
    server = server_with()
    operator = Operator(server)
    operator.work()
    (name,) = jobs(server)
    change(server, operator, spec={"suspend": True})
    assert jobs(server)[name]["spec"]["suspend"] is True
    count = len(server.writes)
    operator.work()
    operator.wait(timedelta(hours=1))
    assert server.writes[count:] == []
    change(server, operator, spec={"suspend": False})
    assert jobs(server)[name]["spec"]["suspend"] is False
    settled(server, operator)
    assert training(server)["champion"]["number"] == 1


def test_a_queued_job_is_never_started_by_the_operator() -> None:
    server = server_with(queueName="team", tuning={"parallelism": 2})
    operator = Operator(server)
    operator.work()
    (name,) = jobs(server)
    operator.wait(timedelta(hours=1))
    assert jobs(server)[name]["spec"]["suspend"] is True
    assert condition(server, "ModelTraining", "cancer", "Ready")["reason"] == "Queued"
    operator.cluster.observe("Job", server.change("Job", name, spec={"suspend": False}))
    operator.work()
    workers = jobs(server)[f"{name}-w"]
    assert workers["spec"]["suspend"] is True, "the queue starts them too"
    assert workers["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    change(server, operator, spec={"suspend": True})
    assert jobs(server) == {}
    change(server, operator, spec={"suspend": False})
    assert jobs(server)[name]["spec"]["suspend"] is True


def run_trainers(server: ApiServer, operator: Operator) -> None:
    """As the cluster does, but workers don't end by themselves."""
    workers = {name: body for name, body in jobs(server).items() if name.endswith("-w")}
    for name in workers:
        del server.objects["Job", "team", name]
    run_cluster(server, operator)
    for name, body in workers.items():
        server.objects["Job", "team", name] = body


def test_a_crash_after_any_write_leaves_no_worker_behind_and_none_out() -> None:
    def live(crash_after: int | None) -> ApiServer:
        server = server_with(tuning={"parallelism": 3})
        server.crash_after = crash_after
        operator = Operator(server)
        for _ in range(2):
            try:
                operator.work()
                run_trainers(server, operator)
                operator.work()
                break
            except CrashError:
                operator = Operator(server)
        operator.see()
        operator.work()
        run_trainers(server, operator)
        operator.work()
        return server

    reference = live(None)
    assert any(write.startswith("create Job") and write.endswith("-w") for write in reference.writes)
    assert list(jobs(reference)) == [name for name in jobs(reference) if not name.endswith("-w")]
    assert training(reference)["champion"]["number"] == 1
    for crash_after in range(1, len(reference.writes) + 1):
        assert essence(live(crash_after)) == essence(reference), f"after write {crash_after}"


def test_an_approval_by_annotation_makes_the_champion_once() -> None:
    server = server_with(approval="Manual")
    operator = Operator(server)
    settled(server, operator)
    assert "champion" not in training(server)
    change(server, operator, metadata={"annotations": {"modelloop.dev/approve": "1"}})
    assert training(server)["champion"]["number"] == 1
    count = len(server.writes)
    restarted = Operator(server)
    restarted.work()
    assert server.writes[count:] == []


@pytest.mark.parametrize("place", ["annotations", "labels"])
def test_image_and_revision_are_told_to_the_trainer_and_recorded(place: str) -> None:
    server = server_with({place: {"modelloop.dev/revision": "main-0a1b2c"}})
    operator = Operator(server)
    settled(server, operator)
    (job,) = jobs(server).values()
    assert config_of(job).origin == OriginConfig(image="example/trainer:1", revision="main-0a1b2c")
    assert training(server)["history"][0]["revision"] == "main-0a1b2c"


def test_a_trainer_is_told_to_keep_what_deployments_serve_even_of_a_training_they_left() -> None:
    server = server_with(historyLimit=1)
    server.add(DEPLOYMENT)
    operator = Operator(server)
    settled(server, operator)
    other = {**TRAINING, "metadata": {**TRAINING["metadata"], "name": "other"}}
    server.change("ModelDeployment", "cancer", spec={"trainingRef": {"name": "nowhere"}})
    server.add(other)
    operator.see()
    operator.work()
    for number in (2, 3):
        change(server, operator, metadata={"annotations": {"modelloop.dev/run": str(number)}})
        settled(server, operator)
    assert [record["number"] for record in training(server)["history"]] == [3]
    newest = [config_of(job) for job in jobs(server).values() if config_of(job).number == 3]
    assert newest[0].keep_versions == ("1-x", "2-x")
    assert server.objects["ModelDeployment", "team", "cancer"]["status"]["stable"]["number"] == 1
