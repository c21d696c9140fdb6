"""The statistics equal scipy's on the same counts, and pooling loses no row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from modelkit.monitor.statistics import (
    chi_square_p_value,
    discoveries,
    excess_p_value,
    pool_cells,
    stability_index,
)

CELLS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=20)


def split(cells: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    counts = np.array(cells, dtype=np.int64)
    return counts[:, 0], counts[:, 1]


@given(CELLS)
def test_the_chi_squared_p_value_is_scipy_s(cells: list[tuple[int, int]]) -> None:
    reference, window = split(cells)
    used = reference + window > 0
    if used.sum() < 2 or not reference.any() or not window.any():
        assert chi_square_p_value(reference, window) == 1.0
        return
    expected = stats.chi2_contingency([reference[used], window[used]], correction=False).pvalue
    assert chi_square_p_value(reference, window) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 600), st.integers(0, 600))
def test_the_excess_p_value_is_fisher_s(marked: int, others: int, reference: int, rest: int) -> None:
    p_value = excess_p_value(marked, marked + others, reference, reference + rest)
    expected = stats.fisher_exact([[marked, others], [reference, rest]], alternative="greater").pvalue
    assert p_value == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.001, 0.5))
def test_discoveries_are_those_of_benjamini_and_hochberg(p_values: list[float], rate: float) -> None:
    adjusted = stats.false_discovery_control(p_values, method="bh")
    found = discoveries(p_values, rate)
    for is_found, value in zip(found, adjusted, strict=True):
        if abs(value - rate) > 1e-12:
            assert is_found == (value < rate)


@given(CELLS, st.booleans())
def test_pooling_keeps_every_row_of_both_samples(cells: list[tuple[int, int]], ordered: bool) -> None:
    reference, window = split(cells)
    pooled_reference, pooled_window = pool_cells(reference, window, ordered)
    if reference.any() and window.any():
        assert (pooled_reference.sum(), pooled_window.sum()) == (reference.sum(), window.sum())
    else:
        assert len(pooled_reference) == 0


def test_neighbouring_bins_are_pooled_until_enough_rows_are_expected() -> None:
    reference = np.full(10, 100)
    window = np.full(10, 2)
    assert pool_cells(reference, window, ordered=True)[0].tolist() == [200] * 5


def test_rare_categories_are_pooled_with_each_other() -> None:
    reference, window = np.array([500, 5, 480, 5, 10]), np.array([25, 0, 24, 0, 1])
    assert sorted(pool_cells(reference, window, ordered=False)[0].tolist()) == [500, 500]


def test_a_rare_bin_that_fills_up_stays_apart() -> None:
    reference, window = np.array([998, 2]), np.array([20, 30])
    assert pool_cells(reference, window, ordered=True)[1].tolist() == [20, 30]
    assert pool_cells(reference, np.array([49, 1]), ordered=True)[1].tolist() == [50]


def test_a_constant_that_changes_is_seen_and_one_that_does_not_is_not() -> None:
    cells = pool_cells(np.array([0, 1000, 0]), np.array([0, 0, 50]), ordered=True)
    assert chi_square_p_value(*cells) < 1e-6
    assert stability_index(*cells) > 1
    assert chi_square_p_value(*pool_cells(np.array([0, 1000, 0]), np.array([0, 50, 0]), ordered=True)) == 1.0


@given(CELLS)
def test_the_stability_index_is_symmetric_and_never_negative(cells: list[tuple[int, int]]) -> None:
    reference, window = split(cells)
    index = stability_index(reference, window)
    assert index >= 0
    assert index == pytest.approx(stability_index(window, reference))


def test_the_stability_index_of_large_samples_is_the_textbook_s() -> None:
    reference, window = np.array([500_000, 500_000]), np.array([600_000, 400_000])
    expected = 0.1 * np.log(0.6 / 0.5) - 0.1 * np.log(0.4 / 0.5)
    assert stability_index(reference, window) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("rows", [50, 200, 1000])
def test_without_drift_the_stability_index_is_near_zero_at_any_number_of_rows(rows: int) -> None:
    generator = np.random.default_rng(7)
    shares = np.full(10, 0.1)
    indices = [
        stability_index(generator.multinomial(500, shares), generator.multinomial(rows, shares)) for _ in range(200)
    ]
    assert np.mean(indices) < 0.06
    assert np.median(indices) < 0.03
