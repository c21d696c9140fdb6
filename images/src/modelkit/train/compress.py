"""The chosen model made smaller and faster, step by step, as long as its quality stays within the allowed drop.

Every step is tried on a model that never saw the rows it is judged by: the validation part, or without one a fold of
the training part, never the test part. A step that is taken is then repeated on all rows that a model may learn from,
so the one that is served has learnt from as many as without compression. Which steps are taken depends on quality and
size only, not on the clock: the same run makes the same choice.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modelkit.artifact.signature import InputColumn
from modelkit.artifact.version import ArtifactError
from modelkit.contract.config import CandidateConfig, TrainerConfig
from modelkit.contract.metrics import improvement
from modelkit.contract.recipe import CrossValidationConfig
from modelkit.contract.result import Compression
from modelkit.errors import RefusedError
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.metrics import compute_metrics
from modelkit.train.candidates import Candidate, build_candidates, resolve_task
from modelkit.train.distil import distil
from modelkit.train.export import Export, export_onnx
from modelkit.train.folds import fold_positions
from modelkit.train.footprint import Footprint, answer_by_export, measure_footprint
from modelkit.train.parts import Labelled, Parts
from modelkit.train.prune import ALPHA, can_be_pruned, propose_alphas
from modelkit.train.quantize import quantize
from modelkit.train.search import Trial, answer, fit

logger = logging.getLogger(__name__)

METHODS = ("Pruning", "Distillation", "Quantization")
_ROUNDING = 1e-12
"""A drop may be above the allowed one by what the difference of two metrics is off."""


@dataclass(frozen=True, slots=True, eq=False)
class Compressed:
    """The model after the steps that were taken."""

    trial: Trial
    """Its candidate and its pipeline, unfitted; the chosen one's when no step changed it."""
    pipeline: Any
    """Fitted on all rows to learn from."""
    quantized: Export | None = None
    """What is served instead of the pipeline's own export."""
    steps: tuple[Compression, ...] = ()

    def answer(self, columns: Sequence[InputColumn], part: Labelled, classes: tuple[Any, ...] | None) -> Answers:
        """What the served model says to rows whose truth is known."""
        if self.quantized is None:
            return answer(self.trial, self.pipeline, part.rows, part.target, classes, part.weights)
        return answer_by_export(self.quantized, columns, part, classes)


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """A model twice: as it is judged, and as it would be served."""

    trial: Trial
    judged: Any
    """Pipeline fitted without the rows that it is judged by."""
    final: Any
    """Pipeline fitted on all rows to learn from."""
    judged_export: Export | None = None
    final_export: Export | None = None
    """Both when the model is quantized."""
    done: str = ""
    """What the last step did."""


class _NotApplicable(Exception):  # noqa: N818 - no error: it ends a step, not the run
    """The step has nothing to work on."""


def build_student(config: TrainerConfig, metric: str) -> Candidate | None:
    """The estimator that distillation teaches, None when it isn't asked for; checked before any data is read.

    Raises RefusedError for an unknown method, a missing student, or one that isn't for the task or the metric.
    """
    if config.compress is None:
        return None
    if unknown := [method for method in config.compress.methods if method not in METHODS]:
        raise RefusedError(
            "BadCompression", f"the compression method {unknown[0]!r} is unknown; expected {', '.join(METHODS)}"
        )
    if "Distillation" not in config.compress.methods:
        return None
    if config.compress.student is None:
        raise RefusedError("BadCompression", "distillation needs a student; name its estimator in compress.student")
    student = config.compress.student
    entry = CandidateConfig(estimator=student.estimator, params=student.params)
    try:
        task = resolve_task(config)
        alone = replace(config, candidates=(entry,), task=task)
        resolve_task(alone)
        return build_candidates(alone, metric)[0]
    except RefusedError as exc:
        raise RefusedError(exc.reason, f"compress.student: {exc.message}") from exc


def compress(
    config: TrainerConfig,
    metric: str,
    chosen: Compressed,
    student: Trial | None,
    *,
    columns: Sequence[InputColumn],
    parts: Parts,
    every: Labelled,
    classes: tuple[Any, ...] | None,
    cores: int,
) -> Compressed:
    """Try the methods of `config.compress` on the chosen trial, whose pipeline learnt from the rows `every`.

    Those are the training part and the validation part. `student` is the trial of the smaller estimator for
    distillation. A step that can't be done, loses more than
    `max_drop` of `metric` against the chosen model, or makes nothing smaller is recorded and not taken.
    """
    assert config.compress is not None
    learn, held = _hold_out(config, parts, classes)
    bench = _Bench(config.compress.max_drop, metric, columns, classes, learn, held, every, cores, student)
    model = _Model(chosen.trial, bench.fit(chosen.trial, learn), chosen.pipeline)
    reference = bench.score(model)
    before, steps = bench.footprint(model), []
    for method in config.compress.methods:
        try:
            tried = bench.tries[method](model, reference)
            step, after = bench.weigh(method, tried, reference, before)
        except (_NotApplicable, RefusedError, ArtifactError) as exc:
            step, after, tried = _left_out(method, before, str(exc)), before, model
        logger.info("compression", extra={"method": method, "accepted": step.accepted, "drop": step.drop})
        steps.append(step)
        if step.accepted:
            model, before = tried, after
    return Compressed(model.trial, model.final, model.final_export, tuple(steps))


