"""Ask a loaded version its own samples before anybody else does, and measure what an answer costs.

A version that doesn't answer its samples as it did when it was made is refused: another library version, another
processor or a wrong signature would otherwise go unnoticed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from modelkit.artifact.signature import Signature
from modelkit.contract.config import LimitsConfig
from modelkit.contract.files import SAMPLES
from modelkit.serve.batch import Features
from modelkit.serve.errors import ModelUnusableError
from modelkit.serve.model import Answer, Model
from modelkit.serve.plain import parse_predict, parse_rows, render_predict

PROBABILITY_TOLERANCE = 1e-3
"""Largest allowed difference of a probability: ONNX computes in float32."""
RELATIVE_TOLERANCE = 1e-3
"""Largest allowed difference of a regression, relative to the largest sample answer."""
_REPEATS = 5
_MAX_ROWS = 10_000
"""Samples; the trainer writes twenty."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What parsing, answering and rendering a question takes: seconds = fixed + per_row × rows."""

    fixed: float
    per_row: float

    def of_rows(self, rows: int) -> float:
        """The estimate for a question of `rows` rows."""
        return self.fixed + self.per_row * rows


def warm_up(directory: Path, signature: Signature, model: Model) -> Cost:
    """Answer the samples of the version in `directory`; raises ModelUnusableError when an answer differs."""
    features = Features.of(signature)
    try:
        samples: Mapping[str, Any] = orjson.loads((directory / SAMPLES).read_bytes())
        rows: Sequence[Any] = samples["rows"]
        if not 0 < len(rows) <= _MAX_ROWS:
            raise ValueError("the number of rows")
        plain = [[row[name] for name in features.names] for row in rows]
        answer = model.predict(parse_rows(features, rows))
        check_answer(signature, samples, answer)
    except ModelUnusableError:
        raise
    except Exception as exc:  # a version's files may hold anything, and a model may fail in any way
        raise ModelUnusableError(
            "SamplesNotAnswered", f"the version can't answer its own samples ({type(exc).__name__}); train again"
        ) from exc

    limits = LimitsConfig(max_rows=max(1, len(rows)))

    def seconds(body: bytes) -> float:
        def once() -> None:
            batch = parse_predict(features, body, limits)
            render_predict(signature, signature.model, model.predict(batch), "warm-up")

        return min(_time(once) for _ in range(_REPEATS))

    single = seconds(orjson.dumps({"features": plain[:1]}))
    if len(plain) == 1:
        return Cost(fixed=0.0, per_row=single)
    per_row = max(0.0, seconds(orjson.dumps({"features": plain})) - single) / (len(plain) - 1)
    return Cost(fixed=max(0.0, single - per_row), per_row=per_row)


def check_answer(signature: Signature, samples: Mapping[str, Any], answer: Answer) -> None:
    """Raise ModelUnusableError when `answer` isn't what the version answered when it was made."""
    expected, wanted = samples.get("predictions"), samples.get("probabilities")
    if not isinstance(expected, list) or len(expected) != len(answer.predictions):
        raise _differs("the number of answers")
    if signature.classes is None:
        numbers = np.array(expected, dtype=np.float64)
        allowed = RELATIVE_TOLERANCE * max(1e-12, float(np.abs(numbers).max()))
        # Not `>`: a missing number, which is NaN here, agrees with nothing.
        if not float(np.abs(numbers - np.array(answer.predictions)).max()) <= allowed:
            raise _differs("the predictions")
        return
    if (wanted is None) != (answer.probabilities is None):
        raise _differs("whether there are probabilities")
    if wanted is None or answer.probabilities is None:
        if expected != answer.predictions:
            raise _differs("the predictions")
        return
    known = np.array(wanted, dtype=np.float64)
    if known.shape != answer.probabilities.shape:
        raise _differs("the shape of the probabilities")
    if not float(np.abs(known - answer.probabilities).max()) <= PROBABILITY_TOLERANCE:
        raise _differs("the probabilities")
    for row, (old, new) in enumerate(zip(expected, answer.predictions, strict=True)):
        if old != new and not _is_tie(signature, known[row], old, new):
            raise _differs("the predictions")


def _is_tie(signature: Signature, probabilities: Any, old: Any, new: Any) -> bool:
    """Rounding may turn the choice between two classes that are equally likely."""
    classes = signature.classes or ()
    if old not in classes or new not in classes:
        return False
    gap = probabilities[classes.index(old)] - probabilities[classes.index(new)]
    return bool(abs(gap) <= 2 * PROBABILITY_TOLERANCE)


def _differs(what: str) -> ModelUnusableError:
    return ModelUnusableError(
        "SamplesDiffer",
        f"the loaded model doesn't answer the version's samples as recorded: {what} differ; train again",
    )


def _time(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
