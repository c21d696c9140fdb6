"""Whatever a client sends, the answer is JSON and never the server's fault."""

import asyncio
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.serve.conftest import Serve
from tests.unit.serve.serve_models import cancer, people

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
VALUES = SCALARS | st.sampled_from([30.0, "Rome", True, 2, 1e39, -1e308, 2**63, 2**64])
ROWS = st.lists(st.lists(VALUES, min_size=3, max_size=5) | st.fixed_dictionaries(
    {"age": VALUES, "city": VALUES, "vip": VALUES}, optional={"visits": VALUES, "more": VALUES}
), max_size=3)  # fmt: skip
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["X", "age", "city", "vip", "visits"]) | ANYTHING,
        "shape": st.lists(st.integers(-1, 5), max_size=3) | ANYTHING,
        "datatype": st.sampled_from(["FP32", "FP64", "INT64", "BOOL", "BYTES", "UINT8"]) | ANYTHING,
        "data": st.lists(VALUES | st.lists(VALUES, max_size=4), max_size=6) | ANYTHING,
    },
)
BODIES = {
    "/predict": st.fixed_dictionaries({"features": ROWS | ANYTHING}) | ANYTHING,
    "/v2/models/people/infer": st.fixed_dictionaries(
        {"inputs": st.lists(TENSORS, max_size=4) | ANYTHING},
        optional={"id": ANYTHING, "outputs": ANYTHING, "parameters": ANYTHING},
    ),
    "/feedback": st.fixed_dictionaries({"id": st.just("a") | ANYTHING, "label": ANYTHING}) | ANYTHING,
}
PATHS = st.sampled_from(sorted(BODIES))
quick = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def post(shared: Serve, path: str, body: bytes) -> None:
    served = shared(people())
    response = asyncio.run(served.client.post(path, content=body))
    assert response.status_code in (200, 202, 400, 422), response.text
    answer = response.json()
    assert response.status_code < 400 or set(answer) == {"error"}


@quick
@given(data=st.data(), path=PATHS)
def test_structured_nonsense_is_never_a_5xx(shared: Serve, data: st.DataObject, path: str) -> None:
    body: Any = data.draw(BODIES[path])
    post(shared, path, json.dumps(body).encode("utf-8", "surrogatepass"))


@quick
@given(path=PATHS, cut=st.integers(0, 200), garbage=st.binary(max_size=8), end=st.integers(0, 200))
def test_damaged_bodies_are_never_a_5xx(shared: Serve, path: str, cut: int, garbage: bytes, end: int) -> None:
    body = json.dumps({"features": people().records(1)}).encode()
    post(shared, path, body[:cut] + garbage + body[cut + end :])


async def test_every_answer_is_finite_even_at_the_edge_of_the_numbers(shared: Serve) -> None:
    served = shared(cancer())
    for value in (0.0, -0.0, 1e-320, 3.4e38, -3.4e38, 3.5e38, 1.7e308, 2**53, -(2**63), 2**64 - 1):
        response = await served.predict([[value] * 30])
        assert response.status_code in (200, 422)
        if response.status_code == 200:
            (row,) = response.json()["probabilities"]
            assert abs(sum(row) - 1) < 1e-5
