"""Each converter alone agrees with its transformer, at the borders too."""

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder, PowerTransformer, QuantileTransformer, TargetEncoder

from modelkit.artifact.model import open_onnx
from modelkit.artifact.selector import FeatureSelector
from modelkit.artifact.signature import InputColumn
from modelkit.artifact.transformers import TimeFeatures, Words
from modelkit.contract.config import PreprocessingConfig
from modelkit.evaluate.answers import Answers
from modelkit.train.converters import find_converters
from modelkit.train.export import Export, export_onnx
from modelkit.train.pipeline import build_pipeline
from modelkit.train.steps import TOKEN

SETTINGS = settings(max_examples=25, deadline=None, derandomize=True)


def _session(step: Any, columns: int, kind: str) -> Any:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

    converters, shapes = find_converters()
    tensor = DoubleTensorType if kind == "numbers" else StringTensorType
    model = convert_sklearn(
        Pipeline([("step", step)]),
        initial_types=[("X", tensor([None, columns]))],
        custom_conversion_functions=converters,
        custom_shape_calculators=shapes,
    )
    return open_onnx(model.SerializeToString())


def _converted(step: Any, rows: NDArray[Any], kind: str = "numbers") -> NDArray[Any]:
    result: NDArray[Any] = _session(step, rows.shape[1], kind).run(None, {"X": rows})[0]
    assert result.dtype == np.float64
    return result


def _quantile(rows: NDArray[np.float64], landmarks: int) -> Any:
    transformer = QuantileTransformer(n_quantiles=landmarks, output_distribution="normal", subsample=None)
    return transformer.fit(rows)


@SETTINGS
@given(
    arrays(np.float64, st.tuples(st.integers(12, 40), st.just(2)), elements=st.integers(-6, 6).map(float)),
    st.integers(2, 12),
)
def test_quantiles_agree_between_at_and_beyond_repeated_landmarks(rows: NDArray[np.float64], landmarks: int) -> None:
    transformer = _quantile(rows, landmarks)
    asked = np.column_stack([np.linspace(-8, 8, 129), np.linspace(-7, 7, 129)])
    asked = np.vstack([asked, rows, rows + 5e-8, rows - 5e-8, np.full((1, 2), np.nan)])
    np.testing.assert_allclose(_converted(transformer, asked), transformer.transform(asked), atol=1e-6, rtol=1e-9)


def test_the_normal_quantile_is_that_of_scipy() -> None:
    rows = np.linspace(0, 1, 5001).reshape(-1, 1)
    transformer = _quantile(np.array([[0.0], [1.0]]), 2)
    found = _converted(transformer, rows)
    np.testing.assert_allclose(found[5:-5, 0], norm.ppf(rows[5:-5, 0]), rtol=1e-12, atol=1e-15)


@SETTINGS
@given(
    arrays(np.float64, (9, 4), elements=st.floats(-1e4, 1e4)),
    st.sampled_from([(0.0, 2.0, 1.0, -0.7), (0.5, 1e-9, 2 - 1e-9, 3.1)]),
)
def test_powers_agree_for_every_exponent(rows: NDArray[np.float64], exponents: tuple[float, ...]) -> None:
    transformer = PowerTransformer(standardize=False).fit(np.random.default_rng(0).normal(size=(20, 4)))
    transformer.lambdas_ = np.array(exponents)
    rows[0, 0] = np.nan
    np.testing.assert_allclose(_converted(transformer, rows), transformer.transform(rows), rtol=1e-6, atol=1e-6)


def test_numbers_are_filled() -> None:
    rows = np.array([[1.0, np.nan], [np.nan, 5.0], [4.0, 7.0]])
    imputer = SimpleImputer(strategy="mean").fit(rows)
    np.testing.assert_array_equal(_converted(imputer, rows), imputer.transform(rows))


@SETTINGS
@given(arrays(np.float64, (7, 2), elements=st.floats(-1e11, 1e11)), st.booleans())
def test_times_agree_over_millennia(seconds: NDArray[np.float64], clock: bool) -> None:
    transformer = TimeFeatures().fit(np.array([[0.0, 86_400.0 + clock]]))
    np.testing.assert_allclose(_converted(transformer, seconds), transformer.transform(seconds), atol=1e-9, rtol=1e-12)


