"""Answers inference requests while a rule is in effect: which version is asked, and who answers if it fails.

Whatever happens on the way to the other version, the client gets this version's answer instead. Requests that only
this version answers take the same way as without a rule, with a look at their outcome. On the event loop.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

from modelkit.contract.route import REFUSED, TIMEOUT, RuleConfig
from modelkit.serve.batch import Features
from modelkit.serve.engine import INLINE_BYTES, Engine, Parse
from modelkit.serve.errors import OverloadedError
from modelkit.serve.exchange import Abandonable
from modelkit.serve.question import Question
from modelkit.serve.record import record
from modelkit.serve.rollout.choice import Chooser
from modelkit.serve.rollout.comparison import Comparison
from modelkit.serve.rollout.lane import PATIENCE, Lane
from modelkit.serve.rollout.marks import Headers, build_marks
from modelkit.serve.rollout.measurement import Measurement
from modelkit.serve.rollout.predictions import Watch
from modelkit.serve.rollout.verdict import PassedOn, Verdict, judge_error
from modelkit.serve.service import Answered
from modelkit.serve.together import Outcome

_ENGINE_SHARE = 0.5
"""Of the engine's places: with more of them taken, nothing is scored only to be compared."""

Done = Callable[[Outcome | PassedOn], None]


@record
class Ask:
    """A request that either version can answer, whatever protocol it came by."""

    engine: Engine
    parse: Parse
    size: int
    is_costly: bool
    """See Engine.submit."""
    key: str | None
    """Value of the rule's sticky header."""
    pass_on: Callable[[Lane, Headers], Awaitable[Verdict]]
    """Ask the other version, with marks."""
    note: Callable[[Exception], None]
    """Log why this version failed, where the client doesn't get to know."""
    seconds: float | None = None
    """How long the client waits for an answer, where it says so."""


