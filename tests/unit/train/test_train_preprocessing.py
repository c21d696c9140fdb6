"""Each column gets what suits it, learns from the training part alone, and is answered by a server without pandas."""

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB, MultinomialNB

from modelkit.artifact.native import dump_native, loads_native
from modelkit.artifact.signature import InputColumn
from modelkit.artifact.transformers import TimeFeatures
from modelkit.contract.config import PreprocessingConfig
from modelkit.contract.files import MODEL_SKOPS
from modelkit.contract.recipe import ColumnPreprocessingConfig, SelectionConfig
from modelkit.data.columns import as_array
from modelkit.data.split import split_rows
from modelkit.errors import RefusedError
from modelkit.train.incomplete import drop_incomplete
from modelkit.train.parts import TEST, Labelled, Parts
from modelkit.train.pipeline import build_pipeline
from modelkit.train.selection import selected_features

if TYPE_CHECKING:
    from .conftest import Trainer

N = 240
KINDS = {"size": "numeric", "age": "numeric", "flag": "numeric", "when": "numeric", "city": "categorical"}
KINDS |= {"kind": "categorical", "words": "text"}
TYPES = {"flag": "bool", "when": "datetime", "city": "string", "kind": "string", "words": "string"}


def _columns(*names: str, nullable: tuple[str, ...] = ("size", "city", "when")) -> tuple[InputColumn, ...]:
    return tuple(
        InputColumn(name=name, dtype=TYPES.get(name, "float64"), kind=KINDS[name], nullable=name in nullable)
        for name in names or KINDS
    )


def _frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            0: rng.lognormal(size=N),
            1: rng.normal(40, 10, N),
            2: (rng.random(N) > 0.5).astype(float),
            3: rng.integers(900_000_000, 1_700_000_000, N).astype(float),
            4: rng.choice(["a", "b", "münchen"], N),
            5: rng.choice(["x", "y"], N),
            6: [" ".join(rng.choice(["good", "bad", "straße", "ok"], 5)) for _ in range(N)],
        }
    )
    frame.loc[::9, 0], frame.loc[::8, 3], frame.loc[::11, 4] = np.nan, np.nan, ""
    return frame


FRAME = _frame()
TARGET = (FRAME[1] + 9 * (FRAME[4] == "a") > 42).to_numpy(np.int64)


def _build(estimator: Any = None, columns: Any = None, rows: Any = FRAME, **preprocessing: Any) -> Any:
    estimator = estimator or LogisticRegression()
    config = PreprocessingConfig(**preprocessing)
    return build_pipeline(type(estimator).__name__, estimator, columns or _columns(), config, rows=rows)


def _rows(*positions: int) -> pd.DataFrame:
    rows = FRAME[list(positions)]
    return rows.set_axis(range(len(positions)), axis=1)


def _steps(pipeline: Any) -> dict[str, list[str]]:
    """Transformers of each group of columns."""
    return {
        label: [type(step).__name__ for _, step in part.steps] if hasattr(part, "steps") else [part]
        for label, part, _ in pipeline.named_steps["columns"].transformers
    }


def test_by_default_each_column_is_treated_by_its_kind() -> None:
    assert _steps(_build()) == {
        "numeric": ["SimpleImputer", "StandardScaler"],
        "time": ["SimpleImputer", "TimeFeatures", "StandardScaler"],
        "categorical": ["SimpleImputer", "OneHotEncoder"],
        "text": ["Words"],
    }
    # Trees need no scale, and what misses no value isn't filled.
    assert _steps(_build(GaussianNB(), _columns(nullable=()))) == {
        "numeric": ["passthrough"],
        "time": ["TimeFeatures"],
        "categorical": ["OneHotEncoder"],
        "text": ["Words"],
    }


def test_numbers_alone_need_no_column_transformer() -> None:
    pipeline = _build(columns=_columns("size", "age"), transform="Quantile")
    assert [name for name, _ in pipeline.steps] == ["impute", "transform", "scale", "model"]


