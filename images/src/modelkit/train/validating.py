"""The data validation gate in a run: the champion's side of it read from the store, the rest from `modelkit.data`."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from modelkit.artifact.signature import Signature, load_signature
from modelkit.artifact.version import ArtifactError, VersionNotFoundError, read_file, read_manifest
from modelkit.contract import files
from modelkit.contract.codec import ContractError, loads
from modelkit.contract.config import TrainerConfig, VersionRef
from modelkit.contract.result import Finding
from modelkit.data.column_rules import Baseline
from modelkit.data.dataset import Dataset, build_dataset
from modelkit.data.description import (
    BOOLEAN,
    CATEGORY,
    NUMBER,
    TIME,
    ColumnDescription,
    SourceDescription,
    complete_description,
    describe_source,
)
from modelkit.data.leakage import check_leakage
from modelkit.data.profile import CATEGORICAL
from modelkit.data.validation import FAIL, IGNORE, check_labels, refuse_severe, severe_first, validate_table
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.bootstrap import metric_intervals
from modelkit.store.store import Store

logger = logging.getLogger(__name__)

NOISE_SHARE = 0.6
"""Of the skill that the champion had. With a share p of the labels of two classes flipped, 1 - 2p of it is left."""
NOISE_GAIN = 0.1
"""A new version whose skill is better than the champion's by more has found something: the world has changed."""
_CONFIDENCE = 0.95
MOST_FINDINGS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of the champion and its data."""

    baseline: Baseline
    signature: Signature
    metrics: Mapping[str, float]
    """Of its own test part."""


def read_known(store: Store, config: TrainerConfig) -> tuple[Known | None, tuple[Finding, ...]]:
    """The champion that the data is compared with, or why it can't be; nothing when it isn't asked for.

    Raises StoreError when the store can't be read.
    """
    champion, validation = config.champion, config.validation
    if champion is None or validation is None or validation.baseline != "Champion":
        return None, ()
    try:
        return _read_known(store, champion), ()
    except (ArtifactError, ContractError, KeyError, TypeError, ValueError) as exc:
        logger.warning("the champion's data can't be compared with", extra={"error": type(exc).__name__})
        message = (
            f"version {champion.number} doesn't say what its data looked like ({type(exc).__name__}): only what "
            "validation states was checked"
        )
        return None, (Finding(rule="BaselineUnreadable", message=message),)


def validate_source(
    frame: pd.DataFrame, config: TrainerConfig, task: str, known: Known | None, told: Sequence[Finding] = ()
) -> Dataset:
    """The dataset of a table that has passed the gate, with its findings (after those `told`) and its description.

    Raises RefusedError: DataInvalid with the findings when one is severe, else as `build_dataset`.
    """
    validation, target = config.validation, config.data.target
    frame.columns = [str(name) for name in frame.columns]
    described = describe_source(frame, target)
    findings = list(told)
    if validation is not None:
        findings += validate_table(frame, described, config.data, validation, known.baseline if known else None)
        refuse_severe(severe_first(findings))
    dataset = build_dataset(frame, config.data, task)
    used = {column.name for column in dataset.columns}
    described = complete_description(described, used, dataset.classes, dataset.target)
    if validation is not None:
        baseline = known.baseline if known and known.signature.task == task else None
        findings += check_labels(described.class_shares, len(dataset.target), target, validation, baseline)
        findings += check_leakage(dataset, validation, config.seed)
        findings = severe_first(findings)
        refuse_severe(findings)
    return replace(dataset, findings=tuple(findings), source=described)


def check_noise(
    store: Store, config: TrainerConfig, answers: Answers, metrics: Mapping[str, float], champion: Mapping[str, float]
) -> tuple[Finding, ...]:
    """A finding when neither the new version nor the champion finds the labels as the champion once did.

    `answers` are the new version's; `metrics` and `champion` are both versions' on the same rows. The comparison on
    these rows can't see wrong labels, as both suffer alike. A world that has changed is another matter: there the new
    version is much better than the champion. Skill is R², or the balanced accuracy above guessing, from 0 to 1. Raises
    RefusedError (DataInvalid) where the finding is severe, and StoreError when the store can't be read.
    """
    validation = config.validation
    name = "r2" if answers.classes is None else "balanced_accuracy"
    now, theirs = (_skill(found.get(name), answers.classes) for found in (metrics, champion))
    if validation is None or validation.label_noise == IGNORE or now is None or theirs is None:
        return ()
    if max(now, theirs) >= NOISE_SHARE or now > theirs + NOISE_GAIN:
        return ()  # no champion was ever so good
    known, _ = read_known(store, config)
    if known is None or not _is_same_question(answers, known, config):
        return ()
    then = _skill(known.metrics.get(name), answers.classes) or 0.0
    limit = NOISE_SHARE * then
    high = metric_intervals(answers, _CONFIDENCE, config.seed, (name,)).get(name, (-math.inf, math.inf))[1]
    if max(now, theirs) >= limit or (_skill(high, answers.classes) or 0.0) >= then:
        return ()  # the upper bound: too few rows to tell
    found = Finding(
        column=config.data.target,
        rule="LabelNoise",
        value=now,
        limit=limit,
        message=f"the labels of {config.data.target!r} are hardly found any more: on {len(answers.truth)} rows the "
        f"skill of the new version is {now:.3f}, that of {known.baseline.name} {theirs:.3f}, which was {then:.3f} on "
        f"its own test part; below {limit:.3f} the labels look wrong: check them, or set validation.labelNoise to "
        "Ignore",
        severe=validation.label_noise == FAIL,
    )
    refuse_severe([found])
    return (found,)


def _is_same_question(answers: Answers, known: Known, config: TrainerConfig) -> bool:
    signature = known.signature
    same_classes = answers.classes is None or set(answers.classes) == set(signature.classes or ())
    return signature.task == answers.task and signature.target == config.data.target and same_classes


def _skill(value: float | None, classes: Sequence[Any] | None) -> float | None:
    if value is None or classes is None:
        return value
    return (value - 1 / len(classes)) / (1 - 1 / len(classes))


def _read_known(store: Store, champion: VersionRef) -> Known:
    manifest = read_manifest(store, champion.path, champion.digest)
    if manifest is None:
        raise VersionNotFoundError(f"there is no complete version at {champion.path}")
    found = {
        name: read_file(store, champion, manifest, name)
        for name in (files.SIGNATURE, files.METRICS, files.SOURCE, files.PROFILE)
    }
    signature = load_signature(found[files.SIGNATURE] or b"")
    source = found[files.SOURCE]
    if source is not None:
        described = loads(SourceDescription, source)
    else:
        described = _describe_features(signature, json.loads(found[files.PROFILE] or b""))
    measured = json.loads(found[files.METRICS] or b"{}")["metrics"]
    metrics = {name: float(value) for name, value in measured.items() if value is not None}
    return Known(Baseline(name=f"version {champion.number}", source=described), signature, metrics)


def _describe_features(signature: Signature, profile: Mapping[str, Any]) -> SourceDescription:
    """What a version without a description says of its features."""
    columns = []
    for column in signature.inputs:
        entry = profile["features"][column.name]
        kind = {"bool": BOOLEAN, "datetime": TIME, "string": CATEGORY}.get(column.dtype, NUMBER)
        names = sorted([*entry["categories"], *entry["known"]]) if entry["kind"] == CATEGORICAL else []
        columns.append(
            ColumnDescription(
                name=column.name,
                type=kind,
                used=True,
                rows=entry["rows"],
                missing=entry["nulls"],
                minimum=entry.get("min"),
                maximum=entry.get("max"),
                categories=tuple(names) if entry.get("complete") and kind == CATEGORY else (),
                singletons=entry.get("singletons", 0),
            )
        )
    rows = max((column.rows for column in columns), default=0)
    return SourceDescription(rows=rows, target=signature.target, columns=tuple(columns), whole=False)
