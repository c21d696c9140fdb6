"""Searches against scikit-learn's own, and the same result on any number of cores."""

import dataclasses
import math
import time
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - makes the next import possible
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from modelkit.data.columns import take
from modelkit.errors import RefusedError
from modelkit.train.parts import Labelled, Parts
from modelkit.train.pools import LocalPool, Processes
from modelkit.train.progress import Progress
from modelkit.train.search import build_problem, fit
from modelkit.train.strategies import TPE_BATCH, plan_halving
from modelkit.train.trials import Job, Outcome, score
from tests.unit.train.search_world import (
    FOLDS,
    ROWS,
    TARGET,
    built,
    candidate,
    choice,
    configured,
    floats,
    params_of,
    searched,
    told,
    whole,
)

TREES = candidate("DecisionTreeClassifier", whole("max_depth", 1, 8), floats("min_samples_leaf", 0.01, 0.2))
LOGISTIC = candidate("LogisticRegression", floats("C", 1e-3, 1e2, log=True))


def test_a_grid_search_ranks_as_scikit_learns() -> None:
    config = configured(candidate("LogisticRegression", floats("C", 0.01, 100, log=True)), method="Grid")
    found = searched(config, cores=2).trials
    pipeline = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression(random_state=7))])
    oracle = GridSearchCV(pipeline, {"model__C": [0.01, 0.1, 1.0, 10.0, 100.0]}, cv=FOLDS, scoring="accuracy")
    oracle.fit(ROWS, TARGET)
    by_value = dict(zip([entry["model__C"] for entry in oracle.cv_results_["params"]], range(5), strict=True))
    for trial in found:
        place = _nearest(by_value, trial)
        assert trial.scores == pytest.approx(
            [oracle.cv_results_[f"split{fold}_test_score"][place] for fold in range(3)]
        )
        assert trial.mean == pytest.approx(oracle.cv_results_["mean_test_score"][place])
    assert found[0].mean == pytest.approx(oracle.best_score_)


def _nearest(by_value: dict[float, int], trial: Any) -> int:
    return by_value[min(by_value, key=lambda value: abs(math.log(value / trial.candidate.params["C"])))]


@pytest.mark.filterwarnings("ignore")
def test_a_halving_is_scikit_learns() -> None:
    config = configured(TREES, method="Halving", trials=20)
    found = searched(config).trials
    first = searched(configured(TREES, trials=20)).trials  # the same draws, in one round
    grid = [{f"model__{name}": [value] for name, value in params.items()} for params in params_of(first)]
    grid.sort(key=lambda entry: str(entry))
    oracle = HalvingGridSearchCV(
        Pipeline([("scale", StandardScaler()), ("model", DecisionTreeClassifier(random_state=7))]),
        grid, cv=FOLDS, factor=3, min_resources="exhaust", scoring="accuracy", random_state=7, refit=False,
    )  # fmt: skip
    oracle.fit(ROWS, TARGET)
    plan = plan_halving(20, len(TARGET), 3, 2)
    assert list(plan.rows) == oracle.n_resources_
    assert list(plan.trials) == oracle.n_candidates_
    assert [trial.level for trial in found] == [2] * 3 + [1] * 4 + [0] * 13
    results = oracle.cv_results_
    scores: dict[tuple[int, str], float] = {}
    for place, params in enumerate(results["params"]):
        scores[results["iter"][place], str(sorted(params.items()))] = results["mean_test_score"][place]
    last = [key for key in scores if key[0] == 2]
    assert found[0].mean == pytest.approx(max(scores[key] for key in last))
    found_scores = {
        (
            trial.level,
            str(sorted((f"model__{name}", value) for name, value in trial.candidate.params.items())),
        ): trial.mean
        for trial in found
    }
    common = [key for key in found_scores if key in scores]  # ties at the edge of a round may go either way
    assert len(common) >= 16
    assert [found_scores[key] for key in common] == pytest.approx([scores[key] for key in common])


