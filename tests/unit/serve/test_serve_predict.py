"""/predict: rows and records in, scikit-learn's own answers out, errors that name the field."""

from typing import Any

import numpy as np
import pytest

from modelkit.contract.config import LimitsConfig
from tests.unit.serve.conftest import Serve
from tests.unit.serve.serve_models import Example, cancer, diabetes, iris, native, people

EXAMPLES = {
    "binary": cancer,
    "text labels": iris,
    "regression": diabetes,
    "text columns": people,
    "native": lambda: native("cancer"),
    "native text columns": lambda: native("people"),
    "native regression": lambda: native("diabetes"),
}


@pytest.mark.parametrize("name", EXAMPLES)
async def test_rows_and_records_get_the_pipelines_own_answers(shared: Serve, name: str) -> None:
    example: Example = EXAMPLES[name]()
    served = shared(example)
    for features in (example.values(20), example.records(20)):
        answer = (await served.predict(features)).raise_for_status().json()
        if example.signature.classes is None:
            np.testing.assert_allclose(answer["predictions"], example.predictions(20), rtol=1e-5)
            assert "probabilities" not in answer
            assert "classes" not in answer
        else:
            assert answer["predictions"] == example.predictions(20)
            np.testing.assert_allclose(answer["probabilities"], example.probabilities(20), atol=1e-5)
            assert answer["classes"] == list(example.signature.classes)
        assert (answer["model"], answer["version"]) == (example.signature.model, "3")


async def test_columns_may_come_in_any_order(shared: Serve) -> None:
    example = people()
    record = example.records(2)[1]
    served = shared(example)
    straight, turned = [
        (await served.predict([dict(items)])).json()["predictions"]
        for items in (record.items(), reversed(record.items()))
    ]
    assert straight == turned == example.predictions(2)[1:]


@pytest.mark.parametrize("single", ["row", "record"])
async def test_a_single_row_needs_no_list_around_it(shared: Serve, single: str) -> None:
    example = cancer()
    features = example.values(1)[0] if single == "row" else example.records(1)[0]
    answer = (await shared(example).predict(features)).json()
    assert answer["predictions"] == example.predictions(1)


async def test_null_is_a_missing_value_where_the_training_data_had_some(shared: Serve) -> None:
    example = people()
    record = example.records(1)[0] | {"age": None, "city": None}
    answer = await shared(example).predict([record])
    expected = example.pipeline.predict_proba(np.array([[np.nan, "", 0.0, 0]], dtype=object))
    np.testing.assert_allclose(answer.json()["probabilities"], expected, atol=1e-5)


ROW = [30.0, "Rome", True, 2]

