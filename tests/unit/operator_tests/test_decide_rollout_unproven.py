"""A thousand candidates of which nothing is known: none of them is promoted, and none of their rollouts stays."""

import random
from datetime import timedelta

import pytest

from tests.unit.operator_tests.rollout_world import GOOD, STEPS, Behaviour, RolloutWorld, canary, stable

COUNT = 1000
TICK = timedelta(seconds=5)
"""Longer than the interval of the analysis: every tick is a look."""
MOST_TICKS = 100


def roll_out(world: RolloutWorld, number: int) -> None:
    """Have a version come, and let time pass until its rollout is over."""
    world.champion = number
    for _ in range(MOST_TICKS):
        world.wait(TICK)
        world.follow()
        world._serve()
        world.settle(limit=12)
        world.plans.clear()
        if world.status.candidate is None and world.status.history[0].number == number:
            return
    raise AssertionError(f"version {number}: {world.status.rollout}")


@pytest.mark.parametrize(
    ("rate", "behaviour", "reasons"),
    [
        (0, GOOD, {"NoTraffic"}),
        (1, GOOD, {"NoTraffic"}),
        (400, Behaviour(is_nan=True), {"Inconclusive"}),
        (400, Behaviour(errors=100, failure="Incomparable"), {"SuccessRatio"}),
    ],
    ids=["no traffic", "a request at times", "sums that are no numbers", "predictions that are no numbers"],
)
def test_none_of_a_thousand_unproven_candidates_is_promoted(rate: int, behaviour: Behaviour, reasons: set[str]) -> None:
    rng = random.Random(rate)
    world = canary(stepDeadline="20s", analysis={"minRequests": 200})
    world.rate = rate
    rollout = world.spec.rollout.model_dump(by_alias=True, exclude_none=True)
    found = set()
    for number in range(2, 2 + COUNT // 4):
        steps = rng.choices(STEPS[1:] if rng.random() < 0.5 else STEPS, k=rng.randint(1, 3))
        world.edit(rollout=rollout | {"steps": steps})
        world.behaviours = {number: behaviour}
        roll_out(world, number)
        record = world.status.history[0]
        assert (record.result, stable(world)) == ("RolledBack", 1), record
        found.add(record.reason)
    assert found == reasons
