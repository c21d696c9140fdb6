"""A training's Job must not be taken for a CronJob's."""

from datetime import UTC, datetime

from modelloop.api.training import ModelTrainingSpec, Trigger
from modelloop.desired.training import begin_run, build_job
from modelloop.desired.workload import WorkloadSettings

SETTINGS = WorkloadSettings(trainer_image="t", server_image="s", monitor_image="m")


def test_a_job_has_an_owner_but_no_controller_that_a_cron_job_of_the_same_name_could_be_mistaken_for() -> None:
    spec = ModelTrainingSpec.model_validate(
        {"data": {"uri": "builtin://iris", "target": "target"}, "candidates": [{"estimator": "GaussianNB"}]}
    )
    where = {"namespace": "team", "name": "cancer", "uid": "u"}
    run = begin_run(
        spec,
        **where,
        number=1,
        trigger=Trigger(reason="Created"),
        champion=None,
        feedback=None,
        now=datetime(2026, 1, 1, tzinfo=UTC),
    )
    (owner,) = build_job(spec, run, **where, settings=SETTINGS)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("ModelTraining", "u", False)