def _left_out(method: str, before: Footprint, message: str) -> Compression:
    return Compression(
        method=method,
        accepted=False,
        drop=0.0,
        bytes_before=before.size,
        bytes_after=before.size,
        seconds_before=before.seconds,
        seconds_after=before.seconds,
        message=message,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Bench:
    """The rows of a run's compression, and how models are tried on them."""

    max_drop: float
    metric: str
    columns: Sequence[InputColumn]
    classes: tuple[Any, ...] | None
    learn: Labelled
    held: Labelled
    """What models are judged by that learnt from `learn`."""
    every: Labelled
    """What the served model learns from."""
    cores: int
    student: Trial | None

    @property
    def tries(self) -> dict[str, Callable[[_Model, float], _Model]]:
        """What each method makes of a model, given the score of the uncompressed one."""
        return {"Pruning": self._prune, "Distillation": self._distil, "Quantization": self._quantize}

    def fit(self, trial: Trial, part: Labelled) -> Any:
        """The trial's pipeline, fitted to `part`."""
        return fit(trial, part.rows, part.target, jobs=self.cores, weights=part.weights)

    def score(self, model: _Model) -> float:
        """The metric on the held-out rows; raises RefusedError when it can't be computed."""
        if model.judged_export is not None:
            answers = answer_by_export(model.judged_export, self.columns, self.held, self.classes)
        else:
            answers = self._answers(model.trial, model.judged)
        found = compute_metrics(answers, (self.metric,)).get(self.metric)
        if found is None:
            raise RefusedError(
                "BadMetric",
                f"{self.metric} can't be computed on the {len(self.held.target)} held-out rows that compression is "
                "judged by; use another metric, or a validation part",
            )
        return found

    def weigh(self, method: str, tried: _Model, reference: float, before: Footprint) -> tuple[Compression, Footprint]:
        """The step's record: it is taken when it loses little enough and makes the model smaller."""
        after, drop = self.footprint(tried), self._drop(tried, reference)
        message = tried.done
        within = drop <= self.max_drop + _ROUNDING
        if not within:
            message += f"; it loses {drop:.4g} of {self.metric}, more than {self.max_drop:.4g}"
        elif after.size >= before.size:
            message += f"; it needs {after.size} bytes, not less than {before.size}"
        step = Compression(
            method=method,
            accepted=within and after.size < before.size,
            drop=drop,
            bytes_before=before.size,
            bytes_after=after.size,
            seconds_before=before.seconds,
            seconds_after=after.seconds,
            message=message,
        )
        return step, after

    def footprint(self, model: _Model) -> Footprint:
        """Of the model as it would be served."""
        export = model.final_export
        if export is None:
            native = self._answers(model.trial, model.final)
            export = export_onnx(model.trial.candidate.name, model.final, self.columns, self.held.rows, native)
        return measure_footprint(model.final, export, self.columns, self.held)

    def _answers(self, trial: Trial, fitted: Any) -> Answers:
        held = self.held
        return answer(trial, fitted, held.rows, held.target, self.classes, held.weights)

    def _drop(self, model: _Model, reference: float) -> float:
        return improvement(self.metric, reference, self.score(model))

    def _prune(self, model: _Model, reference: float) -> _Model:
        """The largest `ccp_alpha` within the drop; the smallest when none is."""
        name = model.trial.candidate.name
        estimator = model.judged.named_steps["model"]
        if not can_be_pruned(estimator):
            raise _NotApplicable(f"{name} has no {ALPHA}")
        alphas = propose_alphas(estimator)
        if not alphas:
            raise _NotApplicable(f"the trees of {name} have no branch to prune")
        for alpha in alphas:
            tried = self._with_alpha(model, alpha)
            if self._drop(tried, reference) <= self.max_drop + _ROUNDING:
                break
        return replace(tried, final=self.fit(tried.trial, self.every))

    def _with_alpha(self, model: _Model, alpha: float) -> _Model:
        candidate = model.trial.candidate
        trial = replace(
            model.trial,
            candidate=replace(candidate, params={**candidate.params, ALPHA: alpha}),
            settings={**model.trial.settings, f"model__{ALPHA}": alpha},
        )
        return _Model(trial, self.fit(trial, self.learn), None, done=f"{ALPHA} {alpha:.4g}")

    def _distil(self, model: _Model, _reference: float) -> _Model:
        assert self.student is not None  # build_student saw to it
        judged = distil(self.student, model.judged, self.learn, self.classes, self.cores)
        final = distil(self.student, model.final, self.every, self.classes, self.cores)
        done = f"{self.student.candidate.name} learnt from {model.trial.candidate.name}"
        return _Model(self.student, judged, final, done=done)

    def _quantize(self, model: _Model, _reference: float) -> _Model:
        native = self._answers(model.trial, model.judged)
        judged = quantize(model.judged, self.columns, self.learn, native)
        if judged is None:
            name = model.trial.candidate.name
            raise _NotApplicable(f"{name} has no matrix product that is large enough for INT8 to make it smaller")
        final = quantize(model.final, self.columns, self.every, native)
        assert final is not None  # the same pipeline, fitted to more rows
        return replace(model, judged_export=judged, final_export=final, done="INT8 weights and activations")


def _hold_out(config: TrainerConfig, parts: Parts, classes: tuple[Any, ...] | None) -> tuple[Labelled, Labelled]:
    """Rows to learn from and rows to judge by: train and validation part, else the last fold of the training part."""
    if parts.validation is not None:
        return parts.train, parts.validation
    train, folding = parts.train, config.cross_validation or CrossValidationConfig()
    single = CrossValidationConfig(method="Auto" if folding.method == "LeaveOneOut" else folding.method)
    folds = fold_positions(
        train.target,
        classes=classes,
        folds=config.folds,
        seed=config.seed,
        config=single,
        groups=train.groups,
        times=train.times,
    )
    learn, held = folds[-1]
    return train.take(np.asarray(learn)), train.take(np.asarray(held))
