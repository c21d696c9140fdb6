"""Messages of the Open Inference Protocol over gRPC: every datatype, both forms of values, whatever a client sends."""

import itertools
from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example as case
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.config import LimitsConfig
from modelkit.serve import v2
from modelkit.serve.batch import Features
from modelkit.serve.errors import MalformedRequestError, RequestError, UnknownPathError, UnprocessableRequestError
from modelkit.serve.grpc import inference_pb2 as pb
from modelkit.serve.grpc.messages import InferRequest, model_metadata, parse_infer, render_infer
from modelkit.serve.model import Answer
from modelkit.serve.v2_tensors import DTYPES, read_raw
from tests.unit.serve.serve_grpc import add_input, tensor_request
from tests.unit.serve.serve_models import Example, cancer, diabetes, iris, people

LIMITS = LimitsConfig(max_rows=100, max_text_bytes=50)
NUMBERS = [name for name in DTYPES if name not in ("BOOL", "BYTES")]
PEOPLE = {"age": ("FP32", [30.0, 41.0]), "city": ("BYTES", ["Rome", "Oslo"]), "vip": ("BOOL", [True, False])}
PEOPLE |= {"visits": ("UINT8", [2, 3])}


def parse(example: Example, request: pb.ModelInferRequest | bytes) -> InferRequest:
    message = request if isinstance(request, bytes) else request.SerializeToString()
    features = Features.of(example.signature)
    return parse_infer(features, example.signature, example.signature.model, message, LIMITS)


def person(*, raw: bool, **changes: tuple[str, list[Any]]) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="people")
    for name, (datatype, values) in (PEOPLE | changes).items():
        add_input(request, name, datatype, [len(values), 1], values, raw=raw)
    return request


@pytest.mark.parametrize(
    ("datatype", "raw"), [pair for pair in itertools.product(NUMBERS, (True, False)) if pair != ("FP16", False)]
)
def test_numbers_of_every_datatype_are_the_same_numbers(datatype: str, raw: bool) -> None:
    rows = np.arange(60.0).reshape(2, 30)
    found = parse(cancer(), tensor_request(cancer(), rows, datatype, raw=raw))
    assert found.batch.matrix is not None
    np.testing.assert_array_equal(found.batch.matrix, rows)
    assert found.is_raw == raw


@pytest.mark.parametrize("raw", [True, False])
def test_named_columns_are_the_rows_that_the_same_json_is(raw: bool) -> None:
    plain = [
        {"name": name, "shape": [2, 1], "datatype": datatype, "data": values}
        for name, (datatype, values) in PEOPLE.items()
    ]
    signature = people().signature
    expected = v2.parse_infer(Features.of(signature), signature, orjson.dumps({"inputs": plain}))
    found = parse(people(), person(raw=raw))
    assert [found.batch.row(index) for index in range(2)] == [expected.batch.row(index) for index in range(2)]


def test_the_field_of_sixteen_bits_is_said_to_be_missing() -> None:
    request = pb.ModelInferRequest(model_name="cancer")
    request.inputs.add(name="X", datatype="FP16", shape=[1, 30])
    with pytest.raises(MalformedRequestError, match=r"'X' must come in raw_input_contents, as all of FP16 do"):
        parse(cancer(), request)


def test_a_value_that_needs_more_bits_than_its_datatype_is_refused() -> None:
    request = pb.ModelInferRequest(model_name="cancer")
    tensor = request.inputs.add(name="X", datatype="INT8", shape=[1, 30])
    tensor.contents.int_contents.extend([200] * 30)
    with pytest.raises(MalformedRequestError, match="the input 'X' has values beyond INT8"):
        parse(cancer(), request)


def with_contents_twice() -> pb.ModelInferRequest:
    request = tensor_request(cancer(), cancer().rows[:1], raw=True)
    request.inputs[0].contents.fp64_contents.append(1.0)
    return request


def asking(**parameter: pb.InferParameter) -> pb.ModelInferRequest:
    request = tensor_request(cancer(), cancer().rows[:1], raw=True)
    output = request.outputs.add(name="prediction")
    for name, value in parameter.items():
        output.parameters[name].CopyFrom(value)
    return request


def with_changes(**changes: Any) -> pb.ModelInferRequest:
    """A good request of which some fields are others."""
    request = tensor_request(cancer(), cancer().rows[:1], raw=True)
    other = pb.ModelInferRequest(**changes)
    for name in changes:
        request.ClearField(name)  # type: ignore[arg-type]
    request.MergeFrom(other)
    return request


def with_shape(shape: list[int]) -> pb.ModelInferRequest:
    request = tensor_request(cancer(), cancer().rows[:1], raw=True)
    request.inputs[0].ClearField("shape")
    request.inputs[0].shape.extend(shape)
    return request


