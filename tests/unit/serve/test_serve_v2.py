"""The Open Inference Protocol, version 2."""

from typing import Any

import numpy as np
import pytest

from modelkit.contract.config import LimitsConfig
from tests.unit.serve.conftest import Serve
from tests.unit.serve.serve_models import cancer, diabetes, iris, people


def tensor(name: str, shape: list[int], datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def person(**changes: Any) -> list[dict[str, Any]]:
    columns = {
        "age": tensor("age", [2, 1], "FP64", [30.0, 41.0]),
        "city": tensor("city", [2, 1], "BYTES", ["Rome", "Oslo"]),
        "vip": tensor("vip", [2, 1], "BOOL", [True, False]),
        "visits": tensor("visits", [2, 1], "INT64", [2, 3]),
    }
    return [column | changes.pop(name, {}) for name, column in columns.items()] + list(changes.values())


async def test_server_and_model_metadata(shared: Serve) -> None:
    client = shared(people()).client
    assert (await client.get("/v2")).json() == {
        "name": "modelloop",
        "version": "0.1.0",
        "extensions": ["binary_tensor_data"],
    }
    expected = {
        "name": "people",
        "versions": ["3"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "age", "datatype": "FP64", "shape": [-1, 1]},
            {"name": "city", "datatype": "BYTES", "shape": [-1, 1]},
            {"name": "vip", "datatype": "BOOL", "shape": [-1, 1]},
            {"name": "visits", "datatype": "INT64", "shape": [-1, 1]},
        ],
        "outputs": [
            {"name": "prediction", "datatype": "BYTES", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP64", "shape": [-1, 2]},
        ],
    }
    for path in ("/v2/models/people", "/v2/models/people/versions/3"):
        assert (await client.get(path)).json() == expected


async def test_health_and_readiness(serve: Serve) -> None:
    served = serve(cancer())
    paths = {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        "/v2/models/cancer/ready": {"name": "cancer", "ready": True},
        "/v2/models/cancer/versions/3/ready": {"name": "cancer", "ready": True},
    }
    for path, expected in paths.items():
        response = await served.client.get(path)
        assert (response.status_code, response.json()) == (200, expected)
    served.app.drain.begin()
    statuses = [(await served.client.get(path)).status_code for path in paths]
    assert statuses == [200, 503, 503, 503]


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize("nested", [True, False])
async def test_one_matrix_in_the_signatures_order(shared: Serve, datatype: str, nested: bool) -> None:
    example = cancer()
    rows = example.values(5)
    data = rows if nested else [value for row in rows for value in row]
    response = await shared(example).infer(id="42", inputs=[tensor("X", [5, 30], datatype, data)])
    answer = response.json()
    prediction, probabilities = answer.pop("outputs")
    assert answer == {"model_name": "cancer", "model_version": "3", "id": "42"}
    assert response.headers["x-request-id"] == "42"
    assert prediction == tensor("prediction", [5], "INT64", example.predictions(5))
    np.testing.assert_allclose(np.reshape(probabilities.pop("data"), (5, 2)), example.probabilities(5), atol=1e-5)
    assert probabilities == {"name": "probabilities", "shape": [5, 2], "datatype": "FP64"}


async def test_whole_numbers_are_numbers(shared: Serve) -> None:
    response = await shared(iris()).infer(inputs=[tensor("anything", [1, 4], "INT32", [5, 3, 1, 0])])
    assert response.json()["outputs"][0]["data"] == ["setosa"]


@pytest.mark.parametrize("shape", [[2], [2, 1]])
async def test_one_tensor_per_column_in_any_order(shared: Serve, shape: list[int]) -> None:
    columns = [column | {"shape": shape} for column in person()]
    served = shared(people())
    answers = [(await served.infer(inputs=inputs)).json()["outputs"] for inputs in (columns, columns[::-1])]
    assert answers[0] == answers[1]
    rows = np.array([[30.0, "Rome", 1.0, 2], [41.0, "Oslo", 0.0, 3]], dtype=object)
    assert answers[0][0] == tensor("prediction", [2], "BYTES", people().pipeline.predict(rows).tolist())


async def test_nested_column_data_and_null(shared: Serve) -> None:
    response = await shared(people()).infer(inputs=person(age={"data": [[None], [41]]}))
    assert response.status_code == 200


async def test_a_regression_answers_numbers(shared: Serve) -> None:
    example = diabetes()
    response = await shared(example).infer(inputs=[tensor("X", [3, 10], "FP64", example.values(3))])
    (output,) = response.json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP64", [3])
    np.testing.assert_allclose(output["data"], example.predictions(3), rtol=1e-5)


async def test_only_the_asked_outputs_come_back_in_the_asked_order(shared: Serve) -> None:
    served = shared(cancer())
    inputs = [tensor("X", [1, 30], "FP64", cancer().values(1))]
    for names in (["probabilities"], ["probabilities", "prediction"]):
        answer = (await served.infer(inputs=inputs, outputs=[{"name": name} for name in names])).json()
        assert [output["name"] for output in answer["outputs"]] == names


async def test_requests_as_the_triton_client_sends_them_are_understood(shared: Serve) -> None:
    response = await shared(cancer()).infer(
        id="",
        parameters={"binary_data_output": True, "priority": 3, "timeout": 1000, "sequence_id": 0},
        inputs=[tensor("X", [1, 30], "FP64", cancer().values(1)) | {"parameters": {}}],
        outputs=[{"name": "prediction", "parameters": {"binary_data": False}}],
    )
    assert response.status_code == 200
    assert response.json()["id"] == response.headers["x-request-id"]


ROW = [0.0] * 30

BAD = {
    "no inputs": ({"inputs": []}, "expected {"),
    "inputs is no list": ({"inputs": {"name": "X"}}, "expected {"),
    "an input without name": ({"inputs": [{"shape": [1]}]}, "inputs[0] must be an object with 'name'"),
    "an unknown datatype": ({"inputs": [tensor("X", [1, 30], "FLOAT", ROW)]}, "'X' must have one of the datatypes"),
    "no shape": ({"inputs": [{"name": "X", "datatype": "FP64", "data": ROW}]}, "must have a shape"),
    "a negative size": ({"inputs": [tensor("X", [-1, 30], "FP64", ROW)]}, "must have a shape"),
    "three dimensions": ({"inputs": [tensor("X", [1, 30, 1], "FP64", ROW)]}, "must have a shape"),
    "a boolean size": ({"inputs": [tensor("X", [True, 30], "FP64", ROW)]}, "must have a shape"),
    "data shorter than the shape": (
        {"inputs": [tensor("X", [2, 30], "FP64", ROW)]},
        "'X' has the shape [2, 30], so 60 values; found 30",
    ),
    "nested data of another shape": ({"inputs": [tensor("X", [1, 30], "FP64", [ROW, ROW])]}, "don't have the shape"),
    "no data": ({"inputs": [{"name": "X", "shape": [1, 30], "datatype": "FP64"}]}, "as the list 'data'"),
    "no rows": ({"inputs": [tensor("X", [0, 30], "FP64", [])]}, "expected at least one row"),
    "another width": ({"inputs": [tensor("X", [1, 3], "FP64", [1, 2, 3])]}, "expected [rows, 30]"),
    "text as numbers": ({"inputs": [tensor("X", [1, 30], "FP64", ["1"] * 30)]}, "values that aren't FP64"),
    "fractions as INT32": ({"inputs": [tensor("X", [1, 30], "INT32", [0.5] * 30)]}, "values that aren't INT32"),
    "booleans as numbers": ({"inputs": [tensor("X", [1, 30], "FP64", [True] * 30)]}, "values that aren't FP64"),
    "a text matrix": ({"inputs": [tensor("X", [1, 30], "BYTES", ["a"] * 30)]}, "must hold numbers"),
    "null in the matrix": ({"inputs": [tensor("X", [1, 30], "FP64", [*ROW[1:], None])]}, "'f29' must not be null"),
    "an unknown output": (
        {"inputs": [tensor("X", [1, 30], "FP64", ROW)], "outputs": [{"name": "logits"}]},
        "unknown output 'logits'; the model gives 'prediction', 'probabilities'",
    ),
    "outputs is no list": ({"inputs": [tensor("X", [1, 30], "FP64", ROW)], "outputs": "all"}, "'outputs' must be"),
    "outputs is an empty object": ({"inputs": [tensor("X", [1, 30], "FP64", ROW)], "outputs": {}}, "'outputs' must be"),
    "an id with a space": ({"inputs": [tensor("X", [1, 30], "FP64", ROW)], "id": "a b"}, "the field 'id'"),
    "a number as id": ({"inputs": [tensor("X", [1, 30], "FP64", ROW)], "id": 0}, "the field 'id'"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_request_is_a_400_that_names_the_input(shared: Serve, name: str) -> None:
    body, message = BAD[name]
    response = await shared(cancer()).infer(**body)
    assert response.status_code == 400
    assert message in response.json()["error"]


BAD_COLUMNS = {
    "a missing column": (person()[:3], "missing column: 'visits'"),
    "an unknown column": (person(more=tensor("size", [2], "FP64", [1, 2])), "unknown column 'size'"),
    "a column twice": (person(more=person()[0]), "two inputs have the same name"),
    "another number of rows": (
        person(vip={"shape": [1, 1], "data": [True]}),
        "'vip' has 1 rows; the first input has 2",
    ),
    "two values per row": (person(vip={"shape": [2, 2], "data": [True] * 4}), "row 0 has 2 values"),
    "text in a number column": (person(age={"datatype": "BYTES", "data": ["a", "b"]}), "'age' must hold numbers"),
    "a number in a text column": (person(city={"datatype": "FP64", "data": [1, 2]}), "'city' must hold text"),
    "null where none was in training": (person(visits={"data": [1, None]}), "'visits' must not be null"),
    "one matrix for a model with text": (
        [tensor("X", [1, 4], "FP64", [1, 2, 3, 4])],
        "send one named tensor per column",
    ),
    "one column alone": (person()[:1], "missing column: 'city', 'vip', 'visits'"),
}


@pytest.mark.parametrize("name", BAD_COLUMNS)
async def test_bad_columns_are_a_400_that_names_the_column(shared: Serve, name: str) -> None:
    inputs, message = BAD_COLUMNS[name]
    response = await shared(people()).infer(inputs=inputs)
    assert response.status_code == 400
    assert message in response.json()["error"]


async def test_the_row_limit_holds_before_the_data_is_looked_at(serve: Serve) -> None:
    served = serve(cancer(), limits=LimitsConfig(max_rows=2))
    response = await served.infer(inputs=[tensor("X", [2**31 - 1, 30], "FP64", ROW)])
    assert response.status_code == 422


@pytest.mark.parametrize("path", ["/v2/models/other/infer", "/v2/models/cancer/versions/4/infer", "/v2/models/other"])
async def test_another_model_or_version_is_a_404_that_says_what_there_is(shared: Serve, path: str) -> None:
    response = await shared(cancer()).client.post(path, json={})
    assert response.status_code == 404
    assert "this server has the model 'cancer' in version '3'" in response.json()["error"]


def flowers(*, rows: int = 2, **changes: Any) -> list[dict[str, Any]]:
    """The first rows of iris as one tensor per column; `changes` by column name."""
    values = iris().values(rows)
    columns = [
        tensor(name, [rows, 1], "FP32", [row[index] for row in values]) for index, name in enumerate(iris().names)
    ]
    return [column | changes.pop(column["name"], {}) for column in columns]


async def test_columns_of_plain_numbers_in_any_order_are_the_matrix(shared: Serve) -> None:
    served = shared(iris())
    matrix = [tensor("X", [120, 4], "FP64", iris().values(120))]
    answers = [
        (await served.infer(inputs=inputs)).raise_for_status().json()["outputs"]
        for inputs in (matrix, flowers(rows=120), flowers(rows=120)[::-1])
    ]
    assert answers[0] == answers[1] == answers[2]


BAD_FLOWERS = {
    "a column twice": ([*flowers()[:3], flowers()[0]], "two inputs have the same name"),
    "an unknown column": (flowers(f1={"name": "size"}), "unknown column 'size'"),
    "another number of rows": (flowers(f2={"shape": [1, 1], "data": [1.0]}), "'f2' has 1 rows; the first input has 2"),
    "a shape of fractions": (flowers(f2={"shape": [2.0, 1]}), "'f2' must have a shape"),
    "a shape of flags": (flowers(rows=1, f2={"shape": [True, 1]}), "'f2' must have a shape"),
    "null": (flowers(f3={"data": [1.0, None]}), "'f3' must not be null"),
    "text": (flowers(f3={"data": [1.0, "2"]}), "'f3' has values that aren't FP32"),
    "flags": (flowers(f3={"data": [1.0, True]}), "'f3' has values that aren't FP32"),
    "a text as the data": (flowers(f3={"data": "12"}), "as the list 'data'"),
    "no rows": ([column | {"shape": [0], "data": []} for column in flowers()], "expected at least one row"),
    "shared memory": (flowers(f0={"parameters": {"shared_memory_region": "a"}}), "asks for shared memory"),
    "an unknown datatype": (flowers(f0={"datatype": ["FP32"]}), "'f0' must have one of the datatypes"),
}


@pytest.mark.parametrize("name", BAD_FLOWERS)
async def test_columns_of_numbers_are_checked_as_all_others(shared: Serve, name: str) -> None:
    inputs, message = BAD_FLOWERS[name]
    response = await shared(iris()).infer(inputs=inputs)
    assert response.status_code == 400
    assert message in response.json()["error"]
