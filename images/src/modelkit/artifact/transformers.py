"""Transformers that scikit-learn doesn't have. They are part of stored models.

A server constructs them when it loads model.skops, so they must not import pandas or anything of `modelkit.train`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.validation import check_is_fitted, validate_data

DAY = 86_400.0
"""Seconds."""
ORIGIN = 946_684_800.0
"""2000-01-01 in seconds since 1970: numbers near today's are small."""
WEEKDAY_OF_1970 = 3.0
"""1970-01-01 was a Thursday; Monday is 0."""
WEEK = 7.0
YEAR = 365.2425
"""Days, on average of the Gregorian calendar."""

_LABELS = ("days since 2000", "day of week (sin)", "day of week (cos)", "time of year (sin)", "time of year (cos)")
_CLOCK_LABELS = ("time of day (sin)", "time of day (cos)")


class TimeFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Moments, in seconds since 1970 UTC, as numbers that a model can learn trends and cycles from.

    Of each column: days since 2000; sine and cosine of the day of the week and of the time of the year; and, where
    any training row has a time of day, sine and cosine of that. Missing (NaN) stays missing.

    Fitted: `has_clock_`, [n_features_in_] bool.
    """

    def fit(self, X: Any, y: Any = None) -> "TimeFeatures":  # noqa: ARG002, N803 (scikit-learn's names)
        """Look which columns of X [n, columns] have a time of day."""
        seconds = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        present = ~np.isnan(seconds)
        self.has_clock_ = (present & (np.where(present, seconds, 0.0) % DAY != 0)).any(axis=0)
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """[n, 5 or 7 for each column], column after column."""
        check_is_fitted(self)
        seconds = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        parts = []
        for column, clock in zip(seconds.T, self.has_clock_, strict=True):
            days = (column - ORIGIN) / DAY
            parts += [days, *_cycle((np.floor(column / DAY) + WEEKDAY_OF_1970) / WEEK), *_cycle(days / YEAR)]
            if clock:
                parts += _cycle(column / DAY)
        return np.column_stack(parts)

    def feature_labels(self) -> list[tuple[str, ...]]:
        """What is made of each column, in order."""
        check_is_fitted(self)
        return [_LABELS + (_CLOCK_LABELS if clock else ()) for clock in self.has_clock_]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class Words(TfidfVectorizer):  # type: ignore[misc]  # scikit-learn has no types
    """TfidfVectorizer whose vocabulary holds plain numbers: as arrays, each would be a file in model.skops."""

    vocabulary_: dict[str, int]

    def fit_transform(self, raw_documents: Any, y: Any = None) -> Any:
        """See TfidfVectorizer."""
        result = super().fit_transform(raw_documents, y)
        self.vocabulary_ = {word: int(place) for word, place in self.vocabulary_.items()}
        return result

    def fit(self, raw_documents: Any, y: Any = None) -> "Words":
        """See TfidfVectorizer."""
        self.fit_transform(raw_documents, y)
        return self


def _cycle(turns: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    angle = 2 * np.pi * (turns - np.floor(turns))
    return [np.sin(angle), np.cos(angle)]
