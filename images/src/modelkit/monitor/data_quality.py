"""DataQuality: are values missing, of the wrong type, of an unknown category or out of the range that was
learned?

Each share is compared with the reference's own: a column that always had gaps may have them. A finding must
be significant (Fisher's exact test, false-discovery rate over all columns and problems) and at least
`EXCESS_LIMIT` above the reference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelkit.contract.result import CheckResult, FeatureFinding
from modelkit.monitor.counts import Column
from modelkit.monitor.statistics import discoveries, excess_p_value
from modelkit.monitor.wording import BREACHED, OK, UNKNOWN, format_share, plural, too_few_rows

DATA_QUALITY = "DataQuality"

EXCESS_LIMIT = 0.05
"""Share of the rows by which a problem may exceed the reference."""
FALSE_DISCOVERY_RATE = 0.01

MISSING, WRONG_TYPE = "missing", "of the wrong type"
UNSEEN, OUT_OF_RANGE = "of unknown categories", "out of range"


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of bad value in one feature."""

    feature: str
    kind: str
    """`missing`, `of the wrong type`, `of unknown categories` or `out of range`."""
    share: float
    """Of the window's rows."""
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


def find_problems(columns: Sequence[Column]) -> tuple[Problem, ...]:
    """Every question that was asked of every column, worst first."""
    questions = [question for column in columns for question in _questions(column) if question.rows > 0]
    significant = discoveries(
        [excess_p_value(q.count, q.rows, q.reference_count, q.reference_rows) for q in questions],
        FALSE_DISCOVERY_RATE,
    )
    problems = []
    for question, is_real in zip(questions, significant, strict=True):
        share = question.count / question.rows
        reference = question.reference_count / question.reference_rows if question.reference_rows else 0.0
        found = is_real and share - reference > EXCESS_LIMIT
        problems.append(Problem(question.feature, question.kind, share, reference, found))
    return tuple(sorted(problems, key=lambda problem: (not problem.found, -problem.excess, problem.feature)))


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


def check_data_quality(problems: Sequence[Problem], features: int, rows: int, min_rows: int) -> CheckResult:
    """Breached when any problem was found; `problems` as `find_problems` orders them."""
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
        state=BREACHED if found else OK,
        message=_describe(found, len(worst), features),
        value=round(max(0.0, problems[0].excess), 6),
        limit=EXCESS_LIMIT,
        rows=rows,
        worst=tuple(FeatureFinding(name=name, value=share) for name, share in list(worst.items())[:5]),
    )


def _describe(found: Sequence[Problem], affected: int, features: int) -> str:
    limit = f"{EXCESS_LIMIT * 100:.0f} points"
    if not found:
        return (
            f"none of {plural(features, 'feature')} has {limit} more missing, mistyped, unknown or "
            "out-of-range values than the reference"
        )
    worst = found[0]
    return (
        f"bad values in {affected} of {plural(features, 'feature')}; worst: {format_share(worst.share)} of "
        f"{worst.feature!r} {worst.kind} ({format_share(worst.reference_share)} in the reference, "
        f"at most {limit} more allowed)"
    )
