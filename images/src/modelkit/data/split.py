"""Which rows are learnt from and which are kept back for the test: seeded, and stratified for classes."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.errors import RefusedError

Positions = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Row positions, in the order in which scikit-learn's `train_test_split` gives them."""

    train: Positions
    test: Positions


def split_rows(target: NDArray[Any], fraction: float, seed: int, *, stratify: bool) -> Split:
    """Keep back `fraction` (0 to 1) of the rows of `target`; raises RefusedError when there are too few rows.

    The same as `train_test_split(..., test_size=fraction, random_state=seed, stratify=target)`.
    """
    from sklearn.model_selection import train_test_split

    if stratify:
        smallest, classes = min(Counter(target.tolist()).values()), len(set(target.tolist()))
        # Each class needs a row on both sides, and each side a row of every class.
        side = min(int(np.ceil(len(target) * fraction)), len(target) - int(np.ceil(len(target) * fraction)))
        if smallest < 2 or side < classes:
            raise RefusedError(
                "TooFewRows",
                f"{len(target)} rows, of which the smallest of {classes} classes has {smallest}, can't be split "
                f"with a test part of {fraction:.0%}; add rows, or leave rare classes out",
            )
    elif len(target) < 2:
        raise RefusedError("TooFewRows", f"{len(target)} row can't be split into a training and a test part")
    train, test = train_test_split(
        np.arange(len(target)),
        test_size=fraction,
        random_state=seed,
        stratify=target if stratify else None,
    )
    return Split(train, test)
