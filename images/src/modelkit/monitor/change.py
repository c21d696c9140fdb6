"""Has the model become worse since some window? A search for a change over all windows of the version.

One window tells a large loss only. A small one shows itself over many: the windows of the version, its own test rows
first, are split into earlier and later ones at every window, and at the split where the loss is clearest it is
tested (a generalized likelihood ratio test for a change of the mean with unknown levels, Siegmund and Venkatraman
1995). Where the loss began says which rows are of the new world.

Each split's one-sided p-value is that of a difference of two means, weighted by precision; the smallest is multiplied
by the number of splits (Bonferroni), so that on unchanged data a look alarms with at most the stated chance. Looks
that follow each other share nearly all of their rows: alarms of a whole stream are far fewer than looks times chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from scipy.special import ndtr

from modelkit.contract.metrics import LOWER_IS_BETTER
from modelkit.contract.result import TimelinePoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The metric of some rows."""

    start: datetime | None
    """Of their window; None for the version's own test."""
    value: float
    error: float
    """Standard error, positive."""
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The clearest loss between earlier and later rows of one version."""

    since: datetime
    """Start of the first window of the later ones."""
    before: float
    after: float
    drop: float
    """From `before` to `after`; in the metric's unit, negative when it became better."""
    p_value: float
    """Chance of a loss as clear as this at any split, when the real one is at most the allowed one."""
    labels: int
    """Of the later windows."""
    is_clear: bool
    """The chance is below the stated one."""


def select_levels(
    points: Sequence[TimelinePoint], version: int, version_since: datetime, start: datetime, window: timedelta
) -> list[Level]:
    """Windows of `version` that end by `start`, oldest first, none overlapping another: a row must count once.

    `window` is the length of a window; that of a new version begins with it.
    """
    chosen: list[Level] = []
    for point in sorted(points, key=lambda point: point.end, reverse=True):
        if point.version != version or point.quality is None or not point.error or point.end > start:
            continue
        start = max(point.end - window, version_since)
        chosen.append(Level(start=start, value=point.quality, error=point.error, rows=point.labels))
    return chosen[::-1]


def find_change(metric: str, levels: Sequence[Level], max_drop: float, chance: float) -> Change | None:
    """The split of `levels` (oldest first, at least two) at which a loss of more than `max_drop` is clearest.

    It is clear when chance alone shows one like it in less than the share `chance` of looks.
    """
    if len(levels) < 2:
        return None
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    values = np.array([level.value for level in levels])
    weights = np.array([level.error for level in levels]) ** -2.0
    sums, total = np.cumsum(weights * values)[:-1], float(weights @ values)
    masses, mass = np.cumsum(weights)[:-1], float(weights.sum())
    before, after = sums / masses, (total - sums) / (mass - masses)
    drops = sign * (before - after)
    deviations = (drops - max_drop) / np.sqrt(1 / masses + 1 / (mass - masses))
    split = int(deviations.argmax())
    first = levels[split + 1]
    assert first.start is not None, "only the first level is of no window"
    p_value = min(1.0, float(ndtr(-deviations[split])) * len(deviations))
    return Change(
        since=first.start,
        before=float(before[split]),
        after=float(after[split]),
        drop=float(drops[split]),
        p_value=p_value,
        is_clear=p_value < chance,
        labels=sum(level.rows for level in levels[split + 1 :]),
    )