class Router:
    """Follows one rule."""

    def __init__(
        self,
        rule: RuleConfig,
        lane: Lane,
        features: Features,
        comparison: Comparison,
        read_measurement: Callable[[], Measurement],
    ) -> None:
        self.rule = rule
        self.lane = lane
        self._chooser = Chooser(rule)
        self._comparison = comparison
        self._read_measurement = read_measurement
        self._column = None if rule.sticky_column is None else features.positions[rule.sticky_column]
        self._tasks: set[asyncio.Task[None]] = set()
        self._copies: set[asyncio.Task[None]] = set()

    def answer(self, ask: Ask, done: Done) -> Abandonable | None:
        """Have one of the versions answer; `done` is called once, perhaps before this returns."""
        if self._column is None or ask.key is not None:
            return self._answer(ask, done)
        try:
            if ask.is_costly or ask.size > INLINE_BYTES:
                running = _Running()
                future = ask.engine.parse(ask.parse)
                future.add_done_callback(partial(self._parsed, ask, done, running))
                return running
            question = ask.parse()
        except Exception as exc:  # noqa: BLE001 - whoever asked tells the client
            self._refuse(exc, done)
            return None
        return self._answer(self._with_question(ask, question), done)

    @property
    def is_busy(self) -> bool:
        """Is anything under way?"""
        return bool(self._tasks or self._copies)

    async def wait_closed(self, seconds: float) -> None:
        """End the comparison, wait for the answers that are under way, end the rest after `seconds`."""
        for task in self._copies:
            task.cancel()
        pending = {*self._tasks, *self._copies}
        if pending:
            _, late = await asyncio.wait(pending, timeout=seconds)
            for task in late:
                task.cancel()

    def _parsed(self, ask: Ask, done: Done, running: "_Running", found: "asyncio.Future[Question]") -> None:
        if found.cancelled() or running.is_over:
            return
        error = found.exception()
        if error is None:
            running.inner = self._answer(self._with_question(ask, found.result()), done)
        elif isinstance(error, Exception):
            self._refuse(error, done)

    def _with_question(self, ask: Ask, question: Question) -> Ask:
        assert self._column is not None, "only keys of rows need the rows"
        key = read_key(question.batch.row(0)[self._column])
        return replace(ask, parse=lambda: question, size=0, is_costly=False, key=key)

    def _refuse(self, error: Exception, done: Done) -> None:
        kind = judge_error(error)
        if kind != REFUSED:
            self._read_measurement().own.fail(kind)
        done(error)

    def _answer(self, ask: Ask, done: Done) -> Abandonable | None:
        choice = self._chooser.choose(ask.key)
        measurement = self._read_measurement()
        if choice.is_routed:
            return self._start(self._route(ask, measurement, done, is_compared=choice.is_compared), self._tasks, done)
        return self._answer_here(ask, measurement, done, is_compared=choice.is_compared)

    def _answer_here(self, ask: Ask, measurement: Measurement, done: Done, *, is_compared: bool) -> Abandonable | None:
        watch = Watch() if is_compared else None
        parse = ask.parse if watch is None else partial(_parse_watched, watch, ask.parse)
        start = time.perf_counter()

        def finish(outcome: Outcome) -> None:
            if isinstance(outcome, Answered):
                measurement.own.answer(time.perf_counter() - start)
                done(outcome)
                if watch is not None:
                    self._start(self._copy(ask, watch, measurement), self._copies)
                return
            kind = judge_error(outcome)
            if kind != REFUSED:
                measurement.own.fail(kind)
                if self.rule.is_guarded and not isinstance(outcome, OverloadedError):
                    self._start(self._guard(ask, outcome, done), self._tasks, done)
                    return
            done(outcome)

        try:
            return ask.engine.submit(parse, ask.size, finish, is_costly=ask.is_costly)
        except OverloadedError as exc:
            finish(exc)
            return None

    async def _route(self, ask: Ask, measurement: Measurement, done: Done, *, is_compared: bool) -> None:
        """The other version answers, or this one in its place."""
        start = time.perf_counter()
        marks = build_marks(is_compared=is_compared, is_copy=False)
        try:
            verdict = await self._ask_other(ask, marks)
        except asyncio.CancelledError:
            if time.perf_counter() - start >= PATIENCE * self._seconds(ask):
                measurement.other.fail(TIMEOUT)
            raise
        if verdict is not None and verdict.passed is not None:
            measurement.other.answer(verdict.seconds)
            done(verdict.passed)
            if is_compared:
                # Not in this turn, in which the answer is still being written.
                score = partial(self._score_here, ask, measurement, verdict.passed)
                asyncio.get_running_loop().call_soon(score)
            return
        start = time.perf_counter()
        outcome = await _ask_here(ask)
        if verdict is None:
            measurement.other.skip()
            self._count_own(measurement, outcome, time.perf_counter() - start)
        elif isinstance(outcome, Answered) or verdict.kind != REFUSED:
            measurement.other.fail(verdict.kind)
            if is_compared and isinstance(outcome, Answered):
                self._comparison.fail(measurement, verdict.kind)
        done(outcome)

    async def _guard(self, ask: Ask, error: Exception, done: Done) -> None:
        """The other version answers what this one failed at."""
        verdict = await self._ask_other(ask, build_marks(is_compared=False, is_copy=False))
        if verdict is not None and verdict.passed is not None:
            ask.note(error)
            done(verdict.passed)
        else:
            done(error)

    async def _copy(self, ask: Ask, watch: Watch, measurement: Measurement) -> None:
        """Ask the other version what this one has answered."""
        if not self._comparison.is_comparable(watch):
            return
        marks = build_marks(is_compared=True, is_copy=True)
        verdict = await self._ask_other(replace(ask, seconds=None), marks, is_copy=True)
        if verdict is None:
            measurement.other.skip(is_copy=True)
            self._comparison.skip()
        elif verdict.passed is not None:
            measurement.other.time(verdict.seconds)
            self._comparison.add(measurement, watch, verdict.passed.predictions)
        else:
            if verdict.kind == TIMEOUT:
                measurement.other.time_out()
            self._comparison.fail(measurement, verdict.kind)

    def _score_here(self, ask: Ask, measurement: Measurement, passed: PassedOn) -> None:
        """Have this version score what the other one has answered."""
        watch = Watch()
        start = time.perf_counter()

        def finish(outcome: Outcome) -> None:
            if isinstance(outcome, Answered):
                measurement.own.time(time.perf_counter() - start)
                self._comparison.add(measurement, watch, passed.predictions)
            else:
                self._comparison.skip()

        if passed.predictions is None or ask.engine.load >= _ENGINE_SHARE:
            self._comparison.skip()
            return
        parse = partial(_parse_watched, watch, ask.parse, is_captured=False)
        try:
            ask.engine.submit(parse, ask.size, finish, is_costly=ask.is_costly)
        except OverloadedError as exc:
            finish(exc)

    async def _ask_other(self, ask: Ask, marks: Headers, *, is_copy: bool = False) -> Verdict | None:
        """What the other version makes of the request; None when it isn't asked. Raises nothing."""
        return await self.lane.ask(partial(ask.pass_on, self.lane, marks), self._seconds(ask), is_copy=is_copy)

    def _seconds(self, ask: Ask) -> float:
        """How long the other version may take: half of the client's patience, so that there is time for this one."""
        seconds = self.rule.timeout_seconds
        return seconds if ask.seconds is None else max(0.0, min(seconds, ask.seconds / 2))

    def _count_own(self, measurement: Measurement, outcome: Outcome, seconds: float) -> None:
        if isinstance(outcome, Answered):
            measurement.own.answer(seconds)
        elif (kind := judge_error(outcome)) != REFUSED:
            measurement.own.fail(kind)

    def _start(
        self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]], done: Done | None = None
    ) -> "_Task":
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            error = None if task.cancelled() else task.exception()
            if isinstance(error, Exception) and done is not None:
                done(error)

        task.add_done_callback(ended)
        return _Task(task)


class _Running:
    """A request that is being parsed, and then whatever answers it."""

    def __init__(self) -> None:
        self.inner: Abandonable | None = None
        self.is_over = False

    def abandon(self) -> None:
        """See Abandonable."""
        self.is_over = True
        if self.inner is not None:
            self.inner.abandon()


class _Task:
    """A task that somebody waits for."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def abandon(self) -> None:
        """See Abandonable."""
        self._task.cancel()


def read_key(value: Any) -> str | None:
    """A feature's value as a key; None for a missing one, which keeps nobody together."""
    if isinstance(value, str):
        return value or None
    number = float(value)
    return None if number != number else repr(number)


async def _ask_here(ask: Ask) -> Outcome:
    try:
        return await ask.engine.ask_parsed(ask.parse, ask.size, is_costly=ask.is_costly)
    except Exception as exc:  # noqa: BLE001 - whoever asked tells the client
        return exc


def _parse_watched(watch: Watch, parse: Parse, *, is_captured: bool = True) -> Question:
    return watch.wrap(parse(), is_captured=is_captured)
