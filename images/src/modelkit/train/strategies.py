"""Which parameter sets are tried, in which order: grid, random, successive halving, TPE.

A strategy is a generator of rounds that is sent the scores of each round before it gives the next. It knows nothing of
cores, pods and clocks, so that the same scores always lead to the same trials.
"""

import itertools
import math
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit.contract.codec import dumps
from modelkit.contract.metrics import LOWER_IS_BETTER
from modelkit.contract.recipe import TuningConfig
from modelkit.train.spaces import Space

TPE_BATCH = 8
"""Trials of one candidate that TPE asks for before it is told their scores; constant, so that the number of cores
doesn't change what it asks for."""
HALVING_FACTOR = 3
"""As scikit-learn's."""
_DRAWS_PER_TRIAL = 20
"""Draws after which a random search stops looking for a parameter set that it doesn't have yet."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A parameter set to try."""

    index: int
    """Place in the order of trials, which breaks ties."""
    candidate: int
    params: Mapping[str, Any]
    """The searched parameters by the user's names."""


@dataclass(frozen=True, slots=True)
class Round:
    """Proposals that can be scored side by side."""

    proposals: Sequence[Proposal]
    rows: int | None = None
    """Of all rows, so many are used; None: all."""
    level: int = 0
    """Halving: number of the round; what is scored in a later one replaces the score of an earlier one."""


Rounds = Generator[Round, Mapping[int, float], None]
"""Gives rounds and is sent the mean score of each proposal of the round by its index; NaN for a failed one."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """The rounds, and how much work they are at most."""

    rounds: Rounds
    trials: int
    """Parameter sets."""
    scorings: int
    """Parameter sets, counted again in each round of a halving."""
    effort: float
    """Scorings weighted by the share of the rows that they use."""


@dataclass(frozen=True, slots=True)
class HalvingPlan:
    """Rows and trials of each round of a successive halving."""

    rows: tuple[int, ...]
    trials: tuple[int, ...]


def build_strategy(
    tuning: TuningConfig, spaces: Sequence[Space], *, metric: str, seed: int, rows: int, folds: int, classes: int | None
) -> Strategy:
    """The strategy of `tuning` for one space per candidate; a candidate without one is a single trial.

    `rows`, `folds` and `classes` (None for regression) decide the rounds of a halving.
    """
    if tuning.method == "TPE" and any(spaces):
        budgets = share_trials(tuning.trials, spaces)
        sizes = [budget if space else 1 for budget, space in zip(budgets, spaces, strict=True)]
        return Strategy(_tpe(spaces, budgets, metric, seed), sum(sizes), sum(sizes), float(sum(sizes)))
    proposals = _listed(tuning, spaces, seed)
    if tuning.method == "Halving" and any(spaces):
        plan = plan_halving(len(proposals), rows, folds, classes)
        effort = sum(count * used / rows for count, used in zip(plan.trials, plan.rows, strict=True))
        return Strategy(_halving(proposals, plan, metric), len(proposals), sum(plan.trials), effort)
    return Strategy(_once(proposals), len(proposals), len(proposals), float(len(proposals)))


def share_trials(trials: int, spaces: Sequence[Space]) -> list[int]:
    """Trials of each candidate: 0 without a search space, else an even share, the first ones get what is left over."""
    wide = sum(1 for space in spaces if space)
    shares = iter([trials // wide + (position < trials % wide) for position in range(wide)] if wide else [])
    return [next(shares) if space else 0 for space in spaces]


def plan_halving(trials: int, rows: int, folds: int, classes: int | None) -> HalvingPlan:
    """Rounds as scikit-learn's HalvingRandomSearchCV(min_resources="exhaust", factor=3) has them.

    The last round uses as many rows as possible; no round uses fewer than 2 per fold, and class.
    """
    smallest = min(rows, folds * 2 * (classes or 1))
    required = 1 + _floor_log(trials)
    first = max(smallest, rows // HALVING_FACTOR ** (required - 1))
    rounds = min(required, 1 + _floor_log(rows // first))
    counts = [trials]
    for _ in range(rounds - 1):
        counts.append(math.ceil(counts[-1] / HALVING_FACTOR))
    return HalvingPlan(tuple(min(rows, first * HALVING_FACTOR**number) for number in range(rounds)), tuple(counts))


def _floor_log(value: int) -> int:
    """Exact where the logarithm of floats isn't: floor(log(243, 3)) is 4."""
    power = 0
    while HALVING_FACTOR ** (power + 1) <= value:
        power += 1
    return power


