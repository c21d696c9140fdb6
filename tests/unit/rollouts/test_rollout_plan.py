"""Which rollouts are run, and what counts as their right end."""

from collections import Counter

import pytest

from tests.e2e.e2e_rollout_plan import BAD, GOOD, Scenario, judge_record, plan_rollouts
from tests.e2e.e2e_versions import Kind


@pytest.mark.parametrize(("count", "good"), [(200, 100), (20, 10), (12, 3), (9, 0)])
def test_half_of_the_rollouts_are_good_unless_a_bad_scenario_would_be_left_out(count: int, good: int) -> None:
    names = Counter(scenario.name for scenario, _ in plan_rollouts(count, 0))
    assert names.total() == count
    assert names[GOOD.name] == good
    assert all(names[scenario.name] > 0 for scenario in BAD)


def test_a_seed_says_the_order_and_each_sort_of_version_has_its_turn() -> None:
    assert plan_rollouts(200, 3) == plan_rollouts(200, 3) != plan_rollouts(200, 4)
    assert {kind for _, kind in plan_rollouts(200, 3)} == set(Kind)


@pytest.mark.parametrize(
    ("scenario", "result", "reason", "is_right"),
    [
        (GOOD, "Promoted", "Promoted", True),
        (GOOD, "RolledBack", "LatencyRatio", False),
        (GOOD, "Superseded", "Superseded", False),
        (BAD[1], "RolledBack", "SuccessRatio", True),
        (BAD[1], "RolledBack", "Disagreement", False),
        (BAD[1], "Promoted", "Promoted", False),
        (BAD[1], "Aborted", "Aborted", False),
        (BAD[3], "Failed", "ModelNotLoadable", True),
        (BAD[3], "Unfinished", "", False),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_only_the_end_that_a_version_deserves_is_right(
    scenario: Scenario, result: str, reason: str, is_right: bool
) -> None:
    assert (judge_record(scenario, {"result": result, "reason": reason}) == "") is is_right
