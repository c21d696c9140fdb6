"""Puts questions that wait at the same time into one call of the model, whatever protocol they came by.

Questions that arrive in one turn of the event loop (or while a slow model answers others) are answered together; a
lone one is answered in the next turn and never waits for company. Cheap answers are given on the loop, because handing
one to a thread takes longer than the answer; others on the pool's threads. Everything here happens on the event loop,
except for what is said to run on a thread.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from modelkit.contract.config import BatchingConfig, LimitsConfig
from modelkit.serve.errors import InferenceTimeoutError, OverloadedError
from modelkit.serve.question import Question
from modelkit.serve.service import Answered, Service
from modelkit.serve.together import Outcome, answer_alone, answer_together
from modelkit.serve.warmup import Cost

INLINE_SECONDS = 0.001
"""An answer that takes less is given on the event loop: handing it to a thread costs about 0.1 ms."""
INLINE_BYTES = 65_536
"""Larger bodies are parsed on a thread."""

Parse = Callable[[], Question]


class Ticket:
    """One request's place in the engine, from its parsing until the model is done with it."""

    __slots__ = ("_done", "deadline", "is_counted", "question", "since")

    def __init__(self, done: Callable[[Outcome], None]) -> None:
        self.question: Question | None = None
        self.deadline = 0.0
        self.since = 0.0
        """When it began to wait for a thread, on time.perf_counter's clock."""
        self.is_counted = True
        self._done: Callable[[Outcome], None] | None = done

    @property
    def is_over(self) -> bool:
        """Nobody waits for the answer any more."""
        return self._done is None

    def abandon(self) -> None:
        """The client went away: `done` is never called, and what hasn't begun isn't done."""
        self._done = self.question = None

    def finish(self, outcome: Outcome) -> None:
        """Tell the outcome, once."""
        done, self._done = self._done, None
        # Its rows needn't wait with it until its time would have been over.
        self.question = None
        if done is not None:
            done(outcome)