def test_more_than_fifty_categories_are_encoded_by_the_mean_target() -> None:
    columns = _columns("city", "kind", nullable=())
    for count, encoder in ((50, "OneHotEncoder"), (51, "TargetEncoder")):
        rows = pd.DataFrame({0: [f"c{index % count}" for index in range(N)], 1: ["x", "y"] * (N // 2)})
        pipeline = _build(columns=columns, rows=rows)
        assert _steps(pipeline)["categorical"] == [encoder, *(["StandardScaler"] if count == 51 else [])]
        pipeline.fit(rows, TARGET)
        assert pipeline["model"].n_features_in_ == (52 if count == 50 else 3)


def test_a_column_with_heavy_tails_is_scaled_by_its_quartiles() -> None:
    columns = _columns("size", "age", "kind")
    assert _steps(_build(columns=columns, rows=_rows(0, 1, 5)))["numeric"] == ["SimpleImputer", "StandardScaler"]
    rows = _rows(0, 1, 5)
    rows.loc[5, 1] = 1e9
    found = _steps(_build(columns=columns, rows=rows))
    assert (found["numeric"], found["numeric2"]) == (["SimpleImputer", "StandardScaler"], ["RobustScaler"])
    # What is asked for is done.
    assert "numeric2" not in _steps(_build(columns=columns, rows=rows, scaling="Standard"))


def test_a_column_can_be_treated_otherwise_than_the_others() -> None:
    own = (
        ColumnPreprocessingConfig(name="size", transform="Power", imputation="Mean"),
        ColumnPreprocessingConfig(name="kind", encoding="Ordinal", scaling="MinMax"),
        ColumnPreprocessingConfig(name="city", imputation="Constant", fill_text="nowhere"),
        ColumnPreprocessingConfig(name="when", scaling="None"),
        ColumnPreprocessingConfig(name="words", text="Hashing"),
    )
    estimator = LogisticRegression(solver="newton-cholesky")  # of one unscaled column
    pipeline = build_pipeline("LogisticRegression", estimator, _columns(), PreprocessingConfig(columns=own), rows=FRAME)
    assert _steps(pipeline) == {
        "numeric": ["SimpleImputer", "PowerTransformer", "StandardScaler"],
        "numeric2": ["StandardScaler"],
        "time": ["SimpleImputer", "TimeFeatures"],
        "categorical": ["SimpleImputer", "OneHotEncoder"],
        "categorical2": ["OrdinalEncoder", "MinMaxScaler"],
        "text": ["HashingVectorizer"],
    }
    pipeline.fit(FRAME, TARGET)
    names = selected_features(pipeline, _columns())
    assert names[:3] == ["size", "age", "flag"]
    assert names[3] == "when: days since 2000"
    assert names[10:15] == ["city: a", "city: b", "city: münchen", "city: nowhere", "kind"]
    assert names[15] == "words: 1"
    assert len(names) == pipeline["model"].n_features_in_


def test_a_boolean_has_no_shape_to_mend() -> None:
    found = _steps(_build(columns=_columns("age", "flag", "kind"), rows=_rows(1, 2, 5), transform="Power"))
    assert found["numeric"] == ["PowerTransformer", "StandardScaler"]
    assert found["numeric2"] == ["StandardScaler"]


def test_estimators_that_count_get_no_negative_number() -> None:
    pipeline = _build(MultinomialNB()).fit(FRAME, TARGET)
    assert pipeline[:-1].transform(FRAME).min() >= 0


def test_text_is_sparse_only_for_estimators_that_take_it() -> None:
    rng = np.random.default_rng(0)
    texts = pd.DataFrame({0: [" ".join(f"w{i}" for i in rng.integers(0, 900, 4)) for _ in range(N)]})
    columns = _columns("words")
    sparse = _build(columns=columns, rows=texts).fit(texts, TARGET)
    assert sparse["model"].n_features_in_ > 300
    dense = _build(GaussianNB(), columns, texts).fit(texts, TARGET)
    assert isinstance(dense[:-1].transform(texts), np.ndarray)
    assert dense["model"].n_features_in_ == 300


# Refusals.


@pytest.mark.parametrize(
    ("preprocessing", "message"),
    [
        ({"scaling": "Log"}, r"preprocessing.scaling must be Auto, None, .*; found 'Log'"),
        ({"transform": "Auto"}, r"preprocessing.transform must be None, Power, Quantile; found 'Auto'"),
        ({"encoding": "None"}, r"preprocessing.encoding must be Auto, .*; found 'None'"),
        ({"name": "citi"}, r"names 'citi', which isn't one of the features .*'city'"),
        ({"name": "city", "imputation": "KNN"}, r"imputation KNN doesn't suit column 'city', which holds categories"),
        ({"name": "when", "imputation": "KNN"}, r"imputation KNN doesn't suit column 'when', which holds times"),
        ({"name": "words", "imputation": "Constant"}, r"imputation Constant doesn't suit column 'words'"),
        ({"name": "city", "scaling": "MinMax"}, r"scaling MinMax doesn't suit column 'city', which is one-hot"),
        ({"name": "city", "transform": "Power"}, r"transform doesn't suit column 'city', which holds categories"),
        ({"name": "when", "transform": "Power"}, r"transform doesn't suit column 'when', which holds times"),
        ({"name": "age", "encoding": "OneHot"}, r"encoding doesn't suit column 'age', .* make it a Category"),
        ({"name": "age", "text": "TfIdf"}, r"text doesn't suit column 'age', which holds numbers"),
        ({"name": "city", "fill_value": 1.0}, r"fillValue doesn't suit column 'city'"),
        ({"name": "age", "fill_text": "x"}, r"fillText doesn't suit column 'age'"),
        ({"name": "age", "scaling": "Log"}, r"scaling of 'age' must be Auto, None, .*; found 'Log'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_that_does_not_suit_is_refused(preprocessing: dict[str, Any], message: str) -> None:
    if "name" in preprocessing:
        preprocessing = {"columns": (ColumnPreprocessingConfig(**preprocessing),)}
    with pytest.raises(RefusedError, match=message):
        build_pipeline("LogisticRegression", LogisticRegression(), _columns(), PreprocessingConfig(**preprocessing))


# Rows that are left out.


def _parts(rows: Any, target: Any) -> Parts:
    part = Labelled(rows, target)
    return Parts(part, part, pd.DataFrame(), TEST, None, rows)


def test_incomplete_rows_are_not_learnt_from_but_still_answered() -> None:
    config = PreprocessingConfig(columns=(ColumnPreprocessingConfig(name="city", imputation="DropRows"),))
    parts = drop_incomplete(_parts(FRAME, TARGET), _columns(), config)
    gone = int((FRAME[4] == "").sum())
    assert len(parts.train.target) == len(parts.train.rows) == N - gone
    assert (parts.train.rows[4] != "").all()
    assert parts.train.rows[0].isna().any()
    assert len(parts.evaluation.target) == N
    assert parts.notes == (
        f"{gone} of {N} training rows miss a value of a column with imputation DropRows and were left out",
    )
    pipeline = build_pipeline("LogisticRegression", LogisticRegression(), _columns(), config, rows=parts.train.rows)
    pipeline.fit(parts.train.rows, parts.train.target)
    common = parts.train.rows[4].mode()[0]
    np.testing.assert_array_equal(
        pipeline.predict_proba(FRAME), pipeline.predict_proba(FRAME.replace({4: {"": common}}))
    )


def test_matrices_and_complete_rows_are_handled_too() -> None:
    rows = FRAME[[0, 1]].to_numpy()
    config = PreprocessingConfig(imputation="DropRows")
    parts = drop_incomplete(_parts(rows, TARGET), _columns("size", "age"), config)
    assert not np.isnan(parts.train.rows).any()
    whole = _parts(parts.train.rows, parts.train.target)
    assert drop_incomplete(whole, _columns("size", "age"), config) is whole
    assert drop_incomplete(_parts(rows, TARGET), _columns("size", "age"), PreprocessingConfig()).notes == ()


def test_a_training_part_without_any_complete_row_is_refused() -> None:
    rows = np.column_stack([np.full(N, np.nan), FRAME[1]])
    with pytest.raises(
        RefusedError, match=rf"each of the {N} training rows misses .* most of them in 'size'"
    ) as caught:
        drop_incomplete(_parts(rows, TARGET), _columns("size", "age"), PreprocessingConfig(imputation="DropRows"))
    assert caught.value.reason == "EmptyData"


# Times.


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.datetimes(min_value=pd.Timestamp("1900-01-01"), max_value=pd.Timestamp("2200-01-01")), min_size=2))
def test_times_become_what_the_calendar_says(moments: list[Any]) -> None:
    stamps = pd.Series(pd.to_datetime(moments))
    seconds = ((stamps - pd.Timestamp("1970-01-01")) / pd.Timedelta(seconds=1)).to_numpy().reshape(-1, 1)
    found = TimeFeatures().fit([[1.0]]).transform(seconds)
    assert found.shape == (len(moments), 7)
    days = (stamps - pd.Timestamp("2000-01-01")) / pd.Timedelta(days=1)
    turns = {1: stamps.dt.day_of_week / 7, 3: days / 365.2425}
    turns[5] = (stamps - stamps.dt.normalize()) / pd.Timedelta(days=1)
    np.testing.assert_allclose(found[:, 0], days, rtol=1e-12, atol=1e-9)
    for first, turn in turns.items():
        np.testing.assert_allclose(found[:, first], np.sin(2 * np.pi * turn), atol=1e-7)
        np.testing.assert_allclose(found[:, first + 1], np.cos(2 * np.pi * turn), atol=1e-7)


def test_dates_without_a_time_of_day_have_no_hour_and_missing_stays_missing() -> None:
    days = np.array([[86_400.0, 0.0], [np.nan, 86_400.5]])
    transformer = TimeFeatures().fit(days)
    assert transformer.has_clock_.tolist() == [False, True]
    assert [len(labels) for labels in transformer.feature_labels()] == [5, 7]
    assert np.isnan(transformer.transform(days)[1, :5]).all()
    assert not np.isnan(transformer.transform(days)[0]).any()


# Nothing is learnt from the test part.


EVERYTHING: list[dict[str, Any]] = [
    {},
    {"scaling": "MinMax", "imputation": "Mean", "transform": "Power", "encoding": "Ordinal"},
    {"scaling": "Robust", "imputation": "KNN", "transform": "Quantile", "encoding": "Target", "text": "Hashing"},
]


@pytest.mark.parametrize("preprocessing", EVERYTHING)
@pytest.mark.parametrize("method", [None, "MutualInformation", "TreeImportance"])
def test_what_is_fitted_depends_on_the_training_part_alone(preprocessing: dict[str, Any], method: str | None) -> None:
    selection = None if method is None else SelectionConfig(method=method, share=0.6)
    train = FRAME.iloc[:180]
    pipeline = build_pipeline(
        "LogisticRegression",
        LogisticRegression(max_iter=500),
        _columns(),
        PreprocessingConfig(**preprocessing),
        selection=selection,
        rows=train,
    ).fit(train, TARGET[:180])
    before = dump_native(pipeline)
    alone = pipeline.predict_proba(FRAME.iloc[[200]])
    together = pipeline.predict_proba(_poisoned(FRAME, np.arange(201, N)))[200]
    np.testing.assert_allclose(alone[0], together, rtol=1e-9)
    assert dump_native(pipeline) == before


def _poisoned(frame: pd.DataFrame, positions: Any) -> pd.DataFrame:
    frame = frame.copy()
    for column, value in enumerate(
        (1e9, -1e9, 5.0, 7e9, "found in the test part only", "unseen", "never learnt words")
    ):
        frame.iloc[positions, column] = value
    return frame


def test_a_poisoned_test_part_changes_nothing_of_a_run(trainer: "Trainer", tmp_path: Path) -> None:
    files = []
    split = split_rows(TARGET, 0.2, 7, stratify=True)
    incomplete = int((FRAME.loc[split.train, 4] == "").sum())
    preprocessing = PreprocessingConfig(
        transform="Quantile",
        encoding="Target",
        columns=(ColumnPreprocessingConfig(name="city", imputation="DropRows"),),
    )
    for number, view in enumerate((FRAME, _poisoned(FRAME, split.test)), 1):
        table = view.set_axis(list(KINDS), axis=1).assign(target=TARGET)
        table["when"] = pd.to_datetime(table["when"], unit="s")
        table["city"] = table["city"].replace("", None)
        table.to_parquet(tmp_path / f"{number}.parquet")
        config = trainer.config(
            f"file://{tmp_path}/{number}.parquet",
            number=number,
            preprocessing=preprocessing,
            selection=SelectionConfig(method="MutualInformation", share=0.6),
            folds=2,
        )
        result = trainer.run(config)
        assert (result.train_rows, result.test_rows) == (len(split.train) - incomplete, len(split.test))
        files.append(trainer.file(config, MODEL_SKOPS))
    assert files[0] == files[1]


# Serving.


_SERVE = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pandas":
            raise ImportError(name)
sys.meta_path.insert(0, Without())
from pathlib import Path
import json
import numpy as np
from modelkit.artifact.native import load_native
rows = np.array(json.load(open(sys.argv[1] + "/rows.json")), dtype=object)
for index in range(4):
    rows[:, index] = rows[:, index].astype(float)
model = load_native(Path(sys.argv[1]))
print(json.dumps(model.predict_proba(rows).tolist()))
assert not any(name.startswith(("modelkit.train", "modelkit.data")) for name in sys.modules)
"""


def test_a_server_without_pandas_answers(tmp_path: Path) -> None:
    pipeline = build_pipeline(
        "LogisticRegression",
        LogisticRegression(),
        _columns(),
        PreprocessingConfig(encoding="Target", transform="Quantile"),
        selection=SelectionConfig(method="AnovaF", features=9),
        rows=FRAME,
    ).fit(FRAME, TARGET)
    (tmp_path / MODEL_SKOPS).write_bytes(dump_native(pipeline))
    rows = as_array(FRAME)[:20]
    (tmp_path / "rows.json").write_text(json.dumps(rows.tolist()))
    done = subprocess.run([sys.executable, "-c", _SERVE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), pipeline.predict_proba(FRAME.iloc[:20]), rtol=1e-12)


@pytest.mark.parametrize("preprocessing", EVERYTHING)
def test_equal_pipelines_are_equal_bytes(preprocessing: dict[str, Any]) -> None:
    one, two = (dump_native(_build(**preprocessing).fit(FRAME, TARGET)) for _ in range(2))
    assert one == two
    loads_native(one)


@pytest.mark.parametrize("text", ["TfIdf", "Hashing"])
def test_a_stored_vectorizer_holds_no_address_in_memory(text: str) -> None:
    pipeline = _build(columns=_columns("words"), rows=_rows(6), text=text).fit(_rows(6), TARGET)
    pipeline.predict(_rows(6))
    schema = zipfile.ZipFile(io.BytesIO(dump_native(pipeline))).read("schema.json").decode()
    assert re.findall(r'"_stop_words_id":\{[^}]*"content":"([^"]*)"', schema) == ["null"]
