"""The trainer's core without a store: what a run does from its rows to its verdict, but for export and files."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.loop_streams import SOURCE, Stream
from modelkit.contract.config import FeedbackConfig, StoreConfig, TrainerConfig
from modelkit.contract.result import TrainingResult
from modelkit.data.columns import as_array, column_of, to_rows
from modelkit.data.dataset import Dataset, build_dataset
from modelkit.data.profile import build_profile
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.metrics import compute_metrics
from modelkit.evaluate.trivial import answer_trivially
from modelkit.monitor.reference import Reference, parse_reference
from modelkit.train.candidates import build_candidates
from modelkit.train.champion import compare_answers
from modelkit.train.feedback import count_older, select_usable
from modelkit.train.incomplete import drop_incomplete
from modelkit.train.parts import Parts, divide
from modelkit.train.pipeline import build_pipeline
from modelkit.train.search import Trial, answer, fit
from modelloop.api.training import ModelTrainingSpec
from modelloop.decide.gates import judge
from modelloop.desired.recipe import build_recipe

TARGET, METRIC = "target", "accuracy"


@dataclass(frozen=True, eq=False)
class Version:
    """A model and what the run found of it."""

    number: int
    pipeline: Any
    columns: tuple[Any, ...]
    classes: tuple[Any, ...]
    result: TrainingResult
    parts: Parts
    answers: Answers

    @property
    def digest(self) -> str:
        """What tells it from others."""
        return f"sha256:{self.number:064d}"

    def answer(self, rows: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Predictions [n] and probabilities [n, classes] as its server gives them."""
        probabilities = self.pipeline.predict_proba(as_array(to_rows(build_frame(rows), self.columns)))
        return np.asarray(self.classes)[probabilities.argmax(axis=1)], probabilities

    @cached_property
    def reference(self) -> Reference:
        """What the monitor reads of it."""
        rows, answers = self.parts.profiled, self.answers
        names = [column.name for column in self.columns]
        profile = build_profile(
            {name: column_of(rows, index) for index, name in enumerate(names)},
            {column.name: column.kind for column in self.columns},
            answers.predictions,
            answers.probabilities,
            answers.task,
            answers.classes,
        )
        metrics = {"metric": METRIC, "metrics": self.result.metrics, "test_rows": self.result.test_rows}
        signature = {
            "inputs": [{"name": name} for name in names],
            "classes": list(self.classes),
            "task": answers.task,
        }
        return parse_reference(profile, metrics, signature)


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What was said to each row of a stream, and by which version; 0 for none."""

    predictions: NDArray[np.int64]
    versions: NDArray[np.int64]


class Training:
    """A ModelTraining whose source is the first rows of a stream."""

    def __init__(self, stream: Stream, spec: ModelTrainingSpec) -> None:
        self._stream, self._spec = stream, spec
        self._config = TrainerConfig(
            namespace="bench",
            name="loop",
            number=1,
            version="1",
            trigger="Created",
            store=StoreConfig(uri="file:///nowhere"),
            **build_recipe(spec),
        )
        source = SOURCE * stream.plan.window
        frame = build_frame(stream.rows[:source]).assign(**{TARGET: stream.labels[:source]})
        self._dataset: Dataset = build_dataset(frame, self._config.data, "Classification")
        self.runs = 0

    def run(
        self,
        feedback: FeedbackConfig | None,
        captured: slice,
        champion: Version | None,
        answers: Answered | None = None,
    ) -> tuple[Version, bool]:
        """A run that learns from `captured` rows of the stream, too; whether it was approved.

        With what was answered to the stream's rows, those before a change are left out as in a pod.
        """
        self.runs += 1
        config = replace(self._config, number=self.runs, feedback=feedback)
        found = None
        if feedback is not None:
            if answers is not None:
                labels, given = pd.Series(self._stream.labels[captured]), pd.Series(answers.predictions[captured])
                older = count_older(given, labels, pd.Series(answers.versions[captured]), self._dataset)
                captured = slice(captured.start + older, captured.stop)
            labels = pd.Series(self._stream.labels[captured])
            found = select_usable(build_frame(self._stream.rows[captured]), labels, self._dataset)
        dataset = self._dataset
        parts = drop_incomplete(divide(dataset, found, config), dataset.columns, config.preprocessing)
        (candidate,) = build_candidates(config, METRIC)
        pipeline = build_pipeline(
            candidate.name,
            candidate.estimator,
            dataset.columns,
            config.preprocessing,
            task="Classification",
            seed=config.seed,
            rows=parts.train.rows,
        )
        trial = Trial(candidate, pipeline)
        classes = tuple(sorted(set(parts.train.target.tolist())))
        fitted = fit(trial, parts.train.rows, parts.train.target, jobs=1)
        answers = answer(trial, fitted, parts.evaluation.rows, parts.evaluation.target, classes)
        trivial = answer_trivially(answers.task, parts.train.target, answers.truth, answers.classes)
        result = TrainingResult(
            outcome="Succeeded",
            task=answers.task,
            metric=METRIC,
            metrics=compute_metrics(answers),
            trivial=compute_metrics(trivial),
            evaluated_on=parts.evaluated_on,
            train_rows=len(parts.train.target),
            test_rows=len(answers.truth),
            feedback_rows=found.found if found else 0,
        )
        if champion is not None:
            predictions, probabilities = champion.answer(
                parts.evaluation_frame.to_numpy(np.float64)[:, : len(dataset.columns)]
            )
            old = Answers(answers.task, answers.truth, predictions, probabilities, champion.classes)
            result = replace(result, champion=compare_answers(config, champion.number, answers, old))
        version = Version(self.runs, fitted, dataset.columns, classes, result, parts, answers)
        return version, judge(result, self._spec.gates).verdict == "Approved"


def build_frame(rows: NDArray[np.float64]) -> pd.DataFrame:
    """The features by name."""
    return pd.DataFrame(rows, columns=[f"x{index}" for index in range(rows.shape[1])])
