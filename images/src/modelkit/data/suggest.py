"""The end of a message about an unknown name: which known one was probably meant."""

import difflib
from collections.abc import Iterable

_MOST_NAMES = 20


def suggest(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` with the nearest of `known`, or nothing when none is near."""
    names = list(known)
    lowered = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[near[0]]!r}?" if near else ""


def enumerate_names(names: Iterable[str]) -> str:
    """Names for a message, at most 20 of them."""
    shown = list(names)
    more = f" and {len(shown) - _MOST_NAMES} more" if len(shown) > _MOST_NAMES else ""
    return ", ".join(shown[:_MOST_NAMES]) + more
