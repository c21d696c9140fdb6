"""How numbers and states read in messages and reports."""

from modelkit.contract.result import CheckResult

OK, BREACHED, UNKNOWN = "OK", "Breached", "Unknown"
"""States of a check."""

MAX_MESSAGE = 1024
"""Characters that a check's message may have in the status."""


def format_number(value: float) -> str:
    """Three significant digits, without an exponent where people would not write one."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    else:
        text = f"{value:.2e}"
    return text


def format_share(share: float) -> str:
    """A share of 1 as per cent, with a decimal where it matters."""
    percent = 100 * share
    decimal = 0 < percent < 10 and round(percent, 1) != round(percent)
    return f"{percent:.1f} %" if decimal else f"{percent:.0f} %"


def plural(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def too_few_rows(name: str, rows: int, min_rows: int) -> CheckResult:
    """A check that has no opinion because there was too little to look at."""
    found = "no rows" if rows == 0 else plural(rows, "row")
    return CheckResult(
        name=name,
        state=UNKNOWN,
        message=f"{found} in the window; at least {min_rows:,} are needed",
        rows=rows,
    )
