"""What pods tell each other about a request that one passes on to another, and what the other does differently.

A request with the mark HOP is answered where it arrives, whatever rule is in effect there: it goes no further, so that
there are no circles. It counts as a route of its own, because whoever passed it on counts it as a client's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

from modelkit.serve.head import HOP
from modelkit.serve.model import Answer
from modelkit.serve.question import Question, Reply, Request
from modelkit.serve.rollout.predictions import read_answer, render_predictions
from modelkit.serve.routes import Route

PREFIX = b"modelloop-"
"""Headers of that kind are for pods, and no client sees them."""
COMPARE = b"modelloop-compare"
"""The answer is wanted with its predictions."""
COPY = b"modelloop-copy"
"""The answer goes to nobody: its rows aren't captured."""
PREDICTIONS = b"modelloop-predictions"
SET = b"1"
PASSED_ON = "passed_on"
"""The route of such requests in metrics."""

Headers = list[tuple[bytes, bytes]]


def build_marks(*, is_compared: bool, is_copy: bool) -> Headers:
    """The headers of a request that is passed on."""
    marks = [(HOP, SET)]
    if is_compared:
        marks.append((COMPARE, SET))
    if is_copy:
        marks.append((COPY, SET))
    return marks


def without_marks(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that a client may send and see."""
    return [item for item in headers if not item[0].startswith(PREFIX)]


def apply_marks(question: Question, names: Iterable[bytes]) -> Question:
    """The question as whoever passed it on wants it, by the marks among the header `names`."""
    found = frozenset(name for name in names if name.startswith(PREFIX))
    if COMPARE in found:
        question = replace(question, render=partial(_render_both, question))
    if COPY in found:
        question = replace(question, is_captured=False)
    return question


def passed_routes(routes: Mapping[str, Route], label: Callable[[Request], Reply] | None) -> dict[str, Route]:
    """What the paths do with a request that another pod passed on; paths that aren't here do what they always do.

    `label`: what becomes of another pod's /feedback.
    """
    passed = {
        path: Route(PASSED_ON, ask=partial(_ask, route.ask))
        for path, route in routes.items()
        if route.is_shared and route.ask is not None
    }
    if label is not None and "/feedback" in routes:
        passed["/feedback"] = Route("passed_feedback", post=label, status=202)
    return passed


def _ask(ask: Callable[[Request], Question], request: Request) -> Question:
    assert request.head is not None, "it came by HTTP"
    return apply_marks(ask(request), (name for name, _ in request.head.headers))


def _render_both(question: Question, answer: Answer) -> Reply:
    reply = question.render(answer)
    text = render_predictions(read_answer(answer))
    return reply if text is None else replace(reply, headers=(*reply.headers, (PREDICTIONS, text)))
