"""A cut of the loop's benchmark: the real monitor, decision and trainer on a few windows of a world that changes."""

import numpy as np
import pytest

from bench.loop import MONITOR, find_delays
from bench.loop_monitor import Course, run_every, run_loop, run_plan
from bench.loop_streams import NONE, SOURCE, SUDDEN, Plan, Stream
from bench.loop_training import Training
from modelloop.api.training import ModelTrainingSpec

TREE = ModelTrainingSpec.model_validate(
    {
        "data": {"uri": "pvc://stream/source.parquet", "target": "target"},
        "candidates": [{"estimator": "DecisionTreeClassifier", "params": {"max_depth": 4}}],
        "metric": "accuracy",
    }
)
WINDOW, SERVED = 200, 12


def draw(seed: int, *, changing: bool) -> Stream:
    """A threshold in the first of three features, a tenth of the labels wrong; it moves after half of the windows."""
    generator = np.random.default_rng(seed)
    count = (SOURCE + SERVED) * WINDOW
    rows = generator.random((count, 3))
    moved = (np.arange(count) >= (SOURCE + SERVED // 2) * WINDOW) & changing
    labels = (rows[:, 0] > np.where(moved, 0.8, 0.4)).astype(np.int64) ^ (generator.random(count) < 0.1)
    plan = Plan("cut", SUDDEN if changing else NONE, (0.5,) if changing else (), window=WINDOW)
    return Stream(plan, seed, rows, labels)


def test_the_loop_finds_a_change_at_once_and_is_as_good_as_retraining_every_window() -> None:
    stream = draw(1, changing=True)
    course = run_loop(stream, Training(stream, TREE), MONITOR)
    assert find_delays(course, stream.changes) == [0]
    assert len(course.retrains) <= 2
    every = run_every(stream, Training(stream, TREE), 2)
    never = run_plan(stream, Training(stream, TREE), {})
    assert course.mean >= 0.99 * every.mean
    assert course.mean > never.mean + 0.1


@pytest.mark.parametrize("seed", range(3))
def test_a_steady_stream_is_left_alone(seed: int) -> None:
    stream = draw(seed, changing=False)
    course = run_loop(stream, Training(stream, TREE), MONITOR)
    assert course.retrains == []
    assert len(course.accuracy) == SERVED


def test_a_delay_is_counted_from_each_change_to_the_first_retrain_before_the_next() -> None:
    assert find_delays(Course(retrains=[3, 12, 13]), (10, 20)) == [2, None]
    assert find_delays(Course(retrains=[3]), ()) == []
