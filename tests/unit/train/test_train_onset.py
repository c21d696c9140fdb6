"""Captured rows that are older than a change: found by the answers that were given to them, and left out."""

import numpy as np
import pandas as pd
import pytest

from modelkit.contract.config import DataConfig
from modelkit.data.dataset import Dataset, build_dataset
from modelkit.train.feedback import FEWEST_SINCE, count_older
from modelkit.train.onset import FEWEST, find_onset


def draw_errors(rates: list[tuple[int, float]], seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.concatenate([generator.random(count) < rate for count, rate in rates]).astype(float)


@pytest.mark.parametrize("rate", [0.02, 0.2, 0.5])
def test_rows_without_a_change_are_hardly_ever_left_out(rate: float) -> None:
    found = [find_onset(draw_errors([(500, rate)], seed)) for seed in range(400)]
    assert np.count_nonzero(found) <= 2


def test_the_rows_before_a_sudden_change_are_left_out_to_within_a_few() -> None:
    found = np.array([find_onset(draw_errors([(250, 0.05), (250, 0.5)], seed)) for seed in range(100)])
    assert np.mean(np.abs(found - 250) <= 10) > 0.9


def test_a_model_that_becomes_better_and_one_with_few_rows_tell_nothing() -> None:
    assert find_onset(draw_errors([(250, 0.5), (250, 0.05)], 1)) == 0
    assert find_onset(np.array([0.0] * FEWEST + [1.0] * (FEWEST - 1))) == 0
    assert find_onset(np.zeros(100)) == 0


def test_errors_of_a_regression_that_grow_are_a_change_too() -> None:
    errors = np.abs(np.random.default_rng(3).normal(size=400)) * np.where(np.arange(400) < 200, 1.0, 4.0)
    assert abs(find_onset(errors) - 200) <= 20


def build(labels: list[str]) -> Dataset:
    frame = pd.DataFrame({"x": np.arange(float(len(labels))), "y": labels})
    return build_dataset(frame, DataConfig(uri="builtin://none", display_uri="none", target="y"), "Classification")


def answer(before: int, after: int) -> tuple["pd.Series[str]", "pd.Series[str]"]:
    """Answers that are right `before` a change and wrong `after` it, and the labels."""
    return pd.Series(["a"] * (before + after)), pd.Series(["a"] * before + ["b"] * after)


def test_only_the_first_version_is_asked_when_the_change_came() -> None:
    dataset = build(["a", "b"] * 20)
    answers, labels = answer(200, 200)
    both = pd.Series(["one"] * 400)
    assert count_older(answers, labels, both, dataset) == 200
    # The second version answers well: what it said after the change hides nothing and shows nothing.
    versions = pd.Series(["one"] * 300 + ["two"] * 100)
    assert count_older(answers, labels.mask(labels.index >= 300, "a"), versions, dataset) == 200
    assert count_older(answers, labels, pd.Series(["one"] * 200 + ["two"] * 200), dataset) == 0


def test_too_few_rows_since_a_change_leave_the_older_ones_in() -> None:
    dataset = build(["a", "b"] * 20)
    assert count_older(*answer(300, FEWEST_SINCE - 1), pd.Series(["one"] * (299 + FEWEST_SINCE)), dataset) == 0
    assert count_older(*answer(300, FEWEST_SINCE), pd.Series(["one"] * (300 + FEWEST_SINCE)), dataset) == 300
    empty = pd.Series([], dtype=object)
    assert count_older(empty, empty, empty, dataset) == 0
