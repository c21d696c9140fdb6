"""Labels find the rows they are about, whatever protocol and id these came with."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelkit.artifact.signature import Signature
from modelkit.serve.errors import MalformedRequestError
from modelkit.serve.feedback import check_label
from modelkit.store.captures import read_captured
from tests.unit.serve.conftest import Serve, Served
from tests.unit.serve.serve_models import Example, cancer, diabetes, iris

HEADER = {"X-Request-Id": "order-7"}


def tensor(rows: list[list[Any]]) -> list[dict[str, Any]]:
    return [{"name": "X", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": rows}]


WAYS: dict[str, tuple[str, Callable[[list[list[Any]]], dict[str, Any]], dict[str, str]]] = {
    "plain with a header": ("/predict", lambda rows: {"features": rows}, HEADER),
    "plain without an id": ("/predict", lambda rows: {"features": rows}, {}),
    "v2 with its own id": ("/v2/models/iris/infer", lambda rows: {"id": "v2-5", "inputs": tensor(rows)}, {}),
    "v2 with both": ("/v2/models/iris/infer", lambda rows: {"id": "v2-5", "inputs": tensor(rows)}, HEADER),
    "v2 with a header": ("/v2/models/iris/versions/3/infer", lambda rows: {"inputs": tensor(rows)}, HEADER),
    "v2 without an id": ("/v2/models/iris/infer", lambda rows: {"inputs": tensor(rows)}, {}),
    "v1 with a header": ("/v1/models/iris:predict", lambda rows: {"instances": rows}, HEADER),
    "v1 without an id": ("/v1/models/iris:predict", lambda rows: {"instances": rows}, {}),
}


def labels_of(served: Served) -> dict[tuple[str, int], Any]:
    served.version.close()
    now = datetime.now(UTC)
    rows = read_captured(served.store, "team", "iris", now - timedelta(minutes=5), now + timedelta(minutes=5))
    return {(row["id"], row["row"]): row["label"] for row in rows.meta.to_pylist()}


@pytest.mark.parametrize("way", WAYS)
async def test_labels_of_several_rows_join_by_the_id_that_the_answer_carried(serve: Serve, way: str) -> None:
    path, body, headers = WAYS[way]
    served = serve(iris())
    response = await served.client.post(path, json=body(iris().values(3)), headers=headers)
    answer_id = response.raise_for_status().headers["x-request-id"]
    assert response.json().get("id", answer_id) == answer_id
    if headers or "own" in way:
        assert answer_id == ("v2-5" if path.endswith("infer") and "id" in body([[0.0]]) else "order-7")
    feedback = {"id": answer_id, "label": ["setosa", None, "virginica"]}
    (await served.client.post("/feedback", json=feedback)).raise_for_status()
    assert labels_of(served) == {(answer_id, 0): "setosa", (answer_id, 1): None, (answer_id, 2): "virginica"}


async def test_a_batch_of_labels_joins_requests_of_several_protocols(serve: Serve) -> None:
    served = serve(iris())
    ids = []
    for path, body, _ in WAYS.values():
        response = await served.client.post(path, json=body(iris().values(1)), headers={"X-Request-Id": f"r{len(ids)}"})
        ids.append(response.raise_for_status().headers["x-request-id"])
    batch = [{"id": request_id, "label": "setosa"} for request_id in dict.fromkeys(ids)]
    response = await served.client.post("/feedback", json=batch)
    assert (response.status_code, response.json()) == (202, {"accepted": len(batch)})
    assert set(labels_of(served).values()) == {"setosa"}


@pytest.mark.parametrize(
    ("example", "found", "kept"),
    [(cancer, 1, 1), (cancer, 1.0, 1), (cancer, 2**53, 2**53), (iris, "new", "new"), (diabetes, 7, 7.0)],
)
def test_a_label_is_kept_in_the_type_of_the_models_answers(
    example: Callable[[], Example], found: Any, kept: Any
) -> None:
    label = check_label(example().signature, found, "the label")
    assert (label, type(label)) == (kept, type(kept))


@pytest.mark.parametrize("found", [2**53 + 1, -(2**63), 10**400, 1e300, float("inf"), float("nan"), 0.5, "1", None])
def test_a_label_that_the_store_could_not_keep_is_refused_without_being_repeated(found: Any) -> None:
    signature: Signature = cancer().signature
    with pytest.raises(MalformedRequestError, match="the label must be a whole number of at most") as caught:
        check_label(signature, found, "the label")
    assert str(found) not in str(caught.value).replace("2**53", "")


@pytest.mark.parametrize("found", [10**400, float("inf"), float("nan"), "1", True])
def test_a_number_must_be_finite(found: Any) -> None:
    with pytest.raises(MalformedRequestError, match="the label must be a number"):
        check_label(diabetes().signature, found, "the label")