class Engine:
    """Answers questions for one version.

    `threads` calls run at once, and one costly question beside them; `pool` belongs to the caller and should have a
    thread for each.
    """

    def __init__(
        self,
        service: Service,
        limits: LimitsConfig,
        batching: BatchingConfig,
        cost: Cost,
        pool: ThreadPoolExecutor,
        threads: int = 1,
    ) -> None:
        self.active = 0
        """Requests that are answered or wait."""
        self.cost = cost
        self._service = service
        self._limits = limits
        self._max_rows = batching.max_rows
        self._pool = pool
        self._threads = threads
        self._running = 0
        self._quick: deque[Ticket] = deque()
        self._slow: deque[Ticket] = deque()
        # Explanations and the like take their time: they wait for each other, and nobody waits for them.
        self._costly: deque[Ticket] = deque()
        self._is_costly_running = False
        self._timed: deque[Ticket] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_scheduled = False
        self._known_loop: asyncio.AbstractEventLoop | None = None
        self._metrics = service.metrics
        self._metrics.in_flight.set_function(lambda: self.active)
        self._metrics.queued.set_function(lambda: len(self._quick) + len(self._slow) + len(self._costly))

    def submit(self, parse: Parse, size: int, done: Callable[[Outcome], None], *, is_costly: bool = False) -> Ticket:
        """Parse a request of `size` bytes, answer its question and call `done` with the answer or the error.

        `done` may be called before this returns. `is_costly`: parsing is work for a thread, whatever the size. Raises
        OverloadedError when there is no place left.
        """
        ticket = self.enter(done)
        if is_costly or size > INLINE_BYTES:
            self._watch(ticket)
            future = self._pool.submit(parse)
            future.add_done_callback(lambda found: self._loop.call_soon_threadsafe(self._parsed, ticket, found))
            return ticket
        try:
            question = parse()
        except Exception as exc:  # noqa: BLE001 - whoever asked tells the client
            self.leave(ticket)
            ticket.finish(exc)
            return ticket
        self._add(ticket, question)
        return ticket

    async def ask(self, question: Question) -> Answered:
        """The answer to one question; raises RequestError, OverloadedError when there is no place left."""
        return await self.ask_parsed(lambda: question, 0)

    async def ask_parsed(self, parse: Parse, size: int, *, is_costly: bool = False) -> Answered:
        """As `submit`, for a coroutine. When it is cancelled, what hasn't begun isn't done."""
        future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            if future.done():
                return  # It was cancelled in this very moment.
            if isinstance(outcome, Answered):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)

        ticket = self.submit(parse, size, done, is_costly=is_costly)
        try:
            return await future
        finally:
            ticket.abandon()

    def parse(self, parse: Parse) -> "asyncio.Future[Question]":
        """A request's question, parsed on a thread; nothing is answered. Raises OverloadedError as `submit` does."""
        ticket = self.enter(lambda _: None)
        future = self._loop.run_in_executor(self._pool, parse)
        future.add_done_callback(lambda _: self.leave(ticket))
        return future

    @property
    def load(self) -> float:
        """Which share of the places is taken."""
        return self.active / self._limits.max_concurrent

    def enter(self, done: Callable[[Outcome], None]) -> Ticket:
        """Take a place; raises OverloadedError when there is none."""
        if self.active >= self._limits.max_concurrent:
            raise OverloadedError(f"{self.active} requests are being answered, which is the limit; try again")
        self.active += 1
        return Ticket(done)

    def leave(self, ticket: Ticket) -> None:
        """Give the place back; a second time does nothing."""
        if ticket.is_counted:
            ticket.is_counted = False
            self.active -= 1

    def _parsed(self, ticket: Ticket, found: "Future[Question]") -> None:
        error = found.exception()
        if ticket.is_over or error is not None:
            self.leave(ticket)
            if isinstance(error, Exception):
                ticket.finish(error)
            return
        self._add(ticket, found.result())

    def _add(self, ticket: Ticket, question: Question) -> None:
        ticket.question = question
        if question.is_costly or self.cost.of_rows(question.batch.rows) > INLINE_SECONDS:
            if not ticket.deadline:
                self._watch(ticket)
            ticket.since = time.perf_counter()
            (self._costly if question.is_costly else self._slow).append(ticket)
        else:
            self._quick.append(ticket)
        self._schedule()

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The event loop; asking asyncio for it each time would be a system call."""
        if self._known_loop is None:
            self._known_loop = asyncio.get_running_loop()
        return self._known_loop

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        quick = self._quick
        if len(quick) == 1:
            # What one or few clients meet: not a moment is spent on lists.
            ticket = quick.popleft()
            self.leave(ticket)
            if ticket.question is not None and not ticket.is_over:
                ticket.finish(answer_alone(self._service, ticket.question))
        elif group := self._take(quick):
            self._tell(group, answer_together(self._service, _questions(group)))
        while self._running < self._threads and (group := self._take(self._slow)):
            self._running += 1
            self._start(group, self._slow_finished)
        if not self._is_costly_running and (group := self._take(self._costly)):
            self._is_costly_running = True
            self._start(group, self._costly_finished)
        if self._quick:
            # In the next turn: what has arrived meanwhile joins the rest.
            self._schedule()

    def _take(self, queue: deque[Ticket]) -> list[Ticket]:
        """The next tickets whose rows fit into one call; always at least one while there are any."""
        group: list[Ticket] = []
        rows = 0
        while queue:
            ticket = queue[0]
            if ticket.is_over:
                self.leave(queue.popleft())
                continue
            assert ticket.question is not None, "only parsed questions wait"
            rows += ticket.question.batch.rows
            if group and (rows > self._max_rows or ticket.question.is_costly):
                break
            group.append(queue.popleft())
            if ticket.question.is_costly:
                break
        return group

    def _start(self, group: list[Ticket], finished: Callable[[], None]) -> None:
        now = time.perf_counter()
        for ticket in group:
            self._metrics.observe_wait(now - ticket.since)
        future = self._pool.submit(answer_together, self._service, _questions(group))
        future.add_done_callback(lambda found: self._loop.call_soon_threadsafe(self._come_back, group, found, finished))

    def _come_back(self, group: list[Ticket], found: "Future[list[Outcome]]", finished: Callable[[], None]) -> None:
        finished()
        error = found.exception()
        # An error that isn't one question's: nobody must wait for ever.
        self._tell(group, found.result() if error is None else [RuntimeError(type(error).__name__)] * len(group))
        self._schedule()

    def _tell(self, group: list[Ticket], outcomes: list[Outcome]) -> None:
        for ticket, outcome in zip(group, outcomes, strict=True):
            self.leave(ticket)
            ticket.finish(outcome)

    def _slow_finished(self) -> None:
        self._running -= 1

    def _costly_finished(self) -> None:
        self._is_costly_running = False

    def _watch(self, ticket: Ticket) -> None:
        """Have the ticket told when its time is over. All have the same time, so the oldest is always due first."""
        loop, timed = self._loop, self._timed
        while timed and timed[0].is_over:
            timed.popleft()
        ticket.deadline = loop.time() + self._limits.inference_seconds
        timed.append(ticket)
        if self._timer is None:
            self._timer = loop.call_at(ticket.deadline, self._expire)

    def _expire(self) -> None:
        loop, self._timer = self._loop, None
        now = loop.time()
        while self._timed and (self._timed[0].is_over or self._timed[0].deadline <= now):
            self._timed.popleft().finish(
                InferenceTimeoutError(f"no answer within {self._limits.inference_seconds:g} s")
            )
        for queue in (self._slow, self._costly):
            # The places of those that a thread works on are taken until it is done.
            for ticket in queue:
                if ticket.is_over:
                    self.leave(ticket)
        if self._timed:
            self._timer = loop.call_at(self._timed[0].deadline, self._expire)


def _questions(group: Sequence[Ticket]) -> list[Question]:
    return [ticket.question for ticket in group if ticket.question is not None]
