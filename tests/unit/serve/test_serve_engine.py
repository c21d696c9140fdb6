"""Questions that wait together: one call of the model, each its own answer, and only the guilty one fails."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modelkit.contract.config import BatchingConfig, LimitsConfig
from modelkit.serve.batch import Batch, Features, build_batch
from modelkit.serve.engine import Engine
from modelkit.serve.errors import InferenceTimeoutError, OverloadedError, UnprocessableRequestError
from modelkit.serve.model import Answer
from modelkit.serve.question import Question, Reply
from modelkit.serve.service import Answered
from modelkit.serve.together import join_batches, take_rows
from modelkit.serve.warmup import Cost
from tests.unit.serve.conftest import Served, serving
from tests.unit.serve.serve_models import Example, diabetes, people

CHEAP, DEAR = Cost(fixed=0.0, per_row=0.0), Cost(fixed=1.0, per_row=0.0)


class Watched:
    """The real model, counting its calls and holding them back on demand."""

    platform = "watched"

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.calls: list[int] = []
        self.threads: set[int] = set()
        self.release = threading.Event()
        self.release.set()

    def predict(self, batch: Batch) -> Answer:
        self.release.wait(10)
        self.calls.append(batch.rows)
        self.threads.add(threading.get_ident())
        answer: Answer = self.inner.predict(batch)
        return answer


@pytest.fixture(scope="module", params=[diabetes, people], ids=["matrix", "columns"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("engine"), request.param()) as found:
        yield found


@pytest.fixture
def model(served: Served) -> Iterator[Watched]:
    service = served.version.service
    inner = service.model
    watched = Watched(inner)
    service.model = watched
    yield watched
    watched.release.set()
    service.model = inner


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as found:
        yield found


def engine_of(served: Served, pool: ThreadPoolExecutor, cost: Cost, max_rows: int = 256, **limits: Any) -> Engine:
    return Engine(served.version.service, LimitsConfig(**limits), BatchingConfig(max_rows=max_rows), cost, pool)


def question(example: Example, begin: int, rows: int, **changes: Any) -> Question:
    """Rows of the example, whose reply's body is the answer's repr."""
    batch = _batch(example, begin, rows)
    found = Question(f"q{begin}-{rows}", batch, 1, lambda answer: Reply(repr(answer.predictions).encode()))
    return replace(found, **changes)


def _batch(example: Example, begin: int, rows: int) -> Batch:
    return build_batch(Features.of(example.signature), example.values(begin + rows)[begin:])


def same(found: Answered, example: Example, begin: int, rows: int) -> bool:
    expected = example.predictions(begin + rows)[begin:]
    values = eval(found.reply.body)
    return values == expected if isinstance(expected[0], str) else bool(np.allclose(values, expected, rtol=1e-4))


@pytest.mark.parametrize("cost", [CHEAP, DEAR], ids=["on the loop", "on a thread"])
async def test_questions_of_one_turn_are_one_call_and_each_gets_its_own_answer(
    served: Served, model: Watched, pool: ThreadPoolExecutor, cost: Cost
) -> None:
    engine = engine_of(served, pool, cost)
    spans = [(0, 3), (3, 1), (10, 5), (2, 1)]
    found = await asyncio.gather(*(engine.ask(question(served.example, *span)) for span in spans))
    assert model.calls == [10]
    assert model.threads == {threading.get_ident()} if cost is CHEAP else threading.get_ident() not in model.threads
    assert [answered.id for answered in found] == ["q0-3", "q3-1", "q10-5", "q2-1"]
    assert all(same(answered, served.example, *span) for answered, span in zip(found, spans, strict=True))
    assert engine.active == 0


async def test_a_lone_question_is_answered_in_the_next_turn(
    served: Served, model: Watched, pool: ThreadPoolExecutor
) -> None:
    engine = engine_of(served, pool, CHEAP)
    asking = asyncio.ensure_future(engine.ask(question(served.example, 0, 1)))
    for _ in range(3):
        await asyncio.sleep(0)
    assert asking.done()
    assert model.calls == [1]


@pytest.mark.parametrize(
    ("max_rows", "calls"), [(1, [3, 3, 3, 3]), (3, [3, 3, 3, 3]), (7, [6, 6]), (2, [3, 3, 3, 3]), (100, [12])]
)
async def test_one_call_has_no_more_rows_than_allowed_unless_one_question_has(
    served: Served, model: Watched, pool: ThreadPoolExecutor, max_rows: int, calls: list[int]
) -> None:
    engine = engine_of(served, pool, CHEAP, max_rows)
    found = await asyncio.gather(*(engine.ask(question(served.example, 3 * at, 3)) for at in range(4)))
    assert model.calls == calls
    assert all(same(answered, served.example, 3 * at, 3) for at, answered in enumerate(found))


async def test_what_comes_while_a_slow_model_works_is_the_next_call(
    served: Served, model: Watched, pool: ThreadPoolExecutor
) -> None:
    engine = engine_of(served, pool, DEAR)
    model.release.clear()
    first = await begin(engine, question(served.example, 0, 1))
    others = []
    for at in range(5):
        others.append(asyncio.ensure_future(engine.ask(question(served.example, at, 2))))
        await asyncio.sleep(0.002)
    assert engine.active == 6
    model.release.set()
    found = await asyncio.gather(first, *others)
    assert model.calls == [1, 10]
    assert same(found[0], served.example, 0, 1)
    assert all(same(answered, served.example, at, 2) for at, answered in enumerate(found[1:]))


@pytest.mark.parametrize("cost", [CHEAP, DEAR], ids=["on the loop", "on a thread"])
async def test_only_the_question_that_can_not_be_answered_fails(
    served: Served, model: Watched, pool: ThreadPoolExecutor, cost: Cost
) -> None:
    inner = model.inner

    class Picky:
        platform = "picky"

        def predict(self, batch: Batch) -> Answer:
            if float(batch.column(0)[-1]) == 1e30 or 1e30 in batch.column(0):
                raise UnprocessableRequestError("the model has no finite answer to row 0")
            answer: Answer = inner.predict(batch)
            return answer

    model.inner = Picky()
    bad = question(served.example, 0, 1)
    bad.batch.column(0)[0] = 1e30
    engine = engine_of(served, pool, cost)
    good = [question(served.example, at, 2) for at in range(3)]
    found = await asyncio.gather(*map(engine.ask, [good[0], bad, *good[1:]]), return_exceptions=True)
    error = found.pop(1)
    assert isinstance(error, UnprocessableRequestError)
    for at, answered in enumerate(found):
        assert isinstance(answered, Answered)
        assert same(answered, served.example, at, 2)


async def test_a_question_whose_answer_can_not_be_written_fails_alone(
    served: Served, model: Watched, pool: ThreadPoolExecutor
) -> None:
    def fail(answer: Answer) -> Reply:
        raise RuntimeError

    engine = engine_of(served, pool, CHEAP)
    questions = [question(served.example, 0, 1, render=fail), question(served.example, 1, 1)]
    error, answered = await asyncio.gather(*map(engine.ask, questions), return_exceptions=True)
    assert isinstance(error, RuntimeError)
    assert isinstance(answered, Answered)
    assert model.calls == [2]


async def test_places_are_limited_and_given_back(served: Served, model: Watched, pool: ThreadPoolExecutor) -> None:
    engine = engine_of(served, pool, DEAR, max_concurrent=2)
    model.release.clear()
    waiting = [asyncio.ensure_future(engine.ask(question(served.example, at, 1))) for at in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(OverloadedError, match="2 requests are being answered"):
        await engine.ask(question(served.example, 0, 1))
    model.release.set()
    await asyncio.gather(*waiting)
    assert engine.active == 0
    await engine.ask(question(served.example, 0, 1))


async def begin(engine: Engine, asked: Question) -> "asyncio.Future[Answered]":
    """Ask, and let a thread begin with it if there is a free one."""
    future = asyncio.ensure_future(engine.ask(asked))
    await asyncio.sleep(0.01)
    return future


async def test_the_time_of_a_question_ends_and_its_place_is_taken_until_the_model_is_done(
    served: Served, model: Watched, pool: ThreadPoolExecutor
) -> None:
    engine = engine_of(served, pool, DEAR, inference_seconds=0.05)
    model.release.clear()
    begun = await begin(engine, question(served.example, 0, 1))
    waiting = asyncio.ensure_future(engine.ask(question(served.example, 1, 1)))
    for asked in (begun, waiting):
        with pytest.raises(InferenceTimeoutError, match=r"no answer within 0\.05 s"):
            await asked
    # The one that waited gave its place back; the model still works on the other.
    assert engine.active == 1
    model.release.set()
    await asyncio.wait_for(_until_idle(engine), 5)
    assert model.calls == [1]


async def test_what_was_cancelled_before_it_began_is_not_asked(
    served: Served, model: Watched, pool: ThreadPoolExecutor
) -> None:
    engine = engine_of(served, pool, DEAR)
    model.release.clear()
    first = await begin(engine, question(served.example, 0, 1))
    second = await begin(engine, question(served.example, 1, 1))
    second.cancel()
    await asyncio.sleep(0)
    model.release.set()
    await first
    await asyncio.wait_for(_until_idle(engine), 5)
    assert model.calls == [1]


async def test_rows_that_nobody_waits_for_are_not_kept_until_their_time_is_over(
    served: Served, model: Watched, pool: ThreadPoolExecutor
) -> None:
    engine = engine_of(served, pool, DEAR)
    model.release.clear()
    begun = await begin(engine, question(served.example, 0, 1))
    asked = question(served.example, 1, 1)
    rows = weakref.ref(asked.batch.columns[0] if asked.batch.matrix is None else asked.batch.matrix)
    waiting = await begin(engine, asked)
    waiting.cancel()
    await asyncio.wait([waiting])
    del asked, waiting
    gc.collect()
    assert rows() is None
    model.release.set()
    await begun


async def test_large_bodies_are_parsed_on_a_thread_and_their_errors_come_back(
    served: Served, model: Watched, pool: ThreadPoolExecutor
) -> None:
    engine = engine_of(served, pool, CHEAP)
    threads = []

    def parse() -> Question:
        threads.append(threading.get_ident())
        return question(served.example, 0, 2)

    def fail() -> Question:
        raise UnprocessableRequestError("too deep")

    assert same(await engine.ask_parsed(parse, 65_537), served.example, 0, 2)
    assert same(await engine.ask_parsed(parse, 10), served.example, 0, 2)
    assert [found == threading.get_ident() for found in threads] == [False, True]
    for size in (10, 65_537):
        with pytest.raises(UnprocessableRequestError, match="too deep"):
            await engine.ask_parsed(fail, size)
    assert engine.active == 0


async def test_costly_questions_are_asked_alone_and_predictions_do_not_wait_for_them(
    served: Served, model: Watched, pool: ThreadPoolExecutor
) -> None:
    release = threading.Event()

    def render(answer: Answer) -> Reply:
        release.wait(10)
        return Reply(b"")

    engine = engine_of(served, pool, DEAR)
    costly = [question(served.example, at, 1, is_costly=True, render=render) for at in range(2)]
    asking = [asyncio.ensure_future(engine.ask(each)) for each in costly]
    await asyncio.sleep(0.01)
    assert same(await engine.ask(question(served.example, 0, 3)), served.example, 0, 3)
    assert not any(asked.done() for asked in asking)
    release.set()
    await asyncio.gather(*asking)
    assert sorted(model.calls) == [1, 1, 3]


def test_batches_are_joined_and_answers_cut_without_a_change(served: Served) -> None:
    example = served.example
    parts = [_batch(example, 0, 2), _batch(example, 2, 1), _batch(example, 3, 4)]
    whole, joined = _batch(example, 0, 7), join_batches(parts)
    assert joined.rows == 7
    assert [repr(joined.row(index)) for index in range(7)] == [repr(whole.row(index)) for index in range(7)]
    answer = served.version.service.model.predict(joined)
    cut = [take_rows(answer, 0, 2), take_rows(answer, 2, 3), take_rows(answer, 3, 7)]
    assert [label for part in cut for label in part.predictions] == answer.predictions


async def _until_idle(engine: Engine) -> None:
    while engine.active:
        await asyncio.sleep(0.001)
