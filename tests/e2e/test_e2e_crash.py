"""Promise 1 on a node: killing the operator in the middle of a run and of a rollout changes nothing for anybody."""

from typing import Any

from tests.e2e.e2e_manifests import build_deployment, build_training
from tests.e2e.e2e_operator import Operator
from tests.e2e.e2e_space import Space
from tests.e2e.e2e_traffic import Load, read_patients

NAME = "cancer"


def prepare(space: Space) -> None:
    space.apply(build_training(NAME), build_deployment(NAME))


def _running_trainer(space: Space) -> bool:
    return any(pod["status"]["phase"] == "Running" for pod in space.pods("trainer", NAME))


def _version(space: Space, role: str) -> int | None:
    version: dict[str, Any] = space.status("ModelDeployment", NAME).get(role) or {}
    return version.get("number")


def test_an_operator_that_is_killed_in_a_run_and_in_a_rollout_loses_and_repeats_nothing(
    space: Space, operator: Operator
) -> None:
    space.wait_condition("ModelDeployment", NAME)
    first = space.status("ModelDeployment", NAME)["stable"]
    with Load(space.address(NAME), [row for row, _ in read_patients(0, 20)]) as load:
        space.annotate("ModelTraining", NAME, "modelloop.dev/run", "again")
        space.wait(lambda: _running_trainer(space), "the second run's pod")
        operator.crash()
        # Its successor finds the run's result, wherever the run has got to meanwhile, and begins the rollout.
        space.wait(lambda: _version(space, "candidate") == 2, "the candidate")
        operator.kill()
        space.wait(lambda: _version(space, "stable") == 2, "the promotion")
        space.wait(lambda: _version(space, "previous") is None, "the end of the bake time")
        space.wait(lambda: len(space.pods("server", NAME)) == 1, "the end of the old pods")
    load.require_no_failure()
    assert load.tally.versions == {"1", "2"}
    _require_two_runs(space)
    status = space.status("ModelDeployment", NAME)
    assert status["stable"]["digest"] != first["digest"]
    assert not status.get("failed")
    (deployment,) = space.objects("Deployment")
    assert deployment["metadata"]["name"] == status["stable"]["deployment"]
    for kind in ("ModelTraining", "ModelDeployment"):
        space.wait_condition(kind, NAME)


def _require_two_runs(space: Space) -> None:
    status = space.status("ModelTraining", NAME)
    assert status["runs"] == 2
    assert "run" not in status
    assert [(record["number"], record["verdict"]) for record in status["history"]] == [(2, "Approved"), (1, "Approved")]
    jobs = space.objects("Job")
    assert len(jobs) == 2, [job["metadata"]["name"] for job in jobs]
    assert len(space.pods("trainer", NAME)) == 2
