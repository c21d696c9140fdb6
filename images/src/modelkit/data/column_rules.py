"""The rules for one column: what is stated of it, and what it was in the champion's data."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from modelkit.contract.recipe import ExpectedColumnConfig
from modelkit.contract.result import Finding
from modelkit.data.description import (
    BOOLEAN,
    CATEGORY,
    EMPTY,
    MIXED,
    NUMBER,
    TIME,
    ColumnDescription,
    SourceDescription,
    count_categories,
    numbers_of,
)

MORE_MISSING_SHARE = 0.05
"""More rows without a value than the baseline has, as a share of all, that a column may have."""
UNSEEN_SHARE = 0.05
"""Rows of categories that the baseline doesn't have."""
REPEATED_SHARE = 0.01
"""Rows whose identifier is there already, in a column whose values were unique."""
REPEATED_BY_CHANCE = 8.0
"""Repeats that a column which is no identifier may have had none of, once in 3,000 tables (e to the power of -8).
Pairs of equal rows grow with the square of the rows, and so does what chance brings."""
_SIGNIFICANT = 3.29
"""Standard errors of a difference of two shares that luck brings about once in a thousand tables."""
_SMALL_BASELINE = 50
"""Values below which being unique, or being a constant, isn't a property of a column but luck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The table that a version was learnt from, by name."""

    name: str
    """For messages, such as `version 3`."""
    source: SourceDescription


@dataclass(frozen=True, slots=True, eq=False)
class ColumnRules:
    """One column, what is stated of it and what it was."""

    values: "pd.Series[Any]"
    found: ColumnDescription
    stated: ExpectedColumnConfig | None
    before: ColumnDescription | None
    baseline: Baseline | None

    def check_statement(self) -> Iterator[Finding]:
        """Everything that validation.columns says; all of it is severe."""
        found, stated = self.found, self.stated
        assert stated is not None
        if stated.type is not None and not _fits_type(self.values, found, stated.type):
            yield self._tell(
                "RetypedColumn",
                1.0,
                0.0,
                f"holds {_HOLDS[found.type]} where validation.columns states {stated.type}: mend it, or state another "
                "type",
            )
            return
        if stated.max_missing_share is not None and found.missing_share > stated.max_missing_share:
            yield self._tell(
                "MissingValues",
                found.missing_share,
                stated.max_missing_share,
                f"has no value in {found.missing} of {found.rows} rows ({percent(found.missing_share)}), more than "
                f"{percent(stated.max_missing_share)}: fill them, or raise maxMissingShare in validation.columns",
            )
        if stated.values:
            counts = count_categories(self.values)
            unseen = int(counts[~counts.index.isin(stated.values)].sum())
            limit = stated.max_unseen_share or 0.0
            if unseen > limit * found.rows:
                yield self._tell(
                    "UnseenCategories",
                    unseen / found.rows,
                    limit,
                    f"holds other categories than those in validation.columns in {unseen} of {found.rows} rows "
                    f"({percent(unseen / found.rows)}), more than {percent(limit)}: mend them, add them to values, or "
                    "raise maxUnseenShare",
                )
        yield from self._check_bounds(stated.minimum, stated.maximum)

    def check_baseline(self) -> Iterator[Finding]:
        """What the champion's data was like, where nothing else is stated."""
        before = self.before
        assert before is not None
        if not _same_type(self.values, self.found, before):
            if self.stated is None or self.stated.type is None:
                yield self._retyped(before)
            return
        if self.stated is None or self.stated.max_missing_share is None:
            yield from self._check_missing(before)
        is_target = self.baseline is not None and self.found.name == self.baseline.source.target
        if before.is_unique and not self.found.is_unique and not is_target:
            yield from self._check_repeated(before)
        if not before.used:
            return
        if (
            self.found.type != EMPTY
            and self.found.is_constant
            and not before.is_constant
            and before.rows >= _SMALL_BASELINE
        ):
            yield self._tell(
                "ConstantColumn",
                1.0,
                2.0,
                f"holds a single value in {self.found.rows} rows, several in {self._baseline}: mend it, or name the "
                "other features in data.features",
            )
            return
        if self.found.type == CATEGORY and before.categories and not (self.stated and self.stated.values):
            yield from self._check_unseen(before)
        if self.found.type == NUMBER and (self.stated is None or self.stated.minimum is self.stated.maximum is None):
            yield from self._check_range(before)

    @property
    def _baseline(self) -> str:
        assert self.baseline is not None
        return f"{self.baseline.name}'s data"

    def _tell(self, rule: str, value: float, limit: float, said: str, severe: bool = True) -> Finding:
        name = self.found.name
        return Finding(
            column=name, rule=rule, value=value, limit=limit, message=f"column {name!r} {said}", severe=severe
        )

    def _check_bounds(self, minimum: float | None, maximum: float | None) -> Iterator[Finding]:
        if minimum is None and maximum is None:
            return
        numbers = numbers_of(self.values, self.found.type)
        for bound, outside, word in (
            (minimum, numbers < (-np.inf if minimum is None else minimum), "below the min"),
            (maximum, numbers > (np.inf if maximum is None else maximum), "above the max"),
        ):
            rows = np.flatnonzero(outside)
            if bound is not None and len(rows):
                yield self._tell(
                    "OutOfRange",
                    len(rows) / len(numbers),
                    bound,
                    f"is {word} {bound:.6g} of validation.columns in {len(rows)} of {len(numbers)} rows, first in row "
                    f"{rows[0] + 1}: mend these rows, or state another bound",
                )

    def _retyped(self, before: ColumnDescription) -> Finding:
        where, share = "", 1.0
        if before.type in {NUMBER, BOOLEAN} and self.found.type in {CATEGORY, MIXED}:
            wrong = np.flatnonzero(np.isnan(numbers_of(self.values, NUMBER)) & self.values.notna().to_numpy())
            if len(wrong):
                where = f" ({len(wrong)} of {len(self.values)} rows, first row {wrong[0] + 1})"
                share = len(wrong) / len(self.values)
        return self._tell(
            "RetypedColumn",
            share,
            0.0,
            f"holds {_HOLDS[self.found.type]}{where} where {self._baseline} had {_HOLDS[before.type]}: mend it, or "
            "state its type in validation.columns when it is meant",
        )

    def _check_missing(self, before: ColumnDescription) -> Iterator[Finding]:
        share, was = self.found.missing_share, before.missing_share
        if before.missing:
            limit = was + MORE_MISSING_SHARE
            severe = share > limit and differs(share, self.found.rows, was, before.rows)
        else:
            # A model that learnt from whole rows takes no others: nobody could compare the new one with it.
            limit = 0.0
            severe = share > 0 and before.used and before.rows >= _SMALL_BASELINE
        if severe or (self.found.missing and not before.missing):
            yield self._tell(
                "MissingValues",
                share,
                limit,
                f"has no value in {self.found.missing} of {self.found.rows} rows ({percent(share)}), {percent(was)} in "
                f"{self._baseline}; up to {percent(limit)} is taken: fill them, or state maxMissingShare in "
                "validation.columns",
                severe,
            )

    def _check_repeated(self, before: ColumnDescription) -> Iterator[Finding]:
        if before.rows - before.missing < _SMALL_BASELINE or self.found.distinct is None:
            return
        repeated = self.found.rows - self.found.missing - self.found.distinct
        rows, share = self.found.rows, repeated / self.found.rows
        limit = max(REPEATED_SHARE, REPEATED_BY_CHANCE * (rows / before.rows) ** 2 / rows)
        yield self._tell(
            "DuplicateIds",
            share,
            limit,
            f"holds a value that is there already in {repeated} of {self.found.rows} rows ({percent(share)}); in "
            f"{self._baseline} every value was there once, as in an identifier: remove the repeated rows, or leave the "
            "column out",
            share > limit,
        )

    def _check_unseen(self, before: ColumnDescription) -> Iterator[Finding]:
        counts = count_categories(self.values)
        unseen = int(counts[~counts.index.isin(before.categories)].sum())
        share = unseen / self.found.rows
        expected = before.singletons / before.rows
        limit = expected + UNSEEN_SHARE
        if unseen:
            yield self._tell(
                "UnseenCategories",
                share,
                limit,
                f"holds categories that {self._baseline} doesn't have in {unseen} of {self.found.rows} rows "
                f"({percent(share)}); up to {percent(limit)} is taken: mend them, or state the values in "
                "validation.columns",
                share > limit and differs(share, self.found.rows, expected, before.rows),
            )

    def _check_range(self, before: ColumnDescription) -> Iterator[Finding]:
        if before.minimum is None or before.maximum is None:
            return
        numbers = numbers_of(self.values, self.found.type)
        margin = before.maximum - before.minimum
        outside = int(np.count_nonzero((numbers < before.minimum - margin) | (numbers > before.maximum + margin)))
        if outside:
            yield self._tell(
                "OutOfRange",
                outside / len(numbers),
                0.0,
                f"is far outside the range of {self._baseline}, by more than its width, in {outside} of {len(numbers)} "
                "rows: check its unit, or state min and max in validation.columns",
                False,
            )


