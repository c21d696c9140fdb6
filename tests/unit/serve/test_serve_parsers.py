"""Every parser, on anything: a batch that the model can take, or an error for the client; nothing else."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.contract.config import LimitsConfig
from modelkit.serve.batch import Batch, Features
from modelkit.serve.errors import RequestError
from modelkit.serve.plain import parse_predict
from modelkit.serve.v1 import parse_v1
from modelkit.serve.v2 import parse_infer
from tests.unit.serve.serve_models import Example, iris, people

LIMITS = LimitsConfig(max_rows=4, max_depth=8, max_text_bytes=64)
Parser = Callable[[Example, Features, bytes], Batch]
PARSERS: dict[str, Parser] = {
    "predict": lambda _, features, body: parse_predict(features, body, LIMITS),
    "v1": lambda _, features, body: parse_v1(features, body, LIMITS).batch,
    "v2": lambda example, features, body: parse_infer(features, example.signature, body, LIMITS).batch,
    "v2 binary": lambda example, features, body: (
        parse_infer(features, example.signature, body, LIMITS, body.find(b"}]}") + 3).batch
    ),
}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
DATATYPES = {"float64": "FP64", "string": "BYTES", "bool": "BOOL", "int64": "INT64"}


def bodies(example: Example) -> dict[str, Any]:
    """A good body of every form."""
    rows, records = example.values(3), example.records(3)
    columns = dict(zip(example.names, (list(values) for values in zip(*rows, strict=True)), strict=True))
    tensors = [
        {"name": column.name, "shape": [3, 1], "datatype": DATATYPES[column.dtype], "data": columns[column.name]}
        for column in example.signature.inputs
    ]
    matrix = {"name": "X", "shape": [3, len(example.names)], "datatype": "FP32", "data": rows}
    return {
        "rows": {"features": rows},
        "records": {"features": records},
        "instances": {"instances": records},
        "inputs": {"inputs": columns},
        "tensors": {"inputs": tensors, "id": "a", "outputs": [{"name": "prediction"}], "parameters": {}},
        "matrix": {"inputs": [matrix]},
        "columns": {"inputs": [tensor | {"shape": [3]} for tensor in tensors]},
    }


def paths(value: Any) -> list[tuple[Any, ...]]:
    """The places of all values within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((key, *path) for key, inner in items for path in paths(inner))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def check(example: Example, parser: str, body: bytes) -> None:
    features = Features.of(example.signature)
    try:
        batch = PARSERS[parser](example, features, body)
    except RequestError:
        return
    assert 1 <= batch.rows <= LIMITS.max_rows
    for index, column in enumerate(features.columns):
        values = batch.column(index)
        assert values.shape == (batch.rows,)
        if column.kind != "numeric":
            assert {type(value) for value in values} == {str}
        else:
            assert values.dtype == np.float64
            assert not np.isinf(values).any()
            assert column.nullable or not np.isnan(values).any()


@pytest.mark.parametrize("example", [people, iris])
@pytest.mark.parametrize("parser", PARSERS)
@settings(max_examples=30, deadline=None)
@given(value=ANYTHING, key=st.sampled_from(["features", "instances", "inputs", "more"]))
def test_any_json_is_a_batch_or_a_request_error(example: Any, parser: str, value: Any, key: str) -> None:
    for body in (value, {key: value}, {key: [value]}):
        check(example(), parser, json.dumps(body).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("example", [people, iris])
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_good_body_with_another_value_anywhere_is_a_batch_or_a_request_error(
    example: Any, data: st.DataObject
) -> None:
    good = data.draw(st.sampled_from(sorted(bodies(example()).items())))[1]
    body = changed(good, data.draw(st.sampled_from(paths(good))), data.draw(ANYTHING))
    for parser in PARSERS:
        check(example(), parser, json.dumps(body).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("example", [people, iris])
@settings(max_examples=120, deadline=None)
@given(data=st.data(), garbage=st.binary(max_size=6))
def test_a_good_body_with_other_bytes_anywhere_is_a_batch_or_a_request_error(
    example: Any, data: st.DataObject, garbage: bytes
) -> None:
    good = json.dumps(data.draw(st.sampled_from(sorted(bodies(example()).items())))[1]).encode()
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 12)))
    for parser in PARSERS:
        check(example(), parser, good[:start] + garbage + good[end:])


@pytest.mark.parametrize("form", ["rows", "records", "instances", "inputs", "tensors"])
def test_good_bodies_of_all_forms_are_the_same_batch(form: str) -> None:
    example = people()
    features = Features.of(example.signature)
    parser = {"rows": "predict", "records": "predict", "instances": "v1", "inputs": "v1", "tensors": "v2"}[form]
    batch = PARSERS[parser](example, features, json.dumps(bodies(example)[form]).encode())
    expected = [
        ["" if value is None else float(value) if index != 1 else value for index, value in enumerate(row)]
        for row in example.values(3)
        if None not in row
    ]
    found = [
        row
        for row, values in zip((batch.row(index) for index in range(3)), example.values(3), strict=True)
        if None not in values
    ]
    assert found == expected
