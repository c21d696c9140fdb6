"""What the size of a regression's errors depends on: an additive model of the loss over the profile's frozen bins.

`loss = base + sum over columns of the weight of the row's bin`, so that the mean loss of any rows follows from how many
of them are in each bin, which is all that the monitor keeps. Missing values and other categories are bins, too, and
the prediction is a column. Of many columns the few that explain most are taken.

Each column is a random effect: its weights are drawn to 0 by the ratio of the noise to what the bins differ beyond
noise (DerSimonian and Laird, Meta-analysis in Clinical Trials, 1986; a ridge regression with a strength for each
column). A model is kept only if it explains losses of rows it wasn't fitted on. Its refits without a tenth of the rows
each are stored beside it: how far they differ says how certain it is (delete-a-group jackknife: Kott 2001).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.data.profile import (
    CATEGORICAL,
    Histogram,
    category_key,
    is_length,
    parse_numbers,
    reference_histogram,
    text_lengths,
)

LOSSES = ("mae", "mse")
"""Mean absolute and mean squared error."""
MAX_ROWS = 4000
MAX_COLUMNS = 6
FOLDS = 10
MIN_ROWS = 50
_STRIKING = 3.0
"""Standard deviations by which a column's bins differ that is taken: of dozens of columns some differ by chance."""

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
Column = tuple[Mapping[str, Any], NDArray[Any]]
"""A profile entry and the values of its column, [n]."""


def build_losses(
    features: Mapping[str, Column], prediction: Column, truth: NDArray[Any]
) -> dict[str, dict[str, Any] | None]:
    """The entry `losses` of profile.json, in plain JSON types: for each of LOSSES a model or None.

    The rows must be those of a regression's own test, which it was not fitted on. Of more than MAX_ROWS a part, chosen
    by a seed, is fitted; `base` is of all.
    """
    residuals = truth.astype(np.float64) - prediction[1].astype(np.float64)
    losses = {"mae": np.abs(residuals), "mse": residuals**2}
    rows = len(residuals)
    if rows < MIN_ROWS:
        return dict.fromkeys(LOSSES)
    chosen = np.random.default_rng(0).permutation(rows)[:MAX_ROWS]
    columns = [*features.values(), prediction]
    bins = _Bins.of([(entry, values[chosen]) for entry, values in columns])
    names = [*features, None]
    return {name: _describe(_fit(bins, loss[chosen]), loss, names) for name, loss in losses.items()}


def bin_sizes(entry: Mapping[str, Any]) -> int:
    """Bins of a profile entry and one for what is missing."""
    return len(reference_histogram(entry).counts) + 1


def bin_shares(histogram: Histogram) -> Floats:
    """Share of the rows in each bin, missing and invalid values last."""
    counts = np.append(histogram.counts, histogram.nulls + histogram.invalid)
    return np.asarray(counts / max(1, counts.sum()))


def find_bins(entry: Mapping[str, Any], values: NDArray[Any]) -> Codes:
    """[n] the bin of each value, as `profile.count_feature` counts it; missing and invalid values are in the last."""
    if entry["kind"] == CATEGORICAL:
        positions = {key: position for position, key in enumerate(entry["categories"])}
        others, missing = len(positions), len(positions) + 1
        keys = map(category_key, values.tolist())
        found = (missing if key is None else positions.get(key, others) for key in keys)
        return np.fromiter(found, dtype=np.int64, count=len(values))
    numbers, _ = parse_numbers(text_lengths(values) if is_length(entry) else values)
    bins = np.searchsorted(entry["edges"], numbers, side="left").astype(np.int64)
    bins[np.isnan(numbers)] = len(entry["edges"]) + 1
    return bins


@dataclass(frozen=True, slots=True, eq=False)
class _Bins:
    """The rows' bins in all columns, numbered through; row n is in the fold n modulo FOLDS."""

    flat: Codes
    """[n, columns]."""
    column: Codes
    """[bins] the column of each bin."""
    rows: Floats
    """[FOLDS, bins] rows of each fold in each bin."""

    @classmethod
    def of(cls, columns: Sequence[Column]) -> "_Bins":
        sizes = [bin_sizes(entry) for entry, _ in columns]
        starts = np.cumsum([0, *sizes[:-1]])
        flat = np.column_stack([find_bins(entry, values) for entry, values in columns]) + starts
        bins = cls(flat, np.repeat(np.arange(len(sizes)), sizes), np.empty(0))
        return cls(bins.flat, bins.column, bins.sum_folds(np.ones(len(flat))))

    @property
    def folds(self) -> Codes:
        """[n]."""
        return np.arange(len(self.flat)) % FOLDS

    def sum_folds(self, values: Floats) -> Floats:
        """[FOLDS, bins] sums of `values` [n]."""
        cells = (self.folds * len(self.column))[:, None] + self.flat
        weights = np.repeat(values, self.flat.shape[1])
        sums = np.bincount(cells.ravel(), weights, minlength=FOLDS * len(self.column))
        return np.asarray(sums.reshape(FOLDS, -1))


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """Weights of the bins of a fit to all rows (0) and to all but each fold (1 to FOLDS), [1 + FOLDS, bins], and share
    of the held-out loss's variance that they explain."""

    bins: _Bins
    weights: Floats
    explained: float