def _listed(tuning: TuningConfig, spaces: Sequence[Space], seed: int) -> list[Proposal]:
    budgets = share_trials(tuning.trials, spaces)
    found: list[Proposal] = []
    for candidate, (space, budget) in enumerate(zip(spaces, budgets, strict=True)):
        if tuning.method == "Grid" or not space:
            sets = _grid(space)
        else:
            sets = _draws(space, budget, np.random.default_rng([seed, candidate]))
        found += [Proposal(len(found) + offset, candidate, params) for offset, params in enumerate(sets)]
    return found


def _grid(space: Space) -> list[dict[str, Any]]:
    names = [dimension.name for dimension in space]
    return [
        dict(zip(names, values, strict=True))
        for values in itertools.product(*(dimension.grid() for dimension in space))
    ]


def _draws(space: Space, budget: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Different parameter sets, `budget` of them, or all when there are no more."""
    if math.prod(dimension.size for dimension in space) <= budget and all(not d.log or d.points for d in space):
        return _grid(space)
    found: dict[str, dict[str, Any]] = {}
    for _ in range(budget * _DRAWS_PER_TRIAL):
        params = {dimension.name: dimension.sample(rng) for dimension in space}
        found.setdefault(dumps(params), params)
        if len(found) == budget:
            break
    return list(found.values())


def _once(proposals: Sequence[Proposal]) -> Rounds:
    yield Round(proposals)


def _halving(proposals: Sequence[Proposal], plan: HalvingPlan, metric: str) -> Rounds:
    scores: Mapping[int, float] = {}
    for level, (rows, count) in enumerate(zip(plan.rows, plan.trials, strict=True)):
        if level:
            best = sorted(proposals, key=lambda proposal: _loss(scores[proposal.index], metric))[:count]
            proposals = sorted(best, key=lambda proposal: proposal.index)
        scores = yield Round(proposals, rows, level)


def _tpe(spaces: Sequence[Space], budgets: Sequence[int], metric: str, seed: int) -> Rounds:
    """Tree-structured Parzen estimators (Bergstra et al., 2011) by optuna, one study per candidate."""
    count = 0
    studies = [
        _Study(space, budget, metric, seed + candidate) if space else None
        for candidate, (space, budget) in enumerate(zip(spaces, budgets, strict=True))
    ]
    first = True
    while True:
        proposals: list[Proposal] = []
        for candidate, study in enumerate(studies):
            asked = study.ask() if study else [{}] if first else []
            proposals += [Proposal(count + len(proposals) + n, candidate, params) for n, params in enumerate(asked)]
        if not proposals:
            return
        count, first = count + len(proposals), False
        scores = yield Round(proposals)
        for candidate, study in enumerate(studies):
            if study:
                study.tell([scores[p.index] for p in proposals if p.candidate == candidate])


class _Study:
    """One candidate's optuna study, asked and told in batches."""

    def __init__(self, space: Space, budget: int, metric: str, seed: int) -> None:
        import optuna
        from optuna.study import StudyDirection

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant_liar was experimental before optuna 5
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        direction = StudyDirection.MINIMIZE if metric in LOWER_IS_BETTER else StudyDirection.MAXIMIZE
        self._study = optuna.create_study(sampler=sampler, direction=direction)
        self._space, self._left = space, budget
        self._distributions = {dimension.name: dimension.distribution() for dimension in space}
        self._asked: list[Any] = []

    def ask(self) -> list[dict[str, Any]]:
        """The next batch of parameter sets; empty when the budget is used."""
        self._asked = [self._study.ask(self._distributions) for _ in range(min(TPE_BATCH, self._left))]
        self._left -= len(self._asked)
        return [
            {dimension.name: dimension.suggested(trial.params[dimension.name]) for dimension in self._space}
            for trial in self._asked
        ]

    def tell(self, scores: Sequence[float]) -> None:
        """The scores of the batch, in its order; NaN for a failed trial."""
        from optuna.trial import TrialState

        for trial, value in zip(self._asked, scores, strict=True):
            if math.isnan(value):
                self._study.tell(trial, state=TrialState.FAIL)
            else:
                self._study.tell(trial, value)


def _loss(score: float, metric: str) -> float:
    if math.isnan(score):
        return math.inf
    return score if metric in LOWER_IS_BETTER else -score
