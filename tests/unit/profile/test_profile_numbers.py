"""Numbers that come back a little different, and numbers that are too large to be averaged."""

import json

import numpy as np
import pytest

from modelkit.data.profile import NUMERIC, build_profile, confidence_score, count_numeric, reference_histogram


def profile_of(values: np.ndarray, scores: np.ndarray | None = None) -> dict:
    labels = np.array(["a", "b"])[np.arange(len(values)) % 2]
    return build_profile({"x": values}, {"x": NUMERIC}, labels, scores, "Classification", ["a", "b"])


@pytest.mark.parametrize("trees", [10, 50, 300])
def test_a_forests_probabilities_are_in_the_same_bins_as_single_precision_numbers(trees: int) -> None:
    votes = np.random.default_rng(0).integers(0, trees + 1, 2000) / trees
    scores = np.stack([votes, 1 - votes], axis=1)
    entry = profile_of(np.arange(2000.0), scores)["scores"]
    confidence = confidence_score(scores)
    single = count_numeric(entry, confidence.astype(np.float32).astype(np.float64))
    assert single.counts.tolist() == reference_histogram(entry).counts.tolist()


def test_edges_of_whole_numbers_stay_whole() -> None:
    entry = profile_of(np.random.default_rng(0).integers(0, 1000, 3000).astype(float))["features"]["x"]
    assert all(edge == int(edge) for edge in entry["edges"])


def test_numbers_that_are_too_large_to_be_averaged_have_a_profile_in_plain_json() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 500) * 1.7e308
    profile = profile_of(values)
    entry = json.loads(json.dumps(profile, allow_nan=False))["features"]["x"]
    assert entry["std"] is None
    assert sum(entry["counts"]) == 500
