"""MultivariateDrift: can a classifier tell the window's rows from the version's own test rows?

What each feature's own distribution doesn't show, such as two that no longer go together, a classifier finds: a
two-sample test (Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, 2017). Both samples are halved. A gradient
boosting is trained on one half of each and ranks the other, then the other way round. Without drift the held-out rows
of both samples have scores of one distribution, whatever was learned, so that the area under the ROC curve has the
null distribution of Mann and Whitney's U. The two areas are far from independent (what one half has by chance the
other classifier was trained on), so the smaller p-value counts twice: Bonferroni's bound holds under any dependence.

The check is Breached when the mean area is above `max_auc` *and* significant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelkit.contract.monitoring import MultivariateConfig
from modelkit.contract.result import CheckResult, FeatureFinding
from modelkit.data.profile import is_length, is_presence
from modelkit.data.sample import is_text
from modelkit.monitor.wording import BREACHED, OK, UNKNOWN, format_number, format_p_value, plural

MULTIVARIATE_DRIFT = "MultivariateDrift"

TREES, LEAVES, DEPTH = 50, 15, 5
_LARGEST = float(np.finfo(np.float32).max)

Floats = NDArray[np.float64]
Entries = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """What the classifier loses without one feature."""

    feature: str
    drop: float
    """Of the area under the ROC curve, when the feature's held-out values are shuffled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """How well a classifier tells the window's rows from the reference's."""

    auc: float
    """Area under the ROC curve on held-out rows, the mean of both directions; 0.5 when nothing changed."""
    p_value: float
    """Of an area at least as large without any drift."""
    rows: int
    """Of each side."""
    importances: tuple[Importance, ...]
    """Of all features, largest first; none when the classifier found nothing that is significant."""


def separate_samples(
    entries: Entries, reference: pa.Table, window: pa.Table, config: MultivariateConfig, trees: int = TREES
) -> Separation:
    """Train classifiers on at most `config.rows` rows of both tables (see `data.sample`), which must have 4 at least.

    Looks at the features that both tables have. Seeded: the same rows give the same answer.
    """
    from threadpoolctl import threadpool_limits

    names = [name for name in entries if name in reference.column_names and name in window.column_names]
    count = min(config.rows, reference.num_rows, window.num_rows)
    generator = np.random.default_rng(0)
    sides = [
        encode_rows({name: entries[name] for name in names}, table.select(names))[
            generator.permutation(table.num_rows)[:count]
        ]
        for table in (reference, window)
    ]
    halves = [
        (
            np.concatenate([side[part::2] for side in sides]),
            np.repeat([False, True], [len(side[part::2]) for side in sides]),
        )
        for part in (0, 1)
    ]
    categories = [is_text(entries[name]) and not is_length(entries[name]) for name in names]
    # One thread: a container's limit of cores isn't what OpenMP sees, and the rows are few.
    with threadpool_limits(limits=1):
        models = [_fit(rows, is_window, categories, trees) for rows, is_window in halves]
        held_out = [(models[1], *halves[0]), (models[0], *halves[1])]
        areas, p_values = zip(*(_rank(*found) for found in held_out), strict=True)
        p_value = min(1.0, 2 * min(p_values))
        found = _importances(held_out, areas, names) if p_value < config.significance else ()
    return Separation(auc=float(np.mean(areas)), p_value=p_value, rows=count, importances=found)


