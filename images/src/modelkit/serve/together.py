"""Several questions as one call of the model, and its answer as an answer to each. Thread-safe."""

import time
from collections.abc import Sequence

import numpy as np

from modelkit.serve.batch import Batch
from modelkit.serve.errors import InferenceTimeoutError, RuntimeUnavailableError
from modelkit.serve.model import Answer
from modelkit.serve.question import Question
from modelkit.serve.service import Answered, Service

Outcome = Answered | Exception


def join_batches(batches: Sequence[Batch]) -> Batch:
    """The rows of all batches of one model, in order."""
    rows = sum(batch.rows for batch in batches)
    matrices = [batch.matrix for batch in batches if batch.matrix is not None]
    if len(matrices) == len(batches):
        return Batch(rows, np.concatenate(matrices), ())
    columns = zip(*(batch.columns for batch in batches), strict=True)
    return Batch(rows, None, tuple(np.concatenate(parts) for parts in columns))


def take_rows(answer: Answer, begin: int, end: int) -> Answer:
    """The answer to the rows from `begin` to before `end`."""
    probabilities = answer.probabilities
    return Answer(answer.predictions[begin:end], None if probabilities is None else probabilities[begin:end])


def answer_alone(service: Service, question: Question) -> Outcome:
    """The outcome of one question, from a call of the model for it."""
    start = time.perf_counter()
    try:
        answer = service.model.predict(question.batch)
        service.metrics.observe_batch(question.batch.rows, 1, time.perf_counter() - start)
        return service.finish(question, answer)
    except Exception as exc:  # noqa: BLE001 - whoever asked tells the client
        return exc


def answer_together(service: Service, questions: Sequence[Question]) -> list[Outcome]:
    """One outcome for each question, from one call of the model where that works.

    When the call for all fails, each is asked alone, so that only the guilty one fails.
    """
    if len(questions) == 1:
        return [answer_alone(service, questions[0])]
    start = time.perf_counter()
    try:
        batch = join_batches([question.batch for question in questions])
        whole = service.model.predict(batch)
    except (RuntimeUnavailableError, InferenceTimeoutError) as exc:
        # None of them is guilty, and alone each would wait for the same.
        return [exc] * len(questions)
    except Exception:  # noqa: BLE001 - which one it was is found out, and told, by asking each alone
        return [answer_alone(service, question) for question in questions]
    service.metrics.observe_batch(batch.rows, len(questions), time.perf_counter() - start)
    outcomes: list[Outcome] = []
    begin = 0
    for question in questions:
        end = begin + question.batch.rows
        outcomes.append(_finish(service, question, take_rows(whole, begin, end)))
        begin = end
    return outcomes


def _finish(service: Service, question: Question, answer: Answer) -> Outcome:
    try:
        return service.finish(question, answer)
    except Exception as exc:  # noqa: BLE001 - whoever asked tells the client
        return exc