@pytest.mark.parametrize("support", [(True, False, False), (False, True, True), (True, True, True)])
def test_the_selected_columns_are_those(support: tuple[bool, ...]) -> None:
    rows = np.random.default_rng(0).normal(size=(30, 3))
    selector = FeatureSelector("AnovaF").fit(rows, rows[:, 0] > 0)
    selector.support_ = np.array(support)
    np.testing.assert_array_equal(_converted(selector, rows), rows[:, np.array(support)])


CITIES = np.array([["a", "x"], ["münchen", "y"], ["b", ""], ["a", "x"]] * 10, dtype=object)
ASKED = np.vstack([CITIES, np.array([["never seen", "z"]], dtype=object)])


def test_codes_agree_with_unseen_categories_too() -> None:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(CITIES)
    np.testing.assert_array_equal(_converted(encoder, ASKED, "texts"), encoder.transform(ASKED))


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_mean_targets_agree_for_numbers_and_any_number_of_classes(classes: int) -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=len(CITIES)) if classes == 1 else rng.integers(0, classes, len(CITIES))
    encoder = TargetEncoder(target_type="continuous" if classes == 1 else "auto").fit(CITIES, target)
    found = _converted(encoder, ASKED, "texts")
    assert found.shape[1] == (6 if classes == 3 else 2)
    np.testing.assert_allclose(found, encoder.transform(ASKED), rtol=1e-14)


TEXTS = [
    "The quick brown fox, the LAZY dog",
    "Über die Straße geht Käthe; ÄÖÜ äöü",
    "naïve café n°5 x_1 _ 3.14",
    "日本語 テキスト 你好",
    "привет МИР Ёлка",
    "",
    "!!! ... ???",
    "line\nbreak\ttab  spaces",
    "the # the the ## fox",
]


@pytest.mark.parametrize("asked", [TEXTS, [""], ["", "??", ""], ["fox"], ["never seen words"], ["fox " * 3000, "мир"]])
def test_words_agree_in_many_scripts_and_without_any_word(asked: list[str]) -> None:
    vectorizer = Words(max_features=2_000, sublinear_tf=True, token_pattern=TOKEN).fit(TEXTS)
    rows = np.array(asked, dtype=object).reshape(-1, 1)
    np.testing.assert_allclose(
        _converted(vectorizer, rows, "texts"), vectorizer.transform(asked).toarray(), rtol=1e-12, atol=1e-15
    )


def test_a_wide_quantile_transform_is_converted_in_less_than_three_seconds() -> None:
    transformer = _quantile(np.random.default_rng(0).normal(size=(500, 60)), 100)
    started = time.process_time()
    _session(transformer, 60, "numbers")
    assert time.process_time() - started < 3


def _exported(rows: NDArray[Any], kind: str, **preprocessing: str) -> Export:
    target = np.arange(len(rows)) % 2
    dtype = "string" if kind == "text" else "float64"
    columns = [InputColumn(name=str(i), dtype=dtype, kind=kind, nullable=True) for i in range(rows.shape[1])]
    table = rows if kind == "numeric" else pd.DataFrame(rows)
    pipeline = build_pipeline("Ridge", Ridge(), columns, PreprocessingConfig(**preprocessing), rows=table)
    pipeline.fit(table, target)
    native = Answers("Regression", target, pipeline.predict(table))
    return export_onnx("Ridge", pipeline, columns, table, native)


def test_neighbours_are_exported_unless_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3))
    rows[::5, 1] = np.nan
    found = _exported(rows, "numeric", imputation="KNN")
    assert found.layout is not None, found.message
    assert found.layout.dtype == "float32"
    monkeypatch.setattr("modelkit.train.export._MOST_NEIGHBOURS", 59)
    assert _exported(rows, "numeric", imputation="KNN").message == (
        "no ONNX for Ridge: imputation KNN looks at 60 training rows, more than the 59 that are converted; "
        "served from model.skops instead"
    )


def test_hashed_text_is_said_to_have_no_onnx_form() -> None:
    texts = np.array(TEXTS * 3, dtype=object).reshape(-1, 1)
    message = _exported(texts, "text", text="Hashing").message
    assert message is not None
    assert message.startswith("no ONNX for Ridge: hashed text has no ONNX form (preprocessing.text TfIdf has)")
    assert _exported(texts, "text").message is None
