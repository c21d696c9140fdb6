"""Whatever JSON comes to /evaluate, /explain and /feedback is either understood or refused with a message."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.contract.config import LimitsConfig
from modelkit.serve.batch import Features
from modelkit.serve.errors import RequestError
from modelkit.serve.evaluate import parse_evaluate
from modelkit.serve.explain import ask_explanation
from modelkit.serve.feedback import parse_feedback
from modelkit.serve.question import Question, Request
from tests.unit.serve.conftest import Serve
from tests.unit.serve.serve_models import people

SIGNATURE = people().signature
FEATURES = Features.of(SIGNATURE)
NOW = datetime(2026, 3, 1, tzinfo=UTC)

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5)
)
GOOD = people().records(1)[0]
ROWS = st.sampled_from([list(GOOD.values()), GOOD, [], {}, [30.0, "Rome"]]) | SCALARS
VALUES = st.recursive(SCALARS | ROWS, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
NAMES = ["features", "labels", "instances", "id", "label", "time", "other"]
OBJECTS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3)
BODIES = OBJECTS | VALUES | st.lists(OBJECTS, max_size=3)


@pytest.mark.parametrize(
    "parse",
    [
        lambda body: parse_evaluate(FEATURES, SIGNATURE, body, LimitsConfig()),
        lambda body: parse_feedback(SIGNATURE, body, LimitsConfig(), NOW),
    ],
    ids=["evaluate", "feedback"],
)
@settings(max_examples=200, deadline=None)
@given(plain=BODIES)
def test_a_body_is_understood_or_refused(parse: Callable[[bytes], Any], plain: Any) -> None:
    with suppress(RequestError):
        parse(orjson.dumps(plain))


def test_a_body_to_explain_is_understood_or_refused(shared: Serve) -> None:
    service = shared(people()).version.service
    explainer = service.explainer
    assert explainer is not None

    @settings(max_examples=200, deadline=None)
    @given(plain=BODIES)
    def understand(plain: Any) -> None:
        with suppress(RequestError):
            found = ask_explanation(service, explainer, Request(orjson.dumps(plain), "id"), "features")
            assert isinstance(found, Question)
            assert found.is_costly
            assert not found.is_captured

    understand()