@pytest.mark.parametrize("trials", [1, 2, 3, 9, 27, 81, 200, 243])
@pytest.mark.parametrize("rows", [40, 300, 10_000])
def test_a_halvings_rounds_are_scikit_learns(trials: int, rows: int) -> None:
    plan = plan_halving(trials, rows, 3, 2)
    required = 1 + max(power for power in range(9) if 3**power <= trials)
    assert plan.trials[0] == trials
    assert plan.rows[0] == max(12, rows // 3 ** (required - 1))
    assert plan.rows[-1] <= rows
    assert len(plan.trials) <= required
    assert all(math.ceil(one / 3) == other for one, other in zip(plan.trials, plan.trials[1:], strict=False))


@pytest.mark.parametrize("method", ["Grid", "Random", "Halving", "TPE"])
def test_the_number_of_cores_changes_nothing(method: str) -> None:
    shallow = candidate("DecisionTreeClassifier", whole("max_depth", 1, 8))
    config = configured(LOGISTIC, shallow, candidate("GaussianNB"), method=method, trials=12)
    one, two, three = (told(searched(config, cores)) for cores in (1, 2, 3))
    assert one == two == three
    assert len(one) == {"Grid": 5 + 8 + 1, "Random": 13, "Halving": 13, "TPE": 13}[method]
    assert told(searched(dataclasses.replace(config, seed=8))) != one or method == "Grid"


def test_processes_give_what_threads_give() -> None:
    _, problem = built(configured(LOGISTIC))
    jobs = [Job(0, {"model__C": value}, fold) for value in (0.1, 1.0) for fold in range(3)]
    processes = Processes.start(problem, 2)
    assert processes is not None
    try:
        found = [future.result() for future in [processes.submit(job) for job in jobs]]
    finally:
        processes.close()
    assert [outcome.score for outcome in found] == [score(problem, job).score for job in jobs]


class _Hindered(LocalPool):
    """As if threads had hindered each other from the first fit on."""

    def tell(self, left: int) -> None:
        self._wall -= 100
        super().tell(left + 1000)


def test_a_search_moves_to_processes_where_threads_hinder_each_other() -> None:
    config = configured(LOGISTIC, trials=6)
    pools: list[LocalPool] = []

    def opened(problem: Any) -> LocalPool:
        pools.append(_Hindered(problem, 2, room=lambda: 10**12))
        return pools[0]

    assert told(searched(config, pool=opened)) == told(searched(config))
    assert pools[0]._processes is not None


def test_a_search_stays_in_threads_without_memory_for_processes() -> None:
    pools: list[LocalPool] = []

    def opened(problem: Any) -> LocalPool:
        pools.append(_Hindered(problem, 2, room=lambda: 10**8))
        return pools[0]

    searched(configured(LOGISTIC, trials=6), pool=opened)
    assert pools[0]._processes is None


def test_tpe_learns_where_the_optimum_is() -> None:
    config = configured(candidate("LogisticRegression", floats("C", 1e-8, 1e4, log=True)), method="TPE", trials=40)
    found = searched(config, metric="log_loss").trials
    values = {trial.candidate.params["C"]: trial for trial in found}
    order = sorted(found, key=lambda trial: list(values).index(trial.candidate.params["C"]))
    assert order[0].mean == min(trial.mean for trial in found)
    random = searched(configured(config.candidates[0], trials=40), metric="log_loss").trials
    near = [abs(math.log10(trial.candidate.params["C"] / 0.3)) < 1.5 for trial in found]
    assert sum(near) > sum(abs(math.log10(trial.candidate.params["C"] / 0.3)) < 1.5 for trial in random)
    assert TPE_BATCH == 8


def test_ties_keep_the_order_of_the_specification() -> None:
    found = searched(configured(candidate("GaussianNB"), candidate("GaussianNB"), candidate("GaussianNB")), cores=3)
    assert [trial.candidate.index for trial in found.trials] == [0, 1, 2]


def test_a_trial_that_cant_be_fitted_is_recorded_and_loses() -> None:
    solvers = candidate(
        "LogisticRegression", choice("solver", "newton-cholesky", "lbfgs"), choice("l1_ratio", 1.0, 0.0)
    )
    found = searched(configured(solvers, method="Grid"))
    failed = [trial for trial in found.trials if trial.error is not None]
    assert [dict(trial.candidate.params)["l1_ratio"] for trial in failed] == [1.0, 1.0]
    assert found.trials[-2:] == failed
    assert math.isnan(failed[0].mean)
    assert found.notes[0].startswith("2 of 4 trials couldn't be used; the first: candidate 1 (LogisticRegression)")


def test_a_search_without_any_fit_is_refused() -> None:
    broken = candidate("KNeighborsClassifier", whole("n_neighbors", 250, 260))
    with pytest.raises(RefusedError, match=r"none of 5 trials could be used; the first: candidate 1 \(KNeighbors"):
        searched(configured(broken, trials=5))


def test_a_search_ends_when_patience_does_whatever_the_cores() -> None:
    config = configured(candidate("DecisionTreeClassifier", whole("max_depth", 1, 40)), trials=40, patience=5)
    one, two = searched(config, 1), searched(config, 3)
    assert told(one) == told(two)
    assert len(one.trials) < 40
    assert "after 5 trials without a better one" in one.notes[0]
    unlimited = searched(dataclasses.replace(config, tuning=dataclasses.replace(config.tuning, patience=None)))
    assert told(one)[0] in told(unlimited)


class _Slow(LocalPool):
    def submit(self, job: Job) -> "Future[Outcome]":
        time.sleep(0.02)
        return super().submit(job)


@pytest.mark.parametrize("method", ["Random", "Halving", "TPE"])
def test_no_trial_begins_after_the_time_limit_but_one_is_done(method: str) -> None:
    config = configured(TREES, method=method, trials=500, time_limit_seconds=0.3)
    found = searched(config, pool=lambda problem: _Slow(problem, 1))
    assert 1 <= len(found.trials) < 100
    assert all(len(trial.scores) == 3 for trial in found.trials)
    assert "at its time limit of 0.3 s" in found.notes[0]
    least = searched(dataclasses.replace(config, tuning=dataclasses.replace(config.tuning, time_limit_seconds=1e-9)))
    assert len(least.trials) == 1


def test_a_validation_part_ranks_instead_of_folds_and_is_learnt_from_in_the_end() -> None:
    config = configured(LOGISTIC, method="Grid")
    trials, _ = built(config)
    train, validation = np.arange(200), np.arange(200, 300)
    parts = Parts(
        train=Labelled(ROWS[train], TARGET[train]),
        evaluation=Labelled(ROWS[:1], TARGET[:1]),
        evaluation_frame=None,  # type: ignore[arg-type]
        evaluated_on="Test",
        source_test=None,
        profiled=ROWS,
        validation=Labelled(ROWS[validation], TARGET[validation]),
    )
    problem = build_problem(trials, parts, (0, 1), "accuracy", config)
    found = searched(config, rows=problem.rows, target=problem.target, folds=problem.folds).trials
    for trial in found:
        pipeline = trial.pipeline.fit(ROWS[train], TARGET[train])
        assert trial.scores == (pytest.approx(pipeline.score(take(ROWS, validation), TARGET[validation])),)
    final = fit(found[0], problem.rows, problem.target)
    assert np.array_equal(final.predict_proba(ROWS), found[0].pipeline.fit(ROWS, TARGET).predict_proba(ROWS))


def test_weights_are_learnt_from_and_scored_by() -> None:
    weights = np.random.default_rng(0).uniform(0.1, 5, len(TARGET))
    (trial,) = searched(configured(candidate("LogisticRegression")), weights=weights).trials
    for (train, test), found in zip(FOLDS, trial.scores, strict=True):
        pipeline = trial.pipeline.fit(ROWS[train], TARGET[train], model__sample_weight=weights[train])
        assert found == pytest.approx(pipeline.score(ROWS[test], TARGET[test], sample_weight=weights[test]))


def test_progress_tells_trials_the_best_score_and_the_time_left() -> None:
    progress = Progress()
    progress.enter("Searching")
    read = progress.registry.get_sample_value
    assert math.isnan(read("modelloop_training_eta_seconds") or 0)
    found = searched(configured(LOGISTIC, trials=10), progress=progress)
    assert read("modelloop_training_trials_done") == read("modelloop_training_trials_total") == 10
    assert read("modelloop_training_fits_done") == read("modelloop_training_fits_total") == 30
    assert read("modelloop_training_best_score") == found.trials[0].mean
    assert read("modelloop_training_progress_ratio") == pytest.approx(0.8)
    assert 0 < (read("modelloop_training_eta_seconds") or 0) < 5  # the final fit is left
    progress.enter("Done")
    assert read("modelloop_training_eta_seconds") == 0
