"""Explains single answers of a version: the Shapley values of its columns, against its own samples.

Knows no protocol. All that is asked of the model goes through it in batches of bounded size.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from modelkit.artifact.signature import Signature
from modelkit.contract.files import SAMPLES
from modelkit.evaluate.shares import Masks, count_sets, is_exact, share_out
from modelkit.serve.batch import Batch, Column, Features
from modelkit.serve.errors import InferenceTimeoutError, ModelUnusableError, RequestError, UnprocessableRequestError
from modelkit.serve.model import Answer, Model
from modelkit.serve.plain import parse_rows

Floats = NDArray[np.float64]

BACKGROUND = 20
"""Sample rows that stand for "not knowing" a column."""
MOST_ANSWERS = 200_000
"""Answers of the model that one request may take: some seconds of a large forest."""
_ANSWERS_AT_ONCE = 2_048
_BYTES_AT_ONCE = 8 * 1024 * 1024
"""Of values in one call of the model; long texts make its rows fewer."""


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why the model answers one row as it does."""

    prediction: Any
    probability: float | None
    """Of the predicted class; None when the model has no probabilities."""
    base: float
    contributions: Floats
    """[columns], in the signature's order."""


class Explainer:
    """Explains one version's answers. Thread-safe: it remembers nothing of a request."""

    def __init__(self, signature: Signature, features: Features, model: Model, background: Batch) -> None:
        self.signature = signature
        self.features = features
        self._model = model
        self._background = background
        self._bases = model.predict(background)
        self._per_row = count_sets(len(features.names)) * background.rows

    @property
    def method(self) -> str:
        """Exact, or Sampled where there are too many columns to ask every set of them."""
        return "Exact" if is_exact(len(self.features.names)) else "Sampled"

    @property
    def explains(self) -> str:
        """What of an answer: Probability of the predicted class, Label (1 for the predicted one, 0 for any other) of a
        classifier without probabilities, or Prediction of a regression."""
        if self.signature.classes is None:
            return "Prediction"
        return "Label" if self._bases.probabilities is None else "Probability"

    def check_rows(self, rows: int) -> None:
        """Raise UnprocessableRequestError when explaining so many rows is too much work for one request."""
        needed = rows * self._per_row
        if needed <= MOST_ANSWERS:
            return
        most = MOST_ANSWERS // self._per_row
        advice = f"send at most {most} rows at once" if most else "the model has too many columns to be explained"
        raise UnprocessableRequestError(
            f"explaining {rows} rows of {len(self.features.names)} columns takes {needed} answers of the model; "
            f"the limit is {MOST_ANSWERS}: {advice}"
        )

    def explain(self, batch: Batch, answer: Answer, deadline: float = float("inf")) -> list[Explanation]:
        """An explanation per row of `batch`, which the model gave `answer` to.

        Raises UnprocessableRequestError where the model has no finite answer on the way, and InferenceTimeoutError once
        the clock `time.monotonic` is past `deadline`.
        """
        return [self._explain_row(batch, row, answer, deadline) for row in range(batch.rows)]

    def _explain_row(self, batch: Batch, row: int, answer: Answer, deadline: float) -> Explanation:
        prediction = answer.predictions[row]
        read = self._reader(prediction)
        base, said = float(read(self._bases).mean()), float(read(answer)[row])
        mix = _Mixture([batch.column(index)[row] for index in range(len(self.features.names))], self._background)

        def worth(masks: Masks) -> Floats:
            parts = []
            step = mix.sets_at_once
            for first in range(0, len(masks), step):
                if time.monotonic() > deadline:
                    raise InferenceTimeoutError("the explanation took longer than the limit; send fewer rows")
                rows = mix.rows(masks[first : first + step])
                parts.append(read(self._answer_mixed(rows, row)).reshape(-1, self._background.rows).mean(axis=1))
            return np.concatenate(parts)

        contributions = share_out(worth, len(self.features.names), base, said)
        return Explanation(prediction, None if answer.probabilities is None else said, base, contributions)

    def _answer_mixed(self, rows: Batch, row: int) -> Answer:
        try:
            return self._model.predict(rows)
        except UnprocessableRequestError:
            raise UnprocessableRequestError(
                f"row {row} can't be explained: with some of its values in a sample's place, the model has no finite "
                "answer"
            ) from None

    def _reader(self, prediction: Any) -> Callable[[Answer], Floats]:
        """The number [rows] of an answer that is explained where `prediction` was answered."""
        classes = self.signature.classes
        if classes is None:
            return lambda answer: np.array(answer.predictions, np.float64)
        if self._bases.probabilities is None:
            return lambda answer: np.array([label == prediction for label in answer.predictions], np.float64)
        position = classes.index(prediction)
        return lambda answer: np.asarray(answer.probabilities)[:, position].astype(np.float64)


class _Mixture:
    """One row's values in the background rows' places."""

    def __init__(self, values: Sequence[Any], background: Batch) -> None:
        self._values = values
        self._background = background
        texts = sum(len(value) for value in values if isinstance(value, str))
        size = (8 * len(values) + texts) * background.rows
        self.sets_at_once = max(1, min(_ANSWERS_AT_ONCE // background.rows, _BYTES_AT_ONCE // size))

    def rows(self, masks: Masks) -> Batch:
        """[sets × background] rows: of each set, every background row with the set's columns replaced."""
        known, count = self._background, len(masks) * self._background.rows
        if known.matrix is not None:
            mixed = np.where(masks[:, None, :], np.array(self._values), known.matrix[None])
            return Batch(count, mixed.reshape(count, -1), ())
        columns = tuple(
            _mix(masks[:, index], value, column)
            for index, (value, column) in enumerate(zip(self._values, known.columns, strict=True))
        )
        return Batch(count, None, columns)


def _mix(chosen: NDArray[np.bool_], value: Any, column: Column) -> Column:
    """[sets × background] values of one column: `value` where the set holds it, else the background's."""
    mixed = np.tile(column, (len(chosen), 1))
    mixed[chosen] = value
    return mixed.ravel()


def open_explainer(directory: Path, signature: Signature, model: Model) -> Explainer:
    """The explainer of the version in `directory`, which answered its samples already; raises ModelUnusableError."""
    features = Features.of(signature)
    try:
        samples: Mapping[str, Any] = orjson.loads((directory / SAMPLES).read_bytes())
        rows = samples["rows"]
        # Spread over all of them: they may be in the order of time.
        chosen = np.unique(np.linspace(0, len(rows) - 1, BACKGROUND).round().astype(int))
        background = parse_rows(features, [rows[index] for index in chosen])
        return Explainer(signature, features, model, background)
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, RequestError) as exc:
        raise ModelUnusableError(
            "SamplesNotAnswered", f"the version can't answer its own samples ({type(exc).__name__}); train again"
        ) from exc
