"""Results that are late, lost, odd or too long end in a record that the API server takes."""

import math
from dataclasses import replace

import pytest

from modelloop.decide.conditions import find_condition
from modelloop.decide.reasons import ConditionType
from modelloop.decide.results import RESULT_GRACE
from tests.unit.operator_tests.operator_states import compared, pod, result, training_spec
from tests.unit.operator_tests.training_world import TrainingWorld, begun, condition, last, lenient_json


@pytest.mark.parametrize("state", ["Complete", "Failed"])
@pytest.mark.parametrize("seen", ["running", "not at all"])
def test_a_pods_end_that_arrives_after_its_jobs_end_is_waited_for(state: str, seen: str) -> None:
    world = begun()
    job = world.job
    if seen == "not at all":
        world.lose_pods(job)
    world.end_job(state)
    plan = world.reconcile()
    assert world.status.run is not None, "the pod's watch may be behind the Job's"
    assert plan.check_again_after is not None
    assert plan.check_again_after <= RESULT_GRACE
    if state == "Complete":
        world.complete(result())
    else:
        world.fail('{"outcome":"Failed","reason":"ColumnNotFound","message":"no column"}')
    world.settle()
    assert last(world).reason == ("Approved" if state == "Complete" else "ColumnNotFound")


def test_a_lost_result_is_repeated_once() -> None:
    world = begun()
    for _ in range(2):
        world.lose_pods(world.job)
        world.end_job("Complete")
        world.settle()
        world.wait(RESULT_GRACE)
        world.settle()
    assert world.status.run is None
    assert [record.reason for record in world.status.history] == ["ResultLost", "ResultLost"]
    assert condition(world, ConditionType.READY)[1] == "ResultLost"


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        '{"outcome":"Succeeded","digest":"sha256:00","path":"x","new_key":1}',
        '{"outcome":"Succeeded"}',
        '{"outcome":"Succeeded","path":"models/x","digest":"md5:1"}',
    ],
    ids=["not JSON", "an unknown key", "no digest", "another digest"],
)
def test_a_result_that_breaks_the_contract_fails_the_run_with_the_reason_and_is_not_repeated(text: str) -> None:
    world = begun()
    world.complete(text)
    world.settle()
    assert world.status.run is None
    assert world.status.runs == 1
    assert last(world).verdict == "Failed"
    assert last(world).reason == "InvalidResult"


@pytest.mark.parametrize(
    "fields",
    [
        {"metric": "m" * 65, "metrics": {"m" * 65: 1.0}},
        {"path": "p" * 513},
        {"estimator": "e" * 65},
        {"evaluated_on": "e" * 33},
        {"format": "f" * 33},
        {"task": "t" * 33},
        {"train_rows": -1},
        {"metrics": {"f1": 0.99} | {f"m{n}": 1.0 for n in range(40)}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_result_that_the_api_server_would_refuse_fails_the_run(fields: dict[str, object]) -> None:
    world = begun()
    world.complete(result(**fields))
    world.settle()
    assert last(world).verdict == "Failed"
    assert last(world).reason == "InvalidResult"
    assert next(iter(fields)).split("_", maxsplit=1)[0] in last(world).message


def test_numbers_that_json_does_not_know_are_never_written_to_the_status() -> None:
    world = begun()
    world.complete(lenient_json(result(metrics={"f1": 0.95, "roc_auc": math.nan, "log_loss": math.inf})))
    world.settle()
    assert last(world).metrics == {"f1": 0.95}
    world.edit(training_spec(seed=3))
    world.settle()
    champion = compared(0.1)
    world.complete(lenient_json(result(champion=replace(champion, metrics={"f1": 0.9, "r2": -math.inf}))))
    world.settle()
    assert last(world).champion_metrics == {"f1": 0.9}


def test_a_version_without_its_primary_metric_is_inconclusive_whatever_its_gates_say() -> None:
    world = begun(spec=training_spec(metric="roc_auc"))
    world.complete(result(metric="roc_auc"))
    world.settle()
    assert last(world).verdict == "Inconclusive"
    assert "roc_auc" in last(world).message


@pytest.mark.parametrize("length", [100, 3000, 40_000])
def test_messages_of_any_length_fit_the_status(length: int) -> None:
    text = "ü" * length
    world = begun()
    world.apply_error = text
    world.settle()
    world.apply_error = ""
    world.show(pod(waiting_reason="ErrImagePull", waiting_message=text, image="i" * 500))
    world.settle()
    world.edit(training_spec(retries=1))
    world.settle()
    assert last(world).verdict == "Superseded"
    world.fail('{"outcome":"Failed","reason":"' + "R" * length + '","message":"' + text + '"}')
    world.settle()
    assert len(last(world).message) <= 2048
    assert all(len(item.message) <= 2048 for item in world.status.conditions)


def test_a_spec_that_is_too_large_for_its_pod_begins_no_run_and_says_so() -> None:
    spec = training_spec(candidates=[{"estimator": "LogisticRegression", "params": {"a": "x" * 70_000}}])
    world = TrainingWorld(spec=spec)
    world.settle()
    assert world.status.run is None
    assert world.status.runs == 0
    status, reason, message = condition(world, ConditionType.READY)
    assert (status, reason) == ("False", "InvalidSpec")
    assert "bytes" in message
    assert condition(world, ConditionType.STALLED)[0] == "True"
    world.edit(training_spec())
    world.settle()
    assert world.status.run is not None
    assert find_condition(world.status.conditions, ConditionType.STALLED) is None
