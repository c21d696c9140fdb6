"""What a version predicted, compactly: from an answer, to a header and back.

::

    {"p": [1, 0], "s": [0.93, 0.21]}

`p` are the predictions, row by row; `s`, for two classes with probabilities, those of the second class. Visible ASCII,
so that it may be a header or metadata. Pure.
"""

import json
from dataclasses import replace
from math import isfinite
from typing import Any

import orjson

from modelkit.serve.model import Answer
from modelkit.serve.question import Question, Reply
from modelkit.serve.record import record

MAX_BYTES = 8_192
"""Of the header: what doesn't fit isn't compared."""
_DIGITS = 6
_PLAIN = (str, int, float, bool)


@record
class Predictions:
    """Of one request."""

    values: list[Any]
    """[rows] classes or numbers."""
    scores: list[float] | None = None
    """[rows] probabilities of the second of two classes."""


class Watch:
    """Remembers the answer to one question while it is rendered, on whatever thread that is."""

    __slots__ = ("id", "seen")

    def __init__(self) -> None:
        self.id = ""
        """The question's own."""
        self.seen: Predictions | None = None

    def wrap(self, question: Question, *, is_captured: bool = True) -> Question:
        """The same question, watched. `is_captured`: False when its answer goes to nobody."""
        self.id = question.id
        render = question.render

        def watch(answer: Answer) -> Reply:
            self.seen = read_answer(answer)
            return render(answer)

        return replace(question, render=watch, is_captured=question.is_captured and is_captured)


def read_answer(answer: Answer) -> Predictions:
    """The predictions of an answer."""
    probabilities = answer.probabilities
    if probabilities is None or probabilities.ndim != 2 or probabilities.shape[1] != 2:
        return Predictions(answer.predictions)
    return Predictions(answer.predictions, probabilities[:, 1].astype(float).tolist())


def render_predictions(found: Predictions) -> bytes | None:
    """The header's value; None when it would be too large."""
    # A row takes two bytes at least: what is far too large isn't written first.
    if 2 * len(found.values) > MAX_BYTES:
        return None
    plain: dict[str, Any] = {"p": found.values}
    if found.scores is not None:
        plain["s"] = [round(score, _DIGITS) for score in found.scores]
    text = json.dumps(plain, separators=(",", ":")).encode("ascii")
    return text if len(text) <= MAX_BYTES else None


def parse_predictions(text: bytes, rows: int) -> Predictions:
    """The predictions of `rows` rows; raises ValueError for anything else, such as one that isn't a finite number."""
    plain = orjson.loads(text)
    if type(plain) is not dict or not plain.keys() <= {"p", "s"} or "p" not in plain:
        raise ValueError("expected p and s")
    values, scores = plain["p"], plain.get("s")
    if type(values) is not list or len(values) != rows or not all(isinstance(value, _PLAIN) for value in values):
        raise ValueError("expected one prediction per row")
    if scores is not None:
        if type(scores) is not list or len(scores) != rows or not all(map(_is_share, scores)):
            raise ValueError("expected one probability per row")
        scores = [float(score) for score in scores]
    return Predictions(values, scores)


def is_number(value: Any) -> bool:
    """Is it a finite number, and no boolean?"""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1
