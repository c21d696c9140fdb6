"""The version's own rows and its model, as far as the configured checks need them: the only place that asks the model.

The files' digests are checked like those of the profile. A version without one of them (of an older release, or of a
framework that has no ONNX) isn't an error: the check says what is missing.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modelkit.artifact.model import onnx_answers, open_onnx
from modelkit.artifact.signature import Signature, load_signature
from modelkit.artifact.version import ArtifactError, read_file, read_manifest_of
from modelkit.contract.config import VersionRef
from modelkit.contract.files import MODEL_ONNX, REFERENCE, SAMPLES, SIGNATURE
from modelkit.contract.monitoring import MonitorConfig
from modelkit.data.sample import Entries, as_rows, build_sample, load_sample, sample_schema
from modelkit.evaluate.shares import Masks, share_out
from modelkit.monitor.reference import Reference
from modelkit.store.store import Store

BACKGROUND = 20
"""Sample rows that stand for "not knowing" a column, as many as `/explain` takes."""
SECONDS = 60.0
"""Of explaining; a slow model has fewer rows explained."""
_ANSWERS_AT_ONCE = 4096
_TRAIN_AGAIN = "train again with this release"

Floats = NDArray[np.float64]
Rows = NDArray[Any]
Answer = Callable[[Rows], tuple[Rows, Rows | None]]
"""Predictions [n] of rows [n, columns] and, where the model has them, probabilities [n, classes]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRows:
    """What a version brings for comparing rows."""

    sample: pa.Table | None = None
    """Rows of its test part, see `data.sample`."""
    explainer: "RowExplainer | None" = None
    missing_sample: str = ""
    """Why there is no sample, and what to do."""
    missing_explainer: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class RowExplainer:
    """Shapley values of a model's columns against fixed background rows, as `/explain` gives them."""

    answer: Answer
    background: Rows
    """[m, columns]"""
    classes: tuple[Any, ...] | None
    clock: Callable[[], float] = field(default=time.monotonic)

    def explain_pairs(self, first: Rows, second: Rows, seconds: float = SECONDS) -> tuple[Floats, Floats]:
        """Values [n, columns] of both sides, of the same number of rows of each, as many as `seconds` suffice for.

        Rows to which the model has no finite answer are left out. Raises ArtifactError when it doesn't answer at all.
        """
        bases, deadline = self.answer(self.background), self.clock() + seconds
        sides: tuple[list[Floats], list[Floats]] = ([], [])
        for pair in zip(first, second, strict=False):
            if self.clock() > deadline:
                break
            values = [self._explain(row, bases) for row in pair]
            if all(np.isfinite(value).all() for value in values):
                for side, value in zip(sides, values, strict=True):
                    side.append(value)
        width = self.background.shape[1]
        return np.reshape(sides[0], (-1, width)), np.reshape(sides[1], (-1, width))

    def _explain(self, row: Rows, bases: tuple[Rows, Rows | None]) -> Floats:
        answer = self.answer(row[None])
        read = self._reader(answer[0][0])
        known, columns = self.background, len(row)
        step = max(1, _ANSWERS_AT_ONCE // len(known))

        def worth(masks: Masks) -> Floats:
            parts = []
            for start in range(0, len(masks), step):
                mixed = np.where(masks[start : start + step, None, :], row, known[None]).reshape(-1, columns)
                parts.append(read(self.answer(mixed)).reshape(-1, len(known)).mean(axis=1))
            return np.concatenate(parts)

        return share_out(worth, columns, float(read(bases).mean()), float(read(answer)[0]))

    def _reader(self, prediction: Any) -> Callable[[tuple[Rows, Rows | None]], Floats]:
        """The number [n] of answers that is explained where `prediction` was answered, as `/explain` chooses it."""
        if self.classes is None:
            return lambda answer: answer[0].astype(np.float64)
        position = self.classes.index(prediction)

        def read(answer: tuple[Rows, Rows | None]) -> Floats:
            labels, probabilities = answer
            values = labels == prediction if probabilities is None else probabilities[:, position]
            return np.asarray(values, np.float64)

        return read


def read_own_rows(store: Store, config: MonitorConfig, reference: Reference) -> OwnRows:
    """The files that the configured checks need; raises DigestMismatchError, VersionNotFoundError or StoreError."""
    if config.multivariate is None and config.attribution is None:
        return OwnRows()
    version = config.version
    manifest = read_manifest_of(store, version)
    sample, missing_sample = _parse_sample(read_file(store, version, manifest, REFERENCE), version, reference.features)
    if config.attribution is None or sample is None:
        return OwnRows(sample=sample, missing_sample=missing_sample, missing_explainer=missing_sample)
    found = [read_file(store, version, manifest, name) for name in (SIGNATURE, SAMPLES, MODEL_ONNX)]
    try:
        explainer = open_explainer(found[0] or b"", found[1], found[2], reference.features)
    except ArtifactError as exc:
        return OwnRows(sample=sample, missing_explainer=f"version {version.number} can't be explained: {exc}")
    return OwnRows(sample=sample, explainer=explainer)


def open_explainer(signature: bytes, samples: bytes | None, model: bytes | None, entries: Entries) -> RowExplainer:
    """The explainer of the version with these files; raises ArtifactError when they don't do."""
    found = load_signature(signature)
    if model is None or found.onnx is None:
        raise ArtifactError(f"it has no {MODEL_ONNX}, and a monitor asks no other model")
    background = _parse_background(samples, entries)
    explainer = RowExplainer(_answers(model, found), background, found.classes)
    explainer.answer(background)
    return explainer


def _answers(model: bytes, signature: Signature) -> Answer:
    session, layout = open_onnx(model), signature.onnx
    assert layout is not None, "the caller looked"
    return lambda rows: onnx_answers(session, layout, signature.inputs, rows)


def _parse_background(samples: bytes | None, entries: Entries) -> Rows:
    try:
        rows = json.loads(samples or b"")["rows"]
        # Spread over all of them, as `/explain` does.
        chosen = np.unique(np.linspace(0, len(rows) - 1, BACKGROUND).round().astype(int))
        columns = {name: pa.array([rows[index][name] for index in chosen]) for name in entries}
    except (ValueError, KeyError, TypeError, IndexError, pa.ArrowException) as exc:
        raise ArtifactError(f"its {SAMPLES} can't be read ({type(exc).__name__}); {_TRAIN_AGAIN}") from exc
    return as_rows(build_sample(entries, pa.table(columns), len(chosen)))


def _parse_sample(data: bytes | None, version: VersionRef, entries: Entries) -> tuple[pa.Table | None, str]:
    if data is None:
        return None, f"version {version.number} has no {REFERENCE}: {_TRAIN_AGAIN}"
    try:
        sample = load_sample(data)
    except (pa.ArrowException, OSError):
        return None, f"the {REFERENCE} of version {version.number} is no Arrow file: {_TRAIN_AGAIN}"
    if sample.schema != sample_schema(entries):
        return None, f"the {REFERENCE} of version {version.number} has other columns: {_TRAIN_AGAIN}"
    return sample, ""
