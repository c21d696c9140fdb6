"""The OpenAPI document says what the server does: its examples are answered, and the answers are as described."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.unit.serve.conftest import Serve, Served
from tests.unit.serve.serve_models import Example, cancer, diabetes, iris, people

EXAMPLES = {"binary": cancer, "text labels": iris, "text columns": people, "regression": diabetes}


async def read_document(served: Served) -> dict[str, Any]:
    document: dict[str, Any] = (await served.client.get("/openapi.json")).raise_for_status().json()
    return document


def check(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Validate by a schema whose references are into the document."""
    Draft202012Validator({"components": document["components"], **schema}).validate(value)


def resolve(document: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in item:
        *_, kind, name = item["$ref"].split("/")
        return document["components"][kind][name]  # type: ignore[no-any-return]
    return item


@pytest.mark.parametrize("name", EXAMPLES)
async def test_every_example_is_answered_and_every_answer_is_as_described(shared: Serve, name: str) -> None:
    served = shared(EXAMPLES[name]())
    document = await read_document(served)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            (status,) = [status for status in operation["responses"] if status.startswith("2")]
            body = operation.get("requestBody", {"content": {}})["content"].get("application/json")
            if body is not None:
                check(document, body["schema"], body["example"])
            response = await served.client.request(method, path, json=body and body["example"])
            assert str(response.status_code) == status, (path, response.text)
            kind = response.headers["content-type"].partition(";")[0]
            content = operation["responses"][status]["content"]
            if kind == "application/json":
                check(document, content[kind]["schema"], response.json())
            assert kind in content


@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_samples_of_a_version_are_valid_by_its_document(shared: Serve, name: str) -> None:
    example: Example = EXAMPLES[name]()
    document = await read_document(shared(example))
    request = document["components"]["schemas"]["PredictRequest"]
    for features in (example.values(5), example.records(5), example.values(1)[0], example.records(1)[0]):
        check(document, request, {"features": features})


async def test_every_path_of_the_server_is_described_and_no_other(shared: Serve) -> None:
    served = shared(people())
    document = await read_document(served)
    unknown = (await served.client.get("/nothing")).json()["error"]
    assert sorted(document["paths"]) == sorted(unknown.partition("there are ")[2].split(", "))
    identifiers = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(identifiers)) == len(identifiers)


async def test_errors_are_described_with_their_statuses(shared: Serve) -> None:
    served = shared(people())
    document = await read_document(served)
    responses = document["paths"]["/predict"]["post"]["responses"]
    bad = [
        await served.client.post("/predict", content=b"{"),
        await served.client.get("/predict"),
        await served.client.post("/predict", content=b"a", headers={"Content-Type": "text/plain"}),
        await served.client.post("/predict", json={"features": [[0] * 4] * 10_001}),
    ]
    assert [response.status_code for response in bad] == [400, 405, 415, 422]
    for response in bad:
        described = resolve(document, responses[str(response.status_code)])
        check(document, described["content"]["application/json"]["schema"], response.json())


WRONG: dict[str, Any] = {
    "a missing column": [{"age": 1, "city": "Rome", "vip": True}],
    "an extra column": [{"age": 1, "city": "Rome", "vip": True, "visits": 1, "more": 1}],
    "text as a number": [["1", "Rome", True, 1]],
    "a number as text": [[1, 2, True, 1]],
    "null where none may be": [[1, "Rome", None, 1]],
    "a fraction": [[1, "Rome", True, 1.5]],
    "too few values": [[1, "Rome", True]],
    "no rows": [],
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_the_server_refuses_the_document_refuses_too(shared: Serve, name: str) -> None:
    served = shared(people())
    document = await read_document(served)
    validator = Draft202012Validator(
        {"components": document["components"], **document["components"]["schemas"]["PredictRequest"]}
    )
    assert not validator.is_valid({"features": WRONG[name]})
    assert (await served.predict(WRONG[name])).status_code == 400
