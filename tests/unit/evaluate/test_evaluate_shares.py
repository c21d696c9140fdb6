"""Shapley values of plain functions: their axioms, and the shap package's own enumeration."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelkit.evaluate.shares import MOST_EXACT, Masks, count_sets, is_exact, share_out

Floats = NDArray[np.float64]
Function = Callable[[Floats], Floats]


def explain(function: Function, row: Floats, background: Floats) -> Floats:
    """The values of `row` [columns] against `background` [m, columns]."""

    def worth(masks: Masks) -> Floats:
        mixed = np.where(masks[:, None, :], row, background[None])
        return function(mixed.reshape(-1, len(row))).reshape(len(masks), -1).mean(axis=1)

    return share_out(worth, len(row), float(function(background).mean()), float(function(row[None])[0]))


def tangled(rows: Floats) -> Floats:
    """A function in which all columns act on each other."""
    return np.asarray(np.sin(rows.sum(axis=1)) * np.exp(-(rows**2).mean(axis=1)) + rows[:, 0] * rows[:, -1])


COLUMNS = [1, 2, 5, MOST_EXACT, MOST_EXACT + 1, 20, 200]


@pytest.mark.parametrize("columns", COLUMNS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_contributions_add_up_to_the_answer(columns: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    row, background = generator.normal(size=columns), generator.normal(size=(3, columns))
    values = explain(tangled, row, background)
    said = tangled(row[None])[0] - tangled(background).mean()
    np.testing.assert_allclose(values.sum(), said, atol=1e-12)


@pytest.mark.parametrize("columns", [3, MOST_EXACT, MOST_EXACT + 1, 30])
def test_a_column_that_the_function_ignores_gets_nothing(columns: int) -> None:
    generator = np.random.default_rng(1)
    row, background = generator.normal(size=columns), generator.normal(size=(5, columns))
    values = explain(lambda rows: tangled(np.delete(rows, 1, axis=1)), row, background)
    assert values[1] == 0
    assert np.count_nonzero(values) == columns - 1


@given(seed=st.integers(0, 10_000), columns=st.integers(2, MOST_EXACT))
@settings(max_examples=25, deadline=None)
def test_columns_that_can_be_exchanged_share_equally(seed: int, columns: int) -> None:
    generator = np.random.default_rng(seed)
    row, background = generator.normal(size=columns), generator.normal(size=(4, columns))
    row[1], background[:, 1] = row[0], background[:, 0]

    def symmetric(rows: Floats) -> Floats:
        rest = rows[:, 2:].sum(axis=1)
        return np.asarray(np.cos(rows[:, 0] * rows[:, 1] + rest) + rows[:, 0] + rows[:, 1])

    values = explain(symmetric, row, background)
    assert values[0] == pytest.approx(values[1], abs=1e-12)


@pytest.mark.parametrize("columns", [4, 12, 150])
def test_a_sum_gives_each_column_its_own_term(columns: int) -> None:
    generator = np.random.default_rng(2)
    weights, row = generator.normal(size=columns), generator.normal(size=columns)
    background = generator.normal(size=(6, columns))
    values = explain(lambda rows: rows @ weights, row, background)
    np.testing.assert_allclose(values, weights * (row - background.mean(axis=0)), atol=1e-11)


def test_sampled_orders_and_their_reverse_are_exact_for_pairs_of_columns() -> None:
    generator = np.random.default_rng(3)
    columns = 12
    row, background, pairs = generator.normal(size=columns), np.zeros((1, columns)), np.zeros((columns, columns))
    pairs[np.triu_indices(columns, 1)] = generator.normal(size=columns * (columns - 1) // 2)
    values = explain(lambda rows: np.einsum("ni,ij,nj->n", rows, pairs, rows), row, background)
    # Each product is shared by its two columns.
    products = pairs * np.outer(row, row)
    np.testing.assert_allclose(values, (products.sum(axis=0) + products.sum(axis=1)) / 2, atol=1e-11)


@pytest.mark.parametrize("columns", [3, MOST_EXACT])
def test_every_set_is_weighed_as_shap_does(columns: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba, on import
        import shap
    generator = np.random.default_rng(4)
    rows, background = generator.normal(size=(2, columns)), generator.normal(size=(10, columns))
    oracle = shap.explainers.Exact(tangled, shap.maskers.Independent(background, max_samples=10))(rows).values
    found = [explain(tangled, row, background) for row in rows]
    np.testing.assert_allclose(found, oracle, atol=1e-10)


def test_sampling_comes_close_to_every_set() -> None:
    generator = np.random.default_rng(5)
    row, background = generator.normal(size=6), generator.normal(size=(5, 6))
    padding = np.zeros(8)  # ignored columns turn the exact case into the sampled one

    def padded(rows: Floats) -> Floats:
        return tangled(rows[:, :6])

    exact = explain(tangled, row, background)
    sampled = explain(padded, np.r_[row, padding], np.column_stack([background, np.tile(padding, (5, 1))]))
    assert is_exact(6)
    assert not is_exact(14)
    np.testing.assert_allclose(sampled[:6], exact, atol=0.1 * np.abs(exact).max())


@pytest.mark.parametrize("columns", COLUMNS)
def test_as_many_sets_are_asked_as_was_said_and_the_same_each_time(columns: int) -> None:
    def asked() -> list[bytes]:
        sets: list[bytes] = []

        def worth(masks: Masks) -> Floats:
            sets.extend(mask.tobytes() for mask in masks)
            assert np.all((masks.sum(axis=1) > 0) & (masks.sum(axis=1) < columns))
            return masks.sum(axis=1).astype(np.float64)

        np.testing.assert_allclose(share_out(worth, columns, 0.0, columns), np.ones(columns))
        return sets

    first = asked()
    assert len(first) == count_sets(columns)
    assert first == asked()
