"""Feature selection of a run: the specification as the pipeline step `select`, and what it kept.

The step is fitted with the rest of the pipeline, so the rows that judge it never choose.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from modelkit.artifact.signature import InputColumn
from modelkit.contract.recipe import SelectionConfig
from modelkit.errors import RefusedError

SELECTION_STEP = "select"

SEARCHED_FEATURES = "featureSelection.features"
SEARCHED_SHARE = "featureSelection.share"

METHODS = ("Variance", "MutualInformation", "Chi2", "AnovaF", "TreeImportance", "L1", "RFE")
_WITH_THRESHOLD = frozenset({"Variance", "TreeImportance", "L1"})


def searched(name: str, value: Any) -> Mapping[str, Any]:
    """A searched value as parameters for `pipeline.set_params`; RefusedError when it isn't a number that can be had.

    `name` is featureSelection.features or featureSelection.share; a pipeline without the step takes neither.
    """
    if name == SEARCHED_FEATURES:
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 1 or value != int(value):
            raise RefusedError("BadSelection", f"{name} must be a whole number from 1; found {value!r}")
        return {f"{SELECTION_STEP}__features": int(value), f"{SELECTION_STEP}__share": None}
    if name == SEARCHED_SHARE:
        return {f"{SELECTION_STEP}__features": None, f"{SELECTION_STEP}__share": _share(name, value)}
    raise RefusedError("BadSelection", f"{name} can't be searched; use {SEARCHED_FEATURES} or {SEARCHED_SHARE}")


def is_searched(name: str) -> bool:
    """Is it a parameter of the selection, not of an estimator?"""
    return name in {SEARCHED_FEATURES, SEARCHED_SHARE}


def build_selector(selection: SelectionConfig, task: str, seed: int) -> Any:
    """The unfitted step; RefusedError for settings that don't fit each other or the task."""
    from modelkit.artifact.selector import FeatureSelector

    _check(selection, task)
    return FeatureSelector(
        selection.method,
        features=selection.features,
        share=selection.share,
        threshold=selection.threshold,
        task=task,
        seed=seed,
    )


def _check(selection: SelectionConfig, task: str) -> None:
    if selection.method not in METHODS:
        raise RefusedError(
            "BadSelection", f"featureSelection.method must be {', '.join(METHODS)}; found {selection.method!r}"
        )
    if selection.method == "Chi2" and task != "Classification":
        raise RefusedError(
            "BadSelection", "featureSelection.method Chi2 compares classes; use AnovaF or MutualInformation here"
        )
    asked = [name for name in ("features", "share", "threshold") if getattr(selection, name) is not None]
    if len(asked) > 1:
        raise RefusedError("BadSelection", f"featureSelection must have one of {' and '.join(asked)}")
    if selection.features is not None:
        searched(SEARCHED_FEATURES, selection.features)
    if selection.share is not None:
        _share(SEARCHED_SHARE, selection.share)
    if selection.threshold is not None and selection.method not in _WITH_THRESHOLD:
        raise RefusedError(
            "BadSelection",
            f"featureSelection.threshold is for {', '.join(sorted(_WITH_THRESHOLD))}; use features or share with "
            f"{selection.method}",
        )
    if selection.threshold is not None and not 0 <= selection.threshold < math.inf:
        raise RefusedError("BadSelection", f"featureSelection.threshold must be 0 or more; found {selection.threshold}")


def _share(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
        raise RefusedError("BadSelection", f"{name} must be above 0 and at most 1; found {value!r}")
    return float(value)


def selected_features(pipeline: Any, columns: Sequence[InputColumn]) -> list[str]:
    """Names of the features that a fitted pipeline's estimator gets, in its order.

    A column that stays one feature keeps its name; others are `<column>: <what of it>`, such as a category.
    """
    names = _prepared_names(pipeline, columns)
    selector = pipeline.named_steps.get(SELECTION_STEP)
    if selector is None:
        return names
    return [name for name, kept in zip(names, selector.get_support(), strict=True) if kept]


def _prepared_names(pipeline: Any, columns: Sequence[InputColumn]) -> list[str]:
    own = [column.name for column in columns]
    transformer = pipeline.named_steps.get("columns")
    if transformer is None:
        return own
    names: list[str] = []
    for label, part, positions in transformer.transformers_:
        if part == "drop" or label == "remainder":
            continue
        taken = [own[position] for position in ([positions] if isinstance(positions, int) else positions)]
        block = transformer.output_indices_[label]
        names += _part_names(part, taken, block.stop - block.start)
    return names


def _part_names(part: Any, taken: Sequence[str], width: int) -> list[str]:
    """Names of one transformer's outputs, [width]."""
    steps: Mapping[str, Any] = getattr(part, "named_steps", {})
    encoder: Any = steps.get("encode")
    times: Any = steps.get("times")
    words: Any = steps.get("words")
    if hasattr(encoder, "drop_idx_"):  # OneHotEncoder
        return [f"{name}: {value}" for name, values in zip(taken, encoder.categories_, strict=True) for value in values]
    if times is not None:
        labels = zip(taken, times.feature_labels(), strict=True)
        return [f"{name}: {label}" for name, found in labels for label in found]
    if hasattr(words, "vocabulary_"):
        return [f"{taken[0]}: {word}" for word in words.get_feature_names_out()]
    if width == len(taken):
        return list(taken)
    # One for each class, or for each hash.
    each = width // len(taken)
    return [f"{name}: {number + 1}" for name in taken for number in range(each)]
