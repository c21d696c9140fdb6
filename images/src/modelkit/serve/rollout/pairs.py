"""What two versions predict for the same rows, summed up. Every sum stays finite. Pure."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import orjson

from modelkit.contract.files import PROFILE
from modelkit.contract.route import PairReport
from modelkit.serve.metrics import MAX_CLASSES, OTHER_CLASSES, prediction_edges
from modelkit.serve.rollout.predictions import Predictions, is_number

_HALF = 0.5
_TINY = 1e-9
"""The least deviation, relative to the mean, for a version that always predicts about the same."""
_MAX_VALUE = 1e140
"""Of a number whose square is summed up: a float holds no more."""
_MAX_SHIFT = 1e6
"""Of one row, in standard deviations: one absurd prediction mustn't hide all others."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What this version's predictions are measured by."""

    classes: tuple[Any, ...] | None
    """None for a regression."""
    edges: tuple[float, ...] = ()
    """Of a regression's bins."""
    deviation: float | None = None
    """Standard deviation of a regression's predictions, where it is known beforehand."""


def read_scale(directory: Path, classes: Sequence[Any] | None) -> Scale:
    """The scale of the verified version in `directory`."""
    if classes is not None:
        return Scale(tuple(classes))
    deviation = None
    try:
        found = orjson.loads((directory / PROFILE).read_bytes())["predictions"]["std"]
        deviation = float(found) if is_number(found) and found > 0 else None
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        deviation = None  # As with prediction_edges: the server doesn't need it.
    return Scale(None, tuple(sorted({edge for edge in prediction_edges(directory) if is_number(edge)})), deviation)


class Spread:
    """Mean and standard deviation of the numbers so far (Welford 1962)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        """One more finite number."""
        value = min(max(value, -_MAX_VALUE), _MAX_VALUE)
        self._count += 1
        distance = value - self._mean
        self._mean += distance / self._count
        self._squares += distance * (value - self._mean)

    @property
    def deviation(self) -> float:
        """Never zero."""
        return max(sqrt(max(self._squares, 0.0) / max(self._count, 1)), _TINY * (1 + abs(self._mean)))


class Pairs:
    """Counts pairs of predictions."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._known = {label: str(label) for label in (scale.classes or ())[:MAX_CLASSES]}
        self._spread = Spread()
        self._requests = self._rows = self._disagreements = 0
        self._sum = self._squares = 0.0
        self._failures: Counter[str] = Counter()
        self._own: Counter[str] = Counter()
        self._other: Counter[str] = Counter()

    def add(self, own: Predictions, other: Predictions) -> None:
        """One request that both scored. Raises ValueError when the two can't be compared: nothing is counted then."""
        if len(own.values) != len(other.values):
            raise ValueError("the versions answered different numbers of rows")
        if self._scale.classes is None:
            if not all(map(is_number, own.values)) or not all(map(is_number, other.values)):
                raise ValueError("a regression must predict finite numbers")
            self._add_numbers(own.values, other.values)
        else:
            self._add_classes(own, other)
        self._requests += 1
        self._rows += len(own.values)

    def fail(self, kind: str) -> None:
        """One request that the other version failed at while this one answered."""
        self._requests += 1
        self._failures[kind] += 1

    def report(self) -> PairReport:
        """The sums so far."""
        return PairReport(
            requests=self._requests,
            failed=self._failures.total(),
            failures=dict(self._failures),
            rows=self._rows,
            disagreements=self._disagreements,
            shift_sum=self._sum,
            shift_squares=self._squares,
            own_counts=dict(self._own),
            other_counts=dict(self._other),
        )

    def _add_numbers(self, own: list[float], other: list[float]) -> None:
        for mine, theirs in zip(own, other, strict=True):
            self._spread.add(mine)
            deviation = self._scale.deviation or self._spread.deviation
            # The difference may be infinite.
            shift = min(max((theirs - mine) / deviation, -_MAX_SHIFT), _MAX_SHIFT)
            self._disagreements += abs(shift) > _HALF
            self._shift(shift)
            if self._scale.edges:
                self._own[str(bisect_left(self._scale.edges, mine))] += 1
                self._other[str(bisect_left(self._scale.edges, theirs))] += 1

    def _add_classes(self, own: Predictions, other: Predictions) -> None:
        for mine, theirs in zip(own.values, other.values, strict=True):
            self._disagreements += mine != theirs
            self._own[self._known.get(mine, OTHER_CLASSES)] += 1
            self._other[self._known.get(theirs, OTHER_CLASSES)] += 1
        if own.scores is not None and other.scores is not None:
            for share, theirs in zip(own.scores, other.scores, strict=True):
                self._shift(theirs - share)

    def _shift(self, shift: float) -> None:
        self._sum += shift
        self._squares += shift * shift
