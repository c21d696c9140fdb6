"""The gate that data must pass before anything is learnt from it.

Pure: a table, what is stated of it and what the champion's table looked like give findings. Each names column, rule,
value and limit and says what to do; a severe one refuses the run, another is a warning. Nothing here is of a row: no
finding quotes a value.

A limit that isn't stated is wide on purpose. New data differs a little from old data always, which is why one trains
again; what is refused is what no honest change of the world does to a table, or what would be learnt in silence.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from modelkit.contract.config import DataConfig
from modelkit.contract.recipe import ValidationConfig
from modelkit.contract.result import Finding
from modelkit.data.column_rules import Baseline, ColumnRules, differs, percent
from modelkit.data.description import ColumnDescription, SourceDescription
from modelkit.data.suggest import suggest
from modelkit.errors import RefusedError

IGNORE, WARN, FAIL = "Ignore", "Warn", "Fail"

FEWEST_ROWS_SHARE = 0.5
"""Of the baseline's rows; fewer look cut off."""
FAR = 0.3
"""Distance from what it was above which a number column is another one."""
NEAR = 0.15
"""Distance below which a number column may be the one that another was. Deciles tell distances in steps of 0.1."""
LABEL_SHIFT = 0.1
"""How far the share of a class is from the baseline's before it is told."""


def validate_table(
    frame: pd.DataFrame,
    found: SourceDescription,
    data: DataConfig,
    validation: ValidationConfig,
    baseline: Baseline | None,
) -> list[Finding]:
    """All findings about columns and rows, the severe ones first, else in the order of the table's columns.

    `found` describes `frame`; `baseline` is None without a champion, or when only what is stated counts.
    """
    stated = {column.name: column for column in validation.columns}
    findings = [*_check_rows(frame, found, validation, baseline), *_check_stated_presence(found, validation)]
    if baseline is not None:
        findings.extend(_check_schema(found, data, validation, baseline))
        findings.extend(_check_swaps(found, data, baseline))
    known = {} if baseline is None else {column.name: column for column in baseline.source.columns}
    relevant = feature_names(found, data) | {data.target}
    for column in found.columns:
        rules = ColumnRules(frame[column.name], column, stated.get(column.name), known.get(column.name), baseline)
        if column.name in stated:
            findings.extend(rules.check_statement())
        if column.name in known and (column.name in relevant or column.is_unique or known[column.name].is_unique):
            findings.extend(rules.check_baseline())
    return severe_first(findings)


def feature_names(found: SourceDescription, data: DataConfig) -> set[str]:
    """The named features, or every column but the target, the weight, the group and the time column."""
    if data.features:
        return set(data.features)
    return {column.name for column in found.columns} - {data.target, data.weight, data.group, data.time}


def severe_first(findings: Iterable[Finding]) -> list[Finding]:
    """Severe findings, then warnings, each in the order they came."""
    return sorted(findings, key=lambda finding: not finding.severe)


def refuse_severe(findings: Sequence[Finding]) -> None:
    """Raise RefusedError (DataInvalid) with the first severe findings, if there is one."""
    severe = [finding for finding in findings if finding.severe]
    if severe:
        more = f"; and {len(severe) - 3} more" if len(severe) > 3 else ""
        told = "; ".join(finding.message for finding in severe[:3])
        raise RefusedError("DataInvalid", f"the data isn't as expected: {told}{more}", findings)


def check_labels(
    shares: Mapping[str, float], rows: int, target: str, validation: ValidationConfig, baseline: Baseline | None
) -> list[Finding]:
    """Findings about the shares of the target's classes (0 to 1 by class)."""
    findings = []
    rarest = min(shares.values(), default=1.0)
    if validation.min_label_share is not None and rarest < validation.min_label_share:
        findings.append(
            Finding(
                column=target,
                rule="LabelShare",
                value=rarest,
                limit=validation.min_label_share,
                message=f"the rarest class of the target {target!r} has {percent(rarest)} of {rows} rows, less than "
                f"{percent(validation.min_label_share)}: add rows of it, or lower validation.minLabelShare",
                severe=True,
            )
        )
    before = {} if baseline is None or baseline.source.target != target else baseline.source.class_shares
    if baseline is None or not before or not shares:
        return findings
    names = sorted(set(shares) | set(before))
    apart = {name: abs(shares.get(name, 0.0) - before.get(name, 0.0)) for name in names}
    worst = max(names, key=lambda name: apart[name])
    limit = LABEL_SHIFT if validation.max_label_shift is None else validation.max_label_shift
    old, new = before.get(worst, 0.0), shares.get(worst, 0.0)
    if apart[worst] > limit and differs(new, rows, old, baseline.source.rows):
        stated = validation.max_label_shift is not None
        findings.append(
            Finding(
                column=target,
                rule="LabelShift",
                value=apart[worst],
                limit=limit,
                message=f"a class of the target {target!r} has {percent(new)} of the rows, {percent(old)} in "
                f"{baseline.name}'s data, which is more apart than {percent(limit)}: "
                + ("mend the labels, or raise validation.maxLabelShift" if stated else "check how labels are made"),
                severe=stated,
            )
        )
    return severe_first(findings)


