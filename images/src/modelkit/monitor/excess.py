"""A value that is beyond its limit by more than chance explains: when it counts, and how that reads."""

from modelkit.monitor.wording import format_number, format_p_value

SIGNIFICANCE = 0.05
"""Chance of a value like the one seen when the real one is just at its limit; less counts."""


def is_beyond(value: float, limit: float, p_value: float) -> bool:
    """Is it larger than allowed, beyond chance?"""
    return value > limit and p_value < SIGNIFICANCE


def describe_excess(name: str, value: float, limit: float, p_value: float) -> str:
    """`drop 0.1 > 0.05 (p = 0.01)` and the like; a value below 0 reads as 0."""
    shown, allowed = format_number(max(0.0, value)), format_number(limit)
    if value <= limit:
        return f"{name} {shown} ≤ {allowed}"
    chance = format_p_value(p_value, sign=True)
    if is_beyond(value, limit, p_value):
        return f"{name} {shown} > {allowed} (p {chance})"
    return f"{name} {shown} > {allowed}, which may be chance (p {chance})"
