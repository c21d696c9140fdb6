"""How numbers and states read in messages and reports."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from modelkit.contract.result import CheckResult

OK, BREACHED, UNKNOWN = "OK", "Breached", "Unknown"
"""States of a check."""

MAX_MESSAGE, MAX_NAME = 1024, 256
"""Characters that a check's message, and a feature's name, may have in the status."""


def format_number(value: float) -> str:
    """Three significant digits, without an exponent where people would not write one."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    else:
        text = f"{value:.2e}"
    return text


def format_p_value(p_value: float, sign: bool = False) -> str:
    """`0.034` or `< 0.0001`; with `sign`, `= 0.034`."""
    if p_value < 1e-4:
        return "< 0.0001"
    return f"= {p_value:.2g}" if sign else f"{p_value:.2g}"


def format_share(share: float) -> str:
    """A share of 1 as per cent, with a decimal where it matters."""
    percent = 100 * share
    decimal = 0 < percent < 10 and round(percent, 1) != round(percent)
    return f"{percent:.1f} %" if decimal else f"{percent:.0f} %"


def plural(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def mention_skipped(check: CheckResult, segments: int) -> CheckResult:
    """Say that captured requests were lost, where there were any."""
    if segments == 0:
        return check
    verb = "was" if segments == 1 else "were"
    return replace(check, message=f"{check.message}; {plural(segments, 'damaged capture segment')} {verb} left out")


def mention_redacted(check: CheckResult, features: int) -> CheckResult:
    """Say that features weren't looked at because the captured rows don't hold them as they were sent."""
    if features == 0:
        return check
    verb = "was" if features == 1 else "were"
    return replace(check, message=f"{check.message}; {plural(features, 'redacted feature')} {verb} left out")


def too_few_rows(name: str, rows: int, min_rows: int) -> CheckResult:
    """A check that has no opinion because there was too little to look at."""
    found = "no rows" if rows == 0 else plural(rows, "row")
    return CheckResult(
        name=name,
        state=UNKNOWN,
        message=f"{found} in the window; at least {min_rows:,} are needed",
        rows=rows,
    )


def overall_state(checks: Sequence[CheckResult]) -> str:
    """Breached when any check is; Unknown only when nothing could be said."""
    return state_of({check.name: check.state for check in checks})


def state_of(checks: Mapping[str, str]) -> str:
    """The same of states by check."""
    states = set(checks.values())
    return BREACHED if BREACHED in states else OK if OK in states else UNKNOWN


def fit_status(check: CheckResult) -> CheckResult:
    """The check with texts that the status accepts; a column's name can be longer than that."""
    worst = tuple(replace(finding, name=shorten(finding.name, MAX_NAME)) for finding in check.worst)
    return replace(check, message=shorten(check.message, MAX_MESSAGE), worst=worst)


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters; where some were cut, the last is an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
