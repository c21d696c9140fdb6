"""Search spaces: what is refused and what is said, and which values each method can try."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import ParameterGrid

from modelkit.contract.config import CandidateConfig
from modelkit.contract.recipe import SearchParameterConfig, SelectionConfig
from modelkit.errors import RefusedError
from modelkit.train.candidates import build_candidates
from modelkit.train.spaces import Dimension, Space, build_spaces, settings_of
from modelkit.train.strategies import build_strategy, share_trials
from tests.unit.train.search_world import candidate, choice, configured, floats, whole


def _spaces(*candidates: CandidateConfig, selection: SelectionConfig | None = None, **tuning: Any) -> list[Space]:
    config = dataclasses.replace(configured(*candidates, **tuning), selection=selection)
    return build_spaces(config, build_candidates(config, "accuracy"))


@pytest.mark.parametrize(
    ("searched", "texts"),
    [
        ([floats("c", 0.1, 1)], ["no such parameter", "did you mean 'C'"]),
        ([floats("C", 1, 0.1)], ["minimum that isn't above its maximum", "1 to 0.1"]),
        ([floats("C", 0, 1, log=True)], ["logarithmic", "above 0; found 0"]),
        ([floats("C", 0.1, 1, log=True, step=0.1)], ["takes no step"]),
        ([floats("C", 0.1, 1, step=0)], ["step above 0"]),
        ([floats("C", 0.1, math.inf)], ["minimum that isn't above"]),
        ([floats("C", -1, 1)], ["can't be used", "'C' parameter of LogisticRegression"]),
        ([whole("max_iter", 0.5, 10)], ["whole numbers", "use Float"]),
        ([choice("C", 1.0, 0.0), choice("C", 2.0)], ["is there twice"]),
        ([choice("C", 1.0, 1.0)], ["lists a value twice"]),
        ([choice("C")], ["must list its values"]),
        ([choice("solver", "lbfgs", "fast")], ["can't be used", "'solver'"]),
        ([SearchParameterConfig(name="C", type="Float", maximum=1)], ["must have minimum and maximum"]),
        ([SearchParameterConfig(name="C", type="Float", values=(1.0,))], ["belong to the type Choice"]),
        ([SearchParameterConfig(name="C", type="Choice", values=(1.0,), minimum=1)], ["no minimum"]),
        ([SearchParameterConfig(name="C", type="Double", minimum=1, maximum=2)], ["Int, Float or Choice", "Double"]),
        ([floats("tol", 1, 2)], ["has a fixed value in params"]),
        ([whole("featureSelection.features", 1, 5)], ["needs a featureSelection"]),
    ],
)
def test_a_bad_space_says_what_to_write_instead(searched: list[SearchParameterConfig], texts: list[str]) -> None:
    with pytest.raises(RefusedError) as refused:
        _spaces(candidate("LogisticRegression", *searched, tol=1e-3))
    assert refused.value.reason == "BadParameter"
    assert refused.value.message.startswith(f"candidate 1: the search of '{searched[0].name}'")
    assert all(text in refused.value.message for text in texts), refused.value.message


@pytest.mark.parametrize(
    ("tuning", "text"),
    [
        ({"method": "Bayes"}, "Grid, Random, Halving, TPE; found 'Bayes'"),
        ({"trials": 0}, "1 to 10,000; found 0"),
        ({"trials": 1}, "at least 2, one for each candidate with a search space; found 1"),
        ({"time_limit_seconds": 0.0}, "time_limit_seconds must be above 0"),
        ({"method": "Halving", "patience": 3}, "doesn't go with Halving"),
    ],
)
def test_a_bad_budget_says_what_to_write_instead(tuning: dict[str, Any], text: str) -> None:
    with pytest.raises(RefusedError) as refused:
        _spaces(candidate("Ridge", floats("alpha", 0, 1)), candidate("Lasso", floats("alpha", 0, 1)), **tuning)
    assert refused.value.reason == "BadTuning"
    assert text in refused.value.message


def test_a_grid_that_is_too_large_is_refused_with_its_size() -> None:
    wide = candidate("RandomForestClassifier", whole("n_estimators", 1, 2_000_000_000), whole("max_depth", 1, 5))
    with pytest.raises(RefusedError, match="the grid has 10,000,000,000 points, more than 10,000"):
        _spaces(wide, method="Grid")


def test_the_number_of_features_is_searched_where_there_is_a_selection() -> None:
    asked = candidate("GaussianNB", whole("featureSelection.features", 2, 4))
    (space,) = _spaces(asked, selection=SelectionConfig(method="AnovaF"))
    assert space[0].grid() == (2, 3, 4)
    assert settings_of({"featureSelection.features": 3, "C": 1.0})["model__C"] == 1.0
    both = candidate("GaussianNB", whole("featureSelection.features", 2, 4), floats("featureSelection.share", 0.1, 1))
    with pytest.raises(RefusedError, match="search one of them"):
        _spaces(both, selection=SelectionConfig(method="AnovaF"))


@pytest.mark.parametrize(
    ("dimension", "points"),
    [
        (Dimension("a", "Int", 2, 5), (2, 3, 4, 5)),
        (Dimension("a", "Int", 1, 1000, log=True), (1, 6, 32, 178, 1000)),
        (Dimension("a", "Int", 1, 3, log=True), (1, 2, 3)),
        (Dimension("a", "Float", 0, 1), (0.0, 0.25, 0.5, 0.75, 1.0)),
        (Dimension("a", "Float", 0.01, 100, log=True), (0.01, 0.1, 1.0, 10.0, 100.0)),
        (Dimension("a", "Float", 3, 3), (3.0,)),
    ],
)
def test_a_grid_has_these_points(dimension: Dimension, points: tuple[float, ...]) -> None:
    assert dimension.grid() == pytest.approx(points)
    assert dimension.grid_size == len(points)
    assert [type(point) for point in dimension.grid()] == [type(point) for point in points]


def test_steps_end_at_or_before_the_maximum() -> None:
    (space,) = _spaces(candidate("Ridge", floats("alpha", 0, 1, step=0.3), whole("max_iter", 10, 50, step=20)))
    assert space[0].grid() == pytest.approx((0.0, 0.3, 0.6, 0.9))
    assert space[1].grid() == (10, 30, 50)


def test_a_grid_is_scikit_learns() -> None:
    config = configured(
        candidate(
            "SVC", choice("kernel", "rbf", "linear"), floats("C", 1, 3, step=1.0), choice("shrinking", True, False)
        ),
        method="Grid",
    )
    spaces = build_spaces(config, build_candidates(config, "accuracy"))
    found = [dict(proposal.params) for proposal in _proposals(config, spaces)]
    expected = list(ParameterGrid({"kernel": ["rbf", "linear"], "C": [1.0, 2.0, 3.0], "shrinking": [True, False]}))
    assert len(found) == len(expected) == 12
    assert all(params in found for params in expected)


def _proposals(config: Any, spaces: list[Space]) -> list[Any]:
    built = build_strategy(config.tuning, spaces, metric="accuracy", seed=config.seed, rows=300, folds=3, classes=2)
    return list(next(built.rounds).proposals)


@given(
    low=st.floats(1e-6, 1e3), width=st.floats(0, 1e3), log=st.booleans(), kind=st.sampled_from(["Int", "Float"]),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_a_draw_is_within_its_bounds_and_of_its_type(low: float, width: float, log: bool, kind: str, seed: int) -> None:
    low, high = (math.ceil(low), math.ceil(low + width)) if kind == "Int" else (low, low + width)
    value = Dimension("a", kind, low, high, log).sample(np.random.default_rng(seed))
    assert low <= value <= high
    assert type(value) is (int if kind == "Int" else float)


def test_logarithmic_draws_are_even_in_the_logarithm() -> None:
    rng = np.random.default_rng(0)
    draws = [Dimension("a", "Float", 1e-4, 1e4, log=True).sample(rng) for _ in range(4000)]
    assert np.mean(np.array(draws) < 1) == pytest.approx(0.5, abs=0.03)
    whole_draws = [Dimension("a", "Int", 1, 100, log=True).sample(rng) for _ in range(4000)]
    assert np.mean(np.array(whole_draws) <= 10) == pytest.approx(np.log(10.5 / 0.5) / np.log(100.5 / 0.5), abs=0.03)


def test_a_random_search_repeats_no_parameter_set() -> None:
    few = configured(candidate("SVC", choice("kernel", "rbf", "linear", "poly"), whole("degree", 2, 3)), trials=50)
    found = _proposals(few, build_spaces(few, build_candidates(few, "accuracy")))
    assert len(found) == 6
    some = configured(candidate("KNeighborsClassifier", whole("n_neighbors", 1, 40)), trials=30)
    drawn = [
        proposal.params["n_neighbors"]
        for proposal in _proposals(some, build_spaces(some, build_candidates(some, "accuracy")))
    ]
    assert len(set(drawn)) == len(drawn) == 30


@given(trials=st.integers(1, 50), wide=st.lists(st.booleans(), min_size=1, max_size=6))
def test_the_budget_is_shared_evenly(trials: int, wide: list[bool]) -> None:
    dimension = Dimension("a", "Float", 0, 1)
    shares = share_trials(trials, [(dimension,) if is_wide else () for is_wide in wide])
    asked = [share for share, is_wide in zip(shares, wide, strict=True) if is_wide]
    assert sum(shares) == (trials if asked else 0)
    assert not asked or max(asked) - min(asked) <= 1
