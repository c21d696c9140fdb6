"""Distances over bins equal scipy's on the binned data, are symmetric, and know what is equal."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance

from modelkit.monitor.distances import (
    bin_positions,
    cramers_v,
    expected_by_chance,
    jensen_shannon,
    kolmogorov_smirnov,
    wasserstein,
)

CELLS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=20)


def split(cells: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    counts = np.array(cells, dtype=np.int64)
    return counts[:, 0], counts[:, 1]


@given(CELLS)
def test_the_jensen_shannon_distance_is_scipy_s(cells: list[tuple[int, int]]) -> None:
    reference, window = split(cells)
    if not reference.any() or not window.any():
        assert jensen_shannon(reference, window) == 0
        return
    expected = distance.jensenshannon(reference, window, base=2)
    assert jensen_shannon(reference, window) == pytest.approx(float(np.nan_to_num(expected)), abs=1e-7)
    assert jensen_shannon(window, reference) == pytest.approx(jensen_shannon(reference, window))


@given(CELLS)
def test_kolmogorov_smirnov_is_scipy_s_on_the_binned_values(cells: list[tuple[int, int]]) -> None:
    reference, window = split(cells)
    if not reference.any() or not window.any():
        assert kolmogorov_smirnov(reference, window) == (0, 1)
        return
    assume(reference.sum() + window.sum() > 2)
    values = np.arange(len(reference))
    expected = stats.ks_2samp(np.repeat(values, reference), np.repeat(values, window), method="asymp")
    assert kolmogorov_smirnov(reference, window) == pytest.approx((expected.statistic, expected.pvalue), abs=1e-9)


@given(CELLS, st.integers(0, 2**32 - 1))
def test_the_earth_movers_distance_is_scipy_s(cells: list[tuple[int, int]], seed: int) -> None:
    reference, window = split(cells)
    positions = np.sort(np.random.default_rng(seed).normal(size=len(reference)))
    if not reference.any() or not window.any():
        assert wasserstein(reference, window, positions) == 0
        return
    expected = stats.wasserstein_distance(positions, positions, reference, window)
    assert wasserstein(reference, window, positions) == pytest.approx(expected, abs=1e-9)


@given(CELLS)
def test_cramers_v_is_scipy_s(cells: list[tuple[int, int]]) -> None:
    reference, window = split(cells)
    used = reference + window > 0
    if used.sum() < 2 or not reference.any() or not window.any():
        assert cramers_v(reference, window) == 0
        return
    expected = stats.contingency.association(np.array([reference[used], window[used]]), method="cramer")
    assert cramers_v(reference, window) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("rows", [50, 500, 5000])
def test_chance_adds_to_the_squared_distances_what_is_expected(rows: int) -> None:
    generator, shares = np.random.default_rng(1), np.full(10, 0.1)
    pairs = [(generator.multinomial(500, shares), generator.multinomial(rows, shares)) for _ in range(400)]
    chance = expected_by_chance(*pairs[0])
    divergences = [jensen_shannon(reference, window) ** 2 for reference, window in pairs]
    associations = [cramers_v(reference / 500, window / rows) ** 2 for reference, window in pairs]
    assert np.mean(divergences) == pytest.approx(chance / (8 * np.log(2)), rel=0.1)
    assert np.mean(associations) == pytest.approx(chance / 4, rel=0.1)


@given(CELLS, st.integers(1, 5))
def test_equal_shares_are_no_distance(cells: list[tuple[int, int]], factor: int) -> None:
    reference, _ = split(cells)
    positions = np.arange(len(reference), dtype=np.float64)
    assert jensen_shannon(reference, factor * reference) == pytest.approx(0, abs=1e-7)
    assert wasserstein(reference, factor * reference, positions) == pytest.approx(0, abs=1e-12)
    assert kolmogorov_smirnov(reference, factor * reference)[0] == pytest.approx(0, abs=1e-12)


def test_bins_stand_in_their_middle_and_reach_to_the_ends() -> None:
    assert bin_positions([1.0, 2.0, 4.0], 0.0, 10.0).tolist() == [0.5, 1.5, 3.0, 7.0]
    assert bin_positions([], 0.0, 10.0).tolist() == [5.0]
    assert bin_positions([1.0], 3.0, 0.0).tolist() == [1.0, 1.0]
