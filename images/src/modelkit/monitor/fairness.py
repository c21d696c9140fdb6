"""Fairness: are groups of rows answered too differently?

Statistical parity needs no labels: the difference between the largest and the smallest share of favourable answers
over the groups of a feature (Dwork et al. 2012); of a regression, of the mean answers, in standard deviations of the
reference's. Equal opportunity: the same of the true positive rates, of rows whose label came back (Hardt, Price and
Srebro 2016). A difference counts when it is above its limit *and* significant: between the two extreme groups, by
Fisher's exact test (for means a normal test), times the ordered pairs of groups among which they are the extreme ones.
"""

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from modelkit.contract.monitoring import FairnessConfig
from modelkit.contract.result import CheckResult, FeatureFinding
from modelkit.data.profile import category_key
from modelkit.monitor.distances import entry_positions
from modelkit.monitor.groups import NO_GROUP, Grouping, build_grouping
from modelkit.monitor.labels import Labelled
from modelkit.monitor.reference import Reference
from modelkit.monitor.statistics import excess_p_value
from modelkit.monitor.summary import Summary
from modelkit.monitor.wording import BREACHED, OK, UNKNOWN, format_number, format_p_value, too_few_rows

FAIRNESS = "Fairness"
PARITY, OPPORTUNITY = "statistical parity", "equal opportunity"

SIGNIFICANCE = 0.01
"""Chance that any difference of a window is taken for real when all groups are answered alike: shared by the
differences that are looked at."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class GroupShare:
    """One group that is large enough to be compared."""

    group: str
    rows: int
    """Of equal opportunity those whose label is the favourable class."""
    value: float
    """Share of favourable answers, or mean answer in standard deviations of the reference's."""
    difference: float
    """From that of all rows."""


@dataclass(frozen=True, slots=True)
class Disparity:
    """One metric of one feature's groups."""

    column: str
    metric: str
    """`statistical parity` or `equal opportunity`."""
    groups: tuple[GroupShare, ...]
    """At least two, highest value first."""
    value: float
    """Largest minus smallest value."""
    limit: float
    p_value: float
    """Of the two extreme groups, corrected for the number of pairs."""
    breached: bool


@dataclass(frozen=True, slots=True)
class Fairness:
    """What could be compared, worst first, and why the rest could not."""

    disparities: tuple[Disparity, ...]
    reasons: tuple[str, ...]
    """Of columns without statistical parity: what was found and what to do."""


@dataclass(frozen=True, slots=True)
class _Measured:
    """Groups by position in the grouping's labels."""

    rows: Counts
    values: NDArray[np.float64]
    deviations: NDArray[np.float64] | None
    """Of one answer; None where `values` are shares."""


def measure_fairness(
    config: FairnessConfig, reference: Reference, summary: Summary, labelled: Labelled, min_shown: int = 0
) -> Fairness:
    """Compare the groups of every configured column that have `config.min_rows` rows, and `min_shown` at least."""
    positive = _find_positive(config, reference)
    if isinstance(positive, str):
        return Fairness((), (positive,))
    least, found, reasons = max(config.min_rows, min_shown, 1), [], []
    for index, name in enumerate(config.columns):
        grouping = _find_grouping(name, reference, summary)
        if isinstance(grouping, str):
            reasons.append(grouping)
            continue
        parity = _measure_answers(reference, summary.groups.get(name), len(grouping.labels), positive)
        compared = _compare(grouping, PARITY, parity, config.max_parity_difference, least)
        if compared is None:
            reasons.append(f"fewer than two groups of {name!r} have {least:,} rows: choose a longer window")
            continue
        found.append(compared)
        rates = _measure_labelled(labelled, index, len(grouping.labels), positive)
        if rates is not None:
            equal = _compare(grouping, OPPORTUNITY, rates, config.max_opportunity_difference, least)
            found += [] if equal is None else [equal]
    judged = [_judge(disparity, SIGNIFICANCE / len(found)) for disparity in found]
    judged.sort(key=lambda disparity: (not disparity.breached, disparity.limit - disparity.value, disparity.column))
    return Fairness(tuple(judged), tuple(reasons))


def check_fairness(found: Fairness, rows: int, config: FairnessConfig, min_rows: int) -> CheckResult:
    """Breached when any difference is; Unknown when a column could not be compared; `rows` is the window's."""
    if rows < min_rows:
        return too_few_rows(FAIRNESS, rows, min_rows)
    message = "; ".join(found.reasons)
    if not found.disparities:
        return CheckResult(name=FAIRNESS, state=UNKNOWN, message=message, rows=rows)
    worst = found.disparities[0]
    message = _describe(worst) + (f"; {message}" if message else "")
    if not any(disparity.metric == OPPORTUNITY for disparity in found.disparities):
        message += f"; {OPPORTUNITY} needs {config.min_rows:,} rows with a favourable label in each of two groups"
    groups = [(disparity.column, group) for disparity in found.disparities for group in disparity.groups]
    differences: dict[str, float] = {}
    for column, group in sorted(groups, key=lambda pair: -abs(pair[1].difference)):
        differences.setdefault(f"{column}={group.group}", round(group.difference, 6))
    return CheckResult(
        name=FAIRNESS,
        state=BREACHED if worst.breached else UNKNOWN if found.reasons else OK,
        message=message,
        value=round(worst.value, 6),
        limit=worst.limit,
        rows=rows,
        worst=tuple(FeatureFinding(name=name, value=value) for name, value in list(differences.items())[:5]),
    )


