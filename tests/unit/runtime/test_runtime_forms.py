"""Rows as each runtime wants them, by its own metadata; what it can't take is refused before it is asked."""

import json
from typing import Any

import numpy as np
import pytest

from modelkit.artifact.signature import InputColumn, OutputColumn, Signature
from modelkit.serve.batch import Features
from modelkit.serve.errors import ModelUnusableError, UnprocessableRequestError
from modelkit.serve.plain import parse_rows
from modelkit.serve.runtime.form_v1 import build_v1_form
from modelkit.serve.runtime.form_v2 import build_v2_form
from tests.unit.serve.serve_models import Example, cancer, iris, people

KINDS = {"string": "categorical", "bool": "numeric", "int64": "numeric", "float64": "numeric", "datetime": "numeric"}


def signature(**dtypes: str) -> Signature:
    columns = (InputColumn(name=name, dtype=dtype, kind=KINDS[dtype], nullable=True) for name, dtype in dtypes.items())
    return Signature(
        model="m",
        number=1,
        task="Regression",
        target="y",
        metric="rmse",
        inputs=tuple(columns),
        outputs=(OutputColumn(name="prediction", dtype="float64"),),
    )


def listed(**inputs: tuple[str, list[int]]) -> dict[str, Any]:
    """V2 metadata with those inputs."""
    items = [{"name": name, "datatype": datatype, "shape": shape} for name, (datatype, shape) in inputs.items()]
    return {"name": "m", "versions": ["1"], "platform": "p", "inputs": items, "outputs": [{"name": "y"}]}


def defined(**inputs: tuple[str, list[int]]) -> dict[str, Any]:
    """TensorFlow Serving's metadata with those inputs."""
    found = {
        name: {"dtype": dtype, "tensor_shape": {"dim": [{"size": str(size), "name": ""} for size in sizes]}}
        for name, (dtype, sizes) in inputs.items()
    }
    definition = {"inputs": found, "outputs": {}, "method_name": "tensorflow/serving/predict"}
    return {"model_spec": {}, "metadata": {"signature_def": {"signature_def": {"serving_default": definition}}}}


def rendered(build: Any, found: Signature, metadata: Any, rows: list[Any]) -> Any:
    return json.loads(build(found, "m", metadata).render(parse_rows(Features.of(found), rows)))


def rows_of(example: Example) -> Any:
    return parse_rows(Features.of(example.signature), example.values(4))


def test_a_triton_onnx_model_gets_its_one_matrix_in_its_own_datatype() -> None:
    metadata = listed(X=("FP32", [-1, 30]))
    form = build_v2_form(cancer().signature, "cancer model", metadata)
    assert form.target == b"/v2/models/cancer%20model/infer"
    (tensor,) = json.loads(form.render(rows_of(cancer())))["inputs"]
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("X", "FP32", [4, 30])
    wanted = cancer().rows[:4].astype(np.float32).ravel()
    assert np.array_equal(np.array(tensor["data"], dtype=np.float32), wanted)


def test_a_triton_onnx_model_of_columns_gets_those_that_it_uses() -> None:
    metadata = listed(c0=("FP32", [-1, 1]), c1=("BYTES", [-1, 1]), c3=("FP32", [-1, 1]))
    plain = rendered(build_v2_form, people().signature, metadata, people().values(3))
    assert [tensor["name"] for tensor in plain["inputs"]] == ["c0", "c1", "c3"]
    assert plain["inputs"][0]["data"][0] is None, "a missing number"
    assert plain["inputs"][1]["data"] == ["Rome", "Oslo", ""]
    assert plain["outputs"] == [{"name": "y"}]


def test_a_runtime_that_lists_nothing_gets_a_matrix_or_the_columns_of_a_data_frame() -> None:
    numbers = rendered(build_v2_form, iris().signature, None, iris().values(2))
    assert [tensor["shape"] for tensor in numbers["inputs"]] == [[2, 4]]
    texts = rendered(build_v2_form, people().signature, {"inputs": []}, people().values(2))
    assert [tensor["name"] for tensor in texts["inputs"]] == people().names
    assert texts["parameters"] == {"content_type": "pd"}


def test_every_dtype_is_written_as_the_runtimes_datatype() -> None:
    found = signature(age="float64", visits="int64", vip="bool", city="string", since="datetime")
    metadata = listed(
        age=("FP64", [-1]), visits=("INT32", [-1, 1]), vip=("BOOL", [-1]), city=("BYTES", [-1]), since=("BYTES", [-1])
    )
    row = {"age": 41.5, "visits": 3, "vip": True, "city": "Rome", "since": "2026-03-01T12:00:00Z"}
    plain = rendered(build_v2_form, found, metadata, [row])
    assert {tensor["name"]: tensor["data"] for tensor in plain["inputs"]} == {
        "age": [41.5],
        "visits": [3],
        "vip": [True],
        "city": ["Rome"],
        "since": ["2026-03-01T12:00:00Z"],
    }
    assert [tensor["shape"] for tensor in plain["inputs"]] == [[1], [1, 1], [1], [1], [1]]
    seconds = rendered(build_v2_form, found, listed(since=("FP64", [-1]), vip=("BYTES", [-1])), [row])
    assert [tensor["data"] for tensor in seconds["inputs"]] == [["true"], [1772366400.0]]


