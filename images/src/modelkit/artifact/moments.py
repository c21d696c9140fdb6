"""Points in time at the boundary of a model: ISO 8601 text outside, seconds since 1970-01-01 UTC inside.

The same functions serve training and requests, so that a moment is the same number in both. What is finer than a
microsecond is cut off, which makes text and number of a moment each other's exact inverse from the year 1900 to 2100;
further away, float64 is a few microseconds coarse.
"""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PER_SECOND = 1_000_000


def to_seconds(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 date or date with time; without an offset it is UTC.

    Raises ValueError, without the text in its message, for anything else.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return float((moment - _EPOCH) // _MICROSECOND) / _PER_SECOND
    except (ValueError, OverflowError):
        raise ValueError("not an ISO 8601 date") from None


def to_text(seconds: float) -> str:
    """ISO 8601 text in UTC of finite `seconds` since 1970; raises ValueError outside of the years 1 to 9999."""
    try:
        return (_EPOCH + timedelta(microseconds=round(seconds * _PER_SECOND))).isoformat().replace("+00:00", "Z")
    except OverflowError:
        raise ValueError("not a moment of the years 1 to 9999") from None