def _find_positive(config: FairnessConfig, reference: Reference) -> int | str:
    """Position of the favourable class in the version's classes, 0 of a regression; or what is wrong."""
    if reference.classes is None:
        return 0
    if config.positive_class is None:
        wanted = category_key(reference.classes[-1])
    else:
        wanted = category_key(config.positive_class)
    keys = [category_key(label) for label in reference.classes]
    if wanted in keys and wanted in reference.predictions["categories"]:
        return keys.index(wanted)
    return f"{wanted!r} is none of the version's classes that are counted: name another positive class"


def _find_grouping(name: str, reference: Reference, summary: Summary) -> Grouping | str:
    """The groups of a column; or why there are none, and what to do."""
    if name not in reference.features:
        return f"{name!r} is no feature of the version: name another column"
    if name in summary.redacted:
        return f"{name!r} isn't captured as it was sent: take it out of the deployment's redaction, or name another"
    grouping = build_grouping(name, reference.features[name])
    if grouping is None:
        return f"{name!r} has no groups, because it is a text, a moment or a constant: name another column"
    return grouping


def _measure_answers(reference: Reference, counts: Counts | None, groups: int, positive: int) -> _Measured:
    """The answers of each group, from its rows by cell of their prediction [groups, cells]."""
    if counts is None:
        return _Measured(np.zeros(groups, dtype=np.int64), np.zeros(groups), None)
    rows, entry = counts.sum(axis=1), reference.predictions
    total = np.maximum(rows, 1)
    if reference.classes is not None:
        cell = entry["categories"].index(category_key(reference.classes[positive]))
        return _Measured(rows, counts[:, cell] / total, None)
    if not entry["std"]:
        return _Measured(np.zeros_like(rows), np.zeros(groups), None)
    positions = entry_positions(entry) / entry["std"]
    means = counts @ positions / total
    variances = np.maximum(counts @ positions**2 / total - means**2, 0.0)
    return _Measured(rows, means, np.sqrt(variances))


def _measure_labelled(labelled: Labelled, column: int, groups: int, positive: int) -> _Measured | None:
    """The true positive rate of each group; None for a regression, and without the groups of labelled rows."""
    answers = labelled.answers
    if answers.classes is None or labelled.groups is None or column >= labelled.groups.shape[1]:
        return None
    codes = labelled.groups[:, column]
    favourable = (answers.truth == positive) & (codes != NO_GROUP)
    rows = np.bincount(codes[favourable], minlength=groups)
    right = np.bincount(codes[favourable & (answers.predictions == positive)], minlength=groups)
    return _Measured(rows, right / np.maximum(rows, 1), None)


def _compare(grouping: Grouping, metric: str, measured: _Measured, limit: float, least: int) -> Disparity | None:
    """The difference between the groups of at least `least` rows; None when there are fewer than two."""
    rows, values = measured.rows, measured.values
    large = np.flatnonzero(rows >= least)
    if len(large) < 2:
        return None
    overall = float(rows @ values / rows.sum())
    order = large[np.argsort(-values[large], kind="stable")]
    high, low = int(order[0]), int(order[-1])
    return Disparity(
        column=grouping.column,
        metric=metric,
        groups=tuple(
            GroupShare(grouping.labels[group], int(rows[group]), float(values[group]), float(values[group]) - overall)
            for group in order.tolist()
        ),
        value=float(values[high] - values[low]),
        limit=limit,
        p_value=min(1.0, _p_value(measured, high, low) * len(large) * (len(large) - 1)),
        breached=False,
    )


def _p_value(measured: _Measured, high: int, low: int) -> float:
    """One-sided, that the group `high` isn't above the group `low`."""
    rows, values = measured.rows, measured.values
    if measured.deviations is None:
        high_count, low_count = (round(float(values[group] * rows[group])) for group in (high, low))
        return excess_p_value(high_count, int(rows[high]), low_count, int(rows[low]))
    error = sqrt(sum(float(measured.deviations[group]) ** 2 / int(rows[group]) for group in (high, low)))
    difference = float(values[high] - values[low])
    return float(ndtr(-difference / error)) if error > 0 else float(difference <= 0)


def _judge(disparity: Disparity, level: float) -> Disparity:
    return replace(disparity, breached=disparity.value > disparity.limit and disparity.p_value < level)


def _describe(worst: Disparity) -> str:
    high, low = worst.groups[0], worst.groups[-1]
    values = f"{format_number(high.value)} for {high.group!r}, {format_number(low.value)} for {low.group!r}"
    text = f"worst: {worst.column!r} {worst.metric} difference {format_number(worst.value)}"
    chance = format_p_value(worst.p_value, sign=True)
    if worst.breached:
        return f"{text} > {format_number(worst.limit)} ({values}; p {chance})"
    if worst.value > worst.limit:
        return f"{text} > {format_number(worst.limit)}, which chance explains ({values}; p {chance})"
    return f"{text} ≤ {format_number(worst.limit)} ({values})"