BAD_ROWS = {
    "text in a number column": ([["old", "Rome", True, 2]], "the column 'age' must hold numbers; found text"),
    "a boolean in a number column": ([[True, "Rome", True, 2]], "'age' must hold numbers; found a boolean"),
    "a number in a text column": ([[30.0, 5, True, 2]], "'city' must hold text; found a number"),
    "a list as a value": ([[[30.0], "Rome", True, 2]], "'age' must hold numbers; found a list"),
    "an object as a value": ([[{"a": 1}, "Rome", True, 2]], "'age' must hold numbers; found an object"),
    "text in a boolean column": ([[30.0, "Rome", "yes", 2]], "'vip' must hold true or false; found text"),
    "two in a boolean column": ([[30.0, "Rome", 2, 2]], "'vip' must hold true or false"),
    "a fraction in a whole column": ([[30.0, "Rome", True, 2.5]], "'visits' must hold whole numbers"),
    "a huge whole number": ([[30.0, "Rome", True, 2**60]], "'visits' must hold whole numbers"),
    "null where none was in training": ([[30.0, "Rome", None, 2]], "'vip' must not be null"),
    "too few values": ([ROW, ROW[:3]], "row 1 has 3 values; the model takes 4"),
    "too many values": ([[*ROW, 1]], "row 0 has 5 values; the model takes 4"),
    "a missing column": ([{"age": 1, "city": "Rome", "vip": True}], "row 0: missing column: 'visits'"),
    "all columns missing": ([{}], "missing column: 'age', 'city', 'vip' and 1 more"),
    "an unknown column": (
        [{"age": 1, "city": "Rome", "vip": True, "visits": 2, "size": 3}],
        "row 0: unknown column 'size'; the model takes 'age', 'city', 'vip', 'visits'",
    ),
    "no rows": ([], "expected at least one row"),
    "rows and records mixed": ([ROW, {"age": 1}], "expected {"),
    "scalars and rows mixed": ([1, ROW], "row 0 has 2 values"),
    "rows and scalars mixed": ([ROW, 1], "expected {"),
    "text": ("abc", "expected {"),
    "null": (None, "expected {"),
    "a number": (7, "expected {"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
async def test_a_bad_row_is_a_400_that_names_the_field(shared: Serve, name: str) -> None:
    features, message = BAD_ROWS[name]
    response = await shared(people()).predict(features)
    assert response.status_code == 400
    assert message in response.json()["error"]


@pytest.mark.parametrize("bad", [True, "5", None, [1.0], 2**70])
async def test_a_row_of_plain_numbers_is_checked_too(shared: Serve, bad: Any) -> None:
    row = cancer().values(1)[0]
    response = await shared(cancer()).predict([[*row[:-1], bad]])
    if bad == 2**70:  # a number like any other
        assert response.status_code == 200
    else:
        assert response.status_code == 400
        assert "'f29'" in response.json()["error"]


BODIES = {
    b"": "the body is empty",
    b"{": "isn't JSON at line 1",
    b'{"features": [[NaN]]}': "send null for a missing number",
    b'{"features": [[Infinity]]}': "NaN and Infinity aren't JSON",
    b'{"features": [[1e999]]}': "isn't JSON at line 1 column 16",
    b'{"features": [["\xff"]]}': "isn't JSON",
    b"[1, 2]": "must be a JSON object with 'features'",
    b'{"instances": [[1]]}': "unknown field 'instances'; expected 'features'",
    b"{}": "expected {",
}


@pytest.mark.parametrize("body", BODIES)
async def test_a_bad_body_is_a_400_that_says_what_is_expected(shared: Serve, body: bytes) -> None:
    response = await shared(cancer()).client.post("/predict", content=body)
    assert response.status_code == 400
    assert BODIES[body] in response.json()["error"]


async def test_an_error_never_repeats_a_value(shared: Serve) -> None:
    served = shared(people())
    for body in (b'{"features": [["sec', b'{"features": [["secret", "secret", "secret", "secret"]]}'):
        assert "sec" not in (await served.client.post("/predict", content=body)).json()["error"]


async def test_more_rows_than_the_limit_are_a_422(serve: Serve) -> None:
    served = serve(cancer(), limits=LimitsConfig(max_rows=3))
    assert (await served.predict(cancer().values(3))).status_code == 200
    response = await served.predict(cancer().values(4))
    assert response.status_code == 422
    assert response.json()["error"] == "4 rows in one request; the limit is 3: send several requests"


async def test_deep_nesting_is_a_422(shared: Serve) -> None:
    response = await shared(cancer()).client.post("/predict", content=b"[" * 5000)
    assert response.status_code == 422
    assert "nested too deeply" in response.json()["error"]


async def test_a_number_beyond_the_models_float32_is_a_422_that_names_the_column(shared: Serve) -> None:
    row = cancer().values(1)[0]
    response = await shared(cancer()).predict([[*row[:-1], 1e300]])
    assert response.status_code == 422
    assert "'f29'" in response.json()["error"]


async def test_an_answer_that_is_no_number_is_a_422(shared: Serve) -> None:
    served = shared(diabetes())
    row = diabetes().values(1)[0]
    response = await served.predict([row, [3e38] * len(row)])
    assert response.status_code == 422
    assert response.json()["error"] == "the model has no finite answer to row 1"


async def test_the_clients_request_id_is_returned(shared: Serve) -> None:
    served = shared(cancer())
    response = await served.predict(cancer().values(1), **{"X-Request-Id": "order-17"})
    assert response.json()["id"] == response.headers["x-request-id"] == "order-17"


async def test_a_request_without_id_gets_a_new_one(shared: Serve) -> None:
    served = shared(cancer())
    ids = {(await served.predict(cancer().values(1))).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(len(id) == 32 for id in ids)


@pytest.mark.parametrize("bad", ["two words", "x" * 129, "\u00e9"])
async def test_a_request_id_that_can_not_be_used_is_a_400(shared: Serve, bad: str) -> None:
    response = await shared(cancer()).client.post(
        "/predict", json={"features": cancer().values(1)}, headers={"X-Request-Id": bad.encode("latin-1")}
    )
    assert response.status_code == 400
    assert "X-Request-Id" in response.json()["error"]
