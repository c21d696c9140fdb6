"""Real versions in a real store: trained, exported with skl2onnx, written as the trainer writes them."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelkit.artifact.native import dump_native
from modelkit.artifact.signature import InputColumn, OnnxLayout, OutputColumn, Signature, dump_signature
from modelkit.artifact.version import write_version
from modelkit.contract.config import VersionRef
from modelkit.contract.files import MODEL_ONNX, MODEL_SKOPS, SAMPLES, SIGNATURE, version_directory
from modelkit.store.store import Store


@dataclass(frozen=True, eq=False)
class Example:
    """A fitted model, what it is served from, and rows to ask it."""

    signature: Signature
    pipeline: Any
    rows: NDArray[Any]
    """As the pipeline takes them."""
    files: dict[str, bytes]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.signature.inputs]

    def values(self, count: int) -> list[list[Any]]:
        """The first rows as JSON values."""
        return [_json_row(self.signature, row) for row in self.rows[:count]]

    def records(self, count: int) -> list[dict[str, Any]]:
        return [dict(zip(self.names, row, strict=True)) for row in self.values(count)]

    def predictions(self, count: int) -> list[Any]:
        return np.asarray(self.pipeline.predict(self.rows[:count])).tolist()

    def probabilities(self, count: int) -> Any:
        return self.pipeline.predict_proba(self.rows[:count])


def store_example(store: Store, example: Example, **changes: bytes) -> VersionRef:
    """Write the example as a version; `changes` replaces files."""
    names = {"signature": SIGNATURE, "samples": SAMPLES, "onnx": MODEL_ONNX}
    files = example.files | {names[key]: data for key, data in changes.items()}
    run = example.signature.onnx.layout if example.signature.onnx else "native"
    path = version_directory("team", example.signature.model, f"{example.signature.number}-{run}")
    return VersionRef(number=example.signature.number, path=path, digest=write_version(store, path, files, {}))


@cache
def cancer() -> Example:
    """Binary, all numbers, one matrix input."""
    data, target = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(data, target)
    return _matrix_example("cancer", pipeline, data, classes=(0, 1), dtype="int64")


@cache
def iris() -> Example:
    """Three text labels from a forest."""
    data, target = load_iris(return_X_y=True)
    labels = np.array(["setosa", "versicolor", "virginica"])[target]
    pipeline = make_pipeline(RandomForestClassifier(20, random_state=0)).fit(data, labels)
    return _matrix_example("iris", pipeline, data, classes=("setosa", "versicolor", "virginica"), dtype="string")


@cache
def diabetes() -> Example:
    """Regression."""
    data, target = load_diabetes(return_X_y=True)
    return _matrix_example("diabetes", make_pipeline(Ridge()).fit(data, target), data, classes=None, dtype="float64")


@cache
def people() -> Example:
    """Numbers with gaps, a boolean, a whole number and text: one input per column."""
    rows = np.array(
        [
            [30.0 + index % 40 if index % 7 else np.nan, ["Rome", "Oslo", ""][index % 3], float(index % 2), index % 5]
            for index in range(90)
        ],
        dtype=object,
    )
    target = np.array(["yes" if index % 3 == 1 or index % 2 else "no" for index in range(90)])
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    encode = ColumnTransformer(
        [("numbers", numbers, [0, 2, 3]), ("texts", OneHotEncoder(handle_unknown="ignore"), [1])]
    )
    pipeline = make_pipeline(encode, LogisticRegression()).fit(rows, target)
    inputs = (
        InputColumn(name="age", dtype="float64", kind="numeric", nullable=True),
        InputColumn(name="city", dtype="string", kind="categorical", nullable=True),
        InputColumn(name="vip", dtype="bool", kind="numeric", nullable=False),
        InputColumn(name="visits", dtype="int64", kind="numeric", nullable=False),
    )
    types = [
        (f"c{index}", StringTensorType([None, 1]) if column.dtype == "string" else FloatTensorType([None, 1]))
        for index, column in enumerate(inputs)
    ]
    onnx = _to_onnx(pipeline, types)
    layout = OnnxLayout(layout="Columns", dtype="float32", label_output="label", probability_output="probabilities")
    signature = _signature("people", inputs, ("no", "yes"), "string", layout)
    return _example(signature, pipeline, rows, {MODEL_ONNX: onnx})


@cache
def native(name: str) -> Example:
    """The example without ONNX: served from the scikit-learn pipeline itself."""
    example = {"cancer": cancer, "people": people, "diabetes": diabetes}[name]()
    columns = {field: getattr(example.signature, field) for field in Signature.__dataclass_fields__}
    signature = Signature(**(columns | {"onnx": None}))
    return _example(signature, example.pipeline, example.rows, {MODEL_SKOPS: dump_native(example.pipeline)})


def _matrix_example(
    name: str, pipeline: Any, data: NDArray[Any], *, classes: tuple[Any, ...] | None, dtype: str
) -> Example:
    inputs = tuple(
        InputColumn(name=f"f{index}", dtype="float64", kind="numeric", nullable=False) for index in range(data.shape[1])
    )
    onnx = _to_onnx(pipeline, [("X", FloatTensorType([None, data.shape[1]]))])
    layout = OnnxLayout(
        layout="Matrix",
        dtype="float32",
        label_output="label" if classes else "variable",
        probability_output="probabilities" if classes else None,
    )
    return _example(_signature(name, inputs, classes, dtype, layout), pipeline, data, {MODEL_ONNX: onnx})


def _to_onnx(pipeline: Any, types: list[tuple[str, Any]]) -> bytes:
    options = {"zipmap": False} if hasattr(pipeline, "predict_proba") else None
    model: bytes = to_onnx(pipeline, initial_types=types, options=options, target_opset=18).SerializeToString()
    return model


def _signature(
    name: str,
    inputs: tuple[InputColumn, ...],
    classes: tuple[Any, ...] | None,
    dtype: str,
    layout: OnnxLayout,
) -> Signature:
    outputs = [OutputColumn(name="prediction", dtype=dtype)]
    if classes:
        outputs.append(OutputColumn(name="probabilities", dtype="float64", shape=(-1, len(classes))))
    return Signature(
        model=name,
        number=3,
        task="Classification" if classes else "Regression",
        target="target",
        metric="f1" if classes else "rmse",
        classes=classes,
        inputs=inputs,
        outputs=tuple(outputs),
        onnx=layout,
    )


def _example(signature: Signature, pipeline: Any, rows: NDArray[Any], files: dict[str, bytes]) -> Example:
    example = Example(signature, pipeline, rows, {})
    samples = {
        "rows": example.records(8),
        "predictions": example.predictions(8),
        "probabilities": example.probabilities(8).tolist() if signature.classes else None,
    }
    contents = files | {SIGNATURE: dump_signature(signature), SAMPLES: json.dumps(samples).encode()}
    return Example(signature, pipeline, rows, contents)


def refit(example: Example, pipeline: Any) -> Example:
    """The next version of an example whose columns are one matrix: another pipeline for the same rows."""
    found = example.signature
    columns = {field: getattr(found, field) for field in Signature.__dataclass_fields__} | {"number": found.number + 1}
    onnx = _to_onnx(pipeline, [("X", FloatTensorType([None, example.rows.shape[1]]))])
    return _example(Signature(**columns), pipeline, example.rows, {MODEL_ONNX: onnx})


def _json_row(signature: Signature, row: NDArray[Any]) -> list[Any]:
    values: list[Any] = []
    for column, value in zip(signature.inputs, row.tolist(), strict=True):
        if value == "" or value != value:
            values.append(None)
        elif column.dtype in ("bool", "int64"):
            values.append(bool(value) if column.dtype == "bool" else int(value))
        else:
            values.append(value)
    return values
