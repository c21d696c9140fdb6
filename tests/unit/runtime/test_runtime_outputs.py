"""What runtimes of several frameworks answer, as what the signature promises; what doesn't fit never gets through."""

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from modelkit.artifact.signature import InputColumn, OutputColumn, Signature
from modelkit.serve.errors import RequestError, RuntimeAnswerError, UnprocessableRequestError
from modelkit.serve.runtime.form_v1 import parse_predictions
from modelkit.serve.runtime.form_v2 import parse_outputs
from modelkit.serve.runtime.outputs import Output, read_answer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.sampled_from(["a", "b", "prediction", ""]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "shape", "data", "outputs", "predictions", "a"]), inner, max_size=4)
    ),
    max_leaves=20,
)


def signature(classes: tuple[Any, ...] | None, *, promises: bool = True) -> Signature:
    outputs = [OutputColumn(name="prediction", dtype="string")]
    if classes and promises:
        outputs.append(OutputColumn(name="probabilities", dtype="float64", shape=(-1, len(classes))))
    return Signature(
        model="m",
        number=1,
        task="Classification" if classes else "Regression",
        target="y",
        metric="f1",
        classes=classes,
        inputs=(InputColumn(name="a", dtype="float64", kind="numeric", nullable=False),),
        outputs=tuple(outputs),
    )


def test_softmax_scores_are_what_scikit_learn_predicts() -> None:
    rows, target = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(rows, target)
    scores = model.predict_proba(rows).astype(np.float32)
    answer = read_answer(signature((0, 1, 2)), [Output("dense_2", scores.shape, scores.ravel().tolist())], len(rows))
    assert answer.predictions == model.predict(rows).tolist()
    assert answer.probabilities is not None
    np.testing.assert_allclose(answer.probabilities, model.predict_proba(rows), atol=1e-6)


def test_logits_give_labels_where_no_probabilities_are_promised_and_are_refused_where_they_are() -> None:
    logits = [Output("logits", (2, 2), [-3.0, 4.0, 9.0, 1.0])]
    answer = read_answer(signature(("no", "yes"), promises=False), logits, 2)
    assert (answer.predictions, answer.probabilities) == (["yes", "no"], None)
    with pytest.raises(RuntimeAnswerError, match="promises probabilities"):
        read_answer(signature(("no", "yes")), logits, 2)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_a_sigmoid_is_the_probability_of_the_second_class(shape: tuple[int, ...]) -> None:
    answer = read_answer(signature(("no", "yes")), [Output("predictions", shape, [0.25, 0.5, 0.75])], 3)
    assert answer.predictions == ["no", "no", "yes"], "as predict: the first of equals"
    assert answer.probabilities is not None
    assert answer.probabilities.tolist() == [[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]]


@pytest.mark.parametrize(
    ("classes", "values", "expected"),
    [
        ((0, 1), [1.0, 0.0], [1, 0]),
        ((False, True), [1, 0], [True, False]),
        (("no", "yes"), ["yes", "no"], ["yes", "no"]),
    ],
)
def test_labels_come_back_in_the_type_of_the_classes(classes: Any, values: Any, expected: Any) -> None:
    answer = read_answer(signature(classes, promises=False), [Output("label", (2, 1), values)], 2)
    assert answer.predictions == expected
    assert [type(label) for label in answer.predictions] == [type(label) for label in expected]


def test_labels_and_probabilities_are_found_by_name_in_any_order() -> None:
    outputs = [
        Output("embedding", (2, 2), [9.0, 9.0, 9.0, 9.0]),
        Output("predict_proba", (2, 2), [0.9, 0.1, 0.2, 0.8]),
        Output("predict", (2,), [0, 1]),
    ]
    answer = read_answer(signature((0, 1)), outputs, 2)
    assert answer.predictions == [0, 1]
    assert answer.probabilities is not None
    assert answer.probabilities.tolist() == [[0.9, 0.1], [0.2, 0.8]]


