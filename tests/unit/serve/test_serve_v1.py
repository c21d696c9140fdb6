"""The v1 REST form, as clients of TensorFlow Serving and of KServe v1 send it."""

import json
from typing import Any

import numpy as np
import pytest

from modelkit.artifact.signature import InputColumn, OutputColumn, Signature
from modelkit.contract.config import LimitsConfig
from modelkit.serve.batch import Features
from modelkit.serve.v1 import parse_v1
from tests.unit.serve.conftest import Serve, Served
from tests.unit.serve.serve_models import cancer, diabetes, iris, people


async def ask(served: Served, version: str = "", **body: Any) -> Any:
    return await served.client.post(f"/v1/models/{served.example.signature.model}{version}:predict", json=body)


@pytest.mark.parametrize("example", [cancer, iris, people, diabetes])
async def test_instances_are_rows_or_records_and_predictions_are_the_pipelines_own(shared: Serve, example: Any) -> None:
    served = shared(example())
    for instances in (example().values(20), example().records(20)):
        for version in ("", "/versions/3"):
            answer = (await ask(served, version, instances=instances)).raise_for_status().json()
            assert list(answer) == ["predictions"]
            if example is diabetes:
                np.testing.assert_allclose(answer["predictions"], example().predictions(20), rtol=1e-5)
            else:
                assert answer["predictions"] == example().predictions(20)


@pytest.mark.parametrize("nested", [False, True])
async def test_inputs_are_columns_by_name_and_the_answer_is_called_outputs(shared: Serve, nested: bool) -> None:
    example = people()
    columns: dict[str, Any] = dict(zip(example.names, zip(*example.values(9), strict=True), strict=True))
    if nested:
        columns = {name: [[value] for value in values] for name, values in columns.items()}
    answer = await ask(shared(example), inputs=dict(reversed(columns.items())), signature_name="serving_default")
    assert answer.json() == {"outputs": example.predictions(9)}


async def test_inputs_may_be_rows_too(shared: Serve) -> None:
    answer = await ask(shared(iris()), inputs=iris().values(60))
    assert answer.json() == {"outputs": iris().predictions(60)}


@pytest.mark.parametrize("field", ["instances", "inputs"])
def test_a_model_of_one_column_takes_plain_values(field: str) -> None:
    columns = (InputColumn(name="x", dtype="int64", kind="numeric", nullable=False),)
    signature = Signature(
        model="m",
        number=1,
        task="Regression",
        target="t",
        metric="rmse",
        inputs=columns,
        outputs=(OutputColumn(name="prediction", dtype="float64"),),
    )
    for values in ([1, 2, 3], [[1], [2], [3]], [{"x": 1}, {"x": 2}, {"x": 3}]):
        found = parse_v1(Features.of(signature), json.dumps({field: values}).encode())
        assert found.batch.column(0).tolist() == [1, 2, 3]
        assert found.is_columnar == (field == "inputs")


async def test_status_is_what_both_kinds_of_clients_look_for(serve: Serve) -> None:
    served = serve(cancer())
    for path in ("/v1/models/cancer", "/v1/models/cancer/versions/3"):
        response = await served.client.get(path)
        (status,) = response.json()["model_version_status"]
        assert (status["version"], status["state"], status["status"]["error_code"]) == ("3", "AVAILABLE", "OK")
        assert (response.json()["name"], response.json()["ready"]) == ("cancer", True)
    assert (await served.client.get("/v1/models")).json() == {"models": ["cancer"]}


async def test_metadata_is_the_signature_in_tensorflows_terms(shared: Serve) -> None:
    answer = (await shared(people()).client.get("/v1/models/people/metadata")).json()
    assert answer["model_spec"] == {"name": "people", "signature_name": "", "version": "3"}
    definition = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert {name: entry["dtype"] for name, entry in definition["inputs"].items()} == {
        "age": "DT_DOUBLE",
        "city": "DT_STRING",
        "vip": "DT_BOOL",
        "visits": "DT_INT64",
    }
    assert definition["outputs"]["prediction"]["dtype"] == "DT_STRING"
    assert definition["inputs"]["age"]["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]


ROW = [30.0, "Rome", True, 2]
COLUMNS = {"age": [1.0], "city": ["a"], "vip": [True], "visits": [1]}
BAD: dict[str, tuple[Any, str]] = {
    "neither form": ({}, "expected {"),
    "both forms": ({"instances": [ROW], "inputs": [ROW]}, "expected {"),
    "instances is no list": ({"instances": {"age": 1}}, "expected {"),
    "an unknown field": ({"instances": [ROW], "rows": 1}, "unknown field 'rows'"),
    "another signature": ({"instances": [ROW], "signature_name": "classify"}, "'signature_name' must be"),
    "a number as signature": ({"instances": [ROW], "signature_name": 3}, "'signature_name' must be"),
    "no rows": ({"instances": []}, "expected at least one row"),
    "a null row": ({"instances": [None]}, "every row must be a list of 4 values or an object"),
    "plain values for many columns": ({"instances": [1, 2]}, "every row must be a list of 4 values"),
    "rows and records": ({"instances": [ROW, COLUMNS]}, "expected {"),
    "ragged rows": ({"instances": [ROW, ROW[:2]]}, "row 1 has 2 values; the model takes 4"),
    "a missing column": ({"inputs": {"age": [1.0]}}, "missing column: 'city', 'vip', 'visits'"),
    "an extra column": ({"inputs": COLUMNS | {"size": [1]}}, "unknown column 'size'"),
    "columns of other lengths": ({"inputs": COLUMNS | {"vip": [True, False]}}, "'vip' has 2 rows"),
    "a column that is no list": ({"inputs": COLUMNS | {"vip": True}}, "'vip' must be a list"),
    "columns without rows": ({"inputs": {name: [] for name in COLUMNS}}, "expected at least one row"),
    "text as a number": ({"inputs": COLUMNS | {"age": ["secret"]}}, "'age' must hold numbers; found text"),
    "a value of several": ({"inputs": COLUMNS | {"age": [[1, 2]]}}, "'age' must hold numbers; found a list"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_body_is_a_400_that_names_the_field(shared: Serve, name: str) -> None:
    body, message = BAD[name]
    response = await ask(shared(people()), **body)
    assert (response.status_code, list(response.json())) == (400, ["error"])
    assert message in response.json()["error"]
    assert "secret" not in response.text


@pytest.mark.parametrize("inputs", [{"age": [1.0] * 4} | {"city": [], "vip": [], "visits": []}, [ROW] * 4])
async def test_more_rows_than_the_limit_are_a_422(serve: Serve, inputs: Any) -> None:
    response = await ask(serve(people(), limits=LimitsConfig(max_rows=3)), inputs=inputs)
    assert response.status_code == 422


@pytest.mark.parametrize("path", ["/v1/models/other:predict", "/v1/models/cancer/versions/4", "/v1/models/x/metadata"])
async def test_another_model_or_version_is_a_404_that_says_what_there_is(shared: Serve, path: str) -> None:
    response = await shared(cancer()).client.get(path)
    assert response.status_code == 404
    assert "this server has the model 'cancer' in version '3'" in response.json()["error"]