def _check_rows(
    frame: pd.DataFrame, found: SourceDescription, validation: ValidationConfig, baseline: Baseline | None
) -> Iterator[Finding]:
    rows = found.rows
    if validation.min_rows is not None:
        if rows < validation.min_rows:
            yield Finding(
                rule="TooFewRows",
                value=float(rows),
                limit=float(validation.min_rows),
                message=f"there are {rows} rows, fewer than {validation.min_rows}: add rows, or lower "
                "validation.minRows",
                severe=True,
            )
    elif baseline is not None and rows < FEWEST_ROWS_SHARE * baseline.source.rows:
        limit = math.ceil(FEWEST_ROWS_SHARE * baseline.source.rows)
        yield Finding(
            rule="TooFewRows",
            value=float(rows),
            limit=float(limit),
            message=f"there are {rows} rows, less than half of the {baseline.source.rows} of {baseline.name}'s data, "
            "as if they were cut off: mend the source, or set validation.minRows to what is enough",
            severe=True,
        )
    if validation.duplicates != IGNORE:
        repeated = count_duplicates(frame)
        if rows and repeated > validation.max_duplicate_share * rows:
            yield Finding(
                rule="DuplicateRows",
                value=repeated / rows,
                limit=validation.max_duplicate_share,
                message=f"{repeated} of {rows} rows ({percent(repeated / rows)}) are there already, more than "
                f"{percent(validation.max_duplicate_share)}: remove them, or raise validation.maxDuplicateShare",
                severe=validation.duplicates == FAIL,
            )


def count_duplicates(frame: pd.DataFrame) -> int:
    """Rows that are equal to an earlier one, by a 64-bit hash of each row."""
    if not len(frame.columns):
        return 0
    return int(pd.Series(pd.util.hash_pandas_object(frame, index=False).to_numpy()).duplicated().sum())


def _check_stated_presence(found: SourceDescription, validation: ValidationConfig) -> Iterator[Finding]:
    there = [column.name for column in found.columns]
    for column in validation.columns:
        if column.required and column.name not in there:
            yield Finding(
                column=column.name,
                rule="MissingColumn",
                value=0.0,
                limit=1.0,
                message=f"column {column.name!r} isn't there, which validation.columns requires"
                + (suggest(column.name, there) or ": add it, or set required: false"),
                severe=True,
            )


def _check_swaps(found: SourceDescription, data: DataConfig, baseline: Baseline) -> Iterator[Finding]:
    """Two number columns whose values are where the other's were: another order below the same header."""
    meant = feature_names(found, data)
    now = {column.name: column for column in found.columns if column.deciles and column.name in meant}
    then = {column.name: column for column in baseline.source.columns if column.deciles and column.used}
    moved = [name for name in now if name in then and distance(now[name], then[name]) > FAR]
    for index, one in enumerate(moved):
        for other in moved[index + 1 :]:
            apart = max(distance(now[one], then[other]), distance(now[other], then[one]))
            if apart < NEAR:
                yield Finding(
                    column=one,
                    rule="SwappedColumns",
                    value=apart,
                    limit=NEAR,
                    message=f"columns {one!r} and {other!r} hold what the other held in {baseline.name}'s data: put "
                    "the values below their names again, or set validation.baseline to None when it is meant",
                    severe=True,
                )


def distance(one: ColumnDescription, other: ColumnDescription) -> float:
    """The largest difference of two columns' cumulative shares at the deciles of both (0 to 1), which is the
    Kolmogorov-Smirnov distance of what the deciles tell of them."""
    return max(_largest_gap(one, other), _largest_gap(other, one))


def _largest_gap(one: ColumnDescription, other: ColumnDescription) -> float:
    points = np.array([other.minimum, *other.deciles, other.maximum], dtype=np.float64)
    shares = np.linspace(0, 1, len(points))
    # Of tied deciles a value lies anywhere between the lowest and the highest.
    low = shares[np.maximum(np.searchsorted(points, one.deciles, "left") - 1, 0)]
    high = shares[np.minimum(np.searchsorted(points, one.deciles, "right"), len(points) - 1)]
    own = np.arange(1, 10) / 10
    return float(np.max(np.maximum(np.maximum(low - own, own - high), 0.0)))


def _check_schema(
    found: SourceDescription, data: DataConfig, validation: ValidationConfig, baseline: Baseline
) -> Iterator[Finding]:
    """Columns that came, went or moved. Who names the features has said which columns are meant."""
    there = [column.name for column in found.columns]
    stated = {column.name for column in validation.columns}
    for column in baseline.source.columns:
        is_meant = bool(data.features) and column.name not in data.features
        if column.name not in there and not is_meant and column.name not in {data.target, *stated}:
            yield Finding(
                column=column.name,
                rule="MissingColumn",
                value=0.0,
                limit=1.0,
                message=f"column {column.name!r} isn't there, which {baseline.name}'s data had"
                + (suggest(column.name, there) or ": add it, or name the features that are left in data.features"),
                severe=column.used,
            )
    if data.features or not baseline.source.whole:
        return
    before = [column.name for column in baseline.source.columns]
    special = {data.target, data.weight, data.group, data.time}
    if validation.extra_columns != IGNORE:
        for name in there:
            if name not in before and name not in special | stated:
                yield Finding(
                    column=name,
                    rule="ExtraColumn",
                    value=1.0,
                    limit=0.0,
                    message=f"column {name!r} wasn't in {baseline.name}'s data: name the features in data.features, or "
                    "set validation.extraColumns to Ignore, when it is wanted",
                    severe=validation.extra_columns == FAIL,
                )
    if validation.column_order != IGNORE:
        now, then = [name for name in there if name in before], [name for name in before if name in there]
        moved = [name for name, other in zip(now, then, strict=True) if name != other]
        if moved:
            yield Finding(
                column=moved[0],
                rule="ColumnOrder",
                value=float(len(moved)),
                limit=0.0,
                message=f"{len(moved)} columns are elsewhere than in {baseline.name}'s data, first {moved[0]!r}, "
                "as if values and header didn't belong together: name the features in data.features, or set "
                "validation.columnOrder to Ignore, when they do",
                severe=validation.column_order == FAIL,
            )
