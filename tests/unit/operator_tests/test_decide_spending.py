"""What runs cost, and what a budget lets begin."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.contract.result import Usage
from modelloop.api.lifecycle import Budget, Costs, Spending
from modelloop.api.training import ModelTrainingStatus
from modelloop.decide.reasons import ConditionType
from modelloop.decide.results import RESULT_GRACE
from modelloop.decide.spending import MAX_SPENDINGS, find_exhausted, keep_account, measure_cost, price_usage
from tests.unit.operator_tests.operator_states import NOW, ended_pod, pod, result, training_spec
from tests.unit.operator_tests.training_world import TrainingWorld, begun, condition, last, trained

HOUR = timedelta(hours=1)
BUDGET = {"budget": {"cpuHours": 2, "window": "24h"}}


def measured(cpu_hours: float, **fields: object) -> object:
    return result(usage=Usage(cpu_seconds=cpu_hours * 3600, memory_gib_seconds=1800.0), **fields)


def run(world: TrainingWorld, cpu_hours: float) -> None:
    """End the run under way after an hour."""
    world.wait(HOUR)
    world.complete(measured(cpu_hours))  # type: ignore[arg-type]
    world.settle()


# -- cost --------------------------------------------------------------------------------------------------------------


def test_energy_and_emissions_follow_from_the_stated_factors() -> None:
    costs = Costs(
        watts_per_cpu=10, watts_per_gib=0.5, power_usage_effectiveness=1.2, grams_co2e_per_kwh=400,
        price_per_cpu_hour=0.05, price_per_gib_hour=0.01,
    )  # fmt: skip
    cost = price_usage(3 * 3600.0, 8 * 3600.0, costs, estimated=False)
    assert cost.energy_watt_hours == pytest.approx((10 * 3 + 0.5 * 8) * 1.2)
    assert cost.co2e_grams == pytest.approx(cost.energy_watt_hours / 1000 * 400)
    assert cost.price == pytest.approx(3 * 0.05 + 8 * 0.01)
    assert price_usage(3600.0, 0.0, Costs(), estimated=False).price is None


def test_a_run_tells_what_it_used_and_totals_add_up() -> None:
    world = begun()
    run(world, 0.5)
    cost = last(world).cost
    assert cost is not None
    assert (cost.cpu_seconds, cost.memory_gib_seconds, cost.estimated) == (1800, 1800, False)
    world.token = "again"
    world.settle()
    run(world, 1.5)
    total = world.status.total
    assert total is not None
    assert (total.runs, total.cpu_seconds, total.estimated) == (2, 7200, False)
    energies = [record.cost.energy_watt_hours for record in world.status.history if record.cost]
    assert total.energy_watt_hours == pytest.approx(sum(energies), abs=0.01)


def test_a_pod_that_left_no_measurement_counts_with_its_time_by_its_cpus() -> None:
    world = begun(cpus=4.0)
    start = world.now
    world.wait(HOUR)
    world.fail("Killed", 137)
    job = world.job
    (ended,) = world.pods[job]
    told = ended_pod(measured(0.25), 1, name="first", started=start, finished=world.now)  # type: ignore[arg-type]
    world.pods[job] = (replace(ended, started=start, finished=start + HOUR / 2), told)
    world.settle()
    cost = last(world).cost
    assert last(world).verdict == "Failed"
    assert cost is not None
    assert (cost.cpu_seconds, cost.estimated) == (0.25 * 3600 + 4 * 1800, True)


def test_the_users_own_containers_count_with_their_time() -> None:
    world = begun()
    world.wait(HOUR)
    ended = replace(ended_pod(measured(0.5)), steps_seconds=1800.0)  # type: ignore[arg-type]
    assert world.status.run is not None
    observed = replace(world.observe(), pods=(ended,), cpus=2.0, memory_gib=4.0)
    cost = measure_cost(observed, world.status.run, None, NOW)
    assert cost is not None
    assert (cost.cpu_seconds, cost.memory_gib_seconds, cost.estimated) == (1800 + 3600, 1800 + 7200, True)


def test_without_pods_the_time_of_the_job_counts_for_workers_too() -> None:
    world = begun(spec=training_spec(tuning={"parallelism": 3}), cpus=2.0)
    world.wait(HOUR)
    world.end_job("Failed")
    world.lose_pods(world.job)
    world.wait(RESULT_GRACE)
    world.settle()
    cost = last(world).cost
    assert cost is not None
    assert (cost.cpu_seconds, cost.estimated) == (4 * 2 * 3600, True)


def test_a_run_that_never_ran_cost_nothing() -> None:
    world = begun()
    world.pods[world.job] = (pod(waiting_reason="ErrImagePull"),)
    world.edit(training_spec(image="example/other:1"))
    world.settle()
    assert last(world).verdict == "Superseded"
    assert last(world).cost is None
    assert world.status.total is None


@pytest.mark.parametrize("cpu", [float("nan"), -1.0, 1e300])
def test_a_measurement_that_cannot_be_is_replaced_by_an_estimate(cpu: float) -> None:
    world = begun()
    start = world.now
    world.wait(HOUR)
    text = '{"outcome":"Failed","reason":"X","message":"y","usage":{"cpu_seconds":%r}}' % cpu  # noqa: UP031
    world.fail(text.replace("nan", "NaN"), 2)
    (ended,) = world.pods[world.job]
    world.pods[world.job] = (replace(ended, started=start, finished=world.now),)
    world.settle()
    cost = last(world).cost
    assert cost is not None
    assert (cost.cpu_seconds, cost.estimated) == (3600, True)


def test_the_image_that_ran_and_the_revision_are_recorded() -> None:
    world = begun()
    world.complete(result())
    (ended,) = world.pods[world.job]
    world.pods[world.job] = (replace(ended, image_id="example/trainer@sha256:0a"),)
    world.settle()
    assert last(world).image == "example/trainer@sha256:0a"


# -- budget ------------------------------------------------------------------------------------------------------------


def test_a_run_waits_while_the_window_is_spent_and_begins_when_it_is_not() -> None:
    world = begun(spec=training_spec(**BUDGET))
    run(world, 1.5)
    world.token = "second"
    world.settle()
    assert world.status.runs == 2, "a budget that isn't used up lets a run begin"
    run(world, 1.0)
    world.wait(HOUR)
    world.token = "third"
    world.settle()
    assert world.status.runs == 2
    status, reason, message = condition(world, ConditionType.RUN_ALLOWED)
    assert (status, reason) == ("False", "BudgetExhausted")
    assert "used 2.5 of 2 CPU hours" in message
    assert "2026-03-02T13:00:00Z" in message, "when the first run leaves the window"
    assert "spec.budget.cpuHours" in message
    assert condition(world, ConditionType.READY)[0] == "True"
    again = world.reconcile().check_again_after
    assert again == timedelta(hours=22)
    world.wait(again)
    world.settle()
    assert world.status.runs == 3
    assert condition(world, ConditionType.RUN_ALLOWED)[0] == "True"


def test_the_first_run_and_a_raised_budget_are_not_held_back() -> None:
    world = begun(spec=training_spec(budget={"cpuHours": 0.001}))
    run(world, 1.0)
    world.edit(training_spec(budget={"cpuHours": 0.001}, seed=1))
    world.settle()
    assert world.status.runs == 1
    assert condition(world, ConditionType.READY)[1] == "BudgetExhausted"
    world.edit(training_spec(budget={"cpuHours": 3}, seed=1))
    world.settle()
    assert world.status.runs == 2


def test_a_budget_counts_what_ran_before_it_was_stated_and_failures() -> None:
    world = begun()
    start = world.now
    world.wait(3 * HOUR)
    world.fail("", 1)
    (ended,) = world.pods[world.job]
    world.pods[world.job] = (replace(ended, started=start, finished=world.now),)
    world.settle()
    world.edit(training_spec(**BUDGET, seed=1))
    world.settle()
    assert world.status.runs == 1
    world.edit(training_spec(seed=1))
    world.settle()
    assert world.status.runs == 2
    assert world.status.spent == ()


def test_what_waits_for_nothing_says_nothing_of_the_budget() -> None:
    world = trained(spec=training_spec(budget={"cpuHours": 0.001}))
    assert condition(world, ConditionType.RUN_ALLOWED)[0] == "True"


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(st.tuples(st.integers(0, 40_000), st.floats(0, 2)), min_size=1, max_size=90),
    hours=st.floats(0.5, 6),
    limit=st.integers(1, 50),
)
def test_the_account_never_forgives_and_always_frees_up(
    runs: list[tuple[int, float]], hours: float, limit: int
) -> None:
    budget = Budget(cpu_hours=hours, window="24h")
    status, now, true = ModelTrainingStatus(), NOW, []
    world = trained()
    template = last(world)
    for number, (wait, cpu_hours) in enumerate(runs, 1):
        now += timedelta(seconds=wait)
        cost = price_usage(cpu_hours * 3600, 0.0, Costs(), estimated=False)
        record = template.model_copy(update={"number": number, "completion_time": now, "cost": cost})
        true.append((now, cost.cpu_seconds))
        status = status.model_copy(update={"history": (record, *status.history)[:limit]})
        spent = keep_account(budget, status, now)
        status = status.model_copy(update={"spent": spent})
        assert keep_account(budget, status, now) == spent, "a second look changes nothing"
        assert len(spent) <= MAX_SPENDINGS
        used = sum(seconds for time, seconds in true if time > now - 24 * HOUR)
        assert sum(entry.cpu_seconds for entry in spent if entry.time > now - 24 * HOUR) >= used - 0.1
        exhausted = find_exhausted(budget, spent, now)
        if used >= hours * 3600 + 0.1:
            assert exhausted is not None
        if exhausted is not None:
            assert now < exhausted.free_at <= now + 24 * HOUR
            assert find_exhausted(budget, spent, exhausted.free_at) is None


def test_an_account_of_any_content_is_judged() -> None:
    spent = (Spending(number=2, time=NOW, cpu_seconds=0.0), Spending(number=1, time=NOW, cpu_seconds=7200.0))
    exhausted = find_exhausted(Budget(cpu_hours=2), spent, NOW)
    assert exhausted is not None
    assert exhausted.free_at == NOW + 24 * HOUR
