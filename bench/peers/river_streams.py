"""Writes streams of river, whose drifts are known, as NumPy archives; runs in an environment of river's own.

`python river_streams.py FOLDER NAME SEED [NAME SEED …]` writes `FOLDER/NAME-SEED.npz` with `rows` [n, features],
`labels` [n], codes of the sorted classes.
"""

import itertools
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from river import datasets
from river.datasets import synth

SOURCE, SERVED = 5_000, 39_000
"""Rows of the training source, and those that come after."""
Row = tuple[dict, object]


def sequence(concepts: list, width: int, seed: int) -> Iterator[Row]:
    """One concept after the other, each for as long; `width` rows around a change mix both, 0: none do."""
    step = SERVED // len(concepts)
    if not width:
        first = itertools.islice(iter(concepts[0]), SOURCE + step)
        return itertools.chain(first, *(itertools.islice(iter(concept), step) for concept in concepts[1:]))
    before, after = concepts
    return iter(synth.ConceptDriftStream(before, after, seed=seed, position=SOURCE + step, width=width))


def sea(variants: list[int], seed: int) -> list:
    """Concepts of SEA with a tenth of the labels wrong."""
    return [synth.SEA(variant=variant, seed=seed + 100 * i, noise=0.1) for i, variant in enumerate(variants)]


def agrawal(functions: list[int], seed: int) -> list:
    """Concepts of Agrawal's loans."""
    return [
        synth.Agrawal(classification_function=function, seed=seed + 100 * i, perturbation=0.05)
        for i, function in enumerate(functions)
    ]


def stagger(functions: list[int], seed: int) -> list:
    """Concepts of STAGGER, without noise."""
    return [
        synth.STAGGER(classification_function=function, seed=seed + 100 * i) for i, function in enumerate(functions)
    ]


def mixed(functions: list[int], seed: int) -> list:
    """Two concepts, each the other's opposite."""
    return [synth.Mixed(classification_function=function, seed=seed + 100 * i) for i, function in enumerate(functions)]


def sine(functions: list[int], seed: int) -> list:
    """Curves through a square."""
    return [synth.Sine(classification_function=function, seed=seed + 100 * i) for i, function in enumerate(functions)]


def led(drifting: list[int], seed: int) -> list:
    """Digits of seven segments among 17 lamps that mean nothing, a tenth of them wrong; so many swapped."""
    return [
        synth.LEDDrift(seed=seed, noise_percentage=0.1, irrelevant_features=True, n_drift_features=count)
        for count in drifting
    ]


def hyperplane(magnitude: float, seed: int) -> synth.Hyperplane:
    """A turning plane in ten dimensions."""
    return synth.Hyperplane(seed=seed, n_features=10, n_drift_features=5, mag_change=magnitude, noise_percentage=0.05)


def rbf(speed: float, seed: int) -> synth.RandomRBFDrift:
    """Moving clouds of points."""
    return synth.RandomRBFDrift(
        seed_model=seed, seed_sample=seed + 1, n_classes=3, n_features=6, n_centroids=20, change_speed=speed,
        n_drift_centroids=20,
    )  # fmt: skip


def shuffled(data: datasets.base.Dataset, seed: int) -> Iterator[Row]:
    """Real rows in an order that tells nothing."""
    rows = list(data)
    random.Random(seed).shuffle(rows)
    return iter(rows)


STREAMS: dict[str, Callable[[int], Iterator[Row]]] = {
    "sea-sudden": lambda seed: sequence(sea([0, 2, 1, 3], seed), 0, seed),
    "agrawal-sudden": lambda seed: sequence(agrawal([0, 2, 5, 8], seed), 0, seed),
    "led-sudden": lambda seed: sequence(led([0, 3, 7], seed), 0, seed),
    "sine-sudden": lambda seed: sequence(sine([0, 2, 3], seed), 0, seed),
    "stagger-recurring": lambda seed: sequence(stagger([0, 1, 0, 2], seed), 0, seed),
    "mixed-recurring": lambda seed: sequence(mixed([0, 1, 0, 1], seed), 0, seed),
    "agrawal-recurring": lambda seed: sequence(agrawal([1, 4, 1, 4], seed), 0, seed),
    "sea-gradual": lambda seed: sequence(sea([0, 3], seed), 8_000, seed),
    "agrawal-gradual": lambda seed: sequence(agrawal([2, 6], seed), 4_000, seed),
    "hyperplane-gradual": lambda seed: iter(hyperplane(0.001, seed)),
    "rbf-gradual": lambda seed: iter(rbf(0.00002, seed)),
    "sea-none": lambda seed: sequence(sea([0], seed), 0, seed),
    "agrawal-none": lambda seed: sequence(agrawal([2], seed), 0, seed),
    "led-none": lambda seed: sequence(led([0], seed), 0, seed),
    "hyperplane-none": lambda seed: iter(hyperplane(0.0, seed)),
    "bananas-none": lambda seed: shuffled(datasets.Bananas(), seed),
    "segments-none": lambda seed: shuffled(datasets.ImageSegments(), seed),
}


def write(folder: Path, name: str, seed: int) -> None:
    """One stream; numbers stay numbers, everything else becomes a code."""
    pairs = list(itertools.islice(STREAMS[name](seed), SOURCE + SERVED))
    keys = list(pairs[0][0])
    rows = np.array([[float(row[key]) for key in keys] for row, _ in pairs])
    _, codes = np.unique(np.array([str(label) for _, label in pairs]), return_inverse=True)
    path = folder / f"{name}-{seed}.npz"
    part = path.with_suffix(".part.npz")
    np.savez(part, rows=rows, labels=codes.astype(np.int64))
    part.rename(path)


if __name__ == "__main__":
    target, wanted = Path(sys.argv[1]), sys.argv[2:]
    for stream, number in zip(wanted[::2], wanted[1::2], strict=True):
        write(target, stream, int(number))