def test_categories_that_are_numbers_outside_are_numbers_to_the_runtime() -> None:
    columns = (
        InputColumn(name="floor", dtype="int64", kind="categorical", nullable=True),
        InputColumn(name="lift", dtype="bool", kind="categorical", nullable=True),
    )
    found = Signature(
        **{key: getattr(signature(a="float64"), key) for key in Signature.__dataclass_fields__} | {"inputs": columns}
    )
    plain = rendered(build_v2_form, found, listed(floor=("INT64", [-1]), lift=("BOOL", [-1])), [[3, False], [-1, True]])
    assert [tensor["data"] for tensor in plain["inputs"]] == [[3, -1], [False, True]]
    with pytest.raises(UnprocessableRequestError, match="'floor' must not be null"):
        rendered(build_v2_form, found, listed(floor=("INT64", [-1])), [[None, False]])


def test_tensorflow_serving_gets_rows_or_named_values_as_its_signature_says() -> None:
    found = signature(a="float64", b="int64")
    rows = [[1.5, 2], [None, 3]]
    matrix = rendered(build_v1_form, found, defined(dense_input=("DT_FLOAT", [-1, 2])), rows)
    assert matrix == {"instances": [[1.5, 2.0], [None, 3.0]]}
    named = rendered(build_v1_form, found, defined(b=("DT_INT64", [-1, 1]), a=("DT_FLOAT", [-1])), rows)
    assert named == {"instances": [{"a": 1.5, "b": [2]}, {"a": None, "b": [3]}]}
    for nothing in (None, [], {"metadata": {}}, {"error": "not found"}):
        assert rendered(build_v1_form, found, nothing, rows) == {"instances": [[1.5, 2.0], [None, 3.0]]}
    texts = rendered(build_v1_form, people().signature, None, people().records(1))
    assert texts == {"instances": [people().records(1)[0] | {"age": None}]}
    assert build_v1_form(found, "a/b", None).target == b"/v1/models/a%2Fb:predict"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (listed(image=("FP32", [-1, 224, 224, 3])), "'image' has the shape"),
        (listed(X=("FP32", [-1, 3])), "rows have 2 values"),
        (listed(X=("BYTES", [-1, 2])), "'X' is BYTES"),
        (listed(left=("FP32", [-1, 1]), right=("FP32", [-1, 1])), "aren't named as the version's columns"),
        (listed(a=("BF16", [-1, 1])), "'a' is BF16"),
        ({"inputs": [{"name": "a"}]}, "without 'name', 'datatype' and 'shape'"),
    ],
)
def test_a_v2_model_that_takes_no_such_rows_is_refused(metadata: Any, message: str) -> None:
    with pytest.raises(ModelUnusableError, match=message) as caught:
        build_v2_form(signature(a="float64", b="int64"), "m", metadata)
    assert caught.value.reason == "RuntimeMismatch"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (defined(image=("DT_FLOAT", [-1, 224, 224, 3])), "'image' is FP32"),
        (defined(x=("DT_STRING", [-1, 2])), "'x' is BYTES"),
        (defined(left=("DT_FLOAT", [-1]), right=("DT_FLOAT", [-1])), "aren't named"),
        (defined(a=("DT_COMPLEX64", [-1])), "'a' is DT_COMPLEX64"),
    ],
)
def test_a_v1_model_that_takes_no_such_rows_is_refused(metadata: Any, message: str) -> None:
    with pytest.raises(ModelUnusableError, match=message):
        build_v1_form(signature(a="float64", b="int64"), "m", metadata)


def test_text_columns_do_not_fit_into_numbers() -> None:
    found = signature(a="float64", city="string")
    with pytest.raises(ModelUnusableError, match="can't hold the version's columns of text"):
        build_v2_form(found, "m", listed(X=("FP32", [-1, 2])))
    with pytest.raises(ModelUnusableError, match="the column holds text"):
        build_v2_form(found, "m", listed(city=("FP32", [-1])))
    with pytest.raises(ModelUnusableError, match="some of them text"):
        build_v1_form(found, "m", defined(x=("DT_FLOAT", [-1, 2])))


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("FP32", 1e39), ("FP16", 70_000), ("INT8", 128), ("UINT8", -1), ("INT64", 0.5), ("INT64", 2.0**63)],
)
def test_a_number_that_the_runtimes_datatype_cannot_hold_names_the_column(datatype: str, value: float) -> None:
    found = signature(a="float64", b="float64")
    for metadata in (listed(X=(datatype, [-1, 2])), listed(a=(datatype, [-1]), b=(datatype, [-1]))):
        with pytest.raises(UnprocessableRequestError, match=f"'b' holds a number that {datatype} can't hold") as caught:
            rendered(build_v2_form, found, metadata, [[1.0, 2.0], [3.0, value]])
        assert str(value) not in str(caught.value)
