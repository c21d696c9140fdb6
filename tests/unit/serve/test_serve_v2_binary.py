"""The binary tensor data extension of the Open Inference Protocol, and every datatype."""

import json
import struct
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.config import LimitsConfig
from modelkit.serve.errors import MalformedRequestError, RequestError
from modelkit.serve.v2_tensors import DTYPES, read_raw, read_values, write_raw
from tests.unit.serve.conftest import Serve, Served
from tests.unit.serve.serve_models import cancer, diabetes, iris, people

NUMBERS = [name for name in DTYPES if name not in ("BOOL", "BYTES")]


def texts(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def raw(name: str, shape: list[int], datatype: str, data: bytes) -> tuple[dict[str, Any], bytes]:
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(data)}}, data


def person(**changes: tuple[dict[str, Any], bytes]) -> list[tuple[dict[str, Any], bytes]]:
    columns = {
        "age": raw("age", [2, 1], "FP32", np.array([30, 41], "<f4").tobytes()),
        "city": raw("city", [2, 1], "BYTES", texts(b"Rome", b"Oslo")),
        "vip": raw("vip", [2, 1], "BOOL", b"\1\0"),
        "visits": raw("visits", [2], "UINT8", b"\2\3"),
    }
    return list((columns | changes).values())


async def infer(
    served: Served, inputs: list[tuple[dict[str, Any], bytes]], length: int | None = None, **body: Any
) -> httpx.Response:
    text = json.dumps({"inputs": [tensor for tensor, _ in inputs], **body}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text) if length is None else length)}
    content = text + b"".join(data for _, data in inputs)
    path = f"/v2/models/{served.example.signature.model}/infer"
    headers["Content-Type"] = "application/octet-stream"
    return await served.client.post(path, content=content, headers=headers)


def read_binary(response: httpx.Response) -> dict[str, Any]:
    """The outputs by name: NumPy arrays, or lists of texts."""
    assert response.status_code == 200, response.text
    length = int(response.headers["inference-header-content-length"])
    assert response.headers["content-type"] == "application/octet-stream"
    answer, data, found = json.loads(response.content[:length]), response.content[length:], {}
    for output in answer["outputs"]:
        size = output["parameters"]["binary_data_size"]
        part, data = data[:size], data[size:]
        values = read_raw(output["name"], output["datatype"], tuple(output["shape"]), part, 1000)
        found[output["name"]] = values.reshape(output["shape"])
    assert data == b""
    return found


@pytest.mark.parametrize("datatype", NUMBERS)
async def test_a_matrix_of_every_number_type_gets_the_pipelines_answers(shared: Serve, datatype: str) -> None:
    example = iris()
    rows = example.rows[::20].round().astype(DTYPES[datatype])
    response = await infer(shared(example), [raw("X", list(rows.shape), datatype, rows.tobytes())])
    assert response.json()["outputs"][0]["data"] == example.pipeline.predict(rows.astype(float)).tolist()


@pytest.mark.parametrize("example", [cancer, iris, people, diabetes])
async def test_binary_outputs_are_the_pipelines_own_in_the_signatures_types(shared: Serve, example: Any) -> None:
    inputs = [raw("X", [5, 30], "FP64", cancer().rows[:5].tobytes())]
    if example is not cancer:
        rows = example().rows[:5]
        inputs = [raw("X", list(rows.shape), "FP64", rows.tobytes())] if example is not people else person()
    found = read_binary(await infer(shared(example()), inputs, parameters={"binary_data_output": True}))
    expected = example().predictions(5)
    if example is people:
        rows = np.array([[30.0, "Rome", 1.0, 2], [41.0, "Oslo", 0.0, 3]], dtype=object)
        expected = people().pipeline.predict(rows).tolist()
    if example is diabetes:
        assert found["prediction"].dtype == np.float64
        np.testing.assert_allclose(found["prediction"], expected, rtol=1e-5)
    else:
        assert found["prediction"].tolist() == expected
        assert found["prediction"].dtype == (np.int64 if example is cancer else object)
        assert found["probabilities"].dtype == np.float64
        assert found["probabilities"].shape == (len(expected), len(example().signature.classes))


async def test_each_output_may_say_itself_whether_it_is_binary(shared: Serve) -> None:
    inputs = [raw("X", [1, 30], "FP64", cancer().rows[:1].tobytes())]
    wanted = [{"name": "probabilities", "parameters": {"binary_data": False}}, {"name": "prediction"}]
    response = await infer(shared(cancer()), inputs, outputs=wanted, parameters={"binary_data_output": True})
    length = int(response.headers["inference-header-content-length"])
    probabilities, prediction = json.loads(response.content[:length])["outputs"]
    np.testing.assert_allclose(probabilities["data"], cancer().probabilities(1)[0], atol=1e-5)
    assert prediction["parameters"] == {"binary_data_size": 8}
    assert struct.unpack("<q", response.content[length:]) == tuple(cancer().predictions(1))