def _fit(bins: _Bins, loss: Floats) -> _Fit | None:
    """None when no column explains losses of rows that weren't fitted."""
    deviation = float(loss.std())
    if deviation == 0:
        return None
    scaled = (loss - loss.mean()) / deviation
    sums = bins.sum_folds(scaled)
    counts = np.bincount(bins.folds, minlength=FOLDS).astype(np.float64)
    totals = np.asarray(np.bincount(bins.folds, scaled, minlength=FOLDS), dtype=np.float64)
    # Every part of the rows has columns and strengths of its own: chosen by all rows, they would know the held out.
    parts = [_Part.of(bins, sums, counts, totals, without) for without in (None, *range(FOLDS))]
    chosen = sorted({column for part in parts for column in part.strengths})
    if not parts[0].strengths:
        return None
    together = _count_together(bins, chosen)
    mean = np.array([part.mean for part in parts[1:]])[bins.folds]
    held_out = mean.copy()
    for fold, part in enumerate(parts[1:]):
        rows = bins.folds == fold
        held_out[rows] += part.solve(bins, together)[bins.flat[rows]].sum(axis=1)
    gains = (scaled - mean) ** 2 - (scaled - held_out) ** 2
    if gains.mean() <= 0:
        return None
    strengths = parts[0].strengths
    weights = np.stack([part.solve(bins, together, strengths) for part in parts]) * deviation
    return _Fit(bins, weights, float(gains.mean()))


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """All rows but those of a fold, as sums."""

    mean: float
    rows: Floats
    """[bins]."""
    centred: Floats
    """[bins] sums of the loss around its mean."""
    without: int | None
    strengths: Mapping[int, float]
    """Of the columns that explain most, pseudo rows of no effect in each bin."""

    @classmethod
    def of(cls, bins: _Bins, sums: Floats, counts: Floats, totals: Floats, without: int | None) -> "_Part":
        kept = np.arange(FOLDS) != (-1 if without is None else without)
        total, rows = counts[kept].sum(), bins.rows[kept].sum(axis=0)
        mean = totals[kept].sum() / total
        centred = sums[kept].sum(axis=0) - mean * rows
        return cls(float(mean), rows, centred, without, _find_strengths(bins.column, rows, centred, total))

    def solve(self, bins: _Bins, together: "_Together", strengths: Mapping[int, float] | None = None) -> Floats:
        """[bins] weights, of mean 0 over the part's rows in each column; 0 for columns that aren't chosen."""
        strengths = self.strengths if strengths is None else strengths
        weights = np.zeros(len(bins.column))
        cells = np.flatnonzero(np.isin(bins.column, list(strengths)))
        if len(cells) == 0:
            return weights
        inner = together.of(cells, self.without)
        shares = self.rows[cells] / self.rows[bins.column == bins.column[cells[0]]].sum()
        rows = self.rows[cells]
        ridge = np.array([strengths[column] for column in bins.column[cells].tolist()])
        found = np.linalg.solve(inner - np.outer(rows, shares) + np.diag(ridge), self.centred[cells])
        for column in strengths:
            part = bins.column[cells] == column
            found[part] -= found[part] @ shares[part]
        weights[cells] = found
        return weights


def _find_strengths(column: Codes, rows: Floats, centred: Floats, total: float) -> dict[int, float]:
    """Columns whose bins differ beyond chance, at most MAX_COLUMNS, each with noise over variance between its bins.

    The loss has the variance 1, so that noise is at most that.
    """
    used = rows > 0
    bins = np.bincount(column[used])
    columns = len(bins)
    between = np.bincount(column[used], centred[used] ** 2 / rows[used], minlength=columns)
    excess = between - (bins - 1)
    spread = total - np.bincount(column, rows**2, minlength=columns) / total
    is_real = (bins > 1) & (excess > _STRIKING * np.sqrt(2 * np.maximum(bins - 1, 0)))
    ranked = [int(found) for found in np.argsort(-excess, kind="stable") if is_real[found]]
    return {found: float(spread[found] / excess[found]) for found in sorted(ranked[:MAX_COLUMNS])}


@dataclass(frozen=True, slots=True, eq=False)
class _Together:
    """How many rows are in two bins at once, of the bins of some columns."""

    cells: Codes
    counts: Floats
    """[FOLDS, bins, bins]."""

    def of(self, cells: Codes, without: int | None) -> Floats:
        """Between `cells`, of all rows but those of a fold."""
        index = np.searchsorted(self.cells, cells)
        found = self.counts[:, index[:, None], index[None, :]]
        total = found.sum(axis=0)
        return np.asarray(total if without is None else total - found[without])


def _count_together(bins: _Bins, columns: Sequence[int]) -> _Together:
    cells = np.flatnonzero(np.isin(bins.column, columns))
    is_in = np.zeros((len(bins.flat), len(cells)))
    np.put_along_axis(is_in, np.searchsorted(cells, bins.flat[:, columns]), 1.0, axis=1)
    return _Together(cells, np.stack([is_in[fold::FOLDS].T @ is_in[fold::FOLDS] for fold in range(FOLDS)]))


def _describe(fit: _Fit | None, loss: Floats, names: Sequence[str | None]) -> dict[str, Any] | None:
    if fit is None:
        return None
    columns = np.unique(fit.bins.column[np.any(fit.weights != 0, axis=0)])
    effects = fit.weights[0][fit.bins.flat[:, columns]]
    return {
        "base": float(loss.mean()),
        "rows": len(loss),
        "explained": round(fit.explained, 6),
        "columns": [_describe_column(fit, int(column), names[column]) for column in columns],
        # Of the columns' effects on the test rows: how far errors of the rows of a window add up.
        "correlation": np.atleast_2d(np.corrcoef(effects, rowvar=False)).round(4).tolist(),
    }


def _describe_column(fit: _Fit, column: int, name: str | None) -> dict[str, Any]:
    """`name` None: the prediction."""
    weights = fit.weights[:, fit.bins.column == column]
    rounded = [[float(f"{weight:.5g}") for weight in row] for row in weights.tolist()]
    return {"name": name, "weights": rounded[0], "refits": rounded[1:]}