_HOLDS = {
    NUMBER: "numbers",
    BOOLEAN: "booleans",
    CATEGORY: "text",
    TIME: "times",
    MIXED: "values of several types",
    EMPTY: "nothing",
}
_FITTING = {
    "Number": {NUMBER},
    "Boolean": {BOOLEAN},
    "Category": {CATEGORY, BOOLEAN},
    "Text": {CATEGORY},
    "Time": {TIME},
}


def _fits_type(values: "pd.Series[Any]", found: ColumnDescription, stated: str) -> bool:
    if found.type == EMPTY or found.type in _FITTING.get(stated, {found.type}):
        return True
    if stated == "Boolean" and found.type == NUMBER:
        return _is_binary(found, values)
    return stated == "Category" and found.type == NUMBER and found.distinct is not None


def _same_type(values: "pd.Series[Any]", found: ColumnDescription, before: ColumnDescription) -> bool:
    """An empty column has lost its values, not its type; numbers that are 0 and 1 are booleans."""
    if EMPTY in {found.type, before.type} or found.type == before.type:
        return True
    if {found.type, before.type} == {NUMBER, BOOLEAN}:
        numbers = found if found.type == NUMBER else before
        return numbers.minimum == 0 and numbers.maximum == 1 and (numbers is before or _is_binary(found, values))
    return False


def _is_binary(found: ColumnDescription, values: "pd.Series[Any]") -> bool:
    return found.minimum in {0, 1} and found.maximum in {0, 1} and values.dropna().nunique() <= 2


def differs(share: float, rows: int, other: float, other_rows: int) -> bool:
    """Are two shares further apart than luck brings about once in a thousand times? (pooled two-proportion z test)"""
    if not rows or not other_rows:
        return False
    pooled = (share * rows + other * other_rows) / (rows + other_rows)
    error = math.sqrt(pooled * (1 - pooled) * (1 / rows + 1 / other_rows))
    return error == 0 or abs(share - other) / error > _SIGNIFICANT


def percent(share: float) -> str:
    """A share of 1 for a message."""
    return f"{share:.3%}" if 0 < share < 0.001 else f"{share:.1%}"
