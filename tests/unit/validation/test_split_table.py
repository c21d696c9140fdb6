"""Splits: seeded, stratified, by group or by time, with a validation part; and captured rows beside them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from modelkit.artifact.signature import InputColumn
from modelkit.contract.config import CandidateConfig, DataConfig, FeedbackConfig, StoreConfig, TrainerConfig
from modelkit.contract.recipe import SplitConfig
from modelkit.data.dataset import Dataset
from modelkit.data.split import Split, split_table
from modelkit.errors import RefusedError
from modelkit.train.feedback import Feedback
from modelkit.train.parts import divide

RNG = np.random.default_rng(1)
ROWS = 400
LABELS = RNG.choice(np.array(["a", "b"], object), ROWS, p=[0.8, 0.2])
GROUPS = RNG.integers(0, 40, ROWS)
TIMES = RNG.permutation(ROWS).astype(np.float64) // 3


def _split(config: SplitConfig | None = None, stratify: bool = True, seed: int = 0, **columns: Any) -> Split:
    return split_table(LABELS, config, 0.25, seed, stratify=stratify, **columns)


def _whole(split: Split, rows: int = ROWS) -> None:
    parts = [split.train, split.test] + ([] if split.validation is None else [split.validation])
    assert sorted(np.concatenate(parts).tolist()) == list(range(rows))


@pytest.mark.parametrize(("method", "stratify"), [("Random", None), ("Stratified", LABELS), ("Auto", LABELS)])
def test_random_and_stratified_splits_are_scikit_learns(method: str, stratify: Any) -> None:
    found = _split(SplitConfig(method=method), seed=5)
    train, test = train_test_split(np.arange(ROWS), test_size=0.25, random_state=5, stratify=stratify)
    assert found.train.tolist() == train.tolist()
    assert found.test.tolist() == test.tolist()
    assert found.validation is None


def test_a_validation_part_is_a_share_of_all_rows() -> None:
    found = _split(SplitConfig(validation_fraction=0.2))
    _whole(found)
    assert found.validation is not None
    assert (len(found.train), len(found.validation), len(found.test)) == (220, 80, 100)
    assert np.mean(LABELS[found.validation] == "b") == pytest.approx(np.mean(LABELS == "b"), abs=0.01)


@pytest.mark.parametrize("validation", [0.0, 0.2])
@pytest.mark.parametrize("stratify", [True, False])
def test_groups_stay_whole_and_the_share_is_about_the_wanted(validation: float, stratify: bool) -> None:
    found = _split(SplitConfig(validation_fraction=validation), stratify, groups=GROUPS)
    _whole(found)
    sides = [found.train, found.test] + ([] if found.validation is None else [found.validation])
    for index, side in enumerate(sides):
        for other in sides[index + 1 :]:
            assert not set(GROUPS[side].tolist()) & set(GROUPS[other].tolist())
    assert len(found.test) == pytest.approx(100, abs=10)
    if stratify:
        assert np.mean(LABELS[found.test] == "b") == pytest.approx(np.mean(LABELS == "b"), abs=0.02)
    again = _split(SplitConfig(validation_fraction=validation), stratify, groups=GROUPS)
    assert again.test.tolist() == found.test.tolist()
    other = _split(SplitConfig(validation_fraction=validation), stratify, seed=1, groups=GROUPS)
    assert other.test.tolist() != found.test.tolist()


@settings(deadline=None, max_examples=50)
@given(groups=st.lists(st.integers(0, 6), min_size=10, max_size=50), seed=st.integers(0, 9))
def test_no_group_is_on_two_sides_whatever_their_sizes(groups: list[int], seed: int) -> None:
    keys = np.array(groups)
    assume(len(set(groups)) > 1)
    found = split_table(np.arange(len(keys)) * 1.0, None, 0.3, seed, stratify=False, groups=keys)
    _whole(found, len(keys))
    assert len(found.train)
    assert len(found.test)
    assert not set(keys[found.train].tolist()) & set(keys[found.test].tolist())


@settings(deadline=None, max_examples=50)
@given(times=st.lists(st.integers(0, 9), min_size=4, max_size=60), fraction=st.sampled_from([0.1, 0.2, 0.5]))
def test_by_time_the_newest_are_the_test_part_and_ties_stay_together(times: list[int], fraction: float) -> None:
    moments = np.array(times, np.float64)
    assume(len(set(times)) > 1)
    found = split_table(moments, SplitConfig(method="Time"), fraction, 0, stratify=False, times=moments)
    _whole(found, len(moments))
    assert moments[found.train].max() < moments[found.test].min()
    assert np.all(np.diff(moments[found.train]) >= 0)
    most = max(times.count(value) for value in times)
    assert abs(len(found.test) - fraction * len(times)) <= most


def test_by_time_the_validation_part_lies_between() -> None:
    found = _split(SplitConfig(validation_fraction=0.2), times=TIMES, groups=GROUPS)
    assert found.validation is not None
    assert TIMES[found.train].max() < TIMES[found.validation].min()
    assert TIMES[found.validation].max() < TIMES[found.test].min()
    assert len(found.validation) == pytest.approx(80, abs=3)


@pytest.mark.parametrize(
    ("config", "columns", "reason", "text"),
    [
        (SplitConfig(method="Group"), {}, "BadSplit", "name one in data.group"),
        (SplitConfig(method="Time"), {}, "BadSplit", "name one in data.time"),
        (SplitConfig(method="Stratified"), {"stratify": False}, "BadSplit", "use Random"),
        (SplitConfig(method="Sorted"), {}, "BadSplit", "'Sorted' is unknown"),
        (SplitConfig(validation_fraction=0.75), {}, "BadSplit", "leave nothing to learn from"),
        (None, {"groups": np.zeros(ROWS, int)}, "TooFewGroups", "all 400 rows are of one group"),
        (None, {"times": np.zeros(ROWS)}, "TooFewTimes", "too few different values"),
        (None, {"times": np.where(LABELS == "a", 0.0, 1.0)}, "TooFewRows", "leaves 1 of 2 classes"),
        (None, {"groups": (LABELS == "a").astype(int)}, "TooFewRows", "leaves 1 of 2 classes"),
    ],
)
def test_an_impossible_split_says_what_to_do(config: Any, columns: dict[str, Any], reason: str, text: str) -> None:
    with pytest.raises(RefusedError) as refused:
        _split(config, **columns)
    assert refused.value.reason == reason
    assert text in refused.value.message


def _config(**changes: Any) -> TrainerConfig:
    return TrainerConfig(
        namespace="n",
        name="m",
        number=1,
        version="1-a",
        trigger="Created",
        store=StoreConfig(uri="file:///tmp"),
        data=DataConfig(uri="x", display_uri="x", target="y"),
        candidates=(CandidateConfig(estimator="Ridge"),),
        **changes,
    )


WEIGHTS = RNG.uniform(1, 2, ROWS)
FRAME = pd.DataFrame({"x": RNG.normal(size=ROWS)})
DATASET = Dataset(
    frame=FRAME,
    columns=(InputColumn(name="x", dtype="float64", kind="numeric", nullable=False),),
    target=np.where(LABELS == "a", 0, 1),
    classes=(0, 1),
    notes=(),
    weights=WEIGHTS,
    groups=GROUPS,
    times=TIMES,
)


def _feedback(rows: int) -> Feedback:
    return Feedback(pd.DataFrame({"x": np.arange(rows) * 1.0}), np.arange(rows) % 2, rows, ())


def _since(policy: str) -> FeedbackConfig:
    moment = pd.Timestamp("2026-01-01", tz="UTC").to_pydatetime()
    return FeedbackConfig(deployment="d", since=moment, until=moment, policy=policy)


def test_weights_groups_and_times_follow_their_rows() -> None:
    parts = divide(DATASET, None, _config(split=SplitConfig(method="Group", validation_fraction=0.2)))
    assert parts.validation is not None
    for part in (parts.train, parts.validation, parts.evaluation):
        assert not any(values is None for values in (part.weights, part.groups, part.times))
        places = [int(np.flatnonzero(FRAME["x"] == row)[0]) for row in np.ravel(part.rows)]
        assert part.take(np.arange(2)).rows.tolist() == FRAME["x"].to_numpy()[places[:2], None].tolist()
        for found, known in ((part.weights, WEIGHTS), (part.groups, GROUPS), (part.times, TIMES)):
            assert found.tolist() == known[places].tolist()


@pytest.mark.parametrize("rows", [10, 100])
def test_captured_rows_weigh_1_are_groups_of_their_own_and_the_newest(rows: int) -> None:
    parts = divide(DATASET, _feedback(rows), _config(feedback=_since("Append")))
    train = parts.train
    learnt = rows if rows == 10 else 60
    assert not any(values is None for values in (train.weights, train.groups, train.times))
    assert np.all(train.weights[-learnt:] == 1.0)
    assert len(set(train.groups[-learnt:].tolist())) == learnt
    assert not set(train.groups[-learnt:].tolist()) & set(GROUPS.tolist())
    assert train.times[-learnt:].min() > TIMES.max()
    assert parts.evaluated_on == ("Test" if rows == 10 else "Recent")
    if rows == 100:  # by time: the newest captured rows judge
        assert np.ravel(parts.evaluation.rows).tolist() == list(range(60, 100))


def test_captured_rows_alone_say_that_folds_rank_the_trials() -> None:
    dataset = replace(DATASET, weights=None, groups=None, times=None)
    config = _config(feedback=_since("Window"), split=SplitConfig(validation_fraction=0.2))
    parts = divide(dataset, _feedback(100), config)
    assert parts.validation is None
    assert any("cross-validation ranked the trials" in note for note in parts.notes)
    assert divide(dataset, _feedback(100), replace(config, feedback=_since("Append"))).validation is not None
