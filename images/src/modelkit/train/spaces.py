"""Search spaces: what the specification says of a parameter, as grid points, random draws and optuna distributions.

Checked before any data is read. A parameter with a finite number of points (a choice, a whole number, a step) is
handled by position in all methods, so that a value is always exactly one that the specification allows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit.contract.codec import dumps
from modelkit.contract.config import CandidateConfig, TrainerConfig
from modelkit.contract.recipe import SearchParameterConfig, TuningConfig
from modelkit.data.suggest import suggest
from modelkit.errors import RefusedError
from modelkit.train.candidates import Candidate
from modelkit.train.selection import is_searched, searched

METHODS = ("Grid", "Random", "Halving", "TPE")
MAX_TRIALS = 10_000
"""Of a grid, and of a budget: what is above is a typing error more often than a wish."""
_GRID_POINTS = 5
"""Of a Float on a grid without a step, and of a logarithmic Int."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One searched parameter."""

    name: str
    kind: str
    """Int, Float or Choice."""
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    points: tuple[Any, ...] = ()
    """What it can be, in order, when that is finite and even: Choice, and steps."""

    @property
    def size(self) -> float:
        """How many values it can have; infinite for a Float without a step."""
        if self.points:
            return len(self.points)
        return self.high - self.low + 1 if self.kind == "Int" else math.inf

    @property
    def ends(self) -> tuple[Any, ...]:
        """Every choice, else the lowest and the highest value: what is checked before a search."""
        if self.kind == "Choice":
            return self.points
        low, high = (
            (self.points[0], self.points[-1]) if self.points else (self._typed(self.low), self._typed(self.high))
        )
        return (low,) if low == high else (low, high)

    @property
    def grid_size(self) -> int:
        """How many points `grid` has."""
        if self.kind == "Int" and not self.points and not self.log:
            return int(self.high - self.low) + 1
        return len(self.grid())

    def grid(self) -> tuple[Any, ...]:
        """Its points on a grid, in order."""
        if self.points:
            return self.points
        if self.kind == "Int" and not self.log:
            return tuple(range(int(self.low), int(self.high) + 1))
        if self.low == self.high:
            return (self._typed(self.low),)
        spaced = np.geomspace if self.log else np.linspace
        found = [
            self._typed(min(max(value, self.low), self.high)) for value in spaced(self.low, self.high, _GRID_POINTS)
        ]
        return tuple(dict.fromkeys(found))

    def sample(self, rng: np.random.Generator) -> Any:
        """A value drawn evenly, or evenly in the logarithm."""
        if self.points:
            return self.points[int(rng.integers(len(self.points)))]
        if self.kind == "Int":
            if not self.log:
                return int(rng.integers(int(self.low), int(self.high), endpoint=True))
            # Half a step beyond the ends, so that they are as likely as their neighbours.
            value = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
            return int(min(max(round(value), self.low), self.high))
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        return float(min(max(value, self.low), self.high))

    def distribution(self) -> Any:
        """For optuna; of `points` their position, as a number when they have an order."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == "Choice":
            return CategoricalDistribution(tuple(range(len(self.points))))
        if self.points:
            return IntDistribution(0, len(self.points) - 1)
        if self.kind == "Int":
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def suggested(self, value: Any) -> Any:
        """The parameter's value for what optuna drew from `distribution`."""
        return self.points[int(value)] if self.points else self._typed(value)

    def _typed(self, value: float) -> Any:
        return round(float(value)) if self.kind == "Int" else float(value)


Space = tuple[Dimension, ...]


def build_spaces(config: TrainerConfig, candidates: Sequence[Candidate]) -> list[Space]:
    """The search space of each candidate, empty where nothing is searched.

    Raises RefusedError (BadParameter, BadTuning) for whatever no search could use: an unknown, repeated or also fixed
    parameter, bad bounds, a value that the estimator refuses, a grid or a budget above 10,000 trials, a budget that
    doesn't give each searched candidate a trial.
    """
    tuning = config.tuning or TuningConfig()
    spaces = [
        tuple(_build(candidate, entry, parameter, config) for parameter in entry.search)
        for candidate, entry in zip(candidates, config.candidates, strict=True)
    ]
    _check_tuning(tuning, spaces)
    return spaces


def settings_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Searched parameters by the user's names as parameters for `pipeline.set_params`."""
    settings: dict[str, Any] = {}
    for name, value in params.items():
        settings.update(searched(name, value) if is_searched(name) else {f"model__{name}": value})
    return settings


def _build(
    candidate: Candidate, entry: CandidateConfig, parameter: SearchParameterConfig, config: TrainerConfig
) -> Dimension:
    where = f"candidate {candidate.index + 1}: the search of {parameter.name!r}"
    names = [other.name for other in entry.search]
    if names.count(parameter.name) > 1:
        raise _bad(where, "is there twice; name each parameter once")
    if parameter.name in entry.params:
        raise _bad(where, "has a fixed value in params, too; remove one of them")
    if parameter.type == "Choice":
        dimension = _choice(where, parameter)
    elif parameter.type in ("Int", "Float"):
        dimension = _range(where, parameter)
    else:
        raise _bad(where, f"must have the type Int, Float or Choice; found {parameter.type!r}")
    if is_searched(parameter.name):
        _check_selection(where, parameter.name, names, dimension, config)
    else:
        _check_estimator(where, candidate, dimension)
    return dimension


