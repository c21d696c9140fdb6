"""Builds the parts of the trainer's configuration that say how a model is made, from the spec's own words."""

from collections.abc import Sequence
from typing import Any

from modelkit.contract.config import CandidateConfig, ComparisonConfig, DataConfig, PreprocessingConfig
from modelkit.contract.estimators import CLASSIFIERS
from modelkit.contract.files import DATA_MOUNT, WORK_DATA
from modelkit.contract.metrics import PRIMARY_METRIC
from modelkit.contract.recipe import (
    ColumnPreprocessingConfig,
    ColumnTypeConfig,
    CompressConfig,
    CrossValidationConfig,
    ExpectedColumnConfig,
    ExplainConfig,
    SearchParameterConfig,
    SelectionConfig,
    SignConfig,
    SliceConfig,
    SplitConfig,
    StudentConfig,
    TuningConfig,
    ValidationConfig,
)
from modelloop.api.common import parse_duration
from modelloop.api.data import DataSource, Slice, Split, Validation
from modelloop.api.modelling import (
    Candidate,
    Compress,
    CrossValidation,
    Preprocessing,
    Tuning,
)
from modelloop.api.training import Gate, ModelTrainingSpec
from modelloop.desired.custom import build_custom
from modelloop.desired.workload import PRIVATE_KEY


def primary_metric(spec: ModelTrainingSpec) -> str:
    """The metric that ranks the candidates and that the champion is compared by."""
    if spec.metric:
        return spec.metric
    for gate in spec.gates:
        if not gate.slice and (gate.min is not None or gate.max is not None):
            return gate.metric
    return PRIMARY_METRIC[find_task(spec)]


def find_task(spec: ModelTrainingSpec) -> str:
    """Classification or Regression: as stated, else what the candidates are for."""
    if spec.task is not None:
        return spec.task
    return "Classification" if all(entry.estimator in CLASSIFIERS for entry in spec.candidates) else "Regression"


def build_recipe(spec: ModelTrainingSpec) -> dict[str, Any]:
    """Fields of the TrainerConfig. What is at its default and asks for nothing is None, so that it isn't stored."""
    selection, compress = spec.feature_selection, spec.compress
    return {
        "data": _build_data(spec.data),
        "candidates": tuple(_build_candidate(candidate) for candidate in spec.candidates),
        "task": spec.task,
        "metric": primary_metric(spec),
        "preprocessing": _build_preprocessing(spec.preprocessing),
        "folds": spec.folds,
        "test_fraction": spec.test_fraction,
        "seed": spec.seed,
        "comparisons": _build_comparisons(spec),
        "validation": _build_validation(spec.validation),
        "split": None if spec.split == Split() else SplitConfig(**spec.split.model_dump()),
        "cross_validation": _build_cross_validation(spec.cross_validation),
        "selection": None if selection is None else SelectionConfig(**selection.model_dump()),
        "tuning": _build_tuning(spec.tuning) if any(candidate.search for candidate in spec.candidates) else None,
        "slices": tuple(_build_slice(entry, spec.gates) for entry in spec.slices),
        "explain": ExplainConfig(**spec.explain.model_dump()),
        "custom": build_custom(spec),
        "sign": None if spec.sign is None else SignConfig(private_key=PRIVATE_KEY),
        "compress": None if compress is None else _build_compress(compress),
    }


def _build_data(data: DataSource) -> DataConfig:
    return DataConfig(
        uri=_pod_uri(data.uri),
        display_uri=data.uri,
        target=data.target,
        features=data.features,
        format=data.format,
        columns=tuple(ColumnTypeConfig(name=column.name, type=column.type) for column in data.columns),
        weight=data.weight,
        group=data.group,
        time=data.time,
    )


def _pod_uri(uri: str) -> str:
    """The address as the pod sees it: claims and the work volume are folders there."""
    for scheme, mount in (("pvc://", DATA_MOUNT), ("work://", WORK_DATA)):
        if uri.startswith(scheme):
            return f"file://{mount}/{uri.removeprefix(scheme)}"
    return uri


def _build_candidate(candidate: Candidate) -> CandidateConfig:
    search = tuple(
        SearchParameterConfig(
            name=entry.name,
            type=entry.type,
            minimum=entry.min,
            maximum=entry.max,
            step=entry.step,
            log=entry.log,
            values=entry.values,
        )
        for entry in candidate.search
    )
    return CandidateConfig(estimator=candidate.estimator, params=candidate.params, search=search)


def _build_preprocessing(preprocessing: Preprocessing) -> PreprocessingConfig:
    columns = tuple(ColumnPreprocessingConfig(**column.model_dump()) for column in preprocessing.columns)
    return PreprocessingConfig(**preprocessing.model_dump(exclude={"columns"}), columns=columns)


def _build_comparisons(spec: ModelTrainingSpec) -> tuple[ComparisonConfig, ...]:
    """What is compared with the champion: each gate on maxDrop, and the primary metric in any case."""
    compared = {(gate.metric, gate.slice): gate.confidence for gate in spec.gates if gate.max_drop is not None}
    compared.setdefault((primary_metric(spec), ""), None)
    return tuple(
        ComparisonConfig(metric=metric, slice=name, confidence=confidence or 0.95)
        for (metric, name), confidence in sorted(compared.items())
    )


def _build_validation(validation: Validation) -> ValidationConfig:
    columns = tuple(
        ExpectedColumnConfig(
            name=column.name,
            type=column.type,
            required=column.required,
            minimum=column.min,
            maximum=column.max,
            max_missing_share=column.max_missing_share,
            values=column.values,
            max_unseen_share=column.max_unseen_share,
        )
        for column in validation.columns
    )
    return ValidationConfig(**validation.model_dump(exclude={"columns"}), columns=columns)


def _build_cross_validation(cross_validation: CrossValidation) -> CrossValidationConfig | None:
    if cross_validation == CrossValidation():
        return None
    return CrossValidationConfig(**cross_validation.model_dump())


def _build_tuning(tuning: Tuning) -> TuningConfig:
    limit = None if tuning.time_limit is None else parse_duration(tuning.time_limit).total_seconds()
    return TuningConfig(**tuning.model_dump(exclude={"time_limit"}), time_limit_seconds=limit)


def _build_slice(entry: Slice, gates: Sequence[Gate]) -> SliceConfig:
    return SliceConfig(
        name=entry.name,
        column=entry.column,
        values=entry.values,
        minimum=entry.min,
        maximum=entry.max,
        metrics=tuple(dict.fromkeys(gate.metric for gate in gates if gate.slice == entry.name)),
    )


def _build_compress(compress: Compress) -> CompressConfig:
    student = compress.student
    return CompressConfig(
        methods=compress.methods,
        max_drop=compress.max_drop,
        student=None if student is None else StudentConfig(estimator=student.estimator, params=student.params),
    )
