"""explanation.json: which columns move a version's answers, and where to. No single row is in it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelkit.artifact.moments import to_text
from modelkit.data.columns import as_array, take
from modelkit.data.kinds import DATETIME, TEXT
from modelkit.evaluate.dependence import Dependence, partial_dependence
from modelkit.evaluate.importance import Importance
from modelkit.evaluate.shapley import BACKGROUND, Shapley, explain_rows, find_origins, transform_of
from modelkit.train.finished import Finished
from modelkit.train.selection import SELECTION_STEP

_LOOKED_AT = 500
"""Training rows that tell which column a feature is made of."""


def build_explanation(run: Finished, importance: Sequence[Importance]) -> dict[str, Any]:
    """Partial dependence of the most important columns and, when `explain.shap_rows` asks for it, SHAP values.

    `importance`, largest first, says which columns are looked at.
    """
    wanted = run.config.explain
    classes = run.answers.classes
    return {
        "classes": None if classes is None else list(classes),
        "partial_dependence": []
        if wanted is None
        else [_describe_dependence(found, run) for found in _dependences(run, importance, wanted.partial_dependence)],
        "shap": None if wanted is None or wanted.shap_rows <= 0 else _explain(run, wanted.shap_rows),
    }


def _dependences(run: Finished, importance: Sequence[Importance], count: int) -> list[Dependence]:
    rows = as_array(run.parts.evaluation.rows)
    places = {column.name: index for index, column in enumerate(run.columns)}
    found: list[Dependence] = []
    for name in [entry.name for entry in importance if run.columns[places[entry.name]].kind != TEXT]:
        if len(found) == count:
            break
        dependence = partial_dependence(run.serve, rows, places[name], name, run.answers.classes, run.config.seed)
        if dependence is not None:
            found.append(dependence)
    return found


def _describe_dependence(found: Dependence, run: Finished) -> dict[str, Any]:
    dtype = next(column.dtype for column in run.columns if column.name == found.name)
    grid = [to_text(point) for point in found.grid] if dtype == DATETIME else list(found.grid)
    return {"name": found.name, "grid": grid, "values": [list(point) for point in found.values]}


def _explain(run: Finished, count: int) -> dict[str, Any] | None:
    if run.pipeline is None:
        return None
    generator = np.random.default_rng(run.config.seed)
    every = len(run.answers.truth)
    chosen = np.sort(generator.choice(every, min(count, every), replace=False))
    known = len(run.parts.train.target)
    background = np.sort(generator.choice(known, min(BACKGROUND, known), replace=False))
    found = explain_rows(
        run.pipeline,
        as_array(take(run.parts.evaluation.rows, chosen)),
        as_array(take(run.parts.train.rows, background)),
        is_classifier=run.answers.classes is not None,
        seed=run.config.seed,
    )
    return _describe_shapley(found, run)


def _describe_shapley(found: Shapley, run: Finished) -> dict[str, Any]:
    """Per column the mean of the absolute values, one per output, the column that moves answers most first."""
    means = np.abs(found.values).mean(axis=0)
    order = sorted(range(len(run.columns)), key=lambda index: (-float(means[index].sum()), run.columns[index].name))
    return {
        "method": found.method,
        "unit": found.unit,
        "rows": len(found.values),
        "base": found.base.tolist(),
        "features": [{"name": run.columns[index].name, "mean_absolute": means[index].tolist()} for index in order],
    }


def describe_selection(run: Finished) -> dict[str, Any] | None:
    """Which columns the features are made of that feature selection kept; None without it."""
    steps = [] if run.pipeline is None else run.pipeline.steps
    places = [index for index, (name, _) in enumerate(steps) if name == SELECTION_STEP]
    if not places:
        return None
    rows = as_array(take(run.parts.train.rows, np.arange(min(_LOOKED_AT, len(run.parts.train.target)))))
    support = np.asarray(steps[places[0]][1].get_support())
    origins = set(find_origins(transform_of(run.pipeline[: places[0] + 1]), rows))
    return {
        "kept": int(support.sum()),
        "features": len(support),
        "columns": [column.name for index, column in enumerate(run.columns) if index in origins],
    }