def _choice(where: str, parameter: SearchParameterConfig) -> Dimension:
    if not parameter.values:
        raise _bad(where, "is a Choice and must list its values")
    ranged = [name for name in ("minimum", "maximum", "step") if getattr(parameter, name) is not None]
    if ranged or parameter.log:
        raise _bad(where, f"is a Choice, which takes values but no {(ranged or ['log'])[0]}")
    texts = [dumps(value) for value in parameter.values]
    if len(set(texts)) < len(texts):
        raise _bad(where, "lists a value twice")
    return Dimension(parameter.name, "Choice", points=tuple(parameter.values))


def _range(where: str, parameter: SearchParameterConfig) -> Dimension:
    low, high, step = parameter.minimum, parameter.maximum, parameter.step
    if parameter.values:
        raise _bad(where, f"has values, which belong to the type Choice; {parameter.type} takes minimum and maximum")
    if low is None or high is None:
        raise _bad(where, f"is of type {parameter.type} and must have minimum and maximum")
    if not math.isfinite(low) or not math.isfinite(high) or low > high:
        raise _bad(where, f"must have a minimum that isn't above its maximum; found {low:g} to {high:g}")
    if parameter.log and low <= 0:
        raise _bad(where, f"is logarithmic and must have a minimum above 0; found {low:g}")
    if parameter.log and step is not None:
        raise _bad(where, "is logarithmic, which takes no step")
    if step is not None and not 0 < step < math.inf:
        raise _bad(where, f"must have a step above 0; found {step:g}")
    if parameter.type == "Int" and any(value is not None and value != int(value) for value in (low, high, step)):
        raise _bad(where, "is of type Int and must have whole numbers; use Float")
    if step is None:
        return Dimension(parameter.name, parameter.type, low, high, parameter.log)
    count = math.floor((high - low) / step + 1e-9) + 1
    if count > MAX_TRIALS:
        raise _bad(where, f"has {count:,} steps, more than {MAX_TRIALS:,}; use a larger step, or none")
    made = int if parameter.type == "Int" else float
    points = tuple(made(min(low + position * step, high)) for position in range(count))
    return Dimension(parameter.name, parameter.type, low, high, points=points)


def _check_estimator(where: str, candidate: Candidate, dimension: Dimension) -> None:
    """Every choice, or both bounds, must be what the estimator takes: a typing error costs seconds, not a search."""
    from sklearn.base import clone

    known = candidate.estimator.get_params(deep=False)
    if dimension.name not in known:
        raise _bad(
            where,
            f"isn't possible: {candidate.name} has no such parameter; its parameters are: {', '.join(known)}"
            + suggest(dimension.name, known),
        )
    for value in dimension.ends:
        estimator = clone(candidate.estimator).set_params(**{dimension.name: value})
        validate = getattr(estimator, "_validate_params", None)
        if validate is None:
            continue
        try:
            validate()
        except (ValueError, TypeError) as exc:
            raise _bad(where, f"has a value that can't be used: {exc}") from exc


def _check_selection(where: str, name: str, names: Sequence[str], dimension: Dimension, config: TrainerConfig) -> None:
    if config.selection is None:
        raise _bad(where, "needs a featureSelection with a method")
    if sum(is_searched(other) for other in names) > 1:
        raise _bad(where, "can't go with the other one of features and share; search one of them")
    for value in dimension.ends:
        try:
            searched(name, value)
        except RefusedError as exc:
            raise _bad(where, f"has a value that can't be used: {exc.message}") from exc


def _check_tuning(tuning: TuningConfig, spaces: Sequence[Space]) -> None:
    if tuning.method not in METHODS:
        raise RefusedError("BadTuning", f"tuning.method must be {', '.join(METHODS)}; found {tuning.method!r}")
    if not 1 <= tuning.trials <= MAX_TRIALS:
        raise RefusedError("BadTuning", f"tuning.trials must be 1 to {MAX_TRIALS:,}; found {tuning.trials}")
    for name in ("time_limit_seconds", "patience"):
        value = getattr(tuning, name)
        if value is not None and not 0 < value < math.inf:
            raise RefusedError("BadTuning", f"tuning.{name} must be above 0; found {value}")
    if tuning.method == "Halving" and tuning.patience is not None:
        raise RefusedError("BadTuning", "tuning.patience doesn't go with Halving, which drops trials by itself")
    wide = [space for space in spaces if space]
    if tuning.method == "Grid":
        size = sum(math.prod(dimension.grid_size for dimension in space) for space in wide)
        if size > MAX_TRIALS:
            raise RefusedError(
                "BadParameter",
                f"the grid has {size:,} points, more than {MAX_TRIALS:,}; use fewer values, a larger step, or "
                "tuning.method Random, Halving or TPE",
            )
    elif tuning.trials < len(wide):
        raise RefusedError(
            "BadTuning",
            f"tuning.trials must be at least {len(wide)}, one for each candidate with a search space; "
            f"found {tuning.trials}",
        )


def _bad(where: str, what: str) -> RefusedError:
    return RefusedError("BadParameter", f"{where} {what}")
