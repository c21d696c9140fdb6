"""Trace headers are passed on when they are valid, and are as if absent otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.serve.batch import Batch
from modelkit.serve.model import Answer
from modelkit.serve.trace import Trace, parse_trace
from tests.unit.serve.conftest import Serve
from tests.unit.serve.serve_models import iris

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_valid_parent_is_passed_on_unchanged() -> None:
    trace = parse_trace([PARENT], [b"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"])
    assert trace == Trace(PARENT, b"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")
    assert trace.id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace.headers() == (
        (b"traceparent", PARENT),
        (b"tracestate", b"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
    )


def test_without_a_state_only_the_parent_is_passed_on() -> None:
    trace = parse_trace([b" " + PARENT + b"\t"])
    assert trace is not None
    assert trace.headers() == ((b"traceparent", PARENT),)


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        b"00",
        PARENT[:-1],
        PARENT + b"0",
        PARENT + b"-extra",  # version 00 ends here
        PARENT.upper(),
        PARENT.replace(b"-", b"_"),
        b"ff" + PARENT[2:],
        b"0x" + PARENT[2:],
        b"00-" + b"0" * 32 + PARENT[35:],
        PARENT[:36] + b"0" * 16 + PARENT[52:],
        PARENT[:-2] + b"zz",
        PARENT + b"\r\nevil: 1",
        b"01" + PARENT[2:] + b"-" + b"a" * 5000,
        b"01" + PARENT[2:] + b"-\x00",
        b"01" + PARENT[2:] + b"extra",
    ],
)
def test_an_invalid_parent_is_as_if_absent(parent: bytes) -> None:
    assert parse_trace([parent], [b"a=1"]) is None


def test_a_later_version_may_have_more_fields() -> None:
    later = b"cc" + PARENT[2:] + b"-what-the-future-holds"
    trace = parse_trace([later])
    assert trace is not None
    assert trace.parent == later


def test_several_parents_are_ambiguous() -> None:
    assert parse_trace([PARENT, PARENT]) is None
    assert parse_trace([]) is None


@pytest.mark.parametrize(
    "states",
    [
        [b"a=1"],
        [b"a=1,b=2"],
        [b"a=1", b"b=2"],
        [b"0tenant@system=x"],
        [b"a/b*c-d_e=value with spaces and !#$"],
        [b",".join(b"k%d=v" % number for number in range(32))],
    ],
)
def test_a_valid_state_goes_with_its_parent(states: list[bytes]) -> None:
    trace = parse_trace([PARENT], states)
    assert trace is not None
    assert trace.state == b",".join(states)


def test_a_state_loses_what_is_between_its_members() -> None:
    trace = parse_trace([PARENT], [b"a=1, b=2\t,,", b" c=3"])
    assert trace is not None
    assert trace.state == b"a=1,b=2,c=3"


@pytest.mark.parametrize(
    "state",
    [
        b"a",
        b"a=",
        b"=1",
        b"A=1",
        b"a=1,a=2",
        b"a=b=c",
        b"a=\x7f",
        b"a=\xc3\xa9",
        b"a=1\r\nevil: 1",
        b"1a=x",
        b"a@=x",
        b"a" * 257 + b"=x",
        b"a=" + b"x" * 257,
        b",",
        b",".join(b"k%d=v" % number for number in range(33)),
        b",".join(b"k%d=" % number + b"v" * 250 for number in range(20)),
    ],
)
def test_an_invalid_state_is_left_out_alone(state: bytes) -> None:
    trace = parse_trace([PARENT], [state])
    assert trace is not None
    assert trace.state == b""


@given(st.lists(st.binary(max_size=80), max_size=3), st.lists(st.binary(max_size=80), max_size=3))
def test_whatever_comes_what_is_passed_on_is_one_line_of_plain_text(parents: list[bytes], states: list[bytes]) -> None:
    for trace in (parse_trace(parents, states), parse_trace([PARENT], states), parse_trace([b"01" + PARENT[2:], b""])):
        if trace is not None:
            assert all(value.isascii() and value.decode().isprintable() for _, value in trace.headers())


async def test_an_answer_repeats_the_trace_and_nothing_that_is_none(serve: Serve) -> None:
    served = serve(iris())
    headers = {"traceparent": PARENT.decode(), "tracestate": "a=1"}
    answer = await served.predict(iris().values(1), **headers)
    assert {name: answer.headers[name] for name in headers} == headers
    answer = await served.predict(iris().values(1), traceparent="00-0-0-00", tracestate="a=1")
    assert not {"traceparent", "tracestate"} & set(answer.headers)


async def test_a_failure_in_the_log_carries_the_traces_id(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(iris())

    def predict(batch: Batch) -> Answer:
        raise ZeroDivisionError("a secret value")

    monkeypatch.setattr(served.version.service.model, "predict", predict)
    answer = await served.predict(iris().values(1), traceparent=PARENT.decode())
    assert (answer.status_code, answer.headers["traceparent"]) == (500, PARENT.decode())
    told = [record for record in caplog.records if record.name == "modelkit.serve.app"]
    assert [getattr(record, "trace_id", None) for record in told] == ["4bf92f3577b34da6a3ce929d0e0e4736"]
    assert "secret" not in caplog.text + answer.text