def test_the_first_output_is_a_regressions_answer() -> None:
    outputs = [Output("dense", (2, 1), [1, 2.5]), Output("other", (2,), [7, 7])]
    assert read_answer(signature(None), outputs, 2).predictions == [1.0, 2.5]


@pytest.mark.parametrize(
    ("classes", "output", "message"),
    [
        (("no", "yes"), Output("label", (2,), ["no", "secret"]), "holds, for row 1, what is none of"),
        (("no", "yes"), Output("label", (3,), ["no", "no", "no"]), r"shape \[3\]; asked were 2 rows"),
        ((0, 1, 2), Output("label", (2, 4), [0, 1, 2, 0] * 2), "4 values for each row"),
        ((0, 1, 2), Output("scores", (2, 3), [0.5, 0.5, 0.5] * 2), "promises probabilities"),
        ((0, 1, 2), Output("scores", (2, 3), ["a"] * 6), "one number for each of the 3 classes"),
        (None, Output("y", (2, 2), [1.0] * 4), "one number for each row"),
        (None, Output("y", (2,), [True, False]), "one number for each row"),
        (None, Output("y", (), []), "asked were 2 rows"),
    ],
)
def test_what_does_not_fit_is_an_error_that_shows_no_value(classes: Any, output: Output, message: str) -> None:
    with pytest.raises(RuntimeAnswerError, match=message) as caught:
        read_answer(signature(classes, promises=output.name != "label"), [output], 2)
    assert "secret" not in str(caught.value)


def test_an_answer_that_is_not_finite_is_the_rows_fault() -> None:
    with pytest.raises(UnprocessableRequestError, match="no finite answer to row 1"):
        read_answer(signature(None), [Output("y", (2,), [1.0, float("inf")])], 2)
    with pytest.raises(UnprocessableRequestError, match="no finite answer to row 0"):
        read_answer(signature((0, 1)), [Output("p", (2, 2), [float("nan"), 1.0, 0.5, 0.5])], 2)


@given(JSON, st.sampled_from([None, (0, 1), ("a", "b", "")]), st.integers(1, 3))
def test_any_json_is_an_answer_or_an_error_for_the_client(plain: Any, classes: Any, rows: int) -> None:
    for parse, body in (
        (parse_outputs, {"outputs": plain}),
        (parse_predictions, {"predictions": plain}),
        (parse_outputs, {"outputs": [{"name": "a", "shape": [rows], "data": plain}]}),
        (parse_outputs, plain),
        (parse_predictions, plain),
    ):
        for promises in (False, True):
            try:
                answer = read_answer(signature(classes, promises=promises), parse(orjson.dumps(body)), rows)
            except RequestError:
                continue
            assert len(answer.predictions) == rows
            assert classes is None or set(answer.predictions) <= set(classes)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"outputs": {}}', b'{"predictions": NaN}', b"\xff"])
def test_what_is_not_an_answer_is_an_error(body: bytes) -> None:
    for parse in (parse_outputs, parse_predictions):
        with pytest.raises(RuntimeAnswerError, match="the runtime's answer"):
            parse(body)


def test_nested_and_flat_data_are_the_same() -> None:
    nested = {"outputs": [{"name": "p", "shape": [2, 2], "datatype": "FP32", "data": [[0.1, 0.9], [0.5, 0.5]]}]}
    flat = {"outputs": [{"name": "p", "shape": [2, 2], "datatype": "FP32", "data": [0.1, 0.9, 0.5, 0.5]}]}
    assert parse_outputs(orjson.dumps(nested)) == parse_outputs(orjson.dumps(flat))
    rows = {"predictions": [[0.1, 0.9], [0.5, 0.5]]}
    assert replace(parse_predictions(orjson.dumps(rows))[0], name="p") == parse_outputs(orjson.dumps(flat))[0]
