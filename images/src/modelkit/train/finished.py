"""What a run found, before it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit.artifact.model import onnx_answers
from modelkit.artifact.signature import InputColumn, OutputColumn, Signature
from modelkit.contract.config import TrainerConfig
from modelkit.contract.result import Compression, TrainingResult
from modelkit.data.description import SourceDescription
from modelkit.evaluate.answers import Answers, Array
from modelkit.evaluate.slices import MeasuredSlice
from modelkit.train.candidates import Candidate
from modelkit.train.export import Export
from modelkit.train.parts import Parts
from modelkit.train.search import Trial

CUSTOM = "Custom"
"""Estimator and format of a version that the user's own image made."""


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """Everything that a run found, before it is written."""

    config: TrainerConfig
    metric: str
    columns: tuple[InputColumn, ...]
    parts: Parts
    trials: Sequence[Trial]
    """Best first; none of a custom training."""
    pipeline: Any
    """The best trial's, fitted on the whole training part; None of a custom training."""
    answers: Answers
    """Its answers to the evaluation rows."""
    source_answers: Answers | None
    """Its answers to the source's test part, when captured rows were the judge."""
    export: Export
    result: TrainingResult
    """Without digest and path."""
    notes: tuple[str, ...]
    packages: Mapping[str, str]
    slices: tuple[MeasuredSlice, ...] = ()
    compressed: Trial | None = None
    """What is served, when compression was asked for: the best trial, pruned, or its student."""
    compressions: tuple[Compression, ...] = ()

    @property
    def candidate(self) -> Candidate | None:
        """Of the model that is served; None of a custom training."""
        if self.compressed is not None:
            return self.compressed.candidate
        return self.trials[0].candidate if self.trials else None

    source: SourceDescription | None = None
    """What the training source looked like."""

    @property
    def estimator(self) -> str:
        """What made the model: the estimator's name, or Custom."""
        return CUSTOM if self.candidate is None else self.candidate.name

    @property
    def is_runnable(self) -> bool:
        """Whether the model can be asked here: not so another framework's without ONNX."""
        return self.pipeline is not None or self.export.layout is not None

    @property
    def format(self) -> str:
        """What the server will load: Onnx, Skops, or Custom, which is nothing that it can run."""
        if self.export.model is not None:
            return "Onnx"
        return CUSTOM if self.pipeline is None else "Skops"

    @property
    def signature(self) -> Signature:
        """What signature.json says."""
        return _signature(self)

    def serve(self, rows: Array) -> tuple[Array, Array | None]:
        """Predictions and probabilities as a server of this version gives them."""
        if self.export.layout is not None:
            return onnx_answers(self.export.session, self.export.layout, self.columns, rows)
        probable = self.answers.probabilities is not None
        return np.asarray(self.pipeline.predict(rows)), self.pipeline.predict_proba(rows) if probable else None


def _signature(run: Finished) -> Signature:
    outputs = [OutputColumn(name="prediction", dtype=_output_dtype(run.answers))]
    if run.answers.probabilities is not None:
        shape = (-1, len(run.answers.classes or ()))
        outputs.append(OutputColumn(name="probabilities", dtype="float64", shape=shape))
    return Signature(
        model=run.config.name,
        number=run.config.number,
        task=run.answers.task,
        target=run.config.data.target,
        metric=run.metric,
        classes=run.answers.classes,
        inputs=run.columns,
        outputs=tuple(outputs),
        onnx=run.export.layout,
    )


def _output_dtype(answers: Answers) -> str:
    if answers.classes is None:
        return "float64"
    return "int64" if all(isinstance(label, int) for label in answers.classes) else "string"