async def test_json_and_binary_inputs_may_be_mixed(shared: Serve) -> None:
    mixed = person(age=({"name": "age", "shape": [2], "datatype": "FP64", "data": [30, 41]}, b""))
    answers = [(await infer(shared(people()), inputs)).json()["outputs"] for inputs in (mixed, person())]
    assert answers[0] == answers[1]


async def test_nan_is_a_missing_number_and_empty_text_a_missing_text(shared: Serve) -> None:
    inputs = person(
        age=raw("age", [2], "FP16", np.array([np.nan, 41], "<f2").tobytes()),
        city=raw("city", [2], "BYTES", texts(b"", b"Oslo")),
    )
    response = await infer(shared(people()), inputs)
    rows = np.array([[np.nan, "", 1.0, 2], [41.0, "Oslo", 0.0, 3]], dtype=object)
    assert response.json()["outputs"][0]["data"] == people().pipeline.predict(rows).tolist()


ROW = np.zeros((1, 30)).tobytes()
NOT_FINITE = [np.array([[value] + [0.0] * 29]).tobytes() for value in (np.inf, np.nan)]
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "too few bytes announced": ({"inputs": [raw("X", [1, 30], "FP64", ROW[:-8])]}, "must have 240 bytes; found 232"),
    "too few bytes sent": (
        {"inputs": [(raw("X", [1, 30], "FP64", ROW)[0], ROW[:-1])]},
        "must have 240 bytes of binary data; found 239",
    ),
    "bytes that belong to nothing": (
        {"inputs": [(raw("X", [1, 30], "FP64", ROW)[0], ROW + b"1")]},
        "1 bytes of binary",
    ),
    "a negative size": (
        {
            "inputs": [
                ({"name": "X", "shape": [1, 30], "datatype": "FP64", "parameters": {"binary_data_size": -1}}, b"")
            ]
        },
        "whole number as binary_data_size",
    ),
    "both data and binary data": ({"inputs": [(raw("X", [1, 30], "FP64", ROW)[0] | {"data": [1]}, ROW)]}, "not both"),
    "a length beyond the body": (
        {"inputs": [raw("X", [1, 30], "FP64", ROW)], "length": 10_000},
        "says 10000 bytes of JSON",
    ),
    "a length within the JSON": ({"inputs": [raw("X", [1, 30], "FP64", ROW)], "length": 5}, "isn't JSON"),
    "no JSON at all": ({"inputs": [raw("X", [1, 30], "FP64", ROW)], "length": 0}, "the body is empty"),
    "an infinite number": ({"inputs": [raw("X", [1, 30], "FP64", NOT_FINITE[0])]}, "'f0' must hold finite numbers"),
    "a missing number": ({"inputs": [raw("X", [1, 30], "FP64", NOT_FINITE[1])]}, "'f0' must not be null"),
    "a classification": (
        {
            "inputs": [raw("X", [1, 30], "FP64", ROW)],
            "outputs": [{"name": "prediction", "parameters": {"classification": 3}}],
        },
        "can't be asked as a classification",
    ),
    "shared memory": (
        {
            "inputs": [
                ({"name": "X", "shape": [1, 30], "datatype": "FP64", "parameters": {"shared_memory_region": "a"}}, b"")
            ]
        },
        "asks for shared memory",
    ),
    "a text as flag": (
        {"inputs": [raw("X", [1, 30], "FP64", ROW)], "parameters": {"binary_data_output": "yes"}},
        "true or false",
    ),
    "parameters that are a list": (
        {"inputs": [raw("X", [1, 30], "FP64", ROW)], "parameters": [1]},
        "must be an object",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_binary_data_is_a_400_that_names_the_input(shared: Serve, name: str) -> None:
    body, message = BAD[name]
    response = await infer(shared(cancer()), **body)
    assert response.status_code == 400
    assert message in response.json()["error"]


BAD_COLUMNS = {
    "a flag of two": (person(vip=raw("vip", [2], "BOOL", b"\1\2")), 400, "'vip' must hold bytes of 0 and 1"),
    "fractions as flags": (person(vip=raw("vip", [2], "FP32", bytes(8))), 400, "'vip' must hold true or false"),
    "flags as numbers": (person(age=raw("age", [2], "BOOL", b"\1\0")), 400, "'age' must hold numbers; found a boolean"),
    "numbers as text": (person(city=raw("city", [2], "INT8", b"\1\0")), 400, "'city' must hold text"),
    "text as numbers": (person(age=raw("age", [2], "BYTES", texts(b"1", b"2"))), 400, "'age' must hold numbers"),
    "a fraction as a count": (
        person(visits=raw("visits", [2], "FP32", np.array([1.5, 2], "<f4").tobytes())),
        400,
        "'visits' must hold whole",
    ),
    "a count that isn't exact": (
        person(visits=raw("visits", [2], "INT64", struct.pack("<qq", 2**53 + 1, 1))),
        400,
        "'visits' must hold whole",
    ),
    "text that isn't UTF-8": (person(city=raw("city", [2], "BYTES", texts(b"\xff", b""))), 400, "isn't UTF-8"),
    "one text": (person(city=raw("city", [2], "BYTES", texts(b"Rome"))), 400, "'city' must have 2 texts"),
    "three texts": (person(city=raw("city", [2], "BYTES", texts(b"a", b"b", b"c"))), 400, "'city' must have 2 texts"),
    "a text beyond the end": (
        person(city=raw("city", [2], "BYTES", texts(b"a") + b"\5\0\0\0b")),
        400,
        "'city' must have 2 texts",
    ),
    "a cut length": (person(city=raw("city", [2], "BYTES", texts(b"abcd") + b"\5")), 400, "'city' must have 2 texts"),
    "a long text": (
        person(city=raw("city", [2], "BYTES", texts(b"a" * 101, b""))),
        422,
        "'city' has a text of more than",
    ),
}


@pytest.mark.parametrize("name", BAD_COLUMNS)
async def test_bad_binary_columns_name_the_column(shared: Serve, name: str) -> None:
    inputs, status, message = BAD_COLUMNS[name]
    served = shared(people(), limits=LimitsConfig(max_text_bytes=100))
    response = await infer(served, inputs)
    assert (response.status_code, message in response.json()["error"]) == (status, True), response.text


async def test_binary_data_without_the_header_is_a_400_that_names_it(shared: Serve) -> None:
    tensor, _ = raw("X", [1, 30], "FP64", ROW)
    response = await shared(cancer()).infer(inputs=[tensor])
    assert response.status_code == 400
    assert "the header Inference-Header-Content-Length must say" in response.json()["error"]


@pytest.mark.parametrize("datatype", ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"])
def test_whole_numbers_in_json_are_kept_exactly_and_within_their_datatype(datatype: str) -> None:
    low, high = np.iinfo(DTYPES[datatype]).min, np.iinfo(DTYPES[datatype]).max
    assert read_values("X", datatype, [low, 0, high]).tolist() == [low, 0, high]
    assert read_values("X", datatype, [low, None]).tolist() == [low, None]
    for beyond in ([low - 1], [high + 1], [high + 1, None]):
        with pytest.raises(MalformedRequestError, match=f"'X' has values beyond {datatype}"):
            read_values("X", datatype, beyond)
    for other in ([True], [1.0], ["1"], [[1]], [{}]):
        with pytest.raises(MalformedRequestError, match=f"'X' has values that aren't {datatype}"):
            read_values("X", datatype, other)


TEXTS = st.text(max_size=5)
VALUES = {
    "BYTES": TEXTS,
    "BOOL": st.booleans(),
    **{
        name: st.floats(width=DTYPES[name].itemsize * 8)  # type: ignore[arg-type]
        if name.startswith("FP")
        else st.integers(np.iinfo(DTYPES[name]).min, np.iinfo(DTYPES[name]).max)
        for name in NUMBERS
    },
}


@given(data=st.data(), datatype=st.sampled_from(sorted(DTYPES)))
def test_what_is_written_raw_is_read_back_alike(data: st.DataObject, datatype: str) -> None:
    values = data.draw(st.lists(VALUES[datatype], max_size=5))
    content = write_raw(datatype, values)
    found = read_raw("X", datatype, (len(values),), content, 100)
    np.testing.assert_array_equal(found, np.array(values, dtype=DTYPES[datatype]))
    if datatype != "BYTES":
        assert len(content) == len(values) * DTYPES[datatype].itemsize


@given(data=st.binary(max_size=40), datatype=st.sampled_from(sorted(DTYPES)), count=st.integers(0, 6))
def test_any_bytes_are_values_or_a_request_error(data: bytes, datatype: str, count: int) -> None:
    try:
        found = read_raw("X", datatype, (count,), data, 8)
    except RequestError:
        return
    assert len(found) == count
