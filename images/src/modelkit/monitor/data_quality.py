"""DataQuality: are values missing, of the wrong type, of an unknown category or out of the range that was
learned? Does a feature that varied have one value only, and do rows repeat others?

Each share is compared with the reference's own: a column that always had gaps may have them. A finding must
be significant (Fisher's exact test, false-discovery rate over all columns and problems) and more than
`max_excess` above the reference.

A constant feature is found when its largest bin alone can't have filled the window by chance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelkit.contract.monitoring import DataQualityConfig
from modelkit.contract.result import CheckResult, FeatureFinding
from modelkit.monitor.counts import Column
from modelkit.monitor.duplicates import RowSketch
from modelkit.monitor.reference import Reference
from modelkit.monitor.statistics import discoveries, excess_p_value, recurrence_p_value
from modelkit.monitor.wording import BREACHED, OK, UNKNOWN, format_share, plural, too_few_rows

DATA_QUALITY = "DataQuality"

FALSE_DISCOVERY_RATE = 0.01
CONSTANT_CHANCE = 1e-6
"""A feature is constant when chance makes it so less often: small enough for hundreds of features in each window."""
DUPLICATE_SIGNIFICANCE = 0.01

MISSING, WRONG_TYPE = "missing", "of the wrong type"
UNSEEN, OUT_OF_RANGE = "of unknown categories", "out of range"
CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of bad value in one feature."""

    feature: str
    kind: str
    """`missing`, `of the wrong type`, `of unknown categories`, `out of range` or `constant`."""
    share: float
    """Of the window's rows; of a constant feature of those that have its one value."""
    reference_share: float
    found: bool
    """Significant and above the limit."""

    @property
    def excess(self) -> float:
        """Share above the reference's."""
        return self.share - self.reference_share


@dataclass(frozen=True, slots=True)
class _Question:
    feature: str
    kind: str
    count: int
    rows: int
    reference_count: int
    reference_rows: int


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Rows whose features repeat those of an earlier row."""

    share: float
    """Of the window's rows, as far as their captures are there."""
    rows: int
    """So many."""
    reference_share: float | None
    """Of the rows that the version learned from; None: its release didn't count them."""
    found: bool
    """Significantly more than in the reference, and more than is allowed."""


def find_duplicates(sketch: RowSketch, reference: Reference, config: DataQualityConfig) -> Duplicates | None:
    """The share of repeated rows; None without rows or features, whose repetition would say nothing."""
    if not sketch.rows or not reference.features:
        return None
    share, usual = sketch.share, reference.duplicates
    found = config.max_duplicates is not None and share > config.max_duplicates and usual is not None and share > usual
    if found and usual is not None:
        repeated, repeated_before = round(share * sketch.rows), round(usual * reference.rows)
        p_value = excess_p_value(repeated, sketch.rows, repeated_before, reference.rows)
        found = p_value < DUPLICATE_SIGNIFICANCE
    return Duplicates(share, sketch.rows, usual, found)


def find_problems(columns: Sequence[Column], config: DataQualityConfig, min_rows: int) -> tuple[Problem, ...]:
    """Every question that was asked of every column, worst first; a column that has `min_rows` values is asked
    whether it is constant."""
    questions = [question for column in columns for question in _questions(column) if question.rows > 0]
    significant = discoveries(
        [excess_p_value(q.count, q.rows, q.reference_count, q.reference_rows) for q in questions],
        FALSE_DISCOVERY_RATE,
    )
    problems = []
    for question, is_real in zip(questions, significant, strict=True):
        share = question.count / question.rows
        reference = question.reference_count / question.reference_rows if question.reference_rows else 0.0
        found = is_real and share - reference > config.max_excess
        problems.append(Problem(question.feature, question.kind, share, reference, found))
    for column in columns:
        if column.is_constant and column.window.valid >= min_rows and is_surprising(column):
            problems.append(Problem(column.name, CONSTANT, column.window.valid / column.window.rows, 0.0, found=True))
    return tuple(sorted(problems, key=lambda problem: (not problem.found, -problem.excess, problem.feature)))