def check_multivariate(
    separation: Separation | None, config: MultivariateConfig, *, rows: int, missing: str = ""
) -> CheckResult:
    """Judge a separation; Unknown without one, because of `missing`. `rows`: of the window's sample."""
    if separation is None:
        return CheckResult(name=MULTIVARIATE_DRIFT, state=UNKNOWN, message=missing, limit=config.max_auc, rows=rows)
    is_significant = separation.p_value < config.significance
    breached = separation.auc > config.max_auc and is_significant
    area, limit = format_number(separation.auc), format_number(config.max_auc)
    verb = "tells" if breached else "doesn't tell"
    message = (
        f"a classifier {verb} {plural(separation.rows, 'row')} of the window from as many of the version's own test: "
        f"area under its ROC curve {area} {'>' if separation.auc > config.max_auc else '≤'} {limit}"
    )
    if breached or separation.auc > config.max_auc:
        why = "" if breached else "which chance explains, "
        message += f" ({why}p {format_p_value(separation.p_value, sign=True)})"
    worst = tuple(
        FeatureFinding(name=found.feature, value=round(found.drop, 6))
        for found in separation.importances[:5]
        if found.drop > 0
    )
    return CheckResult(
        name=MULTIVARIATE_DRIFT,
        state=BREACHED if breached else OK,
        message=message,
        value=round(separation.auc, 6),
        limit=config.max_auc,
        rows=separation.rows,
        worst=worst,
    )


def encode_rows(entries: Entries, rows: pa.Table) -> Floats:
    """[n, features] numbers for the classifier, NaN for a missing value.

    What has no distribution of its own values counts as in the profile: of a text the length, of a moment whether it is
    there. Numbers to seven digits, because a client that sends float32 has sent the same numbers; categories by the
    frozen ones, all others together.
    """
    columns = [_encode(entry, rows[name].combine_chunks()) for name, entry in entries.items()]
    return np.column_stack(columns) if columns else np.empty((rows.num_rows, 0))


def _encode(entry: Mapping[str, Any], values: pa.Array) -> Floats:
    if is_presence(entry):
        found: Floats = values.is_valid().to_numpy(zero_copy_only=False).astype(np.float64)
        return found
    if is_length(entry):
        return _floats(pc.utf8_length(values))
    if is_text(entry):
        known = pa.array(entry["categories"], pa.string())
        codes = pc.fill_null(pc.index_in(values, value_set=known), len(known))
        return _floats(pc.if_else(values.is_valid(), codes, None))
    return np.clip(_floats(values), -_LARGEST, _LARGEST).astype(np.float32).astype(np.float64)


def _floats(values: pa.Array) -> Floats:
    floats: Floats = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return floats


def _fit(rows: Floats, is_window: NDArray[np.bool_], categories: Sequence[bool], trees: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=trees,
        max_leaf_nodes=LEAVES,
        max_depth=DEPTH,
        min_samples_leaf=10,
        l2_regularization=1.0,
        early_stopping=False,
        categorical_features=list(categories),
        random_state=0,
    )
    return model.fit(rows, is_window)


def _rank(model: Any, rows: Floats, is_window: NDArray[np.bool_]) -> tuple[float, float]:
    """Area under the ROC curve of held-out rows, and its one-sided p-value (Mann and Whitney 1947, with ties)."""
    from scipy.stats import mannwhitneyu

    scores = model.decision_function(rows)
    window, reference = scores[is_window], scores[~is_window]
    if scores.min() == scores.max():
        return 0.5, 1.0
    found = mannwhitneyu(window, reference, alternative="greater", method="asymptotic")
    return float(found.statistic) / (len(window) * len(reference)), float(found.pvalue)


def _importances(
    held_out: Sequence[tuple[Any, Floats, NDArray[np.bool_]]], areas: Sequence[float], names: Sequence[str]
) -> tuple[Importance, ...]:
    """Permutation importance (Breiman, Random Forests, 2001) on the held-out rows, the mean of both directions."""
    drops = np.zeros(len(names))
    for (model, rows, is_window), area in zip(held_out, areas, strict=True):
        order = np.random.default_rng(0).permutation(len(rows))
        shuffled = rows.copy()
        for index in range(len(names)):
            shuffled[:, index] = rows[order, index]
            drops[index] += (area - _rank(model, shuffled, is_window)[0]) / len(held_out)
            shuffled[:, index] = rows[:, index]
    found = [Importance(feature=name, drop=float(drop)) for name, drop in zip(names, drops, strict=True)]
    return tuple(sorted(found, key=lambda importance: (-importance.drop, importance.feature)))