@pytest.mark.parametrize(
    ("request_", "kind", "message"),
    [
        (b"\xff\xff", MalformedRequestError, "the message isn't a ModelInferRequest"),
        (with_changes(model_name="other"), UnknownPathError, "has the model 'cancer' in version '3' and nothing else"),
        (with_changes(model_version="4"), UnknownPathError, "has the model 'cancer' in version '3' and nothing else"),
        (with_changes(id="two words"), MalformedRequestError, "the field 'id' must be 1 to 128 visible ASCII"),
        (with_changes(inputs=[]), MalformedRequestError, "expected at least one input; found none"),
        (with_changes(raw_input_contents=[b"", b""]), MalformedRequestError, "one element per input, so 1; found 2"),
        (with_changes(raw_input_contents=[b"123"]), MalformedRequestError, "must have 240 bytes; found 3"),
        (with_contents_twice(), MalformedRequestError, "must have contents or raw_input_contents, not both"),
        (with_shape([1, 29]), MalformedRequestError, r"must have 232 bytes; found 240"),
        (with_shape([30]), MalformedRequestError, "expected \\[rows, 30\\]"),
        (with_shape([101, 30]), UnprocessableRequestError, "101 rows in one request; the limit is 100"),
        (with_shape([-1, 30]), MalformedRequestError, "must have a shape of"),
        (with_shape([2**62, 2**62]), MalformedRequestError, "must have a shape of"),
        (asking(classification=pb.InferParameter(int64_param=2)), MalformedRequestError, "as a classification"),
        (
            asking(shared_memory_region=pb.InferParameter(string_param="r")),
            MalformedRequestError,
            "asks for shared memory",
        ),
        (person(raw=False, city=("BYTES", ["x" * 51, "y"])), UnprocessableRequestError, "more than 50 bytes"),
        (person(raw=True, city=("BYTES", ["x" * 51, "y"])), UnprocessableRequestError, "more than 50 bytes"),
        (person(raw=False, vip=("FP64", [0.5, 1.0])), MalformedRequestError, "'vip' must hold true or false"),
        (person(raw=False, other=("FP64", [0.5, 1.0])), MalformedRequestError, "unknown column 'other'"),
    ],
)
def test_what_is_wrong_is_told_by_name(
    request_: pb.ModelInferRequest | bytes, kind: type[RequestError], message: str
) -> None:
    is_person = not isinstance(request_, bytes) and request_.model_name == "people"
    with pytest.raises(kind, match=message):
        parse(people() if is_person else cancer(), request_)


def test_a_text_that_is_not_utf_8_is_refused() -> None:
    request = person(raw=False)
    request.inputs[1].contents.bytes_contents[0] = b"\xff\xfe"
    with pytest.raises(MalformedRequestError, match="the input 'city' has a text that isn't UTF-8"):
        parse(people(), request)


def test_parameters_that_mean_nothing_here_are_ignored() -> None:
    request = tensor_request(cancer(), cancer().rows[:1], raw=True)
    request.parameters["priority"].int64_param = 1
    request.parameters["timeout"].uint64_param = 1
    request.inputs[0].parameters["content_type"].string_param = "np"
    assert parse(cancer(), request).outputs == ("prediction", "probabilities")


@given(
    rows=st.integers(1, 300),
    request_id=st.text("abc-123", max_size=128),
    wanted=st.sampled_from([("prediction",), ("probabilities", "prediction"), ("prediction", "probabilities")]),
    shape_of=st.sampled_from([cancer, iris, diabetes]),
)
@case(rows=128, request_id="a" * 128, wanted=("prediction",), shape_of=iris)
def test_a_raw_answer_is_the_typed_answer(rows: int, request_id: str, wanted: tuple[str, ...], shape_of: Any) -> None:
    signature = shape_of().signature
    classes = signature.classes
    labels: list[Any] = [index * 0.5 if classes is None else classes[index % len(classes)] for index in range(rows)]
    answer = Answer(labels, None if classes is None else np.random.default_rng(rows).random((rows, len(classes))))
    outputs = tuple(name for name in wanted if classes or name == "prediction")
    asked = parse(cancer(), tensor_request(cancer(), cancer().rows[:1], raw=True))
    typed, raw = (
        pb.ModelInferResponse.FromString(
            render_infer(signature, "m", answer, InferRequest(None, asked.batch, outputs, is_raw), request_id)
        )
        for is_raw in (False, True)
    )
    assert (raw.model_name, raw.model_version, raw.id) == ("m", "3", request_id)
    assert not typed.raw_output_contents
    for index, output in enumerate(typed.outputs):
        other = raw.outputs[index]
        assert (output.name, output.datatype, output.shape) == (other.name, other.datatype, other.shape)
        assert not other.HasField("contents")
        (_, contents) = output.contents.ListFields()[0]
        values = read_raw("x", other.datatype, tuple(other.shape), raw.raw_output_contents[index], 100)
        assert [v.decode() if isinstance(v, bytes) else v for v in contents] == values.tolist()
    assert [output.name for output in typed.outputs] == list(outputs)


def test_the_metadata_are_those_of_rest() -> None:
    for example in (cancer(), people(), diabetes()):
        found = pb.ModelMetadataResponse.FromString(model_metadata(example.signature, "m", "p"))
        expected = orjson.loads(v2.model_metadata(example.signature, "m", "p"))
        assert (found.name, list(found.versions), found.platform) == ("m", expected["versions"], "p")
        for mine, theirs in ((found.inputs, expected["inputs"]), (found.outputs, expected["outputs"])):
            assert [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in mine] == theirs


_GOOD = person(raw=False).SerializeToString(), person(raw=True).SerializeToString()


@given(st.data())
def test_any_message_is_an_inference_or_an_error_of_the_request(data: st.DataObject) -> None:
    message = bytearray(data.draw(st.sampled_from(_GOOD)))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(message) - 1))
        if data.draw(st.booleans()):
            message[at] = data.draw(st.integers(0, 255))
        else:
            del message[at : at + data.draw(st.integers(1, 9))]
        if not message:
            break
    with suppress(RequestError):
        assert parse(people(), bytes(message)).batch.rows > 0