def is_surprising(column: Column) -> bool:
    """Is it all but impossible that values of the reference are the same so often?

    No value is more frequent than the fullest bin: all but the first value must have fallen into that of the first.
    """
    most, total = int(column.reference.counts.max(initial=0)), column.reference.valid
    return most < total and recurrence_p_value(most, total, column.window.valid - 1) < CONSTANT_CHANCE


def _questions(column: Column) -> Iterator[_Question]:
    window, reference = column.window, column.reference
    yield _Question(column.name, MISSING, window.nulls, window.rows, reference.nulls, reference.rows)
    if column.ordered:
        yield _Question(column.name, WRONG_TYPE, window.invalid, window.rows, 0, reference.rows)
        # The reference's own two extremes stand for what is expected beyond them: about 2 of n + 1 new
        # values.
        extremes = min(2, reference.valid)
        yield _Question(column.name, OUT_OF_RANGE, window.outside, window.valid, extremes, reference.valid)
    else:
        singletons = column.entry["singletons"]
        yield _Question(column.name, UNSEEN, window.outside, window.valid, singletons, reference.valid)


def check_data_quality(
    problems: Sequence[Problem],
    duplicates: Duplicates | None,
    features: int,
    rows: int,
    config: DataQualityConfig,
    min_rows: int,
) -> CheckResult:
    """Breached when any problem was found, or too many repeated rows; `problems` as `find_problems` orders them."""
    if rows < min_rows:
        return too_few_rows(DATA_QUALITY, rows, min_rows)
    if not problems:
        return CheckResult(name=DATA_QUALITY, state=UNKNOWN, message="there is no feature to look at", rows=rows)
    found = [problem for problem in problems if problem.found]
    worst: dict[str, float] = {}
    for problem in found:
        worst.setdefault(problem.feature, round(problem.share, 6))
    return CheckResult(
        name=DATA_QUALITY,
        state=BREACHED if found else _judge_duplicates(duplicates, config),
        message=_describe(found, len(worst), features, config) + _describe_duplicates(duplicates, config),
        value=round(max(0.0, problems[0].excess), 6),
        limit=config.max_excess,
        rows=rows,
        worst=tuple(FeatureFinding(name=name, value=share) for name, share in list(worst.items())[:5]),
    )


def _describe(found: Sequence[Problem], affected: int, features: int, config: DataQualityConfig) -> str:
    limit = f"{config.max_excess * 100:g} points"
    if not found:
        return (
            f"none of {plural(features, 'feature')} has {limit} more missing, mistyped, unknown or "
            "out-of-range values than the reference"
        )
    worst = found[0]
    bad = f"bad values in {affected} of {plural(features, 'feature')}; worst: "
    if worst.kind == CONSTANT:
        return f"{bad}{worst.feature!r} has one value only, but varied in the reference"
    return (
        f"{bad}{format_share(worst.share)} of {worst.feature!r} {worst.kind} "
        f"({format_share(worst.reference_share)} in the reference, at most {limit} more allowed)"
    )


def _judge_duplicates(duplicates: Duplicates | None, config: DataQualityConfig) -> str:
    if duplicates is None or config.max_duplicates is None:
        return OK
    if duplicates.reference_share is None and duplicates.share > config.max_duplicates:
        return UNKNOWN
    return BREACHED if duplicates.found else OK


def _describe_duplicates(duplicates: Duplicates | None, config: DataQualityConfig) -> str:
    if duplicates is None:
        return ""
    usual = duplicates.reference_share
    known = "in the reference unknown: train again with this release"
    if usual is not None:
        known = f"{format_share(usual)} in the reference"
    allowed = "" if config.max_duplicates is None else f", at most {format_share(config.max_duplicates)} allowed"
    return f"; {format_share(duplicates.share)} of the rows repeat another ({known}{allowed})"
