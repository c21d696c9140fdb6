"""The streams of `make bench-loop`: rows in an order, and where the world changes."""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.report import FOLDER
from devcluster.environments import locked_python

ROOT = Path(__file__).resolve().parents[1]
STORED = FOLDER / "loop"
SOURCE = 10
"""Windows whose rows are the training source."""
SUDDEN, RECURRING, GRADUAL, NONE = "sudden", "recurring", "gradual", "none"


@dataclass(frozen=True, slots=True)
class Plan:
    """A stream of `bench/peers/river_streams.py`."""

    name: str
    kind: str
    drifts: tuple[float, ...] = ()
    """After which shares of the rows behind the source it changes, or begins to. Empty: it always does, or never."""
    window: int = 500
    """Rows of a window."""


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """A stream that was read."""

    plan: Plan
    seed: int
    rows: NDArray[np.float64]
    """[n, features]"""
    labels: NDArray[np.int64]
    """[n]"""

    @property
    def windows(self) -> int:
        """How many whole windows it has."""
        return len(self.labels) // self.plan.window

    @property
    def changes(self) -> tuple[int, ...]:
        """The windows in which its changes begin."""
        served = self.windows - SOURCE
        return tuple(SOURCE + int(share * served) for share in self.plan.drifts)


DRIFTING = (
    Plan("sea-sudden", SUDDEN, (0.25, 0.5, 0.75)),
    Plan("agrawal-sudden", SUDDEN, (0.25, 0.5, 0.75)),
    Plan("led-sudden", SUDDEN, (1 / 3, 2 / 3)),
    Plan("sine-sudden", SUDDEN, (1 / 3, 2 / 3)),
    Plan("stagger-recurring", RECURRING, (0.25, 0.5, 0.75)),
    Plan("mixed-recurring", RECURRING, (0.25, 0.5, 0.75)),
    Plan("agrawal-recurring", RECURRING, (0.25, 0.5, 0.75)),
    # A logistic curve: at half its width before its middle a row in eight is of the new world.
    Plan("sea-gradual", GRADUAL, (0.397,)),
    Plan("agrawal-gradual", GRADUAL, (0.449,)),
    Plan("hyperplane-gradual", GRADUAL),
    Plan("rbf-gradual", GRADUAL),
)
STEADY = (
    Plan("sea-none", NONE),
    Plan("agrawal-none", NONE),
    Plan("led-none", NONE),
    Plan("hyperplane-none", NONE),
    Plan("bananas-none", NONE, window=100),
    Plan("segments-none", NONE, window=100),
)


def make_streams(wanted: Iterable[tuple[Plan, int]]) -> None:
    """Have river write those of the (plan, seed) that aren't stored yet, in an environment of its own."""
    missing = [(plan.name, str(seed)) for plan, seed in wanted if not _path(plan, seed).exists()]
    if not missing:
        return
    STORED.mkdir(parents=True, exist_ok=True)
    python = locked_python(ROOT / "requirements" / "others" / "river.lock", FOLDER / "peers" / "river")
    script = ROOT / "bench" / "peers" / "river_streams.py"
    subprocess.run([python, script, STORED, *(part for pair in missing for part in pair)], check=True)


def read_stream(plan: Plan, seed: int) -> Stream:
    """One that `make_streams` stored."""
    with np.load(_path(plan, seed)) as stored:
        return Stream(plan, seed, stored["rows"], stored["labels"])


def _path(plan: Plan, seed: int) -> Path:
    return STORED / f"{plan.name}-{seed}.npz"
