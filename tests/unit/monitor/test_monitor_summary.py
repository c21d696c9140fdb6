"""Counts of parts add up to the counts of the whole, however the rows are split and in whichever order."""

import json
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.codec import ContractError
from modelkit.data.calibration import build_calibration
from modelkit.data.profile import build_profile
from modelkit.monitor.counts import count_rows
from modelkit.monitor.groups import assign_groups
from modelkit.monitor.reference import Reference, parse_reference
from modelkit.monitor.summary import Summary, SummaryError, empty_summary, summary_from_plain, summary_to_plain

KINDS = {"age": "numeric", "city": "categorical", "note": "text"}


def build_reference() -> Reference:
    generator = np.random.default_rng(0)
    columns = {
        "age": generator.normal(50, 10, 300),
        "city": np.array(["Ulm", "Bonn", "Köln"] * 100, dtype=object),
        "note": np.array(["a", "bb", "ccc"] * 100, dtype=object),
    }
    scores = np.stack([np.linspace(0, 1, 100), np.linspace(1, 0, 100)], axis=1)
    profile = build_profile(columns, KINDS, np.array(["no", "yes"] * 50), scores, "Classification", ["no", "yes"])
    predicted = np.arange(100) % 2
    profile["calibration"] = build_calibration(predicted, predicted, scores, ["no", "yes"])
    inputs = [{"name": name} for name in KINDS]
    signature = {"task": "Classification", "classes": ["no", "yes"], "inputs": inputs}
    return parse_reference(profile, {"metric": "accuracy", "metrics": {"accuracy": 0.9}}, signature)


REFERENCE = build_reference()
ROW = st.tuples(
    st.none() | st.floats(allow_nan=True, allow_infinity=True),
    st.none() | st.sampled_from(["Ulm", "Bonn", "Kiel", ""]),
    st.none() | st.text(max_size=5),
    st.none() | st.sampled_from(["no", "yes", "maybe"]),
    st.none() | st.floats(0, 1),
    st.none() | st.lists(st.sampled_from(["age", "city", "other"]), max_size=2),
)


def count(rows: list[Any]) -> Summary:
    ages, cities, notes, predictions, scores, redacted = zip(*rows, strict=True) if rows else [()] * 6
    features = {"age": pa.array(ages, pa.float64()), "city": pa.array(cities, pa.string())}
    shares = [None if score is None else [1 - score, score] for score in scores]
    meta = {
        "prediction": pa.array(predictions, pa.string()),
        "probabilities": pa.array(shares, pa.list_(pa.float64())),
        "redacted": pa.array(redacted, pa.list_(pa.string())),
    }
    table = pa.table({**features, "note": pa.array(notes, pa.string())})
    return count_rows(REFERENCE, table, pa.table(meta), assign_groups(REFERENCE, ("city", "age"), table))


def all_of(summary: Summary) -> Any:
    """Its plain form, and the sketch, which isn't part of that."""
    sketch = summary.sketch
    return summary_to_plain(summary), sketch.rows, sketch.hashes.tolist(), sketch.counts.tolist()


@given(st.lists(ROW, max_size=40), st.lists(st.integers(0, 40), max_size=5), st.randoms(use_true_random=False))
def test_any_split_in_any_order_counts_as_one_pass(rows: list[Any], cuts: list[int], random: Any) -> None:
    whole = all_of(count(rows))
    random.shuffle(rows)
    borders = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [count(rows[low:high]) for low, high in pairwise(borders)]
    random.shuffle(parts)
    assert all_of(reduce(Summary.merge, parts, empty_summary(REFERENCE))) == whole


@given(st.lists(ROW, max_size=10), st.lists(ROW, max_size=10), st.lists(ROW, max_size=10))
def test_merging_is_commutative_and_associative(first: list[Any], second: list[Any], third: list[Any]) -> None:
    a, b, c = count(first), count(second).skip(1), count(third).skip(2)
    assert all_of(a.merge(b)) == all_of(b.merge(a))
    assert all_of(a.merge(b).merge(c)) == all_of(a.merge(b.merge(c)))


@given(st.lists(ROW, max_size=20))
def test_a_summary_survives_json(rows: list[Any]) -> None:
    plain = summary_to_plain(count(rows).skip(3))
    assert summary_to_plain(summary_from_plain(json.loads(json.dumps(plain)), REFERENCE)) == plain


def test_a_summary_holds_no_value_of_a_row() -> None:
    rows = [(4711.0815, "secret-city", "secret-note", "secret-answer", 0.25, None)] * 3
    text = json.dumps(summary_to_plain(count(rows)))
    assert "secret" not in text
    assert "4711" not in text


@pytest.mark.parametrize("change", [{"rows": "3"}, {"rows": 3, "colour": 1}, {"features": []}])
def test_a_summary_of_another_shape_is_an_error(change: dict[str, Any]) -> None:
    with pytest.raises(ContractError):
        summary_from_plain(summary_to_plain(empty_summary(REFERENCE)) | change, REFERENCE)


def test_a_summary_counts_probabilities_of_known_answers_and_tells_how_many_rows_have_none() -> None:
    rows = [(1.0, "Ulm", "a", answer, score, None) for answer in ("yes", "maybe", None) for score in (0.7, None)]
    counted = count(rows).confidences
    assert counted is not None
    assert (counted.valid, counted.nulls) == (1, 5)


def test_a_summary_without_the_version_s_probability_bins_is_an_error() -> None:
    plain = summary_to_plain(empty_summary(REFERENCE))
    with pytest.raises(SummaryError, match="0 columns"):
        summary_from_plain(plain | {"confidences": None}, REFERENCE)
    with pytest.raises(SummaryError, match="1 columns"):
        summary_from_plain(plain, replace(REFERENCE, calibration=None))


def test_a_summary_of_other_columns_or_bins_is_an_error() -> None:
    plain = summary_to_plain(empty_summary(REFERENCE))
    with pytest.raises(SummaryError, match="columns"):
        summary_from_plain(plain | {"features": {}}, REFERENCE)
    for groups in ({"city": [[1, 2, 3]]}, {"note": [[1, 2, 3]]}, {"colour": [[1]]}, {"city": [[1], [2], [3]]}):
        with pytest.raises(SummaryError, match="groups of"):
            summary_from_plain(plain | {"groups": groups}, REFERENCE)
    fewer = plain["features"] | {"age": plain["features"]["age"] | {"counts": [1, 2]}}
    with pytest.raises(SummaryError, match="2 bins of 'age'"):
        summary_from_plain(plain | {"features": fewer}, REFERENCE)
